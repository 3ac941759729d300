//! One source of one version into the store.
//!
//! Owns the order of the steps: artifact, pin, unpack, the declared executables, a first run, commit, lock. Any step that
//! fails leaves the store as it was. Whether the next source is tried is said by [`FetchError`]: a host out of reach gives way, an
//! artifact that is not what is pinned never does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use devrun_model::{Failure, FailureKind, RecipeData};

use super::blocking::blocking;
use super::catalog::{Catalog, CatalogSource};
use super::download;
use super::fetch_options::FetchOptions;
use super::lockfile;
use super::manifest::{Manifest, StoreEntry};
use super::pin::{self, Pin};
use super::store::{Store, StoreStage};
use super::subprocess::{Cancel, Subprocess};
use super::transfer::FetchError;
use super::unpack::unpack_tree::UnpackError;
use super::version::VersionRequest;
use super::{package, platform, system, unpack};

/// What is to be installed.
#[derive(Debug, Clone)]
pub struct InstallJob {
    /// The recipe.
    pub recipe: RecipeData,
    /// Its catalogue.
    pub catalog: Catalog,
    /// What was asked for.
    pub request: VersionRequest,
    /// The catalogued version; `None` for a source of the procfile's that gives none.
    pub version: Option<String>,
    /// Where from.
    pub source: CatalogSource,
    /// What the lock says of it.
    pub pinned: Option<lockfile::LockEntry>,
    /// A source of the procfile's: the user vouches for it, the lock pins what the first fetch brings.
    pub vouched: bool,
}

/// Runs the steps.
///
/// # Errors
/// See [`FetchError`].
pub async fn install(job: InstallJob, store: &Store, options: &FetchOptions, cancel: &Cancel) -> Result<StoreEntry, FetchError> {
    let job = Arc::new(job);
    let stage = {
        let store = store.clone();
        Arc::new(blocking(move || store.stage()).await.and_then(|stage| stage).map_err(FetchError::Fatal)?)
    };
    let artifacts = obtain(&job, &stage, options, cancel).await?;
    let store = store.clone();
    let (options, cancel) = (options.clone(), cancel.clone());
    blocking(move || place(&job, &stage, &artifacts, &store, &options, &cancel)).await.map_err(FetchError::Fatal)?
}

/// Artifacts in the stage, with the name each is known by.
type Artifacts = Vec<(PathBuf, String)>;

async fn obtain(
    job: &Arc<InstallJob>,
    stage: &Arc<StoreStage>,
    options: &FetchOptions,
    cancel: &Cancel,
) -> Result<Artifacts, FetchError> {
    if let Some(url) = &job.source.url {
        let url = if job.vouched {
            platform::fill(url, job.version.as_deref()).map_err(|error| {
                FetchError::Fatal(Failure::new(FailureKind::Config, error.to_string()).help("correct `url` in [sources]"))
            })?
        } else {
            url.clone()
        };
        let target = download::target(&stage.download(), &url);
        let mut expected = job.pinned.as_ref().map(lockfile::LockEntry::pin).or_else(|| catalogued(&job.source));
        let mut sum = job.source.sha256.clone();
        if expected.is_none() && sum.is_none() && !job.vouched {
            // Nobody here has had this file in hands; the publisher's own sum is what there is, and the lock keeps it.
            let listed = download::text(&format!("{url}.sha256"), &stage.download().join("sum"), options).await;
            sum = Some(listed.and_then(|text| {
                download::sum_in(&text, &download::file_name(&url))
                    .ok_or_else(|| FetchError::TryNextSource("its publisher's checksum cannot be read".to_owned()))
            })?);
        }
        let what = format!("{} {}", job.recipe.name, job.version.as_deref().unwrap_or_default());
        let found = download::download(&url, &target, expected.as_ref(), what.trim_end(), options).await?;
        if let Some(sum) = sum {
            expected.get_or_insert(Pin { size: found.size, sha256: sum });
        }
        if let Some(how) = expected.and_then(|expected| expected.differs(&found)) {
            let failure = Failure::new(FailureKind::Integrity, format!("{url} is not what its checksum says: {how}"));
            return Err(FetchError::Fatal(
                failure.help("do not use it: report it to its publisher, or set another source in [sources]"),
            ));
        }
        return Ok(vec![(target, download::file_name(&url))]);
    }
    let (job, stage, options, cancel) = (job.clone(), stage.clone(), options.clone(), cancel.clone());
    blocking(move || {
        if job.source.build.is_empty() {
            let files = package::fetch(&job.source, &stage.download(), &options, &cancel)?;
            let named = |path: PathBuf| {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                (path, name)
            };
            Ok(files.into_iter().map(named).collect())
        } else {
            build(&job, &stage, &options, &cancel).map(|()| Vec::new())
        }
    })
    .await
    .map_err(FetchError::Fatal)?
}

fn catalogued(source: &CatalogSource) -> Option<Pin> {
    Some(Pin { size: source.size?, sha256: source.sha256.clone()? })
}

/// Runs the build command in an empty folder, or in its module's; what it installs goes to `bin/` of the stage.
fn build(job: &InstallJob, stage: &StoreStage, options: &FetchOptions, cancel: &Cancel) -> Result<(), FetchError> {
    let [tool, words @ ..] = job.source.build.as_slice() else {
        return Err(FetchError::TryNextSource("nothing to build".to_owned()));
    };
    if options.offline {
        return Err(FetchError::TryNextSource("offline".to_owned()));
    }
    let Some(program) = system::on_path(tool, &options.env, &|_| true) else {
        return Err(FetchError::TryNextSource(format!("{tool} is not installed, which its build needs")));
    };
    let bin = stage.tree().join("bin");
    unpack::unpack_tree::make_folder(&bin).map_err(|error| FetchError::TryNextSource(format!("{}: {error}", bin.display())))?;
    let mut env = options.env.clone();
    env.insert("DEVRUN_OUT".to_owned(), stage.tree().to_string_lossy().into_owned());
    env.insert("GOBIN".to_owned(), bin.to_string_lossy().into_owned());
    // A workspace around the store is no part of this build.
    env.insert("GOWORK".to_owned(), "off".to_owned());
    env.insert("CARGO_INSTALL_ROOT".to_owned(), stage.tree().to_string_lossy().into_owned());
    if !["HOME", "GOPATH", "GOMODCACHE"].iter().any(|name| env.contains_key(*name)) {
        env.insert("GOPATH".to_owned(), stage.download().join("go").to_string_lossy().into_owned());
        env.insert("GOCACHE".to_owned(), stage.download().join("go-build").to_string_lossy().into_owned());
        // A module cache is read-only otherwise, and the stage could not be removed.
        env.insert("GOFLAGS".to_owned(), "-modcacherw".to_owned());
    }
    options.progress.begin(&format!("building {} ({})", job.recipe.name, job.source.command()), None);
    let ended = (|| {
        let dir = match &job.source.module {
            Some(module) => package::go_module(module, &stage.download(), &env, cancel)?,
            None => stage.download(),
        };
        for (folder, files) in [(&dir, &job.source.files), (&stage.tree(), &job.source.add)] {
            for (name, text) in files {
                write_new_file(&folder.join(name), text)
                    .map_err(|error| FetchError::TryNextSource(format!("{name}: {error}")))?;
            }
        }
        let args = words.iter().map(OsStr::new).collect();
        let run = Subprocess { program: &program, args, env: &env, dir: Some(&dir), limit: Duration::from_secs(3600) };
        package::ended_well(tool, run.wait(cancel, || ()))
    })();
    options.progress.end(if ended.is_ok() { "done" } else { "failed" });
    ended.map(drop)
}

fn write_new_file(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

/// Everything after the bytes are here.
fn place(
    job: &InstallJob,
    stage: &StoreStage,
    artifacts: &Artifacts,
    store: &Store,
    options: &FetchOptions,
    cancel: &Cancel,
) -> Result<StoreEntry, FetchError> {
    let label = job.source.label();
    let broken = |reason: String| FetchError::Fatal(Failure::new(FailureKind::Integrity, reason));
    let tree = stage.tree();
    let mut pins = Vec::new();
    for (path, name) in artifacts {
        let pin = pin::of_file(path).map_err(|error| FetchError::TryNextSource(format!("{}: {error}", path.display())))?;
        pins.push((name.clone(), pin));
    }
    if !artifacts.is_empty() {
        let found = pin::combined(&pins);
        check_pin(job, &found)?;
        options.progress.begin(&format!("unpacking {}", job.recipe.name), None);
        let archives: Vec<(&Path, &str)> = artifacts.iter().map(|(path, name)| (path.as_path(), name.as_str())).collect();
        let raw = job.source.bin.values().next().cloned();
        let raw = raw.or_else(|| job.recipe.bin.first().cloned()).unwrap_or_else(|| job.recipe.name.clone());
        let unpacked = unpack::unpack(&archives, &job.source.unpack, &raw, &tree);
        options.progress.end(if unpacked.is_ok() { "done" } else { "refused" });
        unpacked.map_err(|refused| {
            let (kind, help) = match refused {
                UnpackError::Archive(_) => (FailureKind::Integrity, "do not use it; name another source in [sources]"),
                UnpackError::NoRoom(_) => (FailureKind::Binary, super::store::MAKE_ROOM),
            };
            FetchError::Fatal(Failure::new(kind, format!("{label} cannot be unpacked: {refused}")).help(help))
        })?;
    }
    // The artifact is what it should be and still lacks what is wanted: another source may have it.
    let tools = executables(job, &tree).map_err(FetchError::TryNextSource)?;
    if artifacts.is_empty() {
        for (name, path) in &tools {
            let pin =
                pin::of_file(&tree.join(path)).map_err(|error| broken(format!("{label} built no usable {name}: {error}")))?;
            pins.push((name.clone(), pin));
        }
        check_pin(job, &pin::combined(&pins))?;
    }
    let mut manifest = Manifest {
        format: 1,
        name: job.recipe.name.clone(),
        version: String::new(),
        reported: String::new(),
        platform: platform::current(),
        source: label,
        pin: pin::combined(&pins),
        tools,
        lib: job.source.lib.clone(),
        files: BTreeMap::new(),
        listing: None,
    };
    let reported = run_version_check(job, &manifest, &tree, options, cancel)?;
    manifest.version = match &job.version {
        Some(version) => version.clone(),
        None if reported.is_empty() => "unversioned".to_owned(),
        None => reported.clone(),
    };
    // A source build may call itself anything; a distribution's package may have moved on to another version.
    let distribution = !job.source.deb.is_empty();
    if distribution && !reported.is_empty() {
        manifest.version.clone_from(&reported);
    }
    manifest.reported = if reported.is_empty() { manifest.version.clone() } else { reported };
    if !job.request.admits(&manifest.version) && !job.request.admits(&manifest.reported) {
        return Err(FetchError::TryNextSource(format!("it is {}, wanted is {}", manifest.reported, job.request)));
    }
    if manifest.version.contains(['/', '\0']) || manifest.version.starts_with('.') {
        return Err(broken(format!("invalid version {:?}", manifest.version)));
    }
    if cancel.is_cancelled() {
        return Err(FetchError::Fatal(Failure::cancelled()));
    }
    store.commit(stage, manifest).map_err(FetchError::Fatal)
}

/// Holds what was found to the catalogue's pin and to the lock's.
fn check_pin(job: &InstallJob, found: &Pin) -> Result<(), FetchError> {
    if let Some(entry) = &job.pinned
        && let Some(how) = entry.pin().differs(found)
    {
        return Err(FetchError::Fatal(lockfile::mismatch(entry, &how)));
    }
    let Some(expected) = &job.source.sha256 else { return Ok(()) };
    let expected = Pin { size: job.source.size.unwrap_or(found.size), sha256: expected.clone() };
    match expected.differs(found) {
        None => Ok(()),
        Some(how) => Err(FetchError::Fatal(
            Failure::new(FailureKind::Integrity, format!("{} is not what is pinned: {how}", job.source.label()))
                .help("do not use it; check the mirror or proxy it came through"),
        )),
    }
}

/// The declared executables, made executable; for a source that declares none, the recipe's by their names.
fn executables(job: &InstallJob, tree: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut tools = job.source.bin.clone();
    if tools.is_empty() {
        let mut files = Vec::new();
        list(tree, tree, 0, &mut files).map_err(|error| error.to_string())?;
        let optional = |name: &&String| job.catalog.optional.contains(*name) && !job.recipe.bin.contains(*name);
        for name in job.recipe.bin.iter().chain(job.catalog.optional.iter().filter(optional)) {
            let best = files
                .iter()
                .filter(|path| path.rsplit('/').next() == Some(name))
                .min_by_key(|path| (!path.ends_with(&format!("bin/{name}")), path.len()));
            if let Some(path) = best {
                tools.insert(name.clone(), path.clone());
            }
        }
    }
    let missing: Vec<&str> =
        system::required(&job.recipe, &job.catalog).into_iter().filter(|name| !tools.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(format!("{} holds no {}", job.source.label(), missing.join(", ")));
    }
    let root = tree.canonicalize().map_err(|error| error.to_string())?;
    for (name, path) in &tools {
        let real = root.join(path).canonicalize().map_err(|error| format!("{name} is not at {path}: {error}"))?;
        if !real.starts_with(&root) || !real.is_file() {
            return Err(format!("{name}: {path} is not a file of the archive"));
        }
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    }
    Ok(tools)
}

fn list(root: &Path, folder: &Path, depth: u32, files: &mut Vec<String>) -> std::io::Result<()> {
    if depth > 16 {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            list(root, &path, depth + 1, files)?;
        } else if let Some(relative) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            files.push(relative.to_owned());
        }
    }
    Ok(())
}

/// Runs the server once for its version. What cannot run here (another libc, a missing library) gives way to the next source.
fn run_version_check(
    job: &InstallJob,
    manifest: &Manifest,
    tree: &Path,
    options: &FetchOptions,
    cancel: &Cancel,
) -> Result<String, FetchError> {
    let Some(server) = job.recipe.bin.first().and_then(|name| manifest.tools.get(name)) else { return Ok(String::new()) };
    let probe = StoreEntry { folder: tree.to_owned(), manifest: manifest.clone() };
    system::ask_version(&tree.join(server), &job.catalog.version_args, &probe.env(), &options.env, cancel)
        .map_err(|why| FetchError::TryNextSource(format!("it does not run here: {why}")))
}
