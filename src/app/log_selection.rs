//! Which log files there are, and from which moment on they are read.

use std::time::SystemTime;

use devrun_model::{Failure, FailureKind, ServiceId, duration};

use crate::app::load::Project;

/// Whoever has a log file, further files of services among them.
pub fn known(project: &Project) -> Vec<ServiceId> {
    let names = |folder: &std::path::Path| -> Vec<String> {
        let is_directory = std::fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir());
        let entries = is_directory.then(|| std::fs::read_dir(folder).ok()).flatten().into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    };
    let folder = project.places.logs();
    let mut ids = Vec::new();
    for name in names(&folder) {
        // `devrun.log` is the supervisor's own, unless a service has that name and an index.
        if let Some(stem) = name.strip_suffix(".idx") {
            ids.extend(ServiceId::parse(stem).ok());
        } else if let Ok(service) = ServiceId::parse(&name) {
            // A folder of its further files.
            let files = names(&folder.join(&name));
            ids.extend(files.iter().filter_map(|file| Some(service.further(file.strip_suffix(".idx")?))));
        }
    }
    ids.sort();
    ids
}

/// Whether the logs of a project may be read; what its directory of logs links to may be anything of the user's.
///
/// # Errors
/// `Config`, with what to type.
pub fn check(project: &Project) -> Result<(), Failure> {
    devrun_logs::read::check_directory(&project.places.logs()).map_err(|error| unreadable(project, &error))
}

/// The failure of a command whose logs cannot be read.
#[must_use]
pub fn unreadable(project: &Project, error: &std::io::Error) -> Failure {
    let folder = project.places.logs();
    let failure = Failure::new(FailureKind::Config, format!("cannot read the logs: {error}"));
    match std::fs::symlink_metadata(&folder).is_ok_and(|meta| meta.is_symlink()) {
        true => failure.help(format!("rm '{}'", folder.display())),
        false => failure.help(format!("check owner and mode: ls -l {}", folder.display())),
    }
}

/// The number of `--tail`; `None` for all.
///
/// # Errors
/// `Config`, with an example of what to type.
pub fn tail(text: Option<&str>, example: &str) -> Result<Option<usize>, Failure> {
    match text {
        None | Some("all") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| Failure::new(FailureKind::Config, format!("--tail {text}: no number")).help(example)),
    }
}

/// `10m` ago, or an RFC 3339 time, as microseconds since 1970.
pub fn moment(text: &str) -> Result<i64, Failure> {
    if let Ok(ago) = duration::parse(text) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        return Ok(i64::try_from(now.saturating_sub(ago).as_micros()).unwrap_or(i64::MAX));
    }
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_microsecond).map_err(|_| {
        Failure::new(FailureKind::Config, format!("invalid time {text:?}")).help("use 10m, 2h, or 2026-11-21T08:00:00Z")
    })
}
