//! A server whose data directory was deleted while it runs.

use std::path::Path;

/// Whether the directory that a process works in is gone: it does not exist, or is another one by now. `dir` is where the plan has
/// it, which is asked only where the process does not show where it is: a project that was moved, and a plan that names another
/// directory by now (another mode), leave the process with its data, which it must save.
pub(super) fn is_gone(pid: i32, dir: &Path) -> bool {
    // proc_pid_cwd(5) marks a directory that was removed.
    match devrun_keeper::process_list::working_directory(pid) {
        Some(cwd) => cwd.to_string_lossy().ends_with(" (deleted)") && !cwd.exists(),
        None => !dir.exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_replaced_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("data");
        std::fs::create_dir(&dir).unwrap();
        let mut child = std::process::Command::new("cat")
            .current_dir(&dir)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let before = is_gone(pid, &dir);
        let elsewhere = is_gone(pid, &root.path().join("another"));
        let moved = root.path().join("moved (deleted)");
        std::fs::rename(&dir, &moved).unwrap();
        let renamed = is_gone(pid, &dir);
        std::fs::rename(&moved, &dir).unwrap();
        std::fs::remove_dir(&dir).unwrap();
        let removed = is_gone(pid, &dir);
        std::fs::create_dir(&dir).unwrap();
        let replaced = is_gone(pid, &dir);
        // Its standard input is closed, so it exits.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!((before, removed), (false, true));
        assert!(!(elsewhere || renamed) || !cfg!(target_os = "linux"), "{elsewhere} {renamed}");
        assert!(replaced || !cfg!(target_os = "linux"));
    }
}
