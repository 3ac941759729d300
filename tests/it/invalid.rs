//! Every file in `tests/fixtures/invalid` is a procfile with a fault; beside it stands what a person reads. The messages
//! are compared to the letter; `UPDATE_EXPECT=1` writes them anew, and then they want to be looked at.

use std::path::{Path, PathBuf};

use devrun_config::{Options, examine};

use crate::config::{TestBook, choose, expect, facts, source};

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/invalid");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

/// What is shown for a text; `None` where nothing is wrong with it.
fn shown(text: &str) -> Option<String> {
    let mut facts = facts(&[("PATH", "/bin"), ("HOME", "/home/u")]);
    facts.env_files.insert("/project/.env".into(), Some("GOOD=1\nDB_PASSWROD=x\nEMPTY=\n".to_owned()));
    facts.env_files.insert("/project/broken.env".into(), Some("A=1\nB='open\n".to_owned()));
    facts.recipe_files.insert("/project/broken.toml".into(), "name = \"x\"\nsumary = \"y\"\n".to_owned());
    facts
        .recipe_files
        .insert("/project/wrong.toml".into(), "name = \"x\"\nsummary = \"y\"\n[service]\nredy = false\n".to_owned());
    facts.recipe_files.insert("/project/page.in".into(), "line one\nport ${nobody.port}\n".to_owned());
    let document = match examine(&[source("procfile.toml", text)], &Options::default(), &TestBook::new()) {
        (Some(document), report) if !report.has_errors() => document,
        (Some(document), report) => return Some(document.faults(&facts, &report).render(false)),
        (None, report) => return Some(report.render(false)),
    };
    if let Err(report) = choose(&document, &mut facts) {
        return Some(document.faults(&facts, &report).render(false));
    }
    document.lower(&facts).err().map(|report| report.render(false))
}

#[test]
fn messages_are_the_expected_ones() {
    let files = fixtures();
    assert!(files.len() >= 60, "only {} fixtures", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("the fixture");
        let shown = shown(&text).unwrap_or_else(|| panic!("{} is valid", path.display()));
        expect(&path.with_extension("expected"), &shown);
    }
}

/// Each error has a place, a caret under it and a help line that says what to do.
#[test]
fn every_error_has_place_caret_and_help() {
    for path in fixtures() {
        let text = std::fs::read_to_string(&path).expect("the fixture");
        let shown = shown(&text).expect("an error");
        for block in shown.split("\n\n").filter(|block| block.contains(": error: ")) {
            let first = block.lines().next().unwrap_or_default();
            let place = first.split(": error: ").next().unwrap_or_default();
            let mut parts = place.rsplitn(3, ':');
            let numbers = [parts.next(), parts.next()];
            assert!(numbers.iter().all(|n| n.is_some_and(|n| n.parse::<u32>().is_ok())), "{}: {first}", path.display());
            assert!(block.lines().any(|line| line.trim_start().starts_with('|') && line.contains('^')), "{block}");
        }
    }
}

/// Cuts, doubles and swaps bytes of good and bad files: whatever comes out, an answer and no panic.
#[test]
fn mutations_never_panic() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below.max(1) as u64).expect("small")
    };
    let stacks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stacks");
    let mut texts: Vec<String> = fixtures().iter().map(|path| std::fs::read_to_string(path).expect("the fixture")).collect();
    for name in ["s0", "s1", "s2", "s3", "s4"] {
        texts.push(std::fs::read_to_string(stacks.join(format!("{name}.toml"))).expect("the fixture"));
    }
    const PIECES: &[&str] =
        &["[", "]", "{", "}", "\"", "'", "=", ".", "${", "}", "$", "\n", "#", "false", "-1", "é", "\u{0}", "\"\"\""];
    for round in 0..600 {
        let mut text = texts[round % texts.len()].clone();
        for _ in 0..=random(4) {
            let mut at = random(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            match random(3) {
                0 => text.insert_str(at, PIECES[random(PIECES.len())]),
                1 => text.truncate(at),
                _ => {
                    if at < text.len() {
                        text.remove(at);
                    }
                }
            }
            if text.is_empty() {
                text.push('x');
            }
        }
        let _ = shown(&text);
    }
}

#[test]
fn junk_is_answered_quickly() {
    let started = std::time::Instant::now();
    for text in [
        "x".repeat(10 << 20),
        "]]]\n".repeat(200_000),
        "a = 1\n".repeat(150_000),
        format!("[services]\n{}", (0..20_000).map(|n| format!("s{n} = 5\n")).collect::<String>()),
        "[services.a]\nrun = \"x\"\nfoo = 1\n".to_owned() + &(0..30_000).map(|n| format!("k{n} = 1\n")).collect::<String>(),
    ] {
        assert!(shown(&text).is_some_and(|shown| shown.lines().count() < 500));
    }
    // Far above what it takes, so that a busy machine does not fail it, and far below anything quadratic.
    assert!(started.elapsed() < std::time::Duration::from_secs(30), "{:?}", started.elapsed());
}
