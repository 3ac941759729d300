//! The first boot's protocol against real kills: a fake tool writes forty files, its process is killed at any moment, and
//! what stands afterwards is whole or not there (I01, I03, I04, Q02).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use devrun_model::{FailureKind, VolumeClass, VolumeName, VolumeSpec};
use devrun_runtime::init::{Sentinel, VolumeState, open_volume};

use crate::waits::let_time_pass;

const FILES: usize = 40;

fn volume(path: &Path) -> VolumeSpec {
    VolumeSpec { name: VolumeName::new("pg").unwrap(), class: VolumeClass::Persistent, path: path.to_owned(), placed: true }
}

/// Not a test of its own: the process that is killed.
#[test(only_with = "DEVRUN_TEST_VOLUME")]
fn one_first_boot() {
    let path = PathBuf::from(std::env::var_os("DEVRUN_TEST_VOLUME").unwrap());
    let stage = match open_volume(&volume(&path), "postgres").unwrap() {
        VolumeState::Fresh(stage) => stage,
        VolumeState::Done(_) => return,
        VolumeState::Busy => panic!("the lock of a dead process is held"),
    };
    let data = stage.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for file in 0..FILES {
        std::fs::write(data.join(file.to_string()), vec![1u8; 4096]).unwrap();
        let_time_pass("so that a kill can hit it between two files", Duration::from_millis(1));
    }
    stage.commit(&Sentinel::new("postgres/first-boot", String::new(), "1", Duration::ZERO).unwrap()).unwrap();
}

fn command(volume: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "init::one_first_boot", "--nocapture"]).env("DEVRUN_TEST_VOLUME", volume);
    command
}

fn boot(volume: &Path) -> Child {
    command(volume).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Kills `rounds` first boots at spread moments, then lets one go through.
fn kill_and_check(path: &Path, rounds: u32) {
    let mut killed = 0;
    for round in 0..rounds {
        let mut child = boot(path);
        let deadline = Instant::now() + Duration::from_millis(u64::from(round * 5 % 110));
        while Instant::now() < deadline {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        if !child.wait().unwrap().success() {
            killed += 1;
        }
        let engine = path.join("postgres");
        if engine.exists() {
            assert_eq!(names(&engine), [".devrun-init.json", "data"], "round {round}");
            assert_eq!(names(&engine.join("data")).len(), FILES, "round {round}");
            std::fs::remove_dir_all(&engine).unwrap();
        }
    }
    assert!(killed > 0, "no round was killed");
    let last = command(path).output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    let left: Vec<_> = names(path).into_iter().filter(|name| name != "lost+found").collect();
    assert_eq!(left, ["postgres"], "a stage is left");
    assert_eq!(names(&path.join("postgres/data")).len(), FILES);
}

#[test]
fn i01_killed_at_random_it_is_whole_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    // 100 in `scripts/soak`.
    kill_and_check(folder.path(), u32::try_from(crate::harness::rounds(50)).expect("a small number"));
}

#[test]
fn i04_foreign_data_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("PG_VERSION");
    std::fs::write(&file, "15\n").unwrap();
    let before =
        (std::fs::metadata(&file).unwrap().modified().unwrap(), std::fs::metadata(folder.path()).unwrap().modified().unwrap());
    let failure = open_volume(&volume(folder.path()), "postgres").unwrap_err();
    assert_eq!(failure.kind, FailureKind::Task);
    assert_eq!(failure.help.as_deref(), Some("devrun volumes adopt pg"));
    let after =
        (std::fs::metadata(&file).unwrap().modified().unwrap(), std::fs::metadata(folder.path()).unwrap().modified().unwrap());
    assert_eq!(before, after);
    assert_eq!(names(folder.path()), ["PG_VERSION"]);
}

/// Ends a mount however the test ends.
struct Mount(PathBuf);
impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn q02_a_volume_may_be_a_mount_point() {
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().join("volume");
    std::fs::create_dir(&point).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(&point).stderr(Stdio::null()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        return crate::harness::skipped("only root may mount");
    }
    let mount = Mount(point.clone());
    kill_and_check(&point, 20);
    assert!(std::fs::metadata(&point).unwrap().is_dir());
    drop(mount);
    assert!(names(&point).is_empty(), "something was written beside the mount");
}
