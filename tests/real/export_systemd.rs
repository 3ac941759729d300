//! `export systemd` under a real user manager: one of our own, in a mount namespace with a `/run` of its own.
//!
//! The manager needs root (for the namespace) and a machine whose processes it may put into cgroups; where one of them is missing
//! the test is ignored, with the reason.

use std::process::{Command, Stdio};

use crate::harness::{Project, is_root, skipped};

trials![a_user_manager_starts_the_stack_restarts_it_and_leaves_nothing];

const MANAGER: &str = "/usr/lib/systemd/systemd";

/// What runs in the namespace. `$1` is the unit, `$2` the token of this test's processes, `$3` the log of the manager.
///
/// `/run/systemd/system` tells the manager that systemd is what booted, without which it refuses. A manager takes the cgroup it is
/// started in for its own and moves every process of it: it gets one that holds this script alone, or is not started.
const SCRIPT: &str = r#"
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
"$MANAGER" --user >"$3" 2>&1 &
manager=$!
until_true() { for _ in $(seq 600); do if eval "$1"; then return 0; fi; sleep 0.1; done; echo "not within 60 s: $1"; return 1; }
of() { pgrep -f -- "$1 $token" | sort -n | tr '\n' ' '; }
until_true '[ -S /run/user/0/systemd/private ] || ! kill -0 $manager' || exit 77
[ -S /run/user/0/systemd/private ] || exit 77
verified=$(systemd-analyze --user verify "$1" 2>&1) && [ -z "$verified" ] && echo verified || echo "verify: $verified"
unit=$(basename "$1")
systemctl --user start "$unit" && echo started
first=$(of 7301); second=$(of 7302)
[ -n "$first" ] && [ -n "$second" ] && echo running
[ "${first%% *}" -lt "${second%% *}" ] && echo ordered
kill -9 $second
until_true '[ -n "$(of 7302)" ] && [ "$(of 7302)" != "$second" ]' && echo service-is-back
kill -9 "$(systemctl --user show "$unit" -p MainPID --value)"
until_true '[ "$(systemctl --user show "$unit" -p NRestarts --value)" = 1 ] && [ "$(systemctl --user is-active "$unit")" = active ]' && echo supervisor-is-back
until_true '[ -n "$(of 7301)" ] && [ "$(of 7301)" != "$first" ]' && echo stack-is-back
[ "$(of 7301 | wc -w)" = 1 ] && echo once
systemctl --user stop "$unit" && echo stopped
[ "$(systemctl --user show "$unit" -p Result --value)" = success ] && echo succeeded
[ -z "$(of 7301)$(of 7302)" ] && echo nothing-left
kill $manager
wait $manager
exit 0
"#;

fn a_user_manager_starts_the_stack_restarts_it_and_leaves_nothing() {
    if !std::path::Path::new(MANAGER).exists() {
        return skipped("systemd is not installed");
    }
    if !is_root() {
        return skipped("a mount namespace with a /run of its own needs root");
    }
    let project = Project::new();
    // Names that `pgrep` finds: the token is an argument of each.
    let service = |name: &str, number: u32| {
        format!(
            "[services.{name}]\nrun = [\"sh\", \"-c\", \"while :; do sleep 1; done\", \"{number} TOKEN\"]\nrestart = \"always\"\n"
        )
    };
    let text =
        format!("[project]\nname = \"unit\"\n{}{}depends_on = [\"first\"]\n", service("first", 7301), service("second", 7302));
    let token = format!("unit-{}", std::process::id());
    project.rewrite(&text.replace("TOKEN", &token));
    let unit = project.dir().join("devrun-unit.service");
    project.run(&["export", "systemd", "-o", &unit.display().to_string()]).code(0);
    let links = project.dir().join("config/systemd/user");
    std::fs::create_dir_all(&links).expect("our own directory");
    std::fs::copy(&unit, links.join("devrun-unit.service")).expect("our own file");
    let log = project.dir().join("manager.log");
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", SCRIPT, "bash"])
        .args([&unit.display().to_string(), &token, &log.display().to_string()])
        .env("MANAGER", MANAGER)
        .env("HOME", project.dir())
        .env("XDG_CONFIG_HOME", project.dir().join("config"))
        .stdin(Stdio::null())
        .output()
        .expect("unshare runs");
    remove_cgroups(&token);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let manager = std::fs::read_to_string(&log).unwrap_or_default();
    if output.status.code() == Some(77) {
        return skipped(&format!("no user manager can run here: {}", manager.lines().last().unwrap_or("it said nothing")));
    }
    let expected = [
        "verified",
        "started",
        "running",
        "ordered",
        "service-is-back",
        "supervisor-is-back",
        "stack-is-back",
        "once",
        "stopped",
        "succeeded",
        "nothing-left",
    ];
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, expected, "{}\n{manager}", String::from_utf8_lossy(&output.stderr));
    project.nothing_left();
}

/// The cgroups of the manager, in whichever hierarchies it made some; only empty ones can be removed.
fn remove_cgroups(token: &str) {
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
