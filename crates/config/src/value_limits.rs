//! How large values may become.

/// The same of all values of a procfile together: each that repeats the one before it twice would double it.
pub(super) const LARGEST_SUM: usize = 64 << 20;

/// Bytes of one value with its placeholders filled in: more than a process can be given in one variable (128 KiB on Linux).
pub(super) const LARGEST_VALUE: usize = 1 << 20;
