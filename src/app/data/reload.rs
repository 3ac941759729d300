//! Restores a dump that a server has to load: into a copy of its data, which then takes the place of the data in one step. Until
//! then the data are untouched, and the copy-on-write of the file system, where it has one, makes the copy cheap.

use std::cell::Cell;
use std::path::Path;

use devrun_data::{BackupFormat, BackupManifest, CopyCancel, copy_tree};
use devrun_model::{ByteSize, Failure, FailureKind, ServiceSpec, VolumeSpec};
use devrun_store::DownloadProgress as _;

use crate::app::data::mariadb_dump::MariadbServer;
use crate::app::data::neo4j_dump::Neo4jAdmin;
use crate::app::data::private_server::PrivateServer;
use crate::app::data::replace::Replacement;
use crate::app::data::{bucket_dump, selection};
use crate::app::load::Project;
use crate::globals::Globals;
use crate::ui::download::Bars;
use crate::ui::term::Term;

/// A dump that is to be loaded.
pub struct Reload<'a> {
    /// The options that the command was called with.
    pub globals: &'a Globals,
    /// Where.
    pub project: &'a Project,
    /// The server.
    pub spec: &'a ServiceSpec,
    /// Its data.
    pub volume: &'a VolumeSpec,
    /// The dump.
    pub file: &'a Path,
    /// What it is.
    pub manifest: &'a BackupManifest,
    /// The buckets that are replaced; none: all of the backup.
    pub buckets: &'a [String],
    /// For progress.
    pub term: Term,
}

impl Reload<'_> {
    /// Does it, by a replacement of the volume.
    ///
    /// # Errors
    /// What the load fails with; the data are as before then.
    pub fn run(&self, replacement: &Replacement<'_>) -> Result<i32, Failure> {
        let interrupted = Cell::new(None);
        let done = replacement.run(|stage| {
            let server = PrivateServer::new(self.globals, self.project, self.spec, &self.volume.name, self.term)?;
            let target = stage.add_volume(&self.volume.path, None)?;
            let own = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(".devrun-restore-") || name == "lost+found";
            let is_new = !selection::has_entries(&self.volume.path, &own)?;
            copy_tree(&self.volume.path, &target, &own, &CopyCancel::default())?;
            let bars = Bars::new(self.term);
            bars.begin(&format!("restore of {}", self.spec.service), Some(self.manifest.bytes));
            if let Some(code) = self.load(&server, &target, is_new, &bars)? {
                interrupted.set(Some(code));
                return Err(Failure::cancelled());
            }
            bars.end(&ByteSize(self.manifest.bytes).to_string());
            Ok(())
        });
        match (done, interrupted.get()) {
            (Err(failure), Some(code)) if failure.kind == FailureKind::Cancelled => Ok(code),
            (done, _) => done,
        }
    }

    fn load(&self, server: &PrivateServer<'_>, data: &Path, is_new: bool, bars: &Bars) -> Result<Option<i32>, Failure> {
        match self.manifest.format {
            BackupFormat::S3Objects => server.with(data, async |spec| {
                bucket_dump::load(spec, self.file, self.manifest, self.buckets, &|bytes| bars.advance(bytes)).await
            }),
            BackupFormat::MariadbSql => server.with(data, async |spec| {
                let volume = VolumeSpec { path: data.to_owned(), ..self.volume.clone() };
                MariadbServer::connect(self.project, server.places(), spec, Some(&volume)).await?.load(self.file).await
            }),
            BackupFormat::Neo4jDump => {
                // Users and the list of databases are made by the first start.
                if is_new && let Some(code) = server.with(data, async |_| Ok(()))? {
                    return Ok(Some(code));
                }
                let runtime = crate::app::runtime::runtime()?;
                let tool = runtime.block_on(Neo4jAdmin::find(self.project, self.spec, self.volume, data))?;
                tool.load(self.file, &CopyCancel::default()).map(|()| None)
            }
            BackupFormat::PostgresCustom | BackupFormat::PostgresPlain | BackupFormat::DataDirectory => {
                Err(Failure::new(FailureKind::Internal, "this backup is not loaded by a private server"))
            }
        }
    }
}
