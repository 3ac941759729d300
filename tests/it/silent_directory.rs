//! A working directory on a mount that never answers, as one of a network file system whose server is gone: nobody waits for it without
//! a deadline, and the other services have nothing to do with it.

use crate::harness::{Outcome, Project, is_root, skipped};

/// Mounts a FUSE file system at its first argument, makes its second argument a file, and answers no question.
const SILENT: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
device = os.open("/dev/fuse", os.O_RDWR)
options = "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other" % device
if libc.mount(b"silent", sys.argv[1].encode(), b"fuse", 0, options.encode()) != 0:
    sys.exit(77)
head = struct.unpack("<IIQQIIII", os.read(device, 1 << 18)[:40])
greeting = struct.pack("<IIIIHHIIHHII", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0, 0) + bytes(24)
os.write(device, struct.pack("<IiQ", 16 + len(greeting), 0, head[2]) + greeting)
open(sys.argv[2], "w").close()
while True:
    os.read(device, 1 << 18)
"#;

/// The shell function `silence` mounts it over `slow`.
const SILENCE: &str = "silence() { python3 silent.py slow mounted & mounter=$!\n\
     until test -e mounted; do kill -0 $mounter 2>/dev/null || exit 77; sleep 0.02; done; }";

fn project() -> Project {
    let project = Project::new();
    project.write("silent.py", SILENT);
    std::fs::create_dir(project.path("slow")).expect("a directory of our own");
    project
        .procfile("[services.s]\nrun = \"{svc:s}\"\ndir = \"slow\"\nstop = { grace = \"2s\" }\n[services.o]\nrun = \"{svc:o}\"\n")
}

/// Runs it in a mount namespace of its own; `None` where that cannot be had.
fn in_namespace(project: &Project, script: &str) -> Option<Outcome> {
    if !is_root() || !std::path::Path::new("/dev/fuse").exists() {
        return None;
    }
    project.write("script", &format!("{SILENCE}\n{script}\nkill $mounter\n"));
    let done = project.run_in_shell("unshare -m sh script \"$0\"");
    (done.code != Some(77) && !done.stderr.contains("unshare failed")).then_some(done)
}

const MISSING: &str = "not root, or no FUSE here";

#[test]
fn a_start_in_a_silent_directory_is_refused_in_time() {
    let project = project();
    let script = "silence\nfor command in up\\ -d check doctor exec\\ s\\ true up\\ -d\\ o down; do\n\
                  timeout 20 \"$1\" $command; echo \"$command: $?\"\ndone";
    let Some(done) = in_namespace(&project, script) else { return skipped(MISSING) };
    // What is asked for by name has nothing to do with the directory of another service.
    for said in ["up -d: 2\n", "check: 0\n", "doctor: 2\n", "exec s true: 2\n", "up -d o: 0\n", "down: 0\n"] {
        assert!(done.stdout.contains(said), "not {said:?}: {}{}", done.stdout, done.stderr);
    }
    let done = done.says("s: the directory").says("/slow does not answer").says("umount -l");
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    project.nothing_left();
}

#[test]
fn a_directory_that_falls_silent_costs_its_own_service_only() {
    let project = project();
    // An answer holds for half a second.
    let script = "timeout 20 \"$1\" up -d || exit 1\nsilence\nsleep 0.6\n\
                  timeout 20 \"$1\" restart s; echo \"restart: $?\"\n\
                  timeout 10 \"$1\" ps; echo \"ps: $?\"\n\
                  timeout 20 \"$1\" down; echo \"down: $?\"";
    let Some(done) = in_namespace(&project, script) else { return skipped(MISSING) };
    assert!(!done.stdout.contains("restart: 0\n") && !done.stdout.contains("restart: 124\n"), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("ps: 0\n") && done.stdout.contains("down: 0\n"), "{}{}", done.stdout, done.stderr);
    let _said = done.says("/slow does not answer");
    project.nothing_left();
}
