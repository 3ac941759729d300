//! The resource limits that services get back.

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
