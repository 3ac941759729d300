//! An [`Explanation`] as lines for people: what one line says already is not repeated by the next.

use super::why::Explanation;

impl Explanation {
    /// The explanation as lines for people, who are shown times in their own way.
    #[must_use]
    pub fn lines(&self, time: impl Fn(&str) -> String) -> Vec<String> {
        let mut copies: Vec<&Self> = std::iter::once(self).chain(&self.copies).collect();
        copies.sort_by_key(|copy| copy.replica);
        copies.into_iter().flat_map(|copy| copy.lines_of_copy(&time)).collect()
    }

    fn lines_of_copy(&self, time: impl Fn(&str) -> String) -> Vec<String> {
        // The answer has a line of its own.
        let answer = self.last_answer.as_deref().unwrap_or_default();
        let mut lines = vec![self.summary.replace(&format!(" (last answer: {answer})"), "")];
        for cause in &self.causes {
            let is_said = |line: &String| line.contains(&cause.text);
            if !lines.iter().any(is_said) {
                lines.push(format!("  because {}", cause.text));
            }
        }
        if !answer.is_empty() && !lines.iter().any(|line| line.contains(answer)) {
            lines.push(format!("  last probe answer: {answer}"));
        }
        let mut history = self.history.as_slice();
        // The end that the summary is about is not an earlier one.
        if let Some((last, earlier)) = history.split_last()
            && self.summary.ends_with(&format!(": {}", last.reason))
        {
            history = earlier;
        }
        if !history.is_empty() {
            lines.push("  earlier:".to_owned());
            lines.extend(history.iter().map(|record| format!("    {}  {}", time(&record.ts), record.reason)));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::why::{Cause, RestartRecord};
    use super::*;
    use crate::{Health, State};

    #[test]
    fn nothing_is_said_twice() {
        let record = |ts: &str, reason: &str| RestartRecord { ts: ts.to_owned(), reason: reason.to_owned() };
        let failed = Explanation {
            name: "web".to_owned(),
            service: "web".to_owned(),
            replica: 1,
            state: State::Failed,
            health: Health::None,
            summary: "web failed: exit 3".to_owned(),
            causes: Vec::new(),
            last_answer: None,
            exit_code: Some(3),
            signal: None,
            restarts: 0,
            history: vec![record("T1", "exit 2"), record("T2", "exit 3")],
            help: None,
            copies: Vec::new(),
        };
        assert_eq!(failed.lines(str::to_owned), ["web failed: exit 3", "  earlier:", "    T1  exit 2"]);
        let blocked = Explanation {
            summary: "web cannot start: db failed: exit 3".to_owned(),
            causes: vec![Cause { service: "db".to_owned(), state: State::Failed, text: "db failed: exit 3".to_owned() }],
            history: Vec::new(),
            ..failed.clone()
        };
        assert_eq!(blocked.lines(str::to_owned), ["web cannot start: db failed: exit 3"]);
        let unhealthy = Explanation {
            summary: "web is running and unhealthy: its probe fails (last answer: 503)".to_owned(),
            last_answer: Some("503".to_owned()),
            history: Vec::new(),
            ..failed
        };
        assert_eq!(unhealthy.lines(str::to_owned), ["web is running and unhealthy: its probe fails", "  last probe answer: 503"]);
    }
}
