//! What the units of the system's manager have more than those of a user: an account of their own, its directories, and a sandbox
//! in which the file system can be read and only what the stack writes can be written.
//!
//! Left out on purpose: `DynamicUser=` implies `RemoveIPC=`, by which one unit that stops takes the shared memory of every other one
//! (they are all the same user's); `PrivateDevices=` takes graphics cards from model servers; `MemoryDenyWriteExecute=` breaks
//! everything that compiles at run time (JVM, Node, PHP); `ProtectProc=` and `RestrictNamespaces=` break exporters and browsers.

use std::path::Path;

use super::systemd_source::SystemdSource;
use super::systemd_syntax::{setting, specifiers};

/// What holds for all services, and takes nothing from a server that a user could have started.
const HARDENING: &[&str] = &[
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictSUIDSGID=yes",
    "RestrictRealtime=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "LockPersonality=yes",
];

/// Where homes are (systemd.exec(5), `ProtectHome=`).
const HOMES: &[&str] = &["/home", "/root", "/run/user"];

/// The first port that every user may listen on.
const UNPRIVILEGED: u16 = 1024;

/// The stack's account.
pub(crate) fn user(source: &SystemdSource) -> String {
    format!("devrun-{}", source.project)
}

/// The fragment for `systemd-sysusers`, which makes the account.
pub(crate) fn account(source: &SystemdSource) -> String {
    let user = user(source);
    format!(
        "# Written by `devrun export systemd --system`; `systemd-sysusers` makes the account of it (sysusers.d(5)).\n\
         u {user} - \"devrun stack {}\" /var/lib/{user}\n",
        source.project
    )
}

/// The name of that fragment's file.
pub(crate) fn account_file(source: &SystemdSource) -> String {
    format!("{}.sysusers", user(source))
}

/// The lines of a service's section. `keeps_runtime`: this unit makes the runtime directory, which goes when it stops.
pub(crate) fn lines(source: &SystemdSource, ports: impl IntoIterator<Item = u16>, keeps_runtime: bool) -> Vec<String> {
    let user = user(source);
    let mut lines = vec![
        format!("User={user}"),
        format!("Environment=DEVRUN_STATE_DIR=%S/{user} XDG_RUNTIME_DIR=%t/{user} XDG_CACHE_HOME=%C/{user}"),
        format!("StateDirectory={user}"),
        "StateDirectoryMode=0700".to_owned(),
        format!("CacheDirectory={user}"),
    ];
    let mut writable: Vec<String> = source.writable.iter().map(|path| setting(&format!("-{}", path.display()))).collect();
    if keeps_runtime {
        lines.extend([format!("RuntimeDirectory={user}"), "RuntimeDirectoryMode=0700".to_owned()]);
    } else {
        writable.push(format!("%t/{user}"));
    }
    lines.push(format!("ReadWritePaths={}", writable.join(" ")));
    lines.extend(HARDENING.iter().map(|line| (*line).to_owned()));
    lines.push(format!("ProtectHome={}", protect_home(source)));
    if has_private_tmp(source) {
        lines.push("PrivateTmp=yes".to_owned());
    }
    // A server behind a port that only root may open, as for a web server of a distribution.
    let capability = if ports.into_iter().any(|port| port > 0 && port < UNPRIVILEGED) { "CAP_NET_BIND_SERVICE" } else { "" };
    if !capability.is_empty() {
        lines.push(format!("AmbientCapabilities={capability}"));
    }
    lines.push(format!("CapabilityBoundingSet={capability}"));
    lines
}

/// Homes are hidden where nothing of the stack lies in one.
fn protect_home(source: &SystemdSource) -> &'static str {
    let is_home = |path: &Path| HOMES.iter().any(|home| path.starts_with(home));
    let path = source.environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str()).unwrap_or_default();
    let program = source.command.first().map(Path::new);
    let mut all = source.writable.iter().map(std::path::PathBuf::as_path).chain(program).chain(path.split(':').map(Path::new));
    if all.any(is_home) { "read-only" } else { "yes" }
}

/// A directory for temporary files of the stack's own, which all its units share, unless the project itself lies there.
pub(crate) fn has_private_tmp(source: &SystemdSource) -> bool {
    !source.writable.iter().any(|path| ["/tmp", "/var/tmp"].iter().any(|temporary| path.starts_with(temporary)))
}

/// What must hold of the machine, as lines of `needed there`.
pub(crate) fn needs(source: &SystemdSource) -> Vec<String> {
    let user = user(source);
    let need = || format!("{} must belong to {user}, which is not this user: chown -R {user} {0}", source.root.display());
    source.is_system.then(need).into_iter().collect()
}

/// The unit whose temporary directory all others share.
pub(crate) fn joins(source: &SystemdSource, unit: &str) -> Option<String> {
    (source.is_system && has_private_tmp(source)).then(|| format!("JoinsNamespaceOf={}", specifiers(unit)))
}
