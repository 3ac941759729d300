#!/bin/sh
# Runs the example by the real cargo-nextest ($NEXTEST, by default the one on PATH), in a copy.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
devrun=$(command -v "${DEVRUN:-devrun}")
nextest=${NEXTEST:-cargo-nextest}
work=$(mktemp -d)
finish() {
  (cd "$work/example" && devrun down > /dev/null 2>&1) || true
  rm -rf "$work"
}
mkdir "$work/bin"
ln -s "$devrun" "$work/bin/devrun"
PATH="$work/bin:$PATH"
export PATH
unset DEVRUN
trap finish EXIT
cp -r "$here/example" "$work/example"
cp "$here/devrun-setup.sh" "$work/example/"
cd "$work/example"
fail() {
  echo "nextest: $1" >&2
  exit 1
}
"$nextest" nextest run || fail "the tests did not pass"
[ "$(devrun db list --json | tr -d ' \n')" = "[]" ] || fail "a database was left"
# Databases of tests that fail go too, and the failure is the test's own.
cat > tests/failing.rs << 'RUST'
#[test]
fn fails() {
    assert!(devrun_nextest_example::sql("select current_database()").starts_with("devrun_fork_"));
    panic!("on purpose");
}
RUST
code=0
"$nextest" nextest run --test failing > "$work/failed" 2>&1 || code=$?
[ "$code" = 100 ] || fail "the failure of a test did not reach the runner: exit code $code"
grep -q "on purpose" "$work/failed" || fail "the output of the failed test is missing"
[ "$(devrun db list --json | tr -d ' \n')" = "[]" ] || fail "the database of a failed test was left"
[ "$(devrun sql --json 'select count(*) from notes' | tr -d ' \n')" = '[{"count":1}]' ] || fail "the original was touched"
echo "nextest: 3 tests with a database each"
