//! Real servers and a real browser. What is not on this machine is a printed SKIP; where `CI` is set it is a failure.
#![expect(clippy::print_stderr, reason = "a skipped server must be seen")]

mod demo;
#[path = "../it/harness.rs"]
#[expect(dead_code, reason = "the harness serves the other test binary too")]
mod harness;
mod postgres;
mod redis;
mod services;
mod stack;
mod stacks;
