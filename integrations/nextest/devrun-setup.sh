#!/bin/sh
# Set-up script of cargo-nextest: the stack is up, and its database is frozen, so that the forks of the tests are copies of one state.
set -eu
devrun="${DEVRUN:-devrun}"
"$devrun" up -d
"$devrun" db refresh
