//! The helpers of `scripts/bench`, one static program: what is measured must not depend on who is asked about it.
//!
//! ```text
//! svc EVENTS NAME [KEY=VALUE…]   a trivial service that stamps what happens to it (service.rs)
//! spew NAME BYTES LENGTH         numbered lines, as fast as they go (lines.rs)
//! check NAMES FILE…              reads every byte back: missing, torn and reordered lines (lines.rs)
//! ideal …                        the perfect program: posix_spawn, pidfd, poll, nothing else (ideal.rs)
//! limits FOLDER                  what this machine's kernel can do (limits.rs)
//! upstream                       what the reverse proxies of `scripts/bench gateway` lead to (upstream.rs)
//! load PORT METHOD COUNT MS      requests on connections that stay open, with the time of each failure (load.rs)
//! true                           a program that does nothing
//! ```

mod ideal;
mod limits;
mod lines;
mod load;
mod service;
mod sys;
mod upstream;

fn main() {
    // The stamp of `main` is the first thing that happens.
    let begun = sys::now();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let code = match words.as_slice() {
        ["true"] => 0,
        ["svc", events, name, options @ ..] => service::run(begun, events, name, options),
        ["spew", name, bytes, length] => lines::spew(name, number(bytes), number(length) as usize),
        ["check", names, files @ ..] => lines::check(names, files),
        ["ideal", options @ ..] => ideal::run(options),
        ["limits", folder] => limits::run(folder),
        ["upstream"] => upstream::run(),
        ["load", port, method, connections, ms] => load::run(port, method, number(connections), number(ms)),
        _ => {
            eprintln!("svc | spew | check | ideal | limits | upstream | load | true; see benches/src/main.rs");
            2
        }
    };
    std::process::exit(code);
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}

/// The value of `KEY=` among the words, or the default.
fn option(words: &[&str], key: &str, default: u64) -> u64 {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).map_or(default, number)
}

/// The text of `KEY=` among the words.
fn text<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}
