//! Real servers and a real browser. What is not on this machine is a printed SKIP; in CI it is a failure.

mod demo;
#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "the harness serves the other test binary too")]
mod harness;
