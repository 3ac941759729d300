# Recipes for work on devrun: `just` lists them. Each is a plain command, so just itself is optional.

_default:
    @just --list

# Format the code
fmt:
    cargo fmt

# What CI refuses before any test runs
lint:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings

# Run the fuzz targets, each for a minute: just fuzz 10 sql
fuzz *args:
    scripts/fuzz {{ args }}

# All tests; those of servers that are not installed are ignored, with the reason
test *args:
    cargo test {{ args }}

# The integration tests whose name contains NAME, with their output: just test-one o11_zombies
test-one name:
    cargo test --test it {{ name }} -- --nocapture

# Run the tests that match and write the snapshots they make; then read `git diff`
accept filter="":
    INSTA_UPDATE=always cargo test {{ filter }}
    git status --short -- '*.snap' docs

# Compare with other supervisors, under two minutes; writes nothing into docs
bench-quick:
    scripts/bench --quick

# Exactly what CI runs; installs missing packages when run as root
ci:
    .ci/run
