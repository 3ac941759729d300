//! Why a text is no duration or size.

/// Why a text is not a value of its kind. What would do follows a semicolon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A duration without a character.
    #[error("a duration cannot be empty; write \"10s\", \"250ms\" or \"1m30s\"")]
    EmptyDuration,
    /// Not a sequence of numbers with units.
    #[error("invalid duration {0:?}; write \"10s\", \"250ms\" or \"1m30s\"")]
    InvalidDuration(String),
    /// A number alone.
    #[error("{0:?} has no unit; did you mean \"{0}s\"?")]
    MissingUnit(String),
    /// Letters that are not a unit of time.
    #[error("unknown unit {0:?} in a duration; use ms, s, m, h or d")]
    UnknownDurationUnit(String),
    /// More than a year.
    #[error("{0:?} is longer than a year")]
    DurationTooLong(String),
    /// Not a number with a unit.
    #[error("invalid size {0:?}; write \"512M\" or \"10G\"")]
    InvalidSize(String),
    /// Letters that are not a unit of size.
    #[error("unknown unit {0:?} in a size; use K, M, G or T")]
    UnknownSizeUnit(String),
    /// More than a number of bytes can be.
    #[error("{0:?} is larger than any disk")]
    SizeTooLarge(String),
}
