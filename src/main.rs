//! Dispatch. The keeper comes first: it must not meet a thread or a runtime.

fn main() {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|word| word == "__keeper") {
        std::process::exit(devrun::keeper::main(args.get(2..).unwrap_or_default()));
    }
}
