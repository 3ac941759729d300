//! `export systemd` under a real user manager: what each kind of unit does.

use crate::harness::{Project, skipped};
use crate::systemd_manager::{Times, under_a_user_manager, units};
use crate::test_ports;

trials![
    a_user_manager_starts_the_stack_restarts_it_and_leaves_nothing,
    a_unit_for_each_service_is_ordered_as_the_graph_restarted_and_stopped,
];

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
all="7311 7312 7313 7314 7315 7317"
for number in $all; do [ -n "$(of $number)" ] || echo "not running: $number"; done
[ "$(of 7313 | wc -w)" = 2 ] && echo copies
[ -z "$(of 7316)" ] && [ "$(show devrun-many.blocked.service Result)" = exec-condition ] && echo blocked
[ "$(show devrun-many.absent.service Result)" = exec-condition ] && [ "$(show devrun-many.absent-setup.service ActiveState)" = active ] && echo left-out
[ "$(cat second.key)" = "$(cat secrets/infra/key)" ] && ! grep -rqF "$(cat secrets/infra/key)" "$1" && echo secret-in-no-unit
[ "$(stat -c %a "$XDG_RUNTIME_DIR"/devrun/*/units.json)" = 600 ] && echo private
held() { [ "$(bash -c "exec 3<>/dev/tcp/127.0.0.1/$PORT_HELD; cat <&3")" = held ]; }
held && echo socket
times many
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
    let port = test_ports::free_port();
    let project = Project::new().env("DEVRUN_OFFLINE", "true");
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
# Optional, and nothing here has it: the server is left out, and the work on it with it; what needs the work starts.
[services.absent]
use = "qdrant"
port = "auto"
optional = true
restart = "always"
[tasks.absent-setup]
depends_on = ["absent"]
collections = [{{ name = "c", body = {{ vectors = {{ size = 4, distance = "Cosine" }} }} }}]
[services.content]
run = ["sh", "-c", "while :; do sleep 1; done", "7317 TOKEN"]
depends_on = ["absent-setup"]
[services.held]
run = ["python3", "held.py", "7315 TOKEN"]
port = {port}
listen = true
[services.blocked]
run = ["sh", "-c", "while :; do sleep 1; done", "7316 TOKEN"]
restart = "always"
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
    let said: Vec<&String> = lines.iter().filter(|line| !line.starts_with("time ")).collect();
    let expected = [
        "verified",
        "started",
        "copies",
        "blocked",
        "left-out",
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
    let graph = project.run(&["graph", "--format", "json"]).code(0).json();
    assert_eq!(Times::of("many", &lines).follow(&graph, &["broken", "absent"]), 5, "{graph}");
    project.nothing_left();
}
