//! As whom an engine runs. Engines that refuse root get a user namespace in which root appears as an ordinary user: the
//! files stay root's, and it works below a home of mode 0700. Where that is forbidden they run as another user, if that
//! user can pass through every folder on the way to what it needs.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::User;

use crate::{runtime_dir, user};
use devrun_model::keeper::RunAs;
use devrun_model::{Failure, FailureKind, Paths, ServiceSpec};

/// Turns namespaces off, for tests of the other way.
const NO_NAMESPACE: &str = "DEVRUN_NO_USERNS";

/// Under which identity an engine runs that ends when started as root: the user that `user_id` names, else ours in a
/// namespace, else another ordinary user. The same for a user without an entry in the list of users.
///
/// # Errors
/// `Config` when we are root or have no name, and no other identity is to be had.
pub(super) fn choose(spec: &ServiceSpec, fallback: &[&str]) -> Result<RunAs, Failure> {
    let named = user::of(spec)?;
    let us = nix::unistd::geteuid();
    // In a container often a bare number; initdb and others ask for its name. A system that cannot say has the last word.
    let is_nameless = matches!(User::from_uid(us), Ok(None));
    if !needs_other_identity(&named, us.is_root(), is_nameless) {
        return Ok(named);
    }
    if namespaces_work() {
        // Inside, any number but 0 does; nobody's has a name, which initdb asks for.
        let nobody = User::from_name("nobody").ok().flatten();
        return Ok(match nobody {
            Some(user) => RunAs::Namespace { uid: user.uid.as_raw(), gid: user.gid.as_raw() },
            None => RunAs::Namespace { uid: 65534, gid: 65534 },
        });
    }
    if !us.is_root() {
        return Err(Failure::new(
            FailureKind::Config,
            format!("it cannot run as uid {us}, which has no entry in /etc/passwd, and user namespaces are forbidden here"),
        )
        .help(format!("add one: echo 'app:x:{us}:{us}::/tmp:/bin/sh' >> /etc/passwd; or run devrun as a user with a name")));
    }
    for name in fallback {
        if let Ok(Some(user)) = User::from_name(name)
            && !user.uid.is_root()
        {
            return Ok(RunAs::User { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups: Vec::new() });
        }
    }
    Err(Failure::new(
        FailureKind::Config,
        format!(
            "it refuses to run as root, user namespaces are forbidden here, and user {} does not exist",
            fallback.join(" or ")
        ),
    )
    .help("name an ordinary user: user_id = \"…\", or do not run devrun as root"))
}

/// Whether ours will not do: root is refused, and one without a name is not found by those that look for it.
fn needs_other_identity(named: &RunAs, is_root: bool, is_nameless: bool) -> bool {
    *named == RunAs::Same && (is_root || is_nameless)
}

/// What the kernel says of user namespaces for us: none allowed at all, or a seccomp filter without the
/// capability that passes it (the usual container).
fn namespaces_work() -> bool {
    if std::env::var_os(NO_NAMESPACE).is_some_and(|value| !value.is_empty()) || !devrun_keeper::HAS_USER_NAMESPACES {
        return false;
    }
    let allowed = std::fs::read_to_string("/proc/sys/user/max_user_namespaces")
        .is_ok_and(|text| text.trim().parse::<u64>().is_ok_and(|most| most > 0));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let admin = field("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).is_some_and(|set| set >> 21 & 1 == 1);
    let unfiltered = field("Seccomp:") == Some("0");
    let for_all = std::fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").is_ok_and(|text| text.trim() == "1")
        || !Path::new("/proc/sys/kernel/unprivileged_userns_clone").exists();
    allowed && (admin || (unfiltered && for_all))
}

/// Gives the engine's data to the identity, with the way to it.
///
/// # Errors
/// `Config`: a folder on the way cannot be passed, or an owner cannot be changed.
pub(super) fn own_data(run_as: &RunAs, places: &Paths, data: PathBuf) -> Result<PathBuf, Failure> {
    check_passable(run_as, places, &[&data])?;
    hand_over(run_as, &data)?;
    Ok(data)
}

/// Opens our own folders above `path`, up to the state folder, to pass through and to nothing else: nobody can list them,
/// and what lies in them is closed by its own mode.
fn open_way(places: &Paths, path: &Path) -> Result<(), Failure> {
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(&places.state)) {
        let Ok(metadata) = std::fs::symlink_metadata(folder) else { continue };
        if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() || metadata.mode() & 0o011 == 0o011 {
            continue;
        }
        let mode = std::fs::Permissions::from_mode(metadata.mode() & 0o7777 | 0o011);
        std::fs::set_permissions(folder, mode).map_err(|error| {
            Failure::new(FailureKind::Config, format!("cannot change the mode of {}: {error}", folder.display()))
        })?;
    }
    Ok(())
}

/// Refuses when a folder on the way to one of `paths` cannot be passed by the identity. In a namespace root has no more
/// rights than an ordinary owner.
///
/// # Errors
/// `Config`, naming the folder.
pub(super) fn check_passable(run_as: &RunAs, places: &Paths, paths: &[&Path]) -> Result<(), Failure> {
    let (uid, gid, groups) = match run_as {
        RunAs::Same => return Ok(()),
        RunAs::Namespace { .. } => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw(), &[][..]),
        RunAs::User { uid, gid, groups } => (*uid, *gid, groups.as_slice()),
    };
    for path in paths {
        if matches!(run_as, RunAs::User { .. }) {
            open_way(places, path)?;
        }
        // A link's own parents need no look: what is opened is what it leads to.
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| (*path).to_owned());
        let folders: Vec<PathBuf> = real.ancestors().skip(1).map(Path::to_owned).collect();
        for folder in folders.iter().rev() {
            let Ok(metadata) = std::fs::metadata(folder) else { continue };
            if !may_pass(metadata.mode(), metadata.uid(), metadata.gid(), uid, gid, groups) {
                return Err(Failure::new(
                    FailureKind::Config,
                    format!("uid {uid} cannot pass through {} (mode {:03o})", folder.display(), metadata.mode() & 0o777),
                )
                .help(format!(
                    "chmod o+x '{}', put the state elsewhere with --state-dir, or do not run devrun as root",
                    folder.display()
                )));
            }
        }
    }
    Ok(())
}

fn may_pass(mode: u32, owner: u32, group: u32, uid: u32, gid: u32, groups: &[u32]) -> bool {
    let bit = if owner == uid {
        0o100
    } else if group == gid || groups.contains(&group) {
        0o010
    } else {
        0o001
    };
    mode & bit != 0
}

/// Hands the engine's folder, and nothing else, over to the user it runs as, and back to us where it was another's before.
/// Every step is relative to an open folder and follows no link: the user may change its folder meanwhile.
///
/// # Errors
/// `Config` when an owner cannot be changed.
pub(super) fn hand_over(run_as: &RunAs, folder: &Path) -> Result<(), Failure> {
    let (uid, gid) = match run_as {
        RunAs::User { uid, gid, .. } => (*uid, *gid),
        RunAs::Same | RunAs::Namespace { .. } if nix::unistd::geteuid().is_root() => match std::fs::symlink_metadata(folder) {
            Ok(metadata) if metadata.uid() != 0 => (0, 0),
            _ => return Ok(()),
        },
        RunAs::Same | RunAs::Namespace { .. } => return Ok(()),
    };
    runtime_dir::give(folder, uid, gid).map_err(|error| {
        Failure::new(FailureKind::Config, format!("cannot hand {} to uid {uid}: {error}", folder.display()))
            .help("check that no other process changes it, and that it holds no hard links to files elsewhere")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_a_user_without_a_name_get_another_identity() {
        let named = RunAs::User { uid: 5, gid: 5, groups: Vec::new() };
        for (run_as, is_root, is_nameless, needs) in [
            (&RunAs::Same, false, false, false),
            (&RunAs::Same, true, false, true),
            (&RunAs::Same, false, true, true),
            (&named, true, false, false),
        ] {
            assert_eq!(needs_other_identity(run_as, is_root, is_nameless), needs, "{run_as:?} {is_root} {is_nameless}");
        }
    }

    #[test]
    fn the_class_that_applies_decides() {
        for (mode, owner, group, uid, gid, passes) in [
            (0o700, 1, 1, 1, 1, true),
            (0o700, 0, 0, 1, 1, false),
            (0o711, 0, 0, 1, 1, true),
            (0o750, 0, 1, 1, 1, true),
            (0o705, 0, 1, 1, 1, false),
            (0o077, 1, 1, 1, 1, false),
        ] {
            assert_eq!(may_pass(mode, owner, group, uid, gid, &[]), passes, "{mode:o} {owner}:{group} {uid}:{gid}");
        }
    }

    #[test]
    fn the_folder_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let closed = folder.path().join("closed");
        std::fs::create_dir_all(closed.join("data")).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
        let places =
            Paths { root: folder.path().to_owned(), state: folder.path().join("elsewhere"), run: folder.path().join("run") };
        let stranger = RunAs::User { uid: 4_000_000, gid: 4_000_000, groups: Vec::new() };
        let failure = check_passable(&stranger, &places, &[&closed.join("data")]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Config);
        assert!(failure.reason.contains("closed"), "{}", failure.reason);
        assert!(check_passable(&RunAs::Same, &places, &[&closed.join("data")]).is_ok());
    }
}
