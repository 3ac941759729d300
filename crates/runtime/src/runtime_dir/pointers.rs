//! The files by which directories name one another, and which project a state directory belongs to.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use devrun_keeper::journal;
use devrun_keeper::state_location;
use devrun_model::Paths;

/// The name of the state directory next to the procfile.
pub const STATE: &str = ".devrun";
/// The file in the state directory that names the runtime directory in use.
pub(super) const RUN_POINTER: &str = "run";
/// The file in `.devrun/` that names a state directory elsewhere.
pub(super) const STATE_POINTER: &str = "state-dir";
/// The directory of named instances in a state directory.
pub(super) const INSTANCES: &str = "instances";

/// The file in the runtime directory that names state directory and project: all that `ls` and `down --emergency --all` have to
/// go by where the supervisor is dead. The dot keeps it apart from the directories of services.
pub(super) const STATE_OF: &str = ".state";
/// The file in a state directory that says that it is thrown away with its run, so that nothing may point to it.
pub(super) const EPHEMERAL: &str = ".ephemeral";

/// The project that the state directory was copied from.
pub(super) fn other_owner(places: &Paths) -> Option<PathBuf> {
    // A journal that cannot be used is reported by whoever needs it.
    state_location::other_owner(places, || journal::read(&places.journal()).ok())
}

/// The state directory of the unnamed instance.
pub(super) fn base_of(state: &Path) -> &Path {
    let instances = state.parent().filter(|parent| parent.file_name().is_some_and(|name| name == INSTANCES));
    instances.and_then(Path::parent).unwrap_or(state)
}

/// A path that a file holds, up to its newline.
pub(super) fn read_path(file: &Path) -> Option<PathBuf> {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(file).ok()?;
    if !opened.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    opened.take(16 * 1024).read_to_end(&mut bytes).ok()?;
    let path = PathBuf::from(OsString::from_vec(bytes.strip_suffix(b"\n").unwrap_or(&bytes).to_vec()));
    path.is_absolute().then_some(path)
}

pub(super) fn line_of(path: &Path) -> Vec<u8> {
    [path.as_os_str().as_bytes(), b"\n"].concat()
}

/// Whether these are the directories of a run that is thrown away.
#[must_use]
pub fn is_ephemeral(places: &Paths) -> bool {
    places.state.join(EPHEMERAL).exists()
}
