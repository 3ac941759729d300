//! Which server each service ran last, in this run or the one before: a start that takes another version of it says so. A server of
//! the system may have been upgraded or removed since, and nothing in the procfile tells.

use std::collections::BTreeMap;
use std::path::Path;

use devrun_model::{Paths, ServiceId};

use super::state_files;

/// A version, and the binary that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerVersion {
    pub version: String,
    pub binary: String,
}

/// Those of the last run, before its snapshot is forgotten.
pub(super) fn of_last_run(places: &Paths) -> BTreeMap<ServiceId, ServerVersion> {
    let services = state_files::last_snapshot(places).map(|snapshot| snapshot.services).unwrap_or_default();
    let known = services.into_iter().filter_map(|service| {
        let ran = ServerVersion { version: service.version?, binary: service.binary? };
        Some((ServiceId::parse(&service.name).ok()?, ran))
    });
    known.collect()
}

/// In words; `None` where it is the same version, or another server altogether, as the procfile asks for.
pub(super) fn change(recipe: &str, before: &ServerVersion, now: &ServerVersion) -> Option<String> {
    let is_same = before.version == now.version || before.version.is_empty() || now.version.is_empty();
    if is_same || file_name(&before.binary) != file_name(&now.binary) {
        return None;
    }
    let gone = if Path::new(&before.binary).exists() { "" } else { ", which is gone" };
    Some(format!(
        "{recipe} {} ({}) is used; before, it was {} ({}{gone})",
        now.version, now.binary, before.version, before.binary
    ))
}

fn file_name(path: &str) -> Option<&std::ffi::OsStr> {
    Path::new(path).file_name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_the_same_server_is_named() {
        let ran = |version: &str, binary: &str| ServerVersion { version: version.to_owned(), binary: binary.to_owned() };
        let new = ran("18.4", "/store/bin/postgres");
        assert_eq!(
            change("postgres", &ran("15.18", "/nonexistent/bin/postgres"), &new).as_deref(),
            Some("postgres 18.4 (/store/bin/postgres) is used; before, it was 15.18 (/nonexistent/bin/postgres, which is gone)")
        );
        // The same version from elsewhere, one that is not known, and another server.
        for before in [ran("18.4", "/usr/bin/postgres"), ran("", "/usr/bin/postgres"), ran("7.0", "/usr/bin/redis-server")] {
            assert_eq!(change("postgres", &before, &new), None, "{before:?}");
        }
    }
}
