//! The last attempts, for `inspect`.

use std::collections::VecDeque;
use std::time::Duration;

/// One attempt, for `inspect`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeAttempt {
    /// Since the probes began.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// Whether it passed.
    pub passed: bool,
    /// What was answered.
    pub answer: String,
}

const KEPT: usize = 20;

/// Newest last.
#[derive(Debug, Default)]
pub(crate) struct ProbeHistory {
    attempts: VecDeque<ProbeAttempt>,
}

impl ProbeHistory {
    /// Keeps one. `quick` attempts that repeat the last two answers replace the newer one: a start makes hundreds of
    /// them, and what came before must not be pushed out by "connection refused".
    pub(crate) fn add(&mut self, attempt: ProbeAttempt, quick: bool) {
        let same = |kept: &ProbeAttempt| kept.passed == attempt.passed && kept.answer == attempt.answer;
        if quick && self.attempts.len() > 1 && self.attempts.iter().rev().take(2).all(same) {
            self.attempts.pop_back();
        }
        if self.attempts.len() == KEPT {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
    }

    /// All that is kept.
    pub(crate) fn list(&self) -> Vec<ProbeAttempt> {
        self.attempts.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(at: u64, answer: &str) -> ProbeAttempt {
        ProbeAttempt { at: Duration::from_millis(at), took: Duration::ZERO, passed: false, answer: answer.to_owned() }
    }

    #[test]
    fn repeats_of_a_start_keep_their_first_and_last() {
        let mut history = ProbeHistory::default();
        for at in 0..300 {
            history.add(attempt(at, "refused"), true);
        }
        history.add(attempt(300, "503"), true);
        let kept: Vec<(u128, String)> = history.list().into_iter().map(|a| (a.at.as_millis(), a.answer)).collect();
        assert_eq!(kept, [(0, "refused".to_owned()), (299, "refused".to_owned()), (300, "503".to_owned())]);
    }

    #[test]
    fn twenty_are_kept() {
        let mut history = ProbeHistory::default();
        for at in 0..50 {
            history.add(attempt(at, "200"), false);
        }
        assert_eq!(history.list().len(), 20);
        assert_eq!(history.list()[19].at.as_millis(), 49);
    }
}
