"""From nothing to a ready stack: `scripts/bench first-run`.

1. Built from source: a clone of the last commit, an empty target directory and an empty home; only the toolchain and the downloaded
   sources of the dependencies are there. `cargo build --release` is timed, then `devrun up -d` of the demo until its page answers.
2. Prebuilt: the wheel of `scripts/package` is installed by pip without a network, and `devrun run --with postgres@17 --with redis@6.2 -- true`
   follows, versions that Debian 12 does not have: it fetches them, starts both, and stops them again: once with an empty store, once with a full one.

Nothing is written into docs/.
"""

import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def timed(words, **more):
    begun = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, **more)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise SystemExit(f"{' '.join(words)}: exit {done.returncode}")
    return time.monotonic() - begun, done.stdout


def row(what, seconds, goal):
    mark = "" if goal is None else f"  (goal {goal} s: {'met' if seconds <= goal else 'missed'})"
    print(f"{what:<70}{seconds:>8.1f} s{mark}", flush=True)


def fresh_home(work, name):
    home = os.path.join(work, name)
    os.makedirs(os.path.join(home, "run"), mode=0o700)
    # Registries, and the certificates by which this machine trusts them, are not what is measured.
    names = ("PATH", "LANG", "PIP_INDEX_URL", "PIP_CERT", "GOPROXY", "NPM_CONFIG_REGISTRY", "NODE_EXTRA_CA_CERTS", "HTTPS_PROXY",
             "SSL_CERT_FILE", "SSL_CERT_DIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    real = os.path.expanduser("~")
    return {**kept, "HOME": home, "XDG_RUNTIME_DIR": os.path.join(home, "run"),
            "CARGO_HOME": os.environ.get("CARGO_HOME", f"{real}/.cargo"), "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", f"{real}/.rustup")}


def crates(folder, most):
    """The crates that take longest, from cargo's own report."""
    for report in glob.glob(f"{folder}/target/cargo-timings/cargo-timing.html"):
        with open(report) as file:
            found = re.search(r"UNIT_DATA = (\[.*?\]);\n", file.read(), re.S)
        units = json.loads(found.group(1)) if found else []
        print(f"  {len(units)} units, {sum(one['duration'] for one in units):.0f} s of them side by side; the longest:")
        for one in sorted(units, key=lambda one: -one["duration"])[:most]:
            print(f"    {one['duration']:>6.1f} s  {one['name']}{one['target']}")


def is_page(url):
    if not url.startswith("http"):
        return False
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return "text/html" in answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError:
        return False


def source(work, options):
    folder = os.path.join(work, "devrun")
    timed(["git", "clone", "--quiet", "--no-local", ROOT, folder])
    environment = fresh_home(work, "home-source")
    timed(["cargo", "fetch", "--locked"], cwd=folder, env=environment)
    built, _ = timed(["cargo", "build", "--release", "--locked", "--timings"], cwd=folder, env=environment)
    row("cargo build --release, empty target directory", built, None)
    crates(folder, options.crates)
    devrun = f"{folder}/target/release/devrun"
    begun = time.monotonic()
    try:
        timed([devrun, "up", "-d"], cwd=folder, env=environment)
        urls = json.loads(timed([devrun, "urls", "--json"], cwd=folder, env=environment)[1])
        address = next(one["url"] for one in urls if is_page(one["url"]))
        up = time.monotonic() - begun
    finally:
        subprocess.run([devrun, "down", "--volumes", "--yes"], cwd=folder, env=environment, capture_output=True)
    row(f"devrun up -d, the demo, to {address}", up, None)
    row("source build, to the demo's page", built + up, 240)
    return devrun


def wheel(work, devrun):
    out = os.path.join(work, "packages")
    target = next(line.split()[1] for line in timed(["rustc", "-vV"])[1].splitlines() if line.startswith("host:"))
    timed([f"{ROOT}/scripts/package", "--binary", devrun, "--target", target, "--out", out, "wheel"], cwd=ROOT)
    environment = fresh_home(work, "home-wheel")
    timed([sys.executable, "-m", "venv", f"{work}/venv"], env=environment)
    folder = os.path.join(work, "empty")
    os.mkdir(folder)
    for store, goal in (("empty", 60), ("full", 15)):
        timed([f"{work}/venv/bin/pip", "uninstall", "--yes", "devrun"], env=environment)
        installed, _ = timed([f"{work}/venv/bin/pip", "install", "--no-index", *glob.glob(f"{out}/*.whl")], env=environment)
        ran, _ = timed([f"{work}/venv/bin/devrun", "run", "--with", "postgres@17", "--with", "redis@6.2", "--", "true"], cwd=folder, env=environment)
        row(f"pip install and run --with postgres@17 --with redis@6.2, {store} store", installed + ran, goal)


def main(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench first-run", description=__doc__.splitlines()[0])
    parser.add_argument("--wheel-only", action="store_true", help="leave the source build out; DEVRUN is what is packed")
    parser.add_argument("--crates", type=int, default=15, metavar="N", help="list the N slowest crates")
    options = parser.parse_args(arguments)
    work = tempfile.mkdtemp(prefix="devrun-first-run-")
    try:
        devrun = os.environ.get("DEVRUN") if options.wheel_only else source(work, options)
        if not devrun:
            raise SystemExit("DEVRUN names no program")
        wheel(work, os.path.abspath(devrun))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0
