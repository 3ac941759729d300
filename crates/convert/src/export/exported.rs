//! The result of an export.

use super::losses::Loss;

/// What an export has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Paths relative to the target's directory, and texts. A single file has an empty path.
    pub files: Vec<(String, String)>,
    /// What the target cannot say.
    pub losses: Vec<Loss>,
    /// What must be at hand when it is started there: variables and files, one line each.
    pub needs: Vec<String>,
}
