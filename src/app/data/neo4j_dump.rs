//! `neo4j-admin database dump` and `load`, both on data that no server has open. The vendor's script is not needed: its main class
//! is started as the server's is.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use devrun_data::CopyCancel;
use devrun_model::{Failure, FailureKind, Launch, ServiceSpec, VolumeSpec};
use devrun_runtime::recipes;

use crate::app::data::dump_program::DumpProgram;
use crate::app::load::{self, Project};

const NAME: &str = "neo4j-admin";

/// The tool, on the data of one volume.
pub struct Neo4jAdmin {
    command: Command,
    database: String,
    /// Its configuration, as long as it works.
    _directory: tempfile::TempDir,
}

impl Neo4jAdmin {
    /// Finds it. `data` is the volume, or a copy of it.
    ///
    /// # Errors
    /// `Binary` without the server or Java, `Task` when its configuration cannot be written.
    pub async fn find(project: &Project, spec: &ServiceSpec, volume: &VolumeSpec, data: &Path) -> Result<Self, Failure> {
        let Launch::Recipe(recipe) = &spec.launch else {
            return Err(Failure::new(FailureKind::Internal, format!("{} is not a recipe", spec.service)));
        };
        let options = load::fetch_options(project, true, None, std::sync::Arc::new(devrun_store::NoDownloadProgress));
        let located = devrun_store::which(recipe, &options).await?;
        let directory = tempfile::Builder::new().prefix("devrun-neo4j-").tempdir();
        let directory =
            directory.map_err(|error| Failure::new(FailureKind::Task, format!("cannot create a directory: {error}")))?;
        let volume = VolumeSpec { path: data.to_owned(), ..volume.clone() };
        let tool = recipes::neo4j_admin(&located, &load::environment(), &volume, directory.path())?;
        let file = directory.path().join("neo4j.conf");
        std::fs::write(&file, &tool.configuration)
            .map_err(|error| Failure::new(FailureKind::Task, format!("cannot write {}: {error}", file.display())))?;
        let mut command = Command::new(&tool.program);
        let env: BTreeMap<String, String> = load::environment().into_iter().chain(tool.env).collect();
        command.args(&tool.argv).env_clear().envs(env).stdin(Stdio::null());
        Ok(Self { command, database: spec.attribute("database").unwrap_or_else(|| "neo4j".to_owned()), _directory: directory })
    }

    /// Writes the dump into an open file.
    ///
    /// # Errors
    /// `Task` with its words; `Cancelled`.
    pub fn save(mut self, (file, path): (&mut File, &Path), cancel: &CopyCancel, progress: &dyn Fn(u64)) -> Result<(), Failure> {
        self.command.args(["database", "dump", &self.database, "--to-stdout"]).stdout(Stdio::piped());
        DumpProgram::start(&mut self.command, NAME)?.save(file, path, cancel, progress)
    }

    /// Loads a dump in the place of the database.
    ///
    /// # Errors
    /// `Task` with its words; `Cancelled`.
    pub fn load(mut self, file: &Path, cancel: &CopyCancel) -> Result<(), Failure> {
        let source = File::open(file)
            .map_err(|error| Failure::new(FailureKind::Task, format!("cannot read {}: {error}", file.display())))?;
        self.command.args(["database", "load", &self.database, "--from-stdin", "--overwrite-destination=true"]);
        DumpProgram::start(self.command.stdin(source).stdout(Stdio::null()), NAME)?.finish(cancel)
    }
}
