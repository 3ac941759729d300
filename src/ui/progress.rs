//! A start or a stop as it goes: live lines on a terminal, a line per change elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use devrun_model::duration::human;
use devrun_model::feed::{FeedItem, Status};
use devrun_model::{Health, State, StateChange};

use super::escape::escaped;
use super::term::{Progress, Term, data, paint, safe, say};

/// Shows changes.
pub struct ProgressView {
    term: Term,
    bars: Option<MultiProgress>,
    lines: BTreeMap<String, Line>,
    width: usize,
}

struct Line {
    bar: Option<ProgressBar>,
    since: Instant,
    began: Option<Instant>,
    state: State,
    health: Health,
}

impl ProgressView {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(term: Term) -> Self {
        let bars = (term.progress == Progress::Tty).then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { term, bars, lines: BTreeMap::new(), width: 0 }
    }

    /// The state to begin with.
    pub fn status(&mut self, status: &Status) {
        self.width = status.snapshot.services.iter().map(|service| service.name.len()).max().unwrap_or(0).min(30);
        for service in &status.snapshot.services {
            let waiting = status.waiting.iter().find(|(id, _)| id.as_str() == service.name).map(|(_, on)| on);
            let reason = waiting
                .filter(|on| !on.is_empty())
                .map(|on| format!("for {}", on.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")))
                .or_else(|| service.reason.clone());
            self.change(&service.name, service.state, service.health, reason.as_deref(), true);
        }
    }

    /// Something new.
    pub fn item(&mut self, item: &FeedItem) {
        match item {
            FeedItem::Notice(notice) => self.notice(notice),
            FeedItem::Said { id, text } => match self.term.progress {
                Progress::Quiet => {}
                Progress::Json => drop(data(serde_json::json!({"service": id, "said": text}))),
                // On a terminal the live line of a service that is stopping shows what it is waited for.
                Progress::Tty if self.stopping(id.as_str(), text) => {}
                _ => self.print(&format!("{:width$}  {}", id.as_str(), safe(text), width = self.width)),
            },
            FeedItem::Stopped(report) if report.killed && self.term.progress != Progress::Json => {
                self.print(&format!("{:width$}  had to be killed", report.id.as_str(), width = self.width));
            }
            FeedItem::Accepted { .. } | FeedItem::Settled { .. } | FeedItem::Stopped(_) | FeedItem::Finished(_) => {}
        }
    }

    fn stopping(&self, name: &str, text: &str) -> bool {
        match self.lines.get(name).filter(|line| line.state == State::Stopping && text.starts_with("waiting for ")) {
            Some(Line { bar: Some(bar), .. }) => {
                bar.set_message(paint(self.term.err_color, "33", safe(&format!("stopping: {text}"))));
                true
            }
            _ => false,
        }
    }

    fn notice(&mut self, notice: &StateChange) {
        if self.term.progress == Progress::Json {
            if let Ok(line) = serde_json::to_string(notice) {
                drop(data(line));
            }
            return;
        }
        let name = if self.lines.contains_key(&notice.service) || notice.replica <= 1 {
            let numbered = format!("{}.{}", notice.service, notice.replica);
            if self.lines.contains_key(&numbered) { numbered } else { notice.service.clone() }
        } else {
            format!("{}.{}", notice.service, notice.replica)
        };
        self.change(&name, notice.to, notice.health, notice.reason.as_deref(), false);
    }

    fn change(&mut self, name: &str, state: State, health: Health, reason: Option<&str>, first: bool) {
        let now = Instant::now();
        let line =
            self.lines.entry(name.to_owned()).or_insert_with(|| Line { bar: None, since: now, began: None, state, health });
        let same = line.state == state && line.health == health && !first;
        line.since = now;
        line.state = state;
        line.health = health;
        if state == State::Starting || line.began.is_none() && state.is_live() {
            line.began = Some(now);
        }
        let took = line.began.map(|began| now.duration_since(began));
        let text = describe(state, health, took, reason);
        match &self.bars {
            Some(bars) => {
                let bar = line.bar.get_or_insert_with(|| {
                    let bar = bars.add(ProgressBar::new_spinner());
                    bar.set_prefix(format!("{name:width$}", width = self.width));
                    bar
                });
                let done = matches!(
                    state,
                    State::Running | State::Completed | State::Stopped | State::Failed | State::Blocked | State::Skipped
                );
                let color = self.term.err_color;
                let code = match (state, health) {
                    (State::Failed | State::Blocked, _) | (_, Health::Unhealthy) => "31",
                    (State::Running | State::Completed, _) => "32",
                    (State::Skipped | State::Stopped | State::Waiting, _) => "2",
                    _ => "33",
                };
                let template = if done { "{prefix}  {msg}" } else { "{prefix}  {msg} {elapsed:.dim}" };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                bar.reset_elapsed();
                bar.set_message(paint(color, code, safe(&text)));
                if done { bar.disable_steady_tick() } else { bar.enable_steady_tick(Duration::from_millis(200)) }
            }
            // What was so before we looked is no change.
            None if self.term.progress == Progress::Plain && !first && !same => {
                say(format!("{name:width$}  {}", safe(&text), width = self.width));
            }
            None => {}
        }
    }

    /// A line above the live ones.
    pub fn print(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(escaped(text))),
            None if self.term.progress == Progress::Quiet => {}
            None => say(text),
        }
    }

    /// Whether live lines are on the screen.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.bars.is_some() && !self.lines.is_empty()
    }

    /// Writes to stdout while the live lines step aside.
    pub fn beside<R>(&self, write: impl FnOnce() -> R) -> R {
        match &self.bars {
            Some(bars) if !self.lines.is_empty() => {
                // Not `suspend`: that one panics, and then aborts, when the terminal is gone.
                let _gone = bars.clear();
                let written = write();
                if let Some(bar) = self.lines.values().find_map(|line| line.bar.as_ref()) {
                    bar.tick();
                }
                written
            }
            _ => write(),
        }
    }

    /// Takes the live lines away.
    pub fn clear(&mut self) {
        for line in self.lines.values_mut() {
            if let Some(bar) = line.bar.take() {
                bar.finish_and_clear();
            }
        }
        self.lines.clear();
        if let Some(bars) = &self.bars {
            // A terminal that is gone has nothing to clear.
            let _gone = bars.clear();
        }
    }
}

fn describe(state: State, health: Health, took: Option<Duration>, reason: Option<&str>) -> String {
    let head = match (state, health) {
        (State::Running, Health::Healthy) => match took {
            Some(took) => format!("healthy after {}", human(took)),
            None => "healthy".to_owned(),
        },
        (State::Running, Health::Unhealthy) => "unhealthy".to_owned(),
        (state, _) => state.to_string(),
    };
    match reason.filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{head}: {reason}"),
        None => head,
    }
}
