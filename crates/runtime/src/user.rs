//! The user that `user_id` names: `USER[:GROUP]`, each a name or a number, as compose's `user`. A number needs no entry in
//! the system's list of users.

use nix::unistd::{Group, Uid, User, geteuid};

use devrun_model::keeper::RunAs;
use devrun_model::{Failure, FailureKind, ServiceSpec};

/// The OS identity that a service's `user_id` asks for.
///
/// # Errors
/// `Config`: no such user or group, or only root could become it.
pub fn of(spec: &ServiceSpec) -> Result<RunAs, Failure> {
    let Some(text) = &spec.user_id else { return Ok(RunAs::Same) };
    let table = if spec.task.is_some() { "tasks" } else { "services" };
    resolve(text).map_err(|why| Failure::new(FailureKind::Config, why).help(format!("check {table}.{}.user_id", spec.service)))
}

fn resolve(text: &str) -> Result<RunAs, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let failed = |error: nix::Error| format!("the user {user:?} cannot be looked up: {error}");
    let (uid, entry) = match user.parse::<u32>() {
        Ok(uid) => (uid, User::from_uid(Uid::from_raw(uid)).map_err(failed)?),
        Err(_) => {
            let entry = User::from_name(user).map_err(failed)?.ok_or_else(|| format!("unknown user {user:?}"))?;
            (entry.uid.as_raw(), Some(entry))
        }
    };
    let named = group.map(gid_of).transpose()?;
    // A number without an entry has the group of its own number: the group of nobody else, and not root's.
    let gid = named.unwrap_or_else(|| entry.as_ref().map_or(uid, |entry| entry.gid.as_raw()));
    let us = geteuid();
    if uid == us.as_raw() && (named.is_none() || gid == nix::unistd::getegid().as_raw()) {
        return Ok(RunAs::Same);
    }
    if !us.is_root() {
        return Err(format!("only root can run a service as {text:?}"));
    }
    let groups = match (named, &entry) {
        (None, Some(entry)) => {
            groups_of(&entry.name, gid).map_err(|reason| format!("the groups of {user:?} cannot be looked up: {reason}"))?
        }
        _ => vec![gid],
    };
    Ok(RunAs::User { uid, gid, groups })
}

/// All groups that the user database gives a user.
#[cfg(not(target_os = "macos"))]
fn groups_of(name: &str, gid: u32) -> Result<Vec<u32>, String> {
    let name = std::ffi::CString::new(name).map_err(|_| "the name has a zero byte".to_owned())?;
    let groups = nix::unistd::getgrouplist(&name, nix::unistd::Gid::from_raw(gid)).map_err(|error| error.to_string())?;
    Ok(groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
}

/// The user's own group only: the call for the others has no safe form there.
#[cfg(target_os = "macos")]
fn groups_of(_name: &str, gid: u32) -> Result<Vec<u32>, String> {
    Ok(vec![gid])
}

fn gid_of(group: &str) -> Result<u32, String> {
    if let Ok(gid) = group.parse::<u32>() {
        return Ok(gid);
    }
    match Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid.as_raw()),
        Ok(None) => Err(format!("unknown group {group:?}")),
        Err(error) => Err(format!("the group {group:?} cannot be looked up: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_no_entry_and_names_do() {
        assert!(resolve("no-such-user").unwrap_err().contains("unknown user"));
        let us = geteuid().as_raw();
        assert_eq!(resolve(&us.to_string()), Ok(RunAs::Same));
        if us == 0 {
            let user = |uid, gid| Ok(RunAs::User { uid, gid, groups: vec![gid] });
            assert_eq!(resolve("4000001"), user(4_000_001, 4_000_001));
            assert_eq!(resolve("4000001:7"), user(4_000_001, 7));
            assert_eq!(resolve("4000001:root"), user(4_000_001, 0));
            assert!(resolve("4000001:no-such-group").unwrap_err().contains("unknown group"));
        } else {
            assert!(resolve("4000001").unwrap_err().contains("only root"));
        }
    }
}
