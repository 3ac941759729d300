//! Fetches a release, checks it and puts it in the place of the program: in a directory next to it, so that one rename does it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use devrun_model::{Failure, FailureKind};
use devrun_store::catalog::UnpackRules;
use devrun_store::transfer::FetchError;
use devrun_store::{FetchOptions, download, unpack};

use super::release::{Release, newest, targets};

/// The file of the sums.
const SUMS: &str = "SHA256SUMS";

/// Where releases come from, and what they replace.
pub struct UpdateOptions {
    /// A URL or `file://` directory, without a slash at its end.
    pub base: String,
    /// The program's file.
    pub program: PathBuf,
    /// How to fetch.
    pub fetch: FetchOptions,
}

/// The newest release of the base for this platform.
///
/// # Errors
/// `Binary` when the sums cannot be had or list nothing for this platform.
pub async fn find_release(options: &UpdateOptions) -> Result<Release, Failure> {
    let scratch = tempfile::tempdir().map_err(|error| {
        let place = std::env::temp_dir();
        Failure::new(FailureKind::Config, format!("cannot make a temporary directory in {}: {error}", place.display()))
            .help("TMPDIR=DIRECTORY devrun self update")
    })?;
    let url = format!("{}/{SUMS}", options.base);
    let sums = download::text(&url, &scratch.path().join(SUMS), &options.fetch).await.map_err(|error| unfetched(&url, error))?;
    newest(&sums, &targets()).ok_or_else(|| {
        let wanted = targets().first().cloned().unwrap_or_else(|| std::env::consts::OS.to_owned());
        Failure::new(FailureKind::Binary, format!("{url} lists no release for this platform"))
            .help(format!("expected a line for devrun-VERSION-{wanted}.tar.gz, as scripts/release writes it"))
    })
}

/// Replaces the program by this release. What fails leaves it as it is.
///
/// # Errors
/// `Config` when its directory cannot be written, `Binary` when the artifact cannot be had, `Integrity` when it is not the one of
/// the sums or is no devrun of that version.
pub async fn replace(release: &Release, options: &UpdateOptions) -> Result<(), Failure> {
    let program = &options.program;
    let folder = program.parent().unwrap_or(Path::new("/"));
    let unwritable = |error: std::io::Error| {
        Failure::new(FailureKind::Config, format!("cannot replace {}: {error}", program.display()))
            .help(format!("run the command as a user who may write {}", folder.display()))
    };
    let mode = fs::metadata(program).map_err(unwritable)?.permissions();
    let staging = tempfile::Builder::new().prefix(".devrun-update-").tempdir_in(folder).map_err(unwritable)?;
    let archive = staging.path().join("archive");
    let url = format!("{}/{}", options.base, release.file);
    let found =
        download::download(&url, &archive, None, &release.file, &options.fetch).await.map_err(|error| unfetched(&url, error))?;
    let tampered = |reason: String| {
        Failure::new(FailureKind::Integrity, reason)
            .help("nothing was changed; download it again, or ask the publisher of the release")
    };
    if found.sha256 != release.sha256 {
        return Err(tampered(format!("{url}: its sha256 is {}, and {SUMS} says {}", found.sha256, release.sha256)));
    }
    let unpacked = staging.path().join("unpacked");
    fs::create_dir(&unpacked).map_err(unwritable)?;
    let rules = UnpackRules { kind: Some("tar.gz".to_owned()), ..UnpackRules::default() };
    unpack::unpack(&[(&archive, &release.file)], &rules, "devrun", &unpacked)
        .map_err(|error| tampered(format!("{url}: {error}")))?;
    let next = unpacked.join("devrun");
    if !fs::symlink_metadata(&next).is_ok_and(|meta| meta.is_file()) {
        return Err(tampered(format!("{url} holds no file devrun")));
    }
    fs::set_permissions(&next, mode).map_err(unwritable)?;
    check_version(&next, release).map_err(|reason| tampered(format!("{url}: {reason}")))?;
    // On the disk before it has the name, so that a loss of power leaves one program or the other.
    File::open(&next).and_then(|file| file.sync_all()).map_err(unwritable)?;
    fs::rename(&next, program).map_err(unwritable)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritable)
}

/// Whether the new program runs here and is what its name says.
fn check_version(next: &Path, release: &Release) -> Result<(), String> {
    let said = Command::new(next).arg("version").stdin(Stdio::null()).output();
    let said = said.map_err(|error| format!("it does not run here: {error}"))?;
    let text = String::from_utf8_lossy(&said.stdout);
    if !said.status.success() || text.trim() != format!("devrun {}", release.version) {
        return Err(format!("it should be devrun {} and answers {:?} ({})", release.version, text.trim(), said.status));
    }
    Ok(())
}

fn unfetched(url: &str, error: FetchError) -> Failure {
    match error {
        FetchError::Fatal(failure) => failure,
        FetchError::TryNextSource(reason) => Failure::new(FailureKind::Binary, format!("cannot fetch {url}: {reason}"))
            .help("name the directory of a release: devrun self update --from URL|DIR"),
    }
}
