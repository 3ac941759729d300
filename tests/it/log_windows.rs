//! Output without line ends: it is rotated like any other, and no reader takes a file or a line whole. Output that a full disk
//! does not take leaves a trace.

use std::fs;

use crate::harness::{PATIENCE, Project, eventually, is_root, skipped};

const CAP: u64 = 1_000_000;
/// By which a file may exceed its cap.
const OVER: u64 = 64 * 1024;

fn sizes(project: &Project, service: &str) -> Vec<u64> {
    let names = (0..9).map(|number| if number == 0 { String::new() } else { format!(".{number}") });
    let logs = names.map(|end| project.path(&format!(".devrun/logs/{service}.log{end}")));
    logs.filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).collect()
}

#[test]
fn output_without_line_ends_stays_within_the_cap() {
    let project = Project::new().procfile(
        r#"
        [services.zeros]
        run = ["sh", "-c", "head -c 20000000 /dev/zero; exec sleep 1000"]
        log = { max_size = "1000000", max_files = 3 }
        [services.bar]
        run = ["sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' '\\r'; exec sleep 1000"]
        log = { max_size = "1000000", max_files = 3 }
        [services.json]
        run = ["sh", "-c", "head -c 2000000 /dev/zero; exec sleep 1000"]
        log = { max_size = "1000000", max_files = 3, format = "json" }
        "#,
    );
    project.run(&["up", "-d"]).code(0);
    for service in ["zeros", "bar", "json"] {
        eventually("the third file", PATIENCE, || (sizes(&project, service).len() == 3).then_some(()));
    }
    project.run(&["down"]).code(0);
    for service in ["zeros", "bar"] {
        let sizes = sizes(&project, service);
        assert!(sizes.len() == 3 && sizes.iter().all(|size| *size <= CAP + OVER), "{service}: {sizes:?}");
    }
    let (json, sizes) = (project.run(&["logs", "json", "-n", "1"]).code(0), sizes(&project, "json"));
    assert!(json.stdout.len() < 100_000 && sizes.iter().all(|size| *size <= CAP + 8 * OVER), "{sizes:?}");
}

/// Runs with as much memory as a reader may take.
fn run_limited(project: &Project, args: &str) -> crate::harness::Outcome {
    // What the process maps for itself, its heap above all; the program file does not count.
    project.run_in_shell(&format!("ulimit -d 51200; exec \"$0\" {args}"))
}

#[test]
fn readers_take_a_giant_line_in_windows() {
    let project = Project::new().procfile("[services.nonl]\nrun = \"sleep 1000\"\n[services.two]\nrun = \"sleep 1000\"\n");
    project.run(&["up", "-d"]).code(0);
    project.run(&["down"]).code(0);
    let logs = project.path(".devrun/logs");
    // A file as an earlier version has left it: one line, larger than the memory that is allowed, and two lines after it.
    let giant = fs::File::options().write(true).open(logs.join("nonl.log")).unwrap();
    giant.set_len(300_000_000).unwrap();
    std::io::Write::write_all(&mut fs::File::options().append(true).open(logs.join("nonl.log")).unwrap(), b"\nshort\nlast")
        .unwrap();
    fs::write(logs.join("two.log"), format!("first\n{}\n", "x".repeat(70_000))).unwrap();
    for args in [
        "logs --json nonl -n 1",
        "logs nonl -n 2",
        "logs nonl -n 3",
        "logs nonl",
        "logs --json",
        "logs --grep last nonl",
        "logs nonl --previous",
    ] {
        let out = run_limited(&project, args).code(0);
        assert!(out.stdout.len() < 1_000_000, "{args}: {} bytes", out.stdout.len());
    }
    let last = run_limited(&project, "logs nonl -n 1 --no-prefix").code(0);
    assert_eq!(last.stdout, "last\n");
    let whole = run_limited(&project, "logs nonl --no-prefix").code(0).stdout;
    let lines: Vec<&str> = whole.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].ends_with(&format!("… [line cut: {} more bytes]", 300_000_000 - OVER)), "{}", &lines[0][OVER as usize..]);
    let cut = run_limited(&project, "logs two -n 1 --no-prefix").code(0).stdout;
    assert_eq!(cut.trim_end(), format!("{} … [line cut: {} more bytes]", "x".repeat(65_536), 70_000 - 65_536));
    run_limited(&project, "report").code(0);
}

#[test]
fn a_failing_up_takes_only_the_ends_of_lines() {
    let project = Project::new()
        .procfile("[services.a]\nrun = [\"sh\", \"-c\", \"head -c 30000000 /dev/zero; exit 3\"]\nlog = { max_size = \"50M\" }\nready = { log = \"never said\" }\n");
    // The supervisor that reads the lines is a fork of this one and has its limits.
    let out = run_limited(&project, "up -d");
    assert!(out.stderr.contains("its last"), "{}", out.stderr.chars().take(2000).collect::<String>());
    assert!(out.code != Some(0) && out.stderr.contains("exit"), "{}", out.stderr.chars().take(2000).collect::<String>());
    assert!(out.stderr.len() < 200_000, "{} bytes", out.stderr.len());
}

/// A small file system; unmounted with it.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(project: &Project) -> Option<Self> {
        let path = project.path(".devrun");
        fs::create_dir(&path).ok()?;
        let mut command = std::process::Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs"]).arg(&path).stderr(std::process::Stdio::null());
        (is_root() && command.status().ok()?.success()).then_some(Self(path))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn lost_output_leaves_an_event_and_a_reason() {
    let project = Project::new().procfile(
        r#"
        [services.a]
        run = ["sh", "-c", "until test -e {dir}/full; do sleep 0.05; done; yes lost | head -n 300000; until test -e {dir}/free; do sleep 0.05; done; while :; do echo kept; sleep 0.2; done"]
        "#,
    );
    let Some(disk) = Disk::mount(&project) else { return skipped("only root can mount a small file system, where it may") };
    project.run(&["up", "-d"]).code(0);
    // Fills the disk by a file of its own.
    let filled =
        std::process::Command::new("sh").arg("-c").arg(format!("cat /dev/zero > {}/fill 2>/dev/null", disk.0.display())).status();
    assert!(filled.is_ok());
    project.write("full", "");
    let lost = eventually("the reason in ps", PATIENCE, || {
        let service = project.service("a");
        service["reason"].as_str().filter(|reason| reason.contains("of log output lost")).map(str::to_owned)
    });
    assert!(lost.contains("No space left on device"), "{lost}");
    project.run(&["ps"]).code(0).says("of log output lost");
    fs::remove_file(disk.0.join("fill")).unwrap();
    project.write("free", "");
    eventually("the note in the log", PATIENCE, || {
        project.run(&["logs", "a"]).stdout.contains("of log output lost").then_some(())
    });
    let log = project.run(&["logs", "a", "--json"]).code(0).json_lines();
    let note = log.iter().find(|line| line["line"].as_str().is_some_and(|text| text.contains("of log output lost"))).unwrap();
    assert_eq!(note["stream"], "devrun");
    eventually("both events", PATIENCE, || {
        let events = project.run(&["events", "--json"]).stdout;
        (events.contains("output is not kept") && events.contains("output is kept again")).then_some(())
    });
    let reason = project.service("a")["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("of log output lost") && !reason.contains("not kept"), "{reason}");
    project.run(&["down"]).code(0);
    project.run(&["events", "--json"]).says("of log output lost");
}

/// The process of the supervisor ends a moment after its last service, and takes the thread that writes the logs with it.
#[test]
fn the_last_words_of_a_service_that_ends_at_once_are_kept() {
    for round in 0..40 {
        let project = Project::new().procfile("[services.s]\nrun = \"sh -c 'echo last words'\"\n");
        project.run(&["up"]).code(0);
        assert_eq!(project.read(".devrun/logs/s.log"), "last words\n", "round {round}");
    }
}
