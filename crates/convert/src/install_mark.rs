//! Installations into `.venv` and `node_modules` that an interruption does not spoil for good.
//!
//! `python3 -m venv` and the installers take for complete what an earlier, interrupted run has left: an environment without `pip`, or a
//! package without some of its files. So a mark lies in the directory while one is at work, and where it still lies there, the next run
//! empties the directory first. One that is complete is kept, so that a change of the requirements installs what is new only.

/// `install`, which fills the directory, as a command that may be interrupted at any time and run again. It stays one command in
/// a list of others with `&&` between them.
pub(crate) fn resumable(directory: &str, install: &str) -> String {
    // The glob leaves the mark where it is: also an interrupted deletion is finished by the next run. npm's record of what it has
    // installed has a dot before its name as well.
    let record = if directory == "node_modules" { " node_modules/.package-lock.json" } else { "" };
    format!(
        "if [ -e {directory}/.partial ]; then rm -rf {directory}/*{record}; fi && mkdir -p {directory}/.partial && {install} && rm -rf {directory}/.partial"
    )
}
