//! `P…`: a journal that somebody else wrote, or that is damaged, never aims devrun at a bystander.

use std::path::PathBuf;
use std::process::{Child, Command};

use devrun_keeper::journal::{self, Journal, JournalRecord};
use devrun_model::keeper::Identity;
use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, figures, is_root, long, processes_with, signal, skipped};

const ONE: &str = "[services.a]\nrun = \"{svc:a}\"\n";

/// A process of its own group with two children, known by `mark`.
struct Bystander {
    leader: Child,
    mark: String,
}

impl Bystander {
    fn new(project: &Project) -> Self {
        use std::os::unix::process::CommandExt;
        // No token of the project, but one that we find it by.
        let mark = project.fill("{token}").replacen("dvt", "bystander", 1);
        let script = format!("sleep 1000 {mark} & sleep 1000 {mark} & wait");
        let leader = Command::new("sh")
            .args(["-c", &script.replace(&format!(" {mark}"), ""), &mark])
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .process_group(0)
            .spawn()
            .expect("sh runs");
        let bystander = Self { leader, mark };
        eventually("its children", PATIENCE, || (bystander.children().len() == 2).then_some(()));
        bystander
    }
    fn pid(&self) -> i32 {
        i32::try_from(self.leader.id()).expect("a pid")
    }
    fn children(&self) -> Vec<i32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }
    #[track_caller]
    fn lives(&self) {
        assert_eq!(processes_with(&self.mark).len(), 1, "the bystander lives");
        assert_eq!(self.children().len(), 2, "and so do its children");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        for child in self.children() {
            signal(child, Signal::SIGKILL);
        }
        // Our own child.
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}

/// A project whose supervisor and keeper were killed, and the records of its journal.
fn killed() -> (Project, PathBuf, Journal) {
    let project = Project::new().procfile(ONE);
    project.run(&["up", "-d"]).code(0);
    project.kill_both();
    let path = project.path(".devrun/journal");
    let journal = journal::read(&path).expect("it is there");
    assert_eq!(journal.live.len(), 1);
    (project, path, journal)
}

/// Writes a sound journal in which the process of `journal` is another one, as often as there are identities.
fn plant(path: &PathBuf, journal: &Journal, identities: &[Identity]) {
    let header = journal.header.clone().expect("a header");
    let mut bytes = journal::encode(&JournalRecord::Header(Box::new(header))).expect("JSON");
    let entry = journal.live.values().next().expect("one process");
    for (index, identity) in identities.iter().enumerate() {
        let mut entry = entry.clone();
        entry.process = 1 + index as u64;
        entry.identity = identity.clone();
        bytes.extend(journal::encode(&JournalRecord::Started(Box::new(entry))).expect("JSON"));
    }
    std::fs::write(path, bytes).expect("our own file");
}

/// What every reader of the journal does; nothing of it may panic.
#[track_caller]
fn every_way(project: &Project) {
    project.run(&["ps"]).says_not("failed at");
    project.run(&["down", "--emergency"]).code(0).says_not("failed at");
    project.run(&["up", "-d"]).code(0).says_not("failed at");
    assert_eq!(project.alive("a").len(), 1, "one copy");
    project.run(&["down"]).code(0).says_not("failed at");
    project.nothing_left();
}

#[test]
fn p01_a_bystander_with_the_recorded_number_lives() {
    let (project, path, journal) = killed();
    let bystander = Bystander::new(&project);
    let recorded = &journal.live.values().next().expect("one process").identity;
    let planted = Identity { pid: bystander.pid(), start: recorded.start, boot: recorded.boot.clone() };
    plant(&path, &journal, std::slice::from_ref(&planted));
    // The next `up` first: it, too, must tell the real leftover from the bystander.
    project.run(&["up", "-d"]).code(0);
    bystander.lives();
    assert_eq!(project.alive("a").len(), 1, "the leftover was ended by other evidence");
    project.run(&["down"]).code(0);
    bystander.lives();
    plant(&path, &journal, &[planted]);
    every_way(&project);
    bystander.lives();
}

#[test]
fn p01_a_bystander_with_the_number_of_a_recorded_lock_lives() {
    use std::os::unix::fs::MetadataExt;
    let (project, path, mut journal) = killed();
    signal(project.alive("a")[0].pid, Signal::SIGKILL);
    // The lock of another project that was made when the number of ours was free again.
    let other = project.root().join("home/other");
    std::fs::create_dir_all(&other).expect("our own folder");
    std::fs::write(other.join("a.alive"), "").expect("our own file");
    let meta = std::fs::metadata(other.join("a.alive")).expect("it is there");
    // Held by a shell, so that no child of another test can inherit it.
    let script = format!("exec 9< {}; exec sleep 1000", other.join("a.alive").display());
    let mut holder = Command::new("sh")
        .args(["-c", &script])
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .spawn()
        .expect("sh runs");
    for entry in journal.live.values_mut() {
        entry.lock_file = (meta.dev(), meta.ino());
    }
    let identity = journal.live.values().next().expect("one process").identity.clone();
    plant(&path, &journal, &[identity]);
    project.run(&["down", "--emergency"]).code(0);
    plant(&path, &journal, &[Identity { pid: 1, start: 0, boot: String::new() }]);
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    let lives = holder.try_wait().expect("our own child").is_none();
    holder.kill().and_then(|()| holder.wait()).expect("our own child");
    assert!(lives, "the other project's process lives");
}

#[test]
fn p02_numbers_that_are_no_process_are_nobody() {
    let (project, path, journal) = killed();
    let bystander = Bystander::new(&project);
    let boot = journal.live.values().next().expect("one process").identity.boot.clone();
    let numbers = [0, -1, 1, i32::try_from(std::process::id()).expect("a pid"), i32::MAX, i32::MIN];
    let identities: Vec<Identity> = numbers.iter().map(|pid| Identity { pid: *pid, start: 0, boot: boot.clone() }).collect();
    plant(&path, &journal, &identities);
    // And what is no number at all, with a sound checksum.
    let text = std::fs::read(&path).expect("our own file");
    let mut lines = String::from_utf8(text).expect("text");
    lines.push_str("{\"started\":{\"identity\":{\"pid\":\"all\",\"start\":-1}}}\t0000000000000000\n{\"started\":[]}\n");
    std::fs::write(&path, lines).expect("our own file");
    every_way(&project);
    bystander.lives();
}

/// One copy of `a` after the next `up`, or none after the emergency verb, whatever the journal says of the live one; then a
/// live leftover again, with a sound journal.
#[track_caller]
fn damaged(project: &Project, bystander: &Bystander, bytes: &[u8], emergency: bool, what: &str) {
    let path = project.path(".devrun/journal");
    std::fs::write(&path, bytes).expect("our own file");
    if emergency {
        let down = project.run(&["down", "--emergency"]).says_not("failed at");
        assert_eq!(down.code, Some(0), "{what}: {down}");
        assert!(project.alive("a").is_empty(), "{what}: nothing is left\n{down}");
        bystander.lives();
    }
    let up = project.run(&["up", "-d"]).says_not("failed at");
    assert_eq!(up.code, Some(0), "{what}: {up}");
    assert_eq!(project.alive("a").len(), 1, "{what}: one copy\n{up}");
    bystander.lives();
    project.kill_both();
}

/// The next sound journal, as [`damaged`] left it.
fn sound(project: &Project) -> Vec<u8> {
    std::fs::read(project.path(".devrun/journal")).expect("it is there")
}

#[test]
fn p03_a_journal_cut_at_any_byte_never_makes_a_second_copy() {
    let (project, ..) = killed();
    let bystander = Bystander::new(&project);
    // The reader itself tries every cut in `drivers::journal`. The whole binary does so in `scripts/soak`, some of them here.
    let length = sound(&project).len();
    let step = if long() { 1 } else { length / 5 };
    let mut cuts = 0;
    for at in (0..=length).step_by(step) {
        let bytes = sound(&project);
        damaged(&project, &bystander, &bytes[..at.min(bytes.len())], cuts % 2 == 1, &format!("cut at {at}"));
        cuts += 1;
    }
    project.run(&["ps", "--json"]).says_not("failed at");
    project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
    bystander.lives();
    figures(&format!("{cuts} cuts of {length} bytes: no panic, no second copy, the bystander lives"));
}

#[test]
fn p03_a_journal_with_flipped_bits_never_makes_a_second_copy() {
    let (project, ..) = killed();
    let bystander = Bystander::new(&project);
    let all = if long() { 1000 } else { 5 };
    let mut seed = 0x9e37_79b9_u32;
    for round in 0..all {
        let mut bytes = sound(&project);
        // One to eight at a time: a single one leaves most lines sound.
        for _ in 0..=round % 8 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bit = seed as usize % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        damaged(&project, &bystander, &bytes, round % 2 == 1, &format!("flips {round}"));
    }
    project.run(&["down", "--emergency"]).code(0);
    project.nothing_left();
    bystander.lives();
    figures(&format!("{all} rounds of bit flips: no panic, no second copy, the bystander lives"));
}

#[test]
fn p04_another_boots_numbers_mean_nothing() {
    let (project, path, journal) = killed();
    let bystander = Bystander::new(&project);
    signal(project.alive("a")[0].pid, Signal::SIGKILL);
    let mut old = journal.clone();
    let boot = "00000000-0000-4000-8000-000000000000".to_owned();
    if let Some(header) = &mut old.header {
        header.boot.clone_from(&boot);
        header.supervisor.pid = bystander.pid();
        header.keeper.pid = bystander.pid();
    }
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", bystander.pid())).expect("it lives");
    let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok()).expect("a start");
    plant(&path, &old, &[Identity { pid: bystander.pid(), start, boot }]);
    every_way(&project);
    bystander.lives();
}

#[test]
fn p05_a_reused_number_is_another_process() {
    let last = "/proc/sys/kernel/ns_last_pid";
    if !is_root() || std::fs::OpenOptions::new().write(true).open(last).is_err() {
        return skipped("only root can force a process number, where it may");
    }
    let (project, path, journal) = killed();
    let recorded = journal.live.values().next().expect("one process").identity.clone();
    signal(recorded.pid, Signal::SIGKILL);
    eventually("the old one is gone", PATIENCE, || {
        (!std::path::Path::new(&format!("/proc/{}", recorded.pid)).exists()).then_some(())
    });
    // Others fork meanwhile; some tries are needed.
    let mut bystander = None;
    for _ in 0..200 {
        std::fs::write(last, (recorded.pid - 1).to_string()).expect("root may");
        let mut child = Command::new("sleep").arg("1000").current_dir("/").env_clear().spawn().expect("sleep runs");
        if i32::try_from(child.id()) == Ok(recorded.pid) {
            bystander = Some(child);
            break;
        }
        child.kill().and_then(|()| child.wait()).expect("our own child");
    }
    let Some(mut bystander) = bystander else { return skipped("the number could not be had again") };
    plant(&path, &journal, &[recorded]);
    project.run(&["down", "--emergency"]).code(0);
    project.run(&["up", "-d"]).code(0);
    project.run(&["restart", "a"]).code(0);
    project.run(&["down"]).code(0);
    assert!(bystander.try_wait().expect("our own child").is_none(), "the bystander lives");
    bystander.kill().and_then(|()| bystander.wait()).expect("our own child");
    project.nothing_left();
}
