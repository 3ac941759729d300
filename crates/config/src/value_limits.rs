//! How large values may become.

/// The same of all values of a procfile together: each that repeats the one before it twice would double it.
pub(super) const LARGEST_SUM: usize = 64 << 20;

/// Variables that the procfile gives to all services together, a variable of several services counted for each. A small file can give
/// thousands to each of thousands.
pub(super) const MOST_VARIABLES: usize = if cfg!(test) { 1000 } else { 250_000 };

/// Bytes that are searched for the places of placeholders in their values. A value may have a hundred thousand, and each is looked for
/// in all of it; after that a message names the value.
pub(super) const MOST_SEARCHED: usize = if cfg!(test) { 1 << 20 } else { 64 << 20 };

/// Bytes of one value with its placeholders filled in: more than a process can be given in one variable (128 KiB on Linux).
pub(super) const LARGEST_VALUE: usize = 1 << 20;
