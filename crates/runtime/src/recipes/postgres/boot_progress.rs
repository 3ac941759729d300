//! How far a first boot is: how long its steps took, and what it tells the user meanwhile.

use std::time::{Duration, Instant};

use super::super::context::RecipeContext;
use devrun_keeper::OutputStream;

/// How long each step took.
pub(super) struct StepTimes {
    last: Instant,
    pub(super) taken: Vec<(&'static str, Duration)>,
}

impl StepTimes {
    pub(super) fn new() -> Self {
        Self { last: Instant::now(), taken: Vec::new() }
    }
    pub(super) fn done(&mut self, step: &'static str) {
        let now = Instant::now();
        self.taken.push((step, now - self.last));
        self.last = now;
    }
}

/// A line of our own in the service's output.
pub(super) fn say(context: &RecipeContext<'_>, text: &str) {
    if let Some(sink) = &context.runner.sink {
        sink.write(OutputStream::Stderr, format!("devrun: first boot: {text}\n").as_bytes());
    }
}
