//! A disk that is full at some step of a save, a restore or a backup: a clear error, and no data lost.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Outcome, Project, figures, is_root, rounds, skipped};

/// Files of the volume, 64 KiB each.
const FILES: usize = 16;
const FILE: usize = 64 << 10;

/// A small file system of its own, which is unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("our own folder");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs"]).arg(at).status().ok()?;
        done.success().then(|| Self(at.to_owned()))
    }

    /// Leaves this much room.
    fn leave(&self, free: u64) -> Ballast {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).expect("our own file");
        let page = [0u8; 4096];
        let mut length = 0;
        while file.write_all(&page).is_ok() {
            length += page.len() as u64;
        }
        file.set_len(length.saturating_sub(free)).expect("our own file");
        Ballast(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("our own file");
    }
}

/// Output that is lost is an error, and one that is not wanted any more is none.
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n");
    for words in ["config", "schema", "ps", "env a", "man", "completions bash", "graph", "ps --json", "--help", "version"] {
        let lost = project.run_in_shell(&format!("exec \"$0\" {words} >/dev/full")).code(2);
        assert!(lost.stderr.contains("error: cannot write to standard output: No space left on device"), "{words}: {lost}");
        assert!(lost.stderr.contains("help: free some space"), "{words}: {lost}");
        project.run_in_shell(&format!("\"$0\" {words} | true")).code(0).says_not("cannot write");
    }
    // The code of the failure stays.
    project.run_in_shell("exec \"$0\" ps --check >/dev/full").code(6).says("cannot write to standard output");
}

fn fill(volume: &Path, byte: u8) {
    fs::create_dir_all(volume).expect("our own folder");
    for index in 0..FILES {
        fs::write(volume.join(format!("f{index}")), vec![byte; FILE]).expect("our own file");
    }
}

/// The byte that every file is full of.
#[track_caller]
fn contents(volume: &Path) -> u8 {
    let first = fs::read(volume.join("f0")).expect("our own file")[0];
    for index in 0..FILES {
        let bytes = fs::read(volume.join(format!("f{index}"))).expect("our own file");
        assert!(bytes.len() == FILE && bytes.iter().all(|byte| *byte == first), "f{index}: half");
    }
    first
}

/// Whether it succeeded; else it has said why.
#[track_caller]
fn succeeded(done: Outcome, what: &str, free: u64) -> bool {
    if done.code == Some(0) {
        return true;
    }
    assert_eq!(done.code, Some(4), "{what} with {free} bytes left: {}", done.stderr);
    let reasons = ["No space left", "left", "make room"];
    assert!(reasons.iter().any(|reason| done.stderr.contains(reason)), "{what} with {free} bytes left: {}", done.stderr);
    false
}

#[test]
fn a_disk_that_fills_up_at_any_step_loses_nothing() {
    if !is_root() {
        return skipped("mounting a small file system needs root");
    }
    let project = Project::new().procfile("[services.store]\nrun = \"{svc:store}\"\ndata = \"data\"\n");
    let at = project.root().join("state");
    let Some(disk) = SmallDisk::mount(&at) else { return skipped("nothing can be mounted here") };
    let state = at.display().to_string();
    let run = |args: &[&str]| project.run(&[&["--state-dir", state.as_str()], args].concat());
    let volume = at.join("data/data");
    run(&["up", "-d"]).code(0);
    run(&["down"]).code(0);
    fill(&volume, b'o');
    run(&["snapshot", "save", "base"]).code(0);
    let (mut saved, mut restored, mut backed_up) = (0, 0, 0);
    let steps = rounds(4);
    let whole = (FILES * FILE) as u64;
    for step in 0..steps {
        let free = whole * 3 / 2 * step / steps.saturating_sub(1).max(1);
        fill(&volume, b'n');
        let ballast = disk.leave(free);
        let save = succeeded(run(&["snapshot", "save", "next"]), "save", free);
        drop(ballast);
        assert_eq!(at.join("snapshots/next").exists(), save, "{free}");
        if save {
            run(&["snapshot", "rm", "next"]).code(0);
            saved += 1;
        }
        let ballast = disk.leave(free);
        let restore = succeeded(run(&["snapshot", "restore", "base", "--yes"]), "restore", free);
        drop(ballast);
        assert_eq!(contents(&volume), if restore { b'o' } else { b'n' }, "{free}");
        restored += u64::from(restore);
        // Zeros pack well; noise needs room.
        let noise: Vec<u8> = (0..FILE).scan(free | 1, |seed, _| Some(next(seed))).collect();
        for index in 0..FILES {
            fs::write(volume.join(format!("noise{index}")), &noise).expect("our own file");
        }
        let file = at.join("store.tar.gz");
        let ballast = disk.leave(free);
        let backup = succeeded(run(&["backup", "store", "-o", &file.display().to_string()]), "backup", free);
        drop(ballast);
        assert_eq!(file.exists(), backup, "{free}");
        if backup {
            run(&["restore", "store", &file.display().to_string(), "--yes"]).code(0);
            fs::remove_file(&file).expect("our own file");
            fs::remove_file(at.join("store.tar.gz.json")).expect("its manifest");
            backed_up += 1;
        }
        for index in 0..FILES {
            fs::remove_file(volume.join(format!("noise{index}"))).expect("our own file");
        }
        contents(&volume);
    }
    assert!(saved < steps && saved > 0, "the room must matter: {saved} of {steps}");
    figures(&format!("{steps} steps: {saved} saved, {restored} restored, {backed_up} backed up; nothing lost"));
    project.nothing_left();
}

fn next(seed: &mut u64) -> u8 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    seed.to_le_bytes()[7]
}

/// What a start cannot write down says what to do, and nothing of a stop.
#[test]
fn a_start_on_a_full_disk_says_that_space_is_needed() {
    if !is_root() {
        return skipped("mounting a small file system needs root");
    }
    let project = Project::new().procfile("[services.a]\nrun = \"{svc:a}\"\n[services.b]\nrun = \"{svc:b}\"\n");
    let at = project.root().join("state");
    let Some(disk) = SmallDisk::mount(&at) else { return skipped("nothing can be mounted here") };
    let state = at.display().to_string();
    let run = |args: &[&str]| project.run(&[&["--state-dir", state.as_str()], args].concat());
    run(&["up", "-d"]).code(0);
    run(&["stop", "a"]).code(0);
    let ballast = disk.leave(0);
    run(&["start", "a"]).says("it stays remembered as stopped by hand: No space left").says("free some space");
    run(&["stop", "b"]).says("the stop by hand cannot be remembered: No space left").says("free some space");
    drop(ballast);
    run(&["down"]).code(0);
    project.nothing_left();
}
