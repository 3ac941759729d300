#!/bin/sh
# Set-up script of cargo-nextest: the stack is up, and every test gets the variables of one database that goes with the run.
set -eu
devrun="${DEVRUN:-devrun}"
"$devrun" up -d
# The parent is nextest: the database lives as long as it does. Variables are NAME=value lines, as nextest wants them.
"$devrun" db fork --pid "$PPID" --json |
  python3 -c 'import json, sys; [print(f"{name}={value}") for name, value in json.load(sys.stdin)["env"].items()]' >> "$NEXTEST_ENV"
