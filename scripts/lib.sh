# Shared by the scripts here; sourced, never run. What is alive is found by reading /proc, never by devrun's word.

# Live processes (neither zombie nor dead) that belong to the folder $1: it stands in their command line or environment, or
# they work in it. Postgres and Redis write over both, but their working directory or a descriptor still lies in it.
survivors() {
  python3 - "$1" <<'PY'
import os, sys
root, skip = os.path.realpath(sys.argv[1]), set()
pid = os.getpid()
while pid > 1:  # This process, the script that asked, and everything above it.
    skip.add(pid)
    try:
        pid = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
    except OSError:
        break

def below(path):
    return path == root or path.startswith(root + "/")

def read(path):
    try:
        return open(path, "rb").read()
    except OSError:
        return b""

for name in os.listdir("/proc"):
    if not name.isdigit() or int(name) in skip:
        continue
    base = f"/proc/{name}"
    stat = read(f"{base}/stat").decode(errors="replace")
    if ")" not in stat or stat.rsplit(")", 1)[1].split()[0] in "ZX":
        continue
    argv = read(f"{base}/cmdline")
    hit = root.encode() in argv or root.encode() in read(f"{base}/environ")
    links = [f"{base}/cwd", f"{base}/exe"]
    try:
        links += [f"{base}/fd/{fd}" for fd in os.listdir(f"{base}/fd")]
    except OSError:
        pass
    for link in links:
        if hit:
            break
        try:
            hit = below(os.readlink(link))
        except OSError:
            pass
    if hit:
        print(name, argv.replace(b"\0", b" ").decode(errors="replace").strip() or "[" + stat.split("(", 1)[1].rsplit(")", 1)[0] + "]")
PY
}

# Waits until nothing of folder $1 is alive, at most $2 seconds; prints what is left and fails otherwise.
gone_within() {
  local folder=$1 end=$(($(date +%s) + $2)) left
  while left=$(survivors "$folder"); [ -n "$left" ]; do
    if [ "$(date +%s)" -ge "$end" ]; then
      printf '%s\n' "$left"
      return 1
    fi
    sleep 0.05
  done
}

# A copy of the demo in folder $1 that takes the shop built already, on ports of its own.
demo_copy() {
  local to=$1 root binary
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  binary=$root/target/release/examples/shop
  mkdir -p "$to"
  cp -r "$root/procfile.toml" "$root/examples" "$to/"
  # The binary is copied too, so that its command line names the copy.
  mkdir -p "$to/bin" && cp "$binary" "$to/bin/shop"
  cat >"$to/script.toml" <<TOML
[tasks.build-shop]
run = "true"
[services.postgres]
port = "auto"
[services.redis]
port = "auto"
[services.api]
run  = "$to/bin/shop api"
port = "auto"
[services.frontend]
run  = "$to/bin/shop frontend"
port = "auto"
TOML
}

median() { sort -n | awk '{v[NR]=$1} END {print (NR%2) ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2}'; }

now_ms() { echo $(($(date +%s%N) / 1000000)); }
