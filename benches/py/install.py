"""Fetches and builds the rivals once, from their registries, by the registries' own clients and with their own checks. What
cannot be had is named with the reason and skipped."""

import json
import os
import shutil
import subprocess
import sys

# Module, version, the package that is the program, its name.
GO = [
    ("github.com/f1bonacc1/process-compose", "v1.85.0", ".", "process-compose"),
    ("github.com/DarthSim/hivemind", "v1.1.0", ".", "hivemind"),
    ("github.com/DarthSim/overmind/v2", "v2.5.1", ".", "overmind"),
    ("github.com/mattn/goreman", "v0.3.16", ".", "goreman"),
]
CARGO = [("horust", "0.1.14", "horust"), ("pitchfork-cli", None, "pitchfork")]
NPM = ["mprocs"]
PYPI = ["honcho", "supervisor", "circus"]
DEBIAN = [("runsvdir", "runit"), ("s6-svscan", "s6"), ("foreman", "ruby-foreman"), ("tmux", "tmux")]


def run(folder):
    os.makedirs(f"{folder}/bin", exist_ok=True)
    problems = []

    def attempt(name, *words, **more):
        print(f"{name}: {' '.join(words)}", file=sys.stderr, flush=True)
        try:
            done = subprocess.run(["nice", "-n", "19", *words], capture_output=True, text=True, timeout=5400, **more)
        except (OSError, subprocess.TimeoutExpired) as error:
            problems.append((name, str(error)))
            return None
        if done.returncode:
            problems.append((name, " ".join((done.stderr or done.stdout).split())[-200:]))
            return None
        return done.stdout

    for module, version, package, name in GO:
        if os.access(f"{folder}/bin/{name}", os.X_OK):
            continue
        if not shutil.which("go"):
            problems.append((name, "no go"))
            continue
        # Built inside the module, so that its own go.sum pins all it needs.
        os.makedirs(f"{folder}/go", exist_ok=True)
        with open(f"{folder}/go/go.mod", "w") as file:
            file.write("module bench\n")
        found = attempt(name, "go", "mod", "download", "-json", f"{module}@{version}", cwd=f"{folder}/go")
        if found is None:
            continue
        built = attempt(name, "go", "build", "-buildvcs=false", "-o", f"{folder}/bin/{name}", package, cwd=json.loads(found)["Dir"])
        if built is not None:
            with open(f"{folder}/{name}.version", "w") as file:
                file.write(version + "\n")
    if not os.access(f"{folder}/npm/node_modules/.bin/mprocs", os.X_OK):
        attempt("mprocs", "npm", "install", "--no-fund", "--prefix", f"{folder}/npm", *NPM)
    if not os.access(f"{folder}/py/bin/honcho", os.X_OK):
        if attempt("python packages", sys.executable, "-m", "venv", f"{folder}/py") is not None:
            attempt("python packages", f"{folder}/py/bin/pip", "install", "--quiet", *PYPI)
    for program, package in DEBIAN:
        if not shutil.which(program):
            attempt(package, "apt-get", "install", "-y", "-qq", "--no-install-recommends", package)
    # Last, as they take a quarter of an hour.
    for crate, version, name in CARGO:
        if not os.access(f"{folder}/bin/{name}", os.X_OK):
            attempt(name, "cargo", "install", "--locked", "--root", folder, crate, *(["--version", version] if version else []))
    if not shutil.which("dinit") and not os.access(f"{folder}/bin/dinit", os.X_OK):
        problems.append(("dinit", f"no registry has it: build it from its source and put dinit and dinitctl into {folder}/bin"))
    for name, why in problems:
        print(f"skipped: {name}: {why}")
    print(f"rivals are in {folder}")
    return 0
