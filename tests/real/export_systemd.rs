//! `export systemd` under a real user manager: one of our own, in a mount namespace with a `/run` of its own.
//!
//! The manager needs root (for the namespace) and a machine whose processes it may put into cgroups; where one of them is missing
//! the test is ignored, with the reason.

use std::process::{Command, Stdio};

use crate::harness::{Project, is_root, skipped};

trials![
    a_user_manager_starts_the_stack_restarts_it_and_leaves_nothing,
    a_unit_for_each_service_is_ordered_as_the_graph_restarted_and_stopped,
];

const MANAGER: &str = "/usr/lib/systemd/systemd";

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
"$MANAGER" --user >"$3" 2>&1 &
manager=$!
until_true() { for _ in $(seq 600); do if eval "$1"; then return 0; fi; sleep 0.1; done; echo "not within 60 s: $1"; return 1; }
of() { pgrep -f -- "$1 $token" | sort -n | tr '\n' ' '; }
until_true '[ -S /run/user/0/systemd/private ] || ! kill -0 $manager' || exit 77
[ -S /run/user/0/systemd/private ] || exit 77
verify() { verified=$(systemd-analyze --user verify "$@" 2>&1) && [ -z "$verified" ] && echo verified || echo "verify: $verified"; }
show() { systemctl --user show "$1" -p "$2" --value; }
"#;

const MANAGER_ENDS: &str = r#"
kill $manager
wait $manager
exit 0
"#;

/// The stack as one unit, with devrun's supervisor in it.
const ONE_UNIT: &str = r#"
unit=devrun-unit.service
verify "$1/$unit"
systemctl --user start "$unit" && echo started
first=$(of 7301); second=$(of 7302)
[ -n "$first" ] && [ -n "$second" ] && echo running
[ "${first%% *}" -lt "${second%% *}" ] && echo ordered
kill -9 $second
until_true '[ -n "$(of 7302)" ] && [ "$(of 7302)" != "$second" ]' && echo service-is-back
kill -9 "$(show $unit MainPID)"
until_true '[ "$(show $unit NRestarts)" = 1 ] && [ "$(systemctl --user is-active "$unit")" = active ]' && echo supervisor-is-back
until_true '[ -n "$(of 7301)" ] && [ "$(of 7301)" != "$first" ]' && echo stack-is-back
[ "$(of 7301 | wc -w)" = 1 ] && echo once
systemctl --user stop "$unit" && echo stopped
[ "$(show $unit Result)" = success ] && echo succeeded
[ -z "$(of 7301)$(of 7302)" ] && echo nothing-left
"#;

/// What the script printed line by line with what it and the manager said, or why it did not run.
fn under_a_user_manager(project: &Project, token: &str, script: &str) -> Result<(Vec<String>, String), String> {
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
fn units(project: &Project) -> std::path::PathBuf {
    project.dir().join("config/systemd/user")
}

/// A service that `pgrep` finds by its number: the token is an argument as well.
fn service(name: &str, number: u32) -> String {
    format!(
        "[services.{name}]\nrun = [\"sh\", \"-c\", \"while :; do sleep 1; done\", \"{number} TOKEN\"]\nrestart = \"always\"\n"
    )
}

fn a_user_manager_starts_the_stack_restarts_it_and_leaves_nothing() {
    let project = Project::new();
    let text =
        format!("[project]\nname = \"unit\"\n{}{}depends_on = [\"first\"]\n", service("first", 7301), service("second", 7302));
    let token = format!("unit-{}", std::process::id());
    project.rewrite(&text.replace("TOKEN", &token));
    std::fs::create_dir_all(units(&project)).expect("our own directory");
    let unit = units(&project).join("devrun-unit.service");
    project.run(&["export", "systemd", "--one-unit", "-o", &unit.display().to_string()]).code(0);
    let (lines, log) = match under_a_user_manager(&project, &token, ONE_UNIT) {
        Ok(ran) => ran,
        Err(why) => return skipped(&why),
    };
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
    assert_eq!(lines, expected, "{log}");
    project.nothing_left();
}

/// A unit for each service. After its lines come `unit inactive-exit active-enter`, in microseconds since the boot.
const MANY_UNITS: &str = r#"
target=devrun-many.target
verify "$1"/devrun-many.*
systemctl --user start $target && echo started
all="7311 7312 7313 7314 7315"
for number in $all; do [ -n "$(of $number)" ] || echo "not running: $number"; done
[ "$(of 7313 | wc -w)" = 2 ] && echo copies
[ -z "$(of 7316)" ] && [ "$(show devrun-many.blocked.service ActiveState)" = failed ] && echo blocked
[ "$(cat second.key)" = "$(cat secrets/infra/key)" ] && ! grep -rqF "$(cat secrets/infra/key)" "$1" && echo secret-in-no-unit
[ "$(stat -c %a "$XDG_RUNTIME_DIR"/devrun/*/units.json)" = 600 ] && echo private
held() { [ "$(bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT_HELD; cat <&3")" = held ]; }
held && echo socket
for unit in $(systemctl --user list-units --all --plain --no-legend 'devrun-many.*.service' | awk '{print $1}'); do
  echo "time $unit $(show "$unit" InactiveExitTimestampMonotonic) $(show "$unit" ActiveEnterTimestampMonotonic)"
done
first=$(of 7311); second=$(of 7312)
kill -9 $second
until_true '[ -n "$(of 7312)" ] && [ "$(of 7312)" != "$second" ] && [ "$(systemctl --user is-active devrun-many.second.service)" = active ]' && echo service-is-back
[ "$(of 7311)" = "$first" ] && echo others-are-untouched
systemctl --user stop devrun-many.second.service && [ -z "$(of 7312)" ] && [ -n "$(of 7311)" ] && echo one-stopped
[ "$(cat stopping)" = bye ] && echo stop-command
systemctl --user stop $target && echo stopped
until_true '[ "$(systemctl --user is-active devrun-many.first.service)" = inactive ]'
until_true '[ -z "$(for number in $all; do of $number; done)" ]' && echo nothing-left
until_true '[ ! -e "$(echo "$XDG_RUNTIME_DIR"/devrun/*/units.json)" ]' && echo plan-is-gone
systemctl --user start $target && [ -n "$(of 7314)" ] && echo again
[ "$(wc -l <seeded)" = 1 ] && echo seeded-once
systemctl --user stop $target
until_true '[ -z "$(for number in $all; do of $number; done)" ]'
"#;

/// Answers on the socket that it is given, and keeps a connection until the other end closes it.
const HELD: &str = r#"
import socket
passed = socket.socket(fileno=3)
while True:
    connection, _ = passed.accept()
    try:
        connection.sendall(b"held")
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    except OSError:
        pass # A probe reads nothing.
"#;

fn a_unit_for_each_service_is_ordered_as_the_graph_restarted_and_stopped() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let project = Project::new();
    let text = format!(
        r#"
[project]
name = "many"
[secrets]
generate = ["key"]
[volumes]
data = {{}}
[tasks.seed]
run = "sh -c 'echo done >>seeded'"
once = "data/.seeded"
[tasks.broken]
run = "sh -c 'exit 3'"
{first}pre_start = "sh -c 'echo prepared >prepared; sleep 0.3; touch up'"
ready = {{ file = "up" }}
{second}depends_on = ["first", "seed"]
env = {{ KEY = "${{secret.key}}" }}
pre_start = "sh -c 'printf %s $KEY >second.key'"
stop = {{ command = "sh -c 'echo bye >stopping'", grace = "5s" }}
{worker}depends_on = ["second"]
replicas = 2
[services.notifier]
run = ["sh", "-c", "systemd-notify --ready; while :; do sleep 1; done", "7314 TOKEN"]
ready = {{ notify = true }}
depends_on = {{ second = {{ condition = "started", restart = true }} }}
[services.held]
run = ["python3", "held.py", "7315 TOKEN"]
port = {port}
listen = true
[services.blocked]
run = ["sh", "-c", "while :; do sleep 1; done", "7316 TOKEN"]
depends_on = ["broken"]
"#,
        first = service("first", 7311),
        second = service("second", 7312),
        worker = service("worker", 7313),
    );
    let token = format!("many-{}", std::process::id());
    project.rewrite(&text.replace("TOKEN", &token));
    project.write("held.py", HELD);
    project.run(&["export", "systemd", "--strict", "-o", &units(&project).display().to_string()]).code(0);
    project.run(&["export", "systemd", "-o", &units(&project).display().to_string(), "--check"]).code(0);
    let script = format!("cd {}\nPORT_HELD={port}\n{MANY_UNITS}", project.dir().display());
    let (lines, log) = match under_a_user_manager(&project, &token, &script) {
        Ok(ran) => ran,
        Err(why) => return skipped(&why),
    };
    let (times, said): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| line.starts_with("time "));
    let expected = [
        "verified",
        "started",
        "copies",
        "blocked",
        "secret-in-no-unit",
        "private",
        "socket",
        "service-is-back",
        "others-are-untouched",
        "one-stopped",
        "stop-command",
        "stopped",
        "nothing-left",
        "plan-is-gone",
        "again",
        "seeded-once",
    ];
    assert_eq!(said, expected, "{log}");
    // Each edge of the graph: what is waited for was active before the other began.
    let moments = |service: &str, column: usize| -> Vec<u64> {
        let names = [format!("devrun-many.{service}.service"), format!("devrun-many.{service}@")];
        let of = |line: &&&String| line.split(' ').nth(1).is_some_and(|unit| unit == names[0] || unit.starts_with(&names[1]));
        times.iter().filter(of).filter_map(|line| line.split(' ').nth(column)?.parse().ok()).collect()
    };
    let graph = project.run(&["graph", "--format", "json"]).code(0).json();
    let edges = graph["edges"].as_array().expect("edges");
    let mut checked = 0;
    for edge in edges.iter().filter(|edge| edge["to"] != "broken") {
        let (from, to) = (edge["from"].as_str().expect("a name"), edge["to"].as_str().expect("a name"));
        let (began, active) = (moments(from, 2), moments(to, 3));
        assert!(!began.is_empty() && !active.is_empty(), "{from} {to}: {times:?}");
        assert!(active.iter().max() <= began.iter().min(), "{from} began before {to} was ready: {times:?}");
        checked += 1;
    }
    assert_eq!(checked, 4, "{graph}");
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
