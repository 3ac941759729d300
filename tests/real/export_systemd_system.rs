//! `export systemd --system` under a real system manager: one of our own as the first process of a pid namespace, with everything
//! that it writes (accounts, units, state) on file systems of its own, and a network of its own.

use std::process::{Command, Stdio};

use crate::harness::{Project, devrun, is_root, skipped};
use crate::systemd_manager::{MANAGER, remove_cgroups};

trials![the_systems_units_run_as_their_own_user_in_a_sandbox];

/// `$1` is the token of this test's processes, `$2` the directory of what is said, `$INNER` what runs in the namespaces: they end
/// with `unshare`.
const OUTER: &str = r#"
set -u
for base in /sys/fs/cgroup/unified /sys/fs/cgroup; do
  [ -e "$base/cgroup.controllers" ] && break
done
mkdir "$base/$1" && echo $$ >"$base/$1/cgroup.procs" || exit 77
unshare --cgroup --mount --propagation private --pid --uts --ipc --net --fork --kill-child bash -c "$INNER" bash "$2" >"$2/manager.log" 2>&1 &
manager=$!
for _ in $(seq 3000); do [ -e "$2/over" ] && break; kill -0 $manager 2>/dev/null || exit 77; sleep 0.1; done
kill -9 $manager
wait $manager 2>/dev/null
# What was killed with it takes a moment to go, and keeps its cgroups until then.
for _ in $(seq 300); do
  find "$base/$1" -mindepth 1 -depth -type d -exec rmdir {} \; 2>/dev/null
  [ -z "$(find "$base/$1" -mindepth 1 -type d)" ] && break
  sleep 0.1
done
[ -e "$2/began" ] || exit 77
cat "$2/said"
exit 0
"#;

/// `container` makes the manager leave the kernel alone. Only the units in `/etc/systemd/system` exist.
const INNER: &str = r#"
set -eu
dir=$1
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir /run/dev /run/dev/shm /run/dev/pts /run/etc
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /run/dev/
ln -s /proc/self/fd /run/dev/fd
mount --bind /run/dev /dev
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
cp -a /etc/. /run/etc/
mount --bind /run/etc /etc
for place in /srv /var/lib /var/cache /usr/lib/systemd/system-generators; do mount -t tmpfs tmpfs "$place"; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
rm -rf /etc/systemd/system && mkdir -p /etc/systemd/system/service.d
printf '[Service]\nStandardOutput=append:%s/services.log\nStandardError=inherit\n' "$dir" >/etc/systemd/system/service.d/log.conf
for name in basic sysinit shutdown sockets multi-user network-online; do
  printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $name >/etc/systemd/system/$name.target
done
export container=devrun SYSTEMD_UNIT_PATH=/etc/systemd/system
bash -c "$CLIENT" bash "$dir" >"$dir/said" 2>>"$dir/client.log" &
exec "$MANAGER" --system --unit=basic.target --log-target=console --show-status=no
"#;

/// Installs the stack by the commands that the export prints, looks at it, and removes it by them.
const CLIENT: &str = r#"
set -u
dir=$1
until_true() { for _ in $(seq 1200); do if eval "$1"; then return 0; fi; sleep 0.1; done; echo "not in time: $1"; return 1; }
show() { systemctl show "$1" -p "$2" --value; }
trap 'touch "$dir/over"' EXIT
until_true '[ -S /run/systemd/private ]' || exit
until_true 'systemctl is-active --quiet basic.target' || exit
touch "$dir/began"
cp -r "$dir/shop" /srv/shop
cp "$DEVRUN" /srv/devrun
cd /srv/shop
/srv/devrun export systemd --system -o /etc/systemd/system >"$dir/commands" 2>&1 && echo exported
verified=$(systemd-analyze verify /etc/systemd/system/devrun-shop.*service /etc/systemd/system/devrun-shop.target 2>&1)
[ -z "$verified" ] && echo verified || echo "verify: $verified"
run() { sed -n "s/^$1: //p" "$dir/commands" | while read -r line; do eval "$line" >>"$dir/client.log" 2>&1 || echo "failed: $line"; done; }
run install && echo installed
for name in first second web worker@1 worker@2 $DATABASE; do
  unit=devrun-shop.$name.service
  [ "$(show $unit ActiveState)" = active ] || echo "$unit: $(show $unit ActiveState) $(show $unit Result)"
  [ "$(ps -o uid= -p "$(show $unit MainPID)" | tr -d ' ')" = "$(id -u devrun-shop)" ] || echo "$unit runs as another user"
done
echo running
cat seen
[ "$(stat -c '%U %a' /var/lib/devrun-shop)" = 'devrun-shop 700' ] && [ ! -e /tmp/shared ] && echo state
curl -sm 20 http://127.0.0.1/ | grep -q shop && echo answers-on-80
before=$(show devrun-shop.second.service MainPID)
# 0 would be this process group.
[ "$before" -gt 1 ] && kill -9 "$before"
until_true '[ "$(systemctl is-active devrun-shop.second.service)" = active ] && [ "$(show devrun-shop.second.service MainPID)" != "$before" ]' && echo back
systemctl stop devrun-shop.target
until_true '[ -z "$(systemctl list-units --plain --no-legend "devrun-shop*")" ]' && [ -z "$(pgrep -u devrun-shop)" ] && echo stopped
systemctl start devrun-shop.target && [ "$(wc -l <seeded)" = 1 ] && [ "$(systemctl is-active devrun-shop.second.service)" = active ] && echo seeded-once
run remove
until_true '[ -z "$(pgrep -u devrun-shop)" ]' && [ -z "$(find /etc/systemd/system -name 'devrun-shop*')" ] && echo removed
"#;

/// Shows: export --system.
fn the_systems_units_run_as_their_own_user_in_a_sandbox() {
    if !std::path::Path::new(MANAGER).exists() {
        return skipped("systemd is not installed");
    }
    if !Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skipped("curl is not installed");
    }
    if !is_root() {
        return skipped("a system manager of its own needs root");
    }
    let project = Project::new();
    // A server of the machine, where there is one: it looks up its account, and sets its data up in the state directory.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let database = versions.into_iter().any(|version| version.path().join("bin/postgres").exists());
    let mut text = r#"
[project]
name = "shop"
[secrets]
generate = ["key"]
[volumes]
data = {}
[tasks.seed]
run = "sh -c 'echo done >>seeded'"
once = "data/.seeded"
[services.first]
run = ["sh", "-c", "echo shared >/tmp/shared; touch up; while :; do sleep 1; done"]
ready = { file = "up" }
[services.second]
run = ["sh", "second.sh"]
restart = "always"
depends_on = ["first", "seed"]
env = { KEY = "${secret.key}" }
ready = { file = "seen" }
[services.worker]
run = ["sh", "-c", "while :; do sleep 1; done"]
replicas = 2
depends_on = ["second"]
[services.web]
run = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "80"]
port = 80
ready = { http = "/" }
"#
    .to_owned();
    if database {
        text.push_str("[services.db]\nuse = \"postgres\"\nport = \"auto\"\nready = { sql = \"SELECT 1\" }\n");
    }
    std::fs::create_dir(project.path("shop")).expect("our own directory");
    project.write("shop/procfile.toml", &text);
    project.write("shop/index.html", "<p>shop</p>\n");
    // What may be written and seen, as the service finds it.
    project.write(
        "shop/second.sh",
        "may() { if (: >\"$1\") 2>/dev/null; then echo \"writes $1\"; fi; }\n\
         [ -n \"$KEY\" ] && echo key >seen.new\n\
         for file in /etc/x /usr/x /srv/x /var/lib/x /tmp/x /srv/shop/x; do may $file; done >>seen.new\n\
         [ \"$(cat /tmp/shared)\" = shared ] && echo one tmp >>seen.new\n\
         ls /root >/dev/null 2>&1 && echo sees /root >>seen.new\n\
         grep -q '^NoNewPrivs:.1$' /proc/self/status && grep -q '^CapBnd:.0*$' /proc/self/status && echo no privileges >>seen.new\n\
         mv seen.new seen\n\
         while :; do sleep 1; done\n",
    );
    let token = format!("system-{}", std::process::id());
    let output = Command::new("bash")
        .args(["-c", OUTER, "bash", &token, &project.dir().display().to_string()])
        .envs([("INNER", INNER), ("CLIENT", CLIENT), ("MANAGER", MANAGER), ("DATABASE", if database { "db" } else { "" })])
        .env("DEVRUN", devrun())
        .env("DEVRUN_OFFLINE", "true")
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    remove_cgroups(&token);
    let log: String = ["commands", "client.log", "services.log", "manager.log"]
        .iter()
        .map(|name| format!("-- {name}\n{}\n", std::fs::read_to_string(project.path(name)).unwrap_or_default()))
        .collect();
    if output.status.code() == Some(77) {
        return skipped(&format!("no system manager can run here: {}", log.lines().last().unwrap_or("it said nothing")));
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = [
        "exported",
        "verified",
        "installed",
        "running",
        "key",
        "writes /tmp/x",
        "writes /srv/shop/x",
        "one tmp",
        "no privileges",
        "state",
        "answers-on-80",
        "back",
        "stopped",
        "seeded-once",
        "removed",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{}\n{log}", String::from_utf8_lossy(&output.stderr));
    project.nothing_left();
}
