//! The binary: hands its words to the library and returns the exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    // The keeper forks, so it must be dispatched before any thread or runtime exists.
    let code = if words.get(1).is_some_and(|word| word == "__keeper") {
        devrun_keeper::main(words.get(2..).unwrap_or_default())
    } else {
        devrun::cli::main(words)
    };
    ExitCode::from(u8::try_from(code.clamp(0, 255)).unwrap_or(125))
}
