//! Real servers. Absent ones are skipped with a printed line; where `CI` is set an absent server is a failure.
#![expect(clippy::print_stderr, reason = "a skipped server must be seen")]

mod postgres;
mod redis;
mod stack;
