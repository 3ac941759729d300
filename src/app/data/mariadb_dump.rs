//! `mariadb-dump` of a server that runs, and its load into a server that only the restore knows.
//!
//! Where the server's own socket lets root in, the dump is taken and loaded as root: routines and views of other definers need that.
//! Else the service's user does it, through the port.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use devrun_data::CopyCancel;
use devrun_model::{Failure, FailureKind, Paths, ServiceSpec, VolumeSpec};
use devrun_runtime::recipes;

use crate::app::client_program;
use crate::app::data::dump_program::DumpProgram;
use crate::app::load::{self, Project};

const DUMP: &str = "mariadb-dump";
const CLIENT: &str = "mariadb";

/// A server, and the way in.
pub struct MariadbServer<'a> {
    /// Where its programs are looked for.
    pub project: &'a Project,
    /// The directories of the stack that it runs in.
    pub places: &'a Paths,
    /// The service.
    pub spec: &'a ServiceSpec,
    /// Its data.
    pub volume: Option<&'a VolumeSpec>,
    login: Vec<String>,
}

impl<'a> MariadbServer<'a> {
    /// Finds the way in.
    ///
    /// # Errors
    /// `Elsewhere` when it does not run, `Binary` without its client.
    pub async fn connect(
        project: &'a Project,
        places: &'a Paths,
        spec: &'a ServiceSpec,
        volume: Option<&'a VolumeSpec>,
    ) -> Result<Self, Failure> {
        let host = spec.attribute("host").unwrap_or_else(|| spec.bind.clone());
        let port = spec.port().unwrap_or(3306);
        let answers = (host.as_str(), port).to_socket_addrs().ok().and_then(|mut all| all.next());
        let answers = answers.is_some_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_ok());
        if !answers {
            return Err(Failure::new(FailureKind::Elsewhere, format!("{} is not running", spec.service))
                .help(format!("devrun up -d {}", spec.service)));
        }
        let mut server = Self { project, places, spec, volume, login: Vec::new() };
        for socket in server.sockets().into_iter().filter(|socket| socket.exists()) {
            server.login = vec![format!("--socket={}", socket.display()), "--user=root".to_owned()];
            if server.ask("SELECT 1").await.is_ok() {
                return Ok(server);
            }
        }
        let user = spec.attribute("user").unwrap_or_else(|| "root".to_owned());
        server.login =
            vec!["--protocol=tcp".to_owned(), format!("--host={host}"), format!("--port={port}"), format!("--user={user}")];
        Ok(server)
    }

    /// Where it may have its socket; see the recipe.
    fn sockets(&self) -> Vec<PathBuf> {
        let run = self.places.service_run(&self.spec.id);
        let data = self.volume.map(|volume| recipes::engine_dir(volume, "mariadb"));
        std::iter::once(run).chain(data).map(|folder| folder.join("mysqld.sock")).collect()
    }

    fn database(&self) -> String {
        self.spec.attribute("database").or_else(|| self.spec.attribute("user")).unwrap_or_else(|| "app".to_owned())
    }

    async fn command(&self, name: &str) -> Result<Command, Failure> {
        let (program, extra) = match name {
            DUMP => find_dump(self.project, self.spec).await?,
            _ => client_program::find(self.project, self.spec, name).await?,
        };
        let mut command = Command::new(program);
        let outer = load::environment().into_iter().filter(|(name, _)| !name.starts_with("MYSQL"));
        command.env_clear().envs(outer).envs(extra).env("MYSQL_PWD", self.spec.attribute("password").unwrap_or_default());
        // First of all words: no configuration of the user's counts.
        command.args(["--no-defaults", "--default-character-set=utf8mb4"]).args(&self.login).stdin(Stdio::null());
        Ok(command)
    }

    /// What it answers, without the names of columns.
    async fn ask(&self, sql: &str) -> Result<String, Failure> {
        let mut command = self.command(CLIENT).await?;
        let output = command.args(["--batch", "--skip-column-names", "--execute", sql]).output();
        let output = output.map_err(|error| Failure::new(FailureKind::Binary, format!("cannot run {CLIENT}: {error}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let kind = if said.contains("ERROR 1045") { FailureKind::Credentials } else { FailureKind::Task };
        Err(Failure::new(kind, format!("{}: {said}", self.spec.service)))
    }

    /// Its version.
    ///
    /// # Errors
    /// `Credentials` when it refuses the login; as it says.
    pub async fn version(&self) -> Result<String, Failure> {
        let version = self.ask("SELECT VERSION()").await?;
        Ok(version.split('-').next().unwrap_or_default().to_owned())
    }

    /// The dump of its database, as a program that is about to write it.
    ///
    /// # Errors
    /// `Binary` without `mariadb-dump`.
    pub async fn dump(&self) -> Result<DumpProgram, Failure> {
        let mut command = self.command(DUMP).await?;
        // One transaction: the tables of InnoDB are of one moment, and no client waits for the dump.
        command.args([
            "--single-transaction",
            "--quick",
            "--routines",
            "--triggers",
            "--events",
            "--hex-blob",
            "--no-tablespaces",
        ]);
        DumpProgram::start(command.arg(self.database()).stdout(Stdio::piped()), DUMP)
    }

    /// Loads a dump into an empty database in the place of the present one.
    ///
    /// # Errors
    /// `Task` with the words of the client.
    pub async fn load(&self, file: &Path) -> Result<(), Failure> {
        let database = self.database();
        let like = format!(
            "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata WHERE schema_name = {}",
            literal(&database)
        );
        let like = self.ask(&like).await?;
        let options = match like.split_once('\t') {
            Some((set, collation)) => format!(" CHARACTER SET {set} COLLATE {collation}"),
            None => String::new(),
        };
        let name = quoted(&database);
        self.ask(&format!("DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}{options}")).await?;
        let source = File::open(file)
            .map_err(|error| Failure::new(FailureKind::Task, format!("cannot read {}: {error}", file.display())))?;
        let mut command = self.command(CLIENT).await?;
        DumpProgram::start(command.arg(&database).stdin(source).stdout(Stdio::null()), CLIENT)?.finished().await
    }

    /// Writes the dump into an open file.
    ///
    /// # Errors
    /// As [`Self::dump`]; `Task` with its words, `Cancelled`.
    pub async fn save(
        &self,
        (file, path): (&mut File, &Path),
        cancel: &CopyCancel,
        progress: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        self.dump().await?.save(file, path, cancel, progress)
    }
}

/// Where `mariadb-dump` is, and the variables that it needs.
///
/// # Errors
/// `Binary` without it.
pub async fn find_dump(project: &Project, spec: &ServiceSpec) -> Result<(PathBuf, BTreeMap<String, String>), Failure> {
    client_program::find(project, spec, DUMP).await.map_err(|failure| match failure.kind {
        FailureKind::Binary => {
            failure.help(format!("apt-get install mariadb-client; or: devrun backup {} --directory", spec.service))
        }
        _ => failure,
    })
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quoted("a`b"), "`a``b`");
        assert_eq!(literal("o'cl\\ock"), "'o''cl\\\\ock'");
    }
}
