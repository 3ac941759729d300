//! `L…`: output under load. Files are read as they are; what a viewer shows comes after.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Project, eventually, is_root, signal, skipped};
use crate::waits::stays_true_for;

fn rss_mb(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) / 1024
}

#[test]
fn l01_no_line_is_lost_torn_or_out_of_order() {
    let project = Project::new().procfile(
        "[defaults]\nlog = { max_size = \"100M\" }\n[services.a]\nrun = \"{svc:a} --lines 100000\"\n[services.b]\nrun = \"{svc:b} --lines 100000\"\n",
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    for name in ["a", "b"] {
        let path = format!(".devrun/logs/{name}.log");
        eventually(name, Duration::from_secs(60), || {
            let text = project.read(&path);
            (text.contains("out 99999\n") && text.contains("err 99999\n") && text.contains("\nup ")).then_some(())
        });
        let text = project.read(&path);
        let (mut out, mut err, mut other) = (0_u32, 0_u32, Vec::new());
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("out", number)) if number.parse() == Ok(out) => out += 1,
                Some(("err", number)) if number.parse() == Ok(err) => err += 1,
                _ => other.push(line),
            }
        }
        assert_eq!((out, err), (100_000, 100_000), "{name}: {:?}", &other[..other.len().min(5)]);
        assert_eq!(other.len(), 1, "{name}: {:?}", &other[..other.len().min(5)]);
    }
    project.run(&["down"]).code(0);
}

#[test]
fn l02_a_flood_costs_neither_memory_nor_answers() {
    // 10 s at 200 MB/s in `scripts/soak`.
    let long = crate::harness::long();
    let (rate, length) = if long { (200, 10) } else { (100, 2) };
    let project = Project::new().procfile(&format!(
        "[services.loud]\nrun = \"{{svc:loud}} --flood {rate}\"\n[services.quiet]\nrun = \"sh -c 'while :; do date +%s%3N; sleep 0.1; done'\"\n"
    ));
    project.run(&["up", "-d"]).code(0);
    let supervisor = project.supervisor();
    let (mut worst, mut most, mut late) = (Duration::ZERO, 0, 0);
    stays_true_for("it answers during the flood", Duration::from_secs(length), || {
        worst = worst.max(project.run(&["ps", "--json"]).code(0).took);
        most = most.max(rss_mb(supervisor));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
        if let Some(last) = project.read(".devrun/logs/quiet.log").lines().last().and_then(|line| line.parse::<u128>().ok()) {
            late = late.max(now.saturating_sub(last));
        }
        true
    });
    assert!(most < 150, "{most} MB");
    assert!(worst < Duration::from_secs(2), "`ps` took {worst:?}");
    assert!(late < 3000, "the quiet one is {late} ms late");
    // Rotation keeps the cap meanwhile: three files of 10 MB, and some for what comes at once.
    let size: u64 = fs::read_dir(project.path(".devrun/logs"))
        .expect("logs")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("loud"))
        .map(|entry| entry.metadata().map_or(0, |meta| meta.len()))
        .sum();
    assert!(size < 45 << 20, "{size} bytes");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn l03_a_viewer_that_hangs_blocks_nobody_and_is_told() {
    let project = Project::new().procfile("[services.loud]\nrun = \"{svc:loud} --flood 20\"\n[services.beat]\nrun = \"sh -c 'while :; do date +%s >> beats; sleep 0.1; done'\"\n");
    project.run(&["up", "-d"]).code(0);
    let mut viewer = project.start(&["logs", "-f"]);
    viewer.wait_for("loud");
    viewer.signal(Signal::SIGSTOP);
    let beats = || project.read("beats").lines().count();
    let before = beats();
    eventually("the other service goes on", PATIENCE, || (beats() >= before + 15).then_some(()));
    // Far more than fits between them: three rotated files and every pipe.
    for _ in 0..4 {
        let first = project.read(".devrun/logs/loud.log").lines().next().map(str::to_owned);
        eventually("the flood goes on", PATIENCE, || {
            (project.read(".devrun/logs/loud.log").lines().next().map(str::to_owned) != first).then_some(())
        });
    }
    viewer.signal(Signal::SIGCONT);
    viewer.wait_for("missed");
    viewer.signal(Signal::SIGINT);
    drop(viewer.outcome());
    project.run(&["down"]).code(0);
    project.nothing_left();
}

#[test]
fn l04_an_exit_is_noticed_though_a_child_holds_the_pipe() {
    let project = Project::new().procfile(
        "[services.a]\nrun = \"{svc:a} --hold-stdout --exit 5 --after 200\"\nstop = { grace = \"2s\" }\n[services.b]\nrun = \"{svc:b}\"\n",
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    let a = project.wait_state("a", "failed");
    assert_eq!(a["exit_code"], 5, "{a:#}");
    let down = project.run(&["down"]).code(0);
    assert!(down.took < Duration::from_secs(8), "{down}");
    project.nothing_left();
}

#[test]
fn l05_raw_bytes_stay_raw() {
    let project = Project::new().procfile("[services.a]\nrun = \"sh a.sh\"\n[services.b]\nrun = \"{svc:b}\"\n");
    project.write(
        "a.sh",
        "printf 'nul\\000\\377\\376 bad utf8\\n'; head -c 10000000 /dev/zero | tr '\\000' x; echo; printf 'no newline'\n",
    );
    project.run(&["up", "-d", "--no-wait"]).code(0);
    let supervisor = project.supervisor();
    project.wait_state("a", "completed");
    let path = project.path(".devrun/logs/a.log");
    eventually("the last bytes", PATIENCE, || {
        fs::read(&path).is_ok_and(|bytes| bytes.ends_with(b"no newline") || bytes.ends_with(b"no newline\n")).then_some(())
    });
    let whole: Vec<u8> = ["a.log.2", "a.log.1", "a.log"]
        .iter()
        .flat_map(|name| fs::read(project.path(&format!(".devrun/logs/{name}"))).unwrap_or_default())
        .collect();
    let start = b"nul\0\xff\xfe bad utf8\n";
    assert!(whole.windows(start.len()).any(|window| window == start), "the raw bytes are there");
    assert_eq!(whole.iter().filter(|byte| **byte == b'x').count(), 10_000_000, "all of the long line");
    assert!(rss_mb(supervisor) < 150);
    project.run(&["logs", "a", "-n", "50"]).code(0);
    project.run(&["down"]).code(0);
}

#[test]
fn l06_a_full_disk_stops_no_service() {
    let project = Project::new().procfile("[services.loud]\nrun = \"{svc:loud} --flood 20\"\n[services.beat]\nrun = \"sh -c 'while :; do date +%s >> beats; sleep 0.1; done'\"\n");
    let Some(disk) = Disk::mount(&project, "5m") else {
        return skipped("only root can mount a small file system, where it may");
    };
    project.run(&["up", "-d"]).code(0);
    let beats = || project.read("beats").lines().count();
    let loud = project.alive("loud");
    eventually("the disk is full", PATIENCE, || disk.is_full().then_some(()));
    let full = beats();
    eventually("services live", PATIENCE, || (beats() > full + 5).then_some(()));
    assert_eq!(project.alive("loud"), loud, "and the loud one is the same");
    project.run(&["ps"]).code(0).says("running");
    project.run(&["down"]).code(0);
    project.nothing_left();
}

/// A small file system in the place of the project's logs; root only.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(project: &Project, size: &str) -> Option<Self> {
        use std::os::unix::fs::PermissionsExt;
        if !is_root() {
            return None;
        }
        let path = project.path(".devrun/logs");
        fs::create_dir_all(&path).expect("our own folder");
        fs::set_permissions(project.path(".devrun"), fs::Permissions::from_mode(0o700)).expect("our own folder");
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"]).arg(&path);
        command.status().is_ok_and(|status| status.success()).then_some(Self(path))
    }
    fn is_full(&self) -> bool {
        let more = self.0.join("more");
        let refused = fs::write(&more, [0; 16 * 1024]).is_err();
        let _absent = fs::remove_file(more);
        refused
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_dead_supervisor_blocks_no_writer_in_its_grace() {
    // The keeper reads on, so that a service that logs a lot while it ends neither blocks nor dies of SIGPIPE.
    let project = Project::new()
        .procfile("[services.a]\nrun = \"{svc:a} --flood 10 --stop-takes 1000 --done {dir}/done\"\nstop = { grace = \"20s\" }\n");
    project.run(&["up", "-d"]).code(0);
    signal(project.supervisor(), Signal::SIGKILL);
    project.nothing_left_within(Duration::from_secs(15));
    assert_eq!(project.read("done"), "leader done\n");
}
