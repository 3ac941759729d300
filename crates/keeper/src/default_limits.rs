//! The resource limits that services get back.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// macOS takes no more than this where there is no hard limit (`OPEN_MAX` of sys/syslimits.h).
const OPEN_MAX: u64 = 10_240;

/// Raises our limit of open files as far as it goes. One that cannot be raised stays; a lack of descriptors is reported where it happens.
pub(super) fn raise_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() && soft < OPEN_MAX {
        let _refused = setrlimit(Resource::RLIMIT_NOFILE, OPEN_MAX.min(hard), hard);
    }
}

/// The limits that children get back where their spec asks for none: the supervisor has changed its own.
#[derive(Debug, Clone, Copy)]
pub struct DefaultLimits {
    /// Open files, soft and hard; raised as far as it goes.
    pub nofile: (u64, u64),
    /// Size of core files, soft; we write none, as secrets would be in them.
    pub core: u64,
    /// Size of any file, soft and hard; raised as far as it goes.
    pub file_size: (u64, u64),
}
