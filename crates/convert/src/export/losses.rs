//! What an export could not say, key by key.

/// A key of the procfile whose meaning the target does not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// `services.api.backoff`.
    pub key: String,
    /// Why, and what to do instead.
    pub reason: String,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// All of them, each once, in the order in which they were found.
#[derive(Debug, Default)]
pub(crate) struct Losses(Vec<Loss>);

impl Losses {
    pub(crate) fn add(&mut self, key: impl Into<String>, reason: impl Into<String>) {
        let one_line = |text: String| crate::report::one_line(&text);
        let loss = Loss { key: one_line(key.into()), reason: one_line(reason.into()) };
        if !self.0.contains(&loss) {
            self.0.push(loss);
        }
    }
    pub(crate) fn into_vec(self) -> Vec<Loss> {
        self.0
    }
}
