//! A real user manager of systemd for a test: one of its own, in a mount namespace with a `/run` of its own.
//!
//! The manager needs root (for the namespace) and a machine whose processes it may put into cgroups; where one of them is missing
//! the test is ignored, with the reason.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Project, is_root};

pub const MANAGER: &str = "/usr/lib/systemd/systemd";

/// What runs in the namespace before the test's own part, and after it. `$1` is the directory of the units, `$2` the token of this
/// test's processes, `$3` the log of the manager.
///
/// `/run/systemd/system` tells the manager that systemd is what booted, without which it refuses. A manager takes the cgroup it is
/// started in for its own and moves every process of it: it gets one that holds this script alone, or is not started.
const MANAGER_BEGINS: &str = r#"
set -u
token=$2
for base in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
  if [ -e "$base/cgroup.procs" ]; then
    mkdir "$base/$token" && echo $$ >"$base/$token/cgroup.procs" || exit 77
  fi
done
# The line of systemd's own hierarchy, or the only one there is.
[ "$(grep -E '(name=systemd|^0:):' /proc/self/cgroup | head -1 | sed 's/.*://')" = "/$token" ] || exit 77
mount -t tmpfs tmpfs /run || exit 77
mkdir -p /run/user/0 /run/systemd/system && chmod 700 /run/user/0
unset DBUS_SESSION_BUS_ADDRESS
export XDG_RUNTIME_DIR=/run/user/0
mkdir -p "$XDG_CONFIG_HOME/systemd"
printf '[Manager]\nDefaultStandardOutput=inherit\nDefaultStandardError=inherit\n' >"$XDG_CONFIG_HOME/systemd/user.conf"
"$MANAGER" --user >"$3" 2>&1 &
manager=$!
until_true() { for _ in $(seq "${PATIENCE:-600}"); do if eval "$1"; then return 0; fi; sleep 0.1; done; echo "not in time: $1"; return 1; }
of() { pgrep -f -- "$1 $token" | sort -n | tr '\n' ' '; }
until_true '[ -S /run/user/0/systemd/private ] || ! kill -0 $manager' || exit 77
[ -S /run/user/0/systemd/private ] || exit 77
verify() { verified=$(systemd-analyze --user verify "$@" 2>&1) && [ -z "$verified" ] && echo verified || echo "verify: $verified"; }
show() { systemctl --user show "$1" -p "$2" --value; }
units() { systemctl --user list-units --all --plain --no-legend "devrun-$1.*.service" | awk '{print $1}'; }
times() {
  for unit in $(units "$1"); do
    echo "time $unit $(show "$unit" InactiveExitTimestampMonotonic) $(show "$unit" ActiveEnterTimestampMonotonic)"
  done
}
# What is left in the cgroups of a stack's units.
processes() { cat $(find /sys/fs/cgroup -path "*/$token/*/devrun-*" -name cgroup.procs) </dev/null; }
"#;

const MANAGER_ENDS: &str = r#"
kill $manager
wait $manager
exit 0
"#;

/// What the script printed line by line with what it, the manager and the services said, or why it did not run.
pub fn under_a_user_manager(project: &Project, token: &str, script: &str) -> Result<(Vec<String>, String), String> {
    if !std::path::Path::new(MANAGER).exists() {
        return Err("systemd is not installed".to_owned());
    }
    if !is_root() {
        return Err("a mount namespace with a /run of its own needs root".to_owned());
    }
    let log = project.dir().join("manager.log");
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", &format!("{MANAGER_BEGINS}{script}{MANAGER_ENDS}"), "bash"])
        .args([units(project).display().to_string().as_str(), token, &log.display().to_string()])
        // Caches of pip and npm, and the registries that they know.
        .envs(
            project
                .variables()
                .iter()
                .filter(|(name, _)| name.to_lowercase().starts_with("pip_") || name.to_lowercase().starts_with("npm_")),
        )
        .env("MANAGER", MANAGER)
        .env("HOME", project.dir())
        .env("XDG_CONFIG_HOME", project.dir().join("config"))
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs");
    remove_cgroups(token);
    let manager = std::fs::read_to_string(&log).unwrap_or_default();
    if output.status.code() == Some(77) {
        return Err(format!("no user manager can run here: {}", manager.lines().last().unwrap_or("it said nothing")));
    }
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    Ok((lines, format!("{}\n{manager}", String::from_utf8_lossy(&output.stderr))))
}

/// Where a user's manager looks for units.
pub fn units(project: &Project) -> std::path::PathBuf {
    project.dir().join("config/systemd/user")
}

/// When units of a stack began and were active, as `times` of the script prints it: in microseconds since the boot.
pub struct Times(Vec<(String, u64, u64)>);

impl Times {
    pub fn of(project: &str, lines: &[String]) -> Self {
        let one = |line: &String| {
            let mut words = line.strip_prefix("time ")?.split(' ');
            let unit = words.next()?.strip_prefix(&format!("devrun-{project}."))?.trim_end_matches(".service");
            let service = unit.split_once('@').map_or(unit, |(name, _)| name);
            Some((service.to_owned(), words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        Self(lines.iter().filter_map(one).collect())
    }
    /// Checks each edge of the graph but those to `absent` ones: what is waited for was active before the other began. Returns how
    /// many edges there are.
    #[track_caller]
    pub fn follow(&self, graph: &Value, absent: &[&str]) -> usize {
        let edges = graph["edges"].as_array().expect("edges");
        let checked = edges.iter().filter(|edge| !absent.iter().any(|name| edge["to"] == *name));
        checked.map(|edge| self.is_before(edge["to"].as_str().expect("a name"), edge["from"].as_str().expect("a name"))).count()
    }
    /// Checks that all copies of `first` were active before one of `then` began.
    #[track_caller]
    pub fn is_before(&self, first: &str, then: &str) {
        let of = |name: &str| self.0.iter().filter(|(service, ..)| service == name).cloned().collect::<Vec<_>>();
        let active = of(first).iter().map(|(_, _, active)| *active).max();
        let began = of(then).iter().map(|(_, began, _)| *began).min();
        let (Some(active), Some(began)) = (active, began) else { panic!("{then} after {first}: {:?}", self.0) };
        assert!(active > 0 && active <= began, "{then} began before {first} was ready: {:?}", self.0);
    }
}

/// The cgroups of the manager, in whichever hierarchies it made some; only empty ones can be removed.
pub fn remove_cgroups(token: &str) {
    fn remove(folder: &std::path::Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
            remove(&entry.path());
        }
        let _not_empty = std::fs::remove_dir(folder);
    }
    let root = std::path::Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in hierarchies.chain([root.to_owned()]).map(|base| base.join(token)).filter(|folder| folder.is_dir()) {
        remove(&folder);
    }
}
