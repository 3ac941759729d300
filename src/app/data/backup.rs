//! Takes a backup of one service: a dump of a server that has one, and the data directory of anything else.
//!
//! Postgres, MariaDB and S3 servers are dumped while they run; Neo4j is stopped for its dump. A Redis that runs is made to write everything down first, and is copied while it runs; other servers are stopped for as long
//! as the copy takes. The file appears by one rename when it is whole, after its manifest.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use devrun_data::{BackupFormat, BackupManifest, hash_file, manifest_path, pack, tree_bytes};
use devrun_model::ready::Endpoint;
use devrun_model::service::Server;
use devrun_model::{ByteSize, Failure, FailureKind, Launch, Plan, ServerDump, ServiceSpec, StopPurpose, VolumeClass, VolumeSpec};
use devrun_runtime::{probe, secrets};
use devrun_store::DownloadProgress as _;

use crate::app::data::backup_stage::{BackupStage, cannot_write};
use crate::app::data::interruptible_work::DataWork;
use crate::app::data::mariadb_dump::{self, MariadbServer};
use crate::app::data::neo4j_dump::Neo4jAdmin;
use crate::app::data::{bucket_dump, pause, postgres_dump, replace, selection};
use crate::app::load::{self, Project, Read};
use crate::app::stop_stack;
use crate::ui::download::Bars;
use crate::ui::term::{Term, say};

/// Where the secrets that belong to the data lie in an archive.
pub const SECRETS: &str = ".devrun-backup-secrets";
/// The longest wait for a Redis to write everything down.
const PATIENCE: Duration = Duration::from_secs(600);

/// A backup to take.
pub struct Backup<'a> {
    /// Where.
    pub project: &'a Project,
    /// The procfile.
    pub read: &'a Read,
    /// Of which service.
    pub spec: &'a ServiceSpec,
    /// In which form.
    pub form: BackupForm,
    /// The buckets of an S3 server; none: all.
    pub buckets: &'a [String],
    /// Into which file.
    pub file: PathBuf,
    /// For progress.
    pub term: Term,
}

/// The forms that a user can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackupForm {
    /// What is usual for the server.
    #[default]
    Usual,
    /// SQL text instead of the custom format of Postgres.
    Plain,
    /// The data directory.
    Directory,
}

/// The usual name of a backup: service, time, and the end that its format has.
#[must_use]
pub fn file_name(spec: &ServiceSpec, format: BackupFormat) -> String {
    let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S");
    format!("{}-{now}.{}", spec.service, format.extension())
}

/// How a service is saved.
#[must_use]
pub fn format_of(spec: &ServiceSpec, form: BackupForm) -> BackupFormat {
    match (form, spec.stop_asks(), spec.dump()) {
        (BackupForm::Directory, ..) => BackupFormat::DataDirectory,
        (BackupForm::Plain, Some(Server::Postgres), _) => BackupFormat::PostgresPlain,
        (BackupForm::Usual, Some(Server::Postgres), _) => BackupFormat::PostgresCustom,
        (_, _, Some(ServerDump::S3)) => BackupFormat::S3Objects,
        (_, _, Some(ServerDump::Mariadb)) => BackupFormat::MariadbSql,
        (_, _, Some(ServerDump::Neo4j)) => BackupFormat::Neo4jDump,
        _ => BackupFormat::DataDirectory,
    }
}

impl Backup<'_> {
    /// Takes it.
    ///
    /// # Errors
    /// `Config` for a file that exists or a service without data, `Task` for a missing directory, `Elsewhere` for a Postgres that does not run; what the dump or
    /// the copy fails with. There is no file then.
    pub fn take(&self, work: &DataWork) -> Result<BackupManifest, Failure> {
        check_absent(&self.file)?;
        let directory = self.file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !directory.exists() {
            return Err(Failure::new(
                FailureKind::Task,
                format!("cannot write {}: missing directory {}", self.file.display(), directory.display()),
            )
            .help(format!("mkdir -p '{}', or choose another place: -o FILE", directory.display())));
        }
        let format = format_of(self.spec, self.form);
        if !self.buckets.is_empty() && format != BackupFormat::S3Objects {
            return Err(Failure::new(FailureKind::Config, format!("--bucket: no buckets are saved of {}", self.spec.service))
                .help(format!("devrun backup {}", self.spec.service)));
        }
        if self.form == BackupForm::Plain && format != BackupFormat::PostgresPlain {
            return Err(Failure::new(FailureKind::Config, format!("--plain: {} is not a Postgres", self.spec.service))
                .help(format!("devrun backup {}", self.spec.service)));
        }
        let plan = &self.read.plan;
        let version = |volume: &VolumeSpec| selection::engine(plan, volume).map(|engine| engine.version);
        let mut manifest = BackupManifest::new(format, self.spec.service.as_str(), plan.project.as_str());
        manifest.instance.clone_from(&self.project.instance);
        manifest.mode.clone_from(&plan.mode);
        if let Launch::Recipe(recipe) = &self.spec.launch {
            manifest.recipe = Some(recipe.recipe.name.clone());
        }
        let mut stage = BackupStage::new(directory)?;
        let bars = Bars::new(self.term);
        let label = format!("backup of {}", self.spec.service);
        match format {
            BackupFormat::PostgresCustom | BackupFormat::PostgresPlain => {
                manifest.database = self.spec.attribute("database");
                let version = work.runtime.block_on(postgres_dump::server_version(self.spec))?;
                let dump = postgres_dump::Dump::find(self.project, self.spec, &version, work, self.term)?;
                manifest.version = Some(version);
                manifest.dumped_by = Some(dump.version().to_owned());
                bars.begin(&label, None);
                let plain = format == BackupFormat::PostgresPlain;
                dump.write(plain, &mut stage.file, &stage.path, work, &|bytes| bars.advance(bytes))?;
            }
            BackupFormat::S3Objects => {
                manifest.version = self.spec.data.as_ref().and_then(|name| plan.volumes.get(name)).and_then(version);
                bars.begin(&label, None);
                let target = (&stage.file, stage.path.as_path());
                bucket_dump::save(self.spec, self.buckets, target, &mut manifest, work, &|bytes| bars.advance(bytes))?;
            }
            BackupFormat::MariadbSql => {
                let volume = self.spec.data.as_ref().and_then(|name| plan.volumes.get(name));
                bars.begin(&label, None);
                work.runtime.block_on(async {
                    let server = MariadbServer::connect(self.project, &self.project.places, self.spec, volume).await?;
                    manifest.database = self.spec.attribute("database");
                    manifest.version = Some(server.version().await?);
                    let target = (&mut stage.file, stage.path.as_path());
                    server.save(target, &work.cancel, &|bytes| bars.advance(bytes)).await
                })?;
            }
            BackupFormat::Neo4jDump => {
                let volume = self.volume(plan)?;
                manifest.database = self.spec.attribute("database");
                manifest.version = version(volume);
                bars.begin(&label, None);
                let tool = work.runtime.block_on(Neo4jAdmin::find(self.project, self.spec, volume, &volume.path))?;
                let target = (&mut stage.file, stage.path.as_path());
                self.while_stopped(volume, work, || tool.save(target, &work.cancel, &|bytes| bars.advance(bytes)))?;
            }
            BackupFormat::DataDirectory => {
                let volume = self.volume(plan)?;
                manifest.version = version(volume);
                bars.begin(&label, Some(tree_bytes(&volume.path)?.1));
                self.directory(volume, &stage, work, &|bytes| bars.advance(bytes))?;
            }
        }
        stage.file.sync_all().map_err(|error| cannot_write(&stage.path, &error))?;
        manifest.bytes = std::fs::metadata(&stage.path).map_err(|error| cannot_write(&stage.path, &error))?.len();
        manifest.sha256 = hash_file(&stage.path, &work.cancel)?;
        publish(stage, directory, &self.file, &manifest)?;
        bars.end(&ByteSize(manifest.bytes).to_string());
        Ok(manifest)
    }

    fn volume<'b>(&self, plan: &'b Plan) -> Result<&'b VolumeSpec, Failure> {
        let volume = self.spec.data.as_ref().and_then(|name| plan.volumes.get(name));
        match volume.filter(|volume| selection::holds_data(volume)) {
            Some(volume) => Ok(volume),
            None => {
                Err(Failure::new(FailureKind::Config, format!("{} has no data to save", self.spec.service))
                    .help("devrun volumes"))
            }
        }
    }

    fn directory(
        &self,
        volume: &VolumeSpec,
        stage: &BackupStage,
        work: &DataWork,
        progress: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        let secrets = self.secrets()?;
        let pack = || pack(&volume.path, &secrets, &stage.file, &stage.path, &work.cancel, progress);
        if self.spec.stop_asks() == Some(Server::Redis)
            && load::is_running(&self.project.places)?
            && work.runtime.block_on(self.is_up())?
        {
            let before = work.runtime.block_on(self.write_down())?;
            let packed = pack();
            work.runtime.block_on(self.rewrite_again(before))?;
            return packed;
        }
        self.while_stopped(volume, work, pack)
    }

    /// Does something with the data while nothing runs on them.
    fn while_stopped(
        &self,
        volume: &VolumeSpec,
        work: &DataWork,
        save: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if !load::is_running(&self.project.places)? {
            let _alone = stop_stack::keep_others_out(&self.project.places)?;
            replace::check_nothing_left(self.project)?;
            return save();
        }
        let names = std::iter::once(volume.name.clone()).collect();
        let pause =
            work.runtime.block_on(pause::pause(self.project, &self.read.plan, &names, StopPurpose::Backup, &work.cancel))?;
        match save().and_then(|()| work.runtime.block_on(pause.check_undisturbed())) {
            Ok(()) => {
                let (code, _) = work.runtime.block_on(pause.resume(self.term))?;
                if code == devrun_model::exit::DONE {
                    return Ok(());
                }
                Err(Failure::new(FailureKind::Service, format!("{} did not start again after the copy", self.spec.service))
                    .help(format!("devrun logs {}", self.spec.service)))
            }
            Err(failure) => Err(work.runtime.block_on(pause.give_up(failure))),
        }
    }

    /// Secrets that the data were made with: without them no one could log in to the restored server.
    fn secrets(&self) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let wants = self.read.required_values()?;
        let mut found = Vec::new();
        for want in &wants.secrets {
            if let Some(value) = secrets::read(&wants.secrets_dir, &want.name)?
                && self.spec.attributes.values().any(|attribute| attribute.contains(&value))
            {
                found.push((format!("{SECRETS}/{}", want.name), value.into_bytes()));
            }
        }
        Ok(found)
    }

    async fn is_up(&self) -> Result<bool, Failure> {
        let (session, status) = crate::app::request::session(self.project).await?;
        drop(session);
        Ok(status
            .snapshot
            .services
            .iter()
            .any(|one| one.name == self.spec.id.as_str() && one.state == devrun_model::State::Running))
    }

    async fn redis(&self, words: &[&str]) -> Result<String, Failure> {
        let failed = |reason: String| Failure::new(FailureKind::Task, format!("{}: {reason}", self.spec.service));
        let at =
            Endpoint { host: self.spec.bind.clone(), port: self.spec.port().ok_or_else(|| failed("it has no port".to_owned()))? };
        let (user, password) = (self.spec.attribute("user"), self.spec.attribute("password"));
        probe::redis_ask(&at, user.as_deref(), password.as_deref(), words).await.map_err(|error| failed(error.answer))
    }

    /// Everything is on disk afterwards: the append-only file is rewritten and not rewritten again until the copy is over, or
    /// a snapshot file is written. The append-only file is a directory of parts since Redis 7, so the whole of it is copied.
    async fn write_down(&self) -> Result<Option<String>, Failure> {
        let appends = self.redis(&["CONFIG", "GET", "appendonly"]).await?.lines().any(|line| line == "yes");
        let growth = self.redis(&["CONFIG", "GET", "auto-aof-rewrite-percentage"]).await?.lines().last().map(str::to_owned);
        if appends {
            self.redis(&["CONFIG", "SET", "auto-aof-rewrite-percentage", "0"]).await?;
        }
        let begun = tokio::time::Instant::now();
        let mut asked = false;
        loop {
            let info = self.redis(&["INFO", "persistence"]).await?;
            let field =
                |name: &str| info.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}:")).map(str::to_owned));
            let busy = ["aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress"]
                .iter()
                .any(|name| field(name).as_deref() == Some("1"));
            if !busy && asked {
                let last = if appends { "aof_last_bgrewrite_status" } else { "rdb_last_bgsave_status" };
                return match field(last).as_deref() {
                    Some("ok") => Ok(growth.filter(|_| appends)),
                    _ => Err(Failure::new(FailureKind::Task, format!("{}: it could not write its data down", self.spec.service))
                        .help(format!("devrun logs {}", self.spec.service))),
                };
            }
            if !busy {
                self.redis(if appends { &["BGREWRITEAOF"] } else { &["BGSAVE"] }).await?;
                asked = true;
            }
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new(
                    FailureKind::NotReady,
                    format!("{}: it is still writing its data down", self.spec.service),
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn rewrite_again(&self, growth: Option<String>) -> Result<(), Failure> {
        match growth {
            Some(growth) => self.redis(&["CONFIG", "SET", "auto-aof-rewrite-percentage", &growth]).await.map(drop),
            None => Ok(()),
        }
    }
}

/// The services whose data `down --backup` saves: servers with a persistent volume. `online`: those that are saved while they
/// run; else those that are saved when everything is stopped.
#[must_use]
pub fn servers(plan: &Plan, online: bool) -> Vec<&ServiceSpec> {
    let keeps = |spec: &&ServiceSpec| {
        let Launch::Recipe(recipe) = &spec.launch else { return false };
        let volume = spec.data.as_ref().and_then(|name| plan.volumes.get(name));
        recipe.recipe.name != "gateway"
            && is_saved_while_it_runs(spec) == online
            && volume.is_some_and(|volume| volume.class == VolumeClass::Persistent && selection::holds_data(volume))
    };
    plan.services.values().map(std::sync::Arc::as_ref).filter(keeps).collect()
}

fn is_saved_while_it_runs(spec: &ServiceSpec) -> bool {
    spec.stop_asks().is_some() || matches!(spec.dump(), Some(ServerDump::S3 | ServerDump::Mariadb))
}

/// Saves these services into `backups/` of the state directory, each under its usual name.
///
/// # Errors
/// As [`Backup::take`]; backups that were taken before it stay.
pub fn take_all(project: &Project, read: &Read, specs: &[&ServiceSpec], work: &DataWork, term: Term) -> Result<(), Failure> {
    let directory = project.places.state.join("backups");
    devrun_runtime::runtime_dir::make_private(&directory, "backup")?;
    for spec in specs {
        let form = BackupForm::Usual;
        let file = directory.join(file_name(spec, format_of(spec, form)));
        Backup { project, read, spec, form, buckets: &[], file: file.clone(), term }.take(work)?;
        say(format!("{} saved to {}", spec.service, file.display()));
    }
    Ok(())
}

/// Finds the programs that dumps of these services need, so that nothing is stopped for a backup that cannot be taken.
///
/// # Errors
/// `Binary` without one of them; `Elsewhere` for a Postgres that does not run.
pub fn check_programs(
    project: &Project,
    read: &Read,
    specs: &[&ServiceSpec],
    work: &DataWork,
    term: Term,
) -> Result<(), Failure> {
    for spec in specs {
        match format_of(spec, BackupForm::Usual) {
            BackupFormat::PostgresCustom | BackupFormat::PostgresPlain => {
                let version = work.runtime.block_on(postgres_dump::server_version(spec))?;
                postgres_dump::Dump::find(project, spec, &version, work, term)?;
            }
            BackupFormat::MariadbSql => {
                work.runtime.block_on(mariadb_dump::find_dump(project, spec))?;
            }
            BackupFormat::Neo4jDump => {
                let volume = spec.data.as_ref().and_then(|name| read.plan.volumes.get(name));
                if let Some(volume) = volume {
                    work.runtime.block_on(Neo4jAdmin::find(project, spec, volume, &volume.path))?;
                }
            }
            BackupFormat::S3Objects | BackupFormat::DataDirectory => {}
        }
    }
    Ok(())
}

/// A manifest without its backup is what a kill between the two leaves, and no obstacle.
fn check_absent(file: &Path) -> Result<(), Failure> {
    if file.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Config, format!("{} exists already", file.display()))
        .help("choose another file: devrun backup SERVICE -o FILE"))
}

/// Gives a whole backup its name, its manifest first. Of two into one file the second touches nothing of the first one.
fn publish(stage: BackupStage, directory: &Path, file: &Path, manifest: &BackupManifest) -> Result<(), Failure> {
    let lock = File::open(directory).and_then(|directory| directory.lock().map(|()| directory));
    let _lock = lock.map_err(|error| cannot_write(directory, &error))?;
    check_absent(file)?;
    manifest.write(file)?;
    stage.commit(file).inspect_err(|_| {
        // Without its backup a manifest says nothing.
        let _ = std::fs::remove_file(manifest_path(file));
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn of_two_backups_into_one_file_the_second_touches_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("b.dump");
        let backup = |text: &str| {
            let mut stage = BackupStage::new(directory.path()).unwrap();
            stage.file.write_all(text.as_bytes()).unwrap();
            (stage, BackupManifest::new(BackupFormat::PostgresCustom, text, "shop"))
        };
        let (one, two) = (backup("one"), backup("two"));
        publish(one.0, directory.path(), &file, &one.1).unwrap();
        let refused = publish(two.0, directory.path(), &file, &two.1).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Config);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
        assert!(std::fs::read_to_string(manifest_path(&file)).unwrap().contains("\"one\""));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "nothing else is left");
    }
}
