//! Where a piece of output comes from.

/// What a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum LogStream {
    /// Standard output, or the terminal.
    Stdout = 0,
    /// Standard error.
    Stderr = 1,
    /// A line of our own about the service.
    Devrun = 2,
}

impl LogStream {
    /// The word of `logs --json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Devrun => "devrun",
        }
    }
}
