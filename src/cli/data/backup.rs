//! `devrun backup` and `devrun restore`: one service as a file, and back.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::app::confirm;
use crate::app::data::backup::{self, Backup, BackupForm, SECRETS};
use crate::app::data::interruptible_work::DataWork;
use crate::app::data::postgres_dump::{self, Load};
use crate::app::data::reload::Reload;
use crate::app::data::{bucket_dump, recovery, replace, selection};
use crate::app::load::{self, Project, Read, Wanted};
use crate::app::readonly;
use crate::globals::Globals;
use crate::ui::download::Bars;
use crate::ui::term::{Progress, Term, data, say};
use devrun_data::{BackupFormat, BackupManifest, CopyCancel, DataEngine, unpack};
use devrun_model::service::Server;
use devrun_model::{ByteSize, Failure, FailureKind, ServerDump, ServiceSpec, exit};
use devrun_store::DownloadProgress as _;

// `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Service to save
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// File to write; its manifest is FILE.json [default: SERVICE-DATE-TIME in the working directory]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Postgres: SQL text instead of pg_dump's custom format
    #[arg(long)]
    pub plain: bool,
    /// Archive of the data directory instead of a dump; stops the service for the copy, and is restored into the same version only
    #[arg(long, conflicts_with = "plain")]
    pub directory: bool,
    /// S3 servers: save this bucket only (repeatable)
    #[arg(long = "bucket", value_name = "NAME")]
    pub buckets: Vec<String>,
    /// Print the manifest as JSON
    #[arg(long)]
    pub json: bool,
}

// `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Service whose data are replaced
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Backup of `devrun backup`, with its manifest next to it
    #[arg(value_name = "FILE")]
    pub backup: PathBuf,
    /// S3 servers: replace this bucket only (repeatable)
    #[arg(long = "bucket", value_name = "NAME")]
    pub buckets: Vec<String>,
}

impl BackupArgs {
    fn form(&self) -> BackupForm {
        match (self.plain, self.directory) {
            (true, _) => BackupForm::Plain,
            (_, true) => BackupForm::Directory,
            _ => BackupForm::Usual,
        }
    }
}

/// `devrun backup`.
///
/// # Errors
/// `Elsewhere` for a Postgres that does not run; as the file system and the server say.
pub fn backup(globals: &Globals, args: &BackupArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    recovery::finish(&project)?;
    let read = load::read(globals, &project, &Wanted { named: vec![args.service.clone()], ..Wanted::act() })?;
    let spec = readonly::one(&read.plan, &args.service)?;
    let shown = match &args.output {
        Some(file) => file.clone(),
        None => PathBuf::from(backup::file_name(spec, backup::format_of(spec, args.form()))),
    };
    let file = devrun_runtime::runtime_dir::resolve(&shown)
        .map_err(|error| Failure::new(FailureKind::Config, format!("{}: {error}", shown.display())))?;
    let work = DataWork::begin()?;
    let taken =
        Backup { project: &project, read: &read, spec, form: args.form(), buckets: &args.buckets, file, term }.take(&work);
    let manifest = match taken {
        Ok(manifest) => manifest,
        Err(failure) => return work.ended_by(failure),
    };
    if args.json {
        return readonly::json(&manifest);
    }
    let _reader_gone = data(shown.display());
    Ok(exit::DONE)
}

/// `devrun restore`.
///
/// # Errors
/// `Integrity` for a backup that was cut or changed, `Binary` for one of another version; the old data are in place then.
pub fn restore(globals: &Globals, args: &RestoreArgs, term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    recovery::finish(&project)?;
    let read = load::read(globals, &project, &Wanted { named: vec![args.service.clone()], ..Wanted::act() })?;
    let spec = readonly::one(&read.plan, &args.service)?;
    let file = std::path::absolute(&args.backup)
        .map_err(|error| Failure::new(FailureKind::Config, format!("{}: {error}", args.backup.display())))?;
    let manifest = BackupManifest::check(&file, &CopyCancel::default())?;
    let recipe = match &spec.launch {
        devrun_model::Launch::Recipe(recipe) => Some(recipe.recipe.name.clone()),
        _ => None,
    };
    // Any S3 server takes the objects of any other.
    let is_of_any = manifest.format == BackupFormat::S3Objects && spec.dump() == Some(ServerDump::S3);
    if manifest.recipe.is_some() && recipe.is_some() && manifest.recipe != recipe && !is_of_any {
        let (of, to) = (manifest.recipe.unwrap_or_default(), recipe.unwrap_or_default());
        return Err(Failure::new(
            FailureKind::Config,
            format!("{} is a backup of {of}, and {} is {to}", args.backup.display(), spec.service),
        )
        .help("name the service that it belongs to: devrun restore SERVICE FILE"));
    }
    if !args.buckets.is_empty() && manifest.format != BackupFormat::S3Objects {
        return Err(Failure::new(FailureKind::Config, format!("--bucket: {} holds no buckets", args.backup.display()))
            .help(format!("devrun restore {} {}", args.service, args.backup.display())));
    }
    let from = match &manifest.mode {
        Some(mode) => format!("{} of project {}, mode {mode}", manifest.service, manifest.project),
        None => format!("{} of project {}", manifest.service, manifest.project),
    };
    match manifest.format {
        BackupFormat::PostgresCustom | BackupFormat::PostgresPlain => {
            dump(globals, args, &file, &project, spec, &manifest, &from, term)
        }
        BackupFormat::S3Objects | BackupFormat::MariadbSql | BackupFormat::Neo4jDump => {
            reload(globals, args, &file, &project, &read, spec, &manifest, &from, term)
        }
        BackupFormat::DataDirectory => directory(globals, args, &file, &project, &read, spec, &manifest, &from, term),
    }
}

#[expect(clippy::too_many_arguments, reason = "what the command was called with, and what was found of it")]
fn dump(
    globals: &Globals,
    args: &RestoreArgs,
    file: &Path,
    project: &Project,
    spec: &ServiceSpec,
    manifest: &BackupManifest,
    from: &str,
    term: Term,
) -> Result<i32, Failure> {
    if spec.stop_asks() != Some(Server::Postgres) {
        return Err(Failure::new(
            FailureKind::Config,
            format!("{} is a dump of a Postgres, and {} is none", args.backup.display(), spec.service),
        ));
    }
    let work = DataWork::begin()?;
    work.runtime.block_on(postgres_dump::check_may_create(spec, "restore"))?;
    let now = work.runtime.block_on(postgres_dump::server_version(spec))?;
    let number = |version: &str| DataEngine::major(version).parse::<u32>().ok();
    if let Some(made) = &manifest.version
        && number(made) > number(&now)
    {
        let reason = format!("{} was made by postgres {made}, and {} is postgres {now}", args.backup.display(), spec.service);
        return Err(Failure::new(FailureKind::Binary, reason).help(format!(
            "[services.{}] use = \"postgres@{}\"",
            spec.service,
            DataEngine::major(made)
        )));
    }
    // Without the program for it nobody is asked.
    let made_by = manifest.dumped_by.clone().or_else(|| manifest.version.clone()).unwrap_or_default();
    let load = match Load::find(project, spec, (file, manifest.format, &made_by), &now, &work, term) {
        Ok(load) => load,
        Err(failure) => return work.ended_by(failure),
    };
    let database = spec.attribute("database").unwrap_or_default();
    let question = format!("the database {database} of {} is replaced by {from}, and its connections are closed", spec.service);
    if !confirm::ask(&question, &format!("devrun restore {} {}", args.service, args.backup.display()), globals, term)? {
        return Ok(exit::DONE);
    }
    // Held to the end: the databases that a killed restore left are dropped, and those of a running one would look the same.
    devrun_runtime::runtime_dir::prepare(&project.places)?;
    let _others = devrun_data::SnapshotStore::open(&project.places.state)?;
    let bars = Bars::new(term);
    bars.begin(&format!("restore of {}", spec.service), Some(manifest.bytes));
    match load.replace(&work) {
        Ok(()) => bars.end(&ByteSize(manifest.bytes).to_string()),
        Err(failure) => return work.ended_by(failure),
    }
    Ok(exit::DONE)
}

#[expect(clippy::too_many_arguments, reason = "what the command was called with, and what was found of it")]
fn reload(
    globals: &Globals,
    args: &RestoreArgs,
    file: &Path,
    project: &Project,
    read: &Read,
    spec: &ServiceSpec,
    manifest: &BackupManifest,
    from: &str,
    term: Term,
) -> Result<i32, Failure> {
    let plan = &read.plan;
    let wanted = match manifest.format {
        BackupFormat::S3Objects => ServerDump::S3,
        BackupFormat::MariadbSql => ServerDump::Mariadb,
        _ => ServerDump::Neo4j,
    };
    let volume = spec.data.as_ref().and_then(|name| plan.volumes.get(name)).filter(|_| spec.dump() == Some(wanted));
    let Some(volume) = volume else {
        let made = manifest.recipe.clone().unwrap_or_default();
        let reason = format!("{} is a dump of {made}, and {} cannot load it", args.backup.display(), spec.service);
        return Err(
            Failure::new(FailureKind::Config, reason).help("name the service that it belongs to: devrun restore SERVICE FILE")
        );
    };
    if let (Some(recipe), Some(version)) = (&manifest.recipe, &manifest.version)
        && manifest.format != BackupFormat::S3Objects
    {
        let engine = DataEngine { recipe: recipe.clone(), version: version.clone() };
        selection::not_older(project, plan, volume, &engine, &args.backup.display().to_string())?;
    }
    let what = match manifest.format {
        BackupFormat::S3Objects => {
            let buckets = bucket_dump::replaced(manifest, &args.buckets)?;
            if manifest.all_buckets && args.buckets.is_empty() {
                format!("all buckets of {} are", spec.service)
            } else {
                format!("the buckets {} of {} are", buckets.join(", "), spec.service)
            }
        }
        _ => format!("the database {} of {} is", spec.attribute("database").unwrap_or_default(), spec.service),
    };
    let running = if load::is_running(&project.places)? { "; the stack is stopped and started again" } else { "" };
    let question = format!("{what} replaced by {from}{running}");
    if !confirm::ask(&question, &format!("devrun restore {} {}", args.service, args.backup.display()), globals, term)? {
        return Ok(exit::DONE);
    }
    devrun_runtime::runtime_dir::prepare(&project.places)?;
    let _others = devrun_data::SnapshotStore::open(&project.places.state)?;
    let volumes = std::iter::once(volume.name.clone()).collect();
    let what = format!("backup {}", args.backup.display());
    let replacement = replace::Replacement { globals, project, plan, what, volumes, term };
    let code = Reload { globals, project, spec, volume, file, manifest, buckets: &args.buckets, term }.run(&replacement)?;
    if code == exit::DONE && term.progress != Progress::Quiet {
        say(format!("{} has the data of {from}", spec.service));
    }
    Ok(code)
}

#[expect(clippy::too_many_arguments, reason = "what the command was called with, and what was found of it")]
fn directory(
    globals: &Globals,
    args: &RestoreArgs,
    file: &Path,
    project: &Project,
    read: &Read,
    spec: &ServiceSpec,
    manifest: &BackupManifest,
    from: &str,
    term: Term,
) -> Result<i32, Failure> {
    let plan = &read.plan;
    let Some(volume) = spec.data.as_ref().and_then(|name| plan.volumes.get(name)) else {
        return Err(Failure::new(FailureKind::Config, format!("{} keeps no data", spec.service)).help("devrun volumes"));
    };
    if let (Some(recipe), Some(version)) = (&manifest.recipe, &manifest.version) {
        let engine = DataEngine { recipe: recipe.clone(), version: version.clone() };
        selection::same_major(project, plan, volume, &engine, &args.backup.display().to_string())?;
    }
    let running = if load::is_running(&project.places)? { "; the stack is stopped and started again" } else { "" };
    let question = format!("the data of {} in volume {} are replaced by {from}{running}", spec.service, volume.name);
    if !confirm::ask(&question, &format!("devrun restore {} {}", args.service, args.backup.display()), globals, term)? {
        return Ok(exit::DONE);
    }
    let wants = read.required_values()?;
    devrun_runtime::runtime_dir::prepare(&project.places)?;
    let _others = devrun_data::SnapshotStore::open(&project.places.state)?;
    let volumes = std::iter::once(volume.name.clone()).collect();
    let what = format!("backup {}", args.backup.display());
    let code = replace::Replacement { globals, project, plan, what, volumes, term }.run(|stage| {
        let target = stage.add_volume(&volume.path, None)?;
        let bars = Bars::new(term);
        bars.begin(&format!("restore of {}", spec.service), Some(manifest.bytes));
        unpack(file, &target, &CopyCancel::default(), &|bytes| bars.advance(bytes))?;
        bars.end(&ByteSize(manifest.bytes).to_string());
        let folder = target.join(SECRETS);
        let mut secrets = Vec::new();
        for want in &wants.secrets {
            if let Ok(value) = std::fs::read(folder.join(&want.name)) {
                secrets.push((want.name.clone(), value));
            }
        }
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .map_err(|error| Failure::new(FailureKind::Task, format!("cannot remove {}: {error}", folder.display())))?;
        }
        stage.add_secrets(&wants.secrets_dir, &secrets)
    })?;
    if code == exit::DONE && term.progress != Progress::Quiet {
        say(format!("{} has the data of {from}", spec.service));
    }
    Ok(code)
}
