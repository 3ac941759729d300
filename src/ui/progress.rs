//! A start or a stop as it goes: live lines on a terminal, a line per change elsewhere.
//!
//! What takes no time is not shown: whether a fetch, an initialisation or a stop deserves a line is known only once it has lasted
//! for a moment. So the loops that feed a view wake it as well ([`ProgressView::due`], [`ProgressView::tick`]), and what runs
//! for long is mentioned again every ten seconds where there are no live lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use devrun_keeper::terminal::UnechoedControlKeys;
use devrun_logs::visible_text::shortened;
use devrun_logs::{LogQuery, last_texts};
use devrun_model::duration::human;
use devrun_model::feed::{BUILDING, FeedItem, Status, WAITING_TO_BUILD};
use devrun_model::not_ready_help::said_elsewhere;
use devrun_model::{Health, Kind, Plan, ServiceId, State, StateChange};
use jiff::Timestamp;

use super::live_lines;
use super::start_times::StartTimes;
use super::term::{Progress, Term, data, paint, safe, say};

/// How long a preparation or a task's stop lasts before it is worth a line.
const WORTH_A_LINE: Duration = Duration::from_millis(500);
/// What is done in the place of a download, where a server has no binary for this machine.
const FROM_SOURCE: &str = "building from source";
/// How the reason of a wait begins.
const WAITING_FOR: &str = "waiting for ";
/// How often what runs for long is mentioned again.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Shows changes.
pub struct ProgressView {
    term: Term,
    lines: BTreeMap<String, ProgressLine>,
    width: usize,
    tasks: BTreeSet<String>,
    times: StartTimes,
    /// When the process of each began, also of what was up before, and after [`ProgressView::clear`].
    began: BTreeMap<String, Instant>,
    /// The directory of the logs, where nobody else shows them.
    logs: Option<PathBuf>,
    /// When this view was made: what it finds under way counts from then.
    made: Timestamp,
    /// While live lines are on the screen.
    unechoed: Option<UnechoedControlKeys>,
}

struct ProgressLine {
    is_live: bool,
    /// When it entered this state.
    since: Instant,
    state: State,
    health: Health,
    /// A line that is shown once its state has lasted for a moment.
    pending: Option<String>,
    /// When it is mentioned again.
    beat: Instant,
    /// What it waits for, while it waits.
    waiting: Option<String>,
    /// When it entered this state, by the clock of the logs (microseconds since 1970): earlier lines are about something else.
    log_since: i64,
    /// What is said to be done in this state, where the state alone does not tell: its build.
    activity: Option<&'static str>,
}

impl ProgressLine {
    /// Whether something is being done that may take long.
    fn is_busy(&self, is_task: bool) -> bool {
        matches!(self.state, State::Fetching | State::Initialising | State::Starting) || self.state == State::Running && is_task
    }
}

impl ProgressView {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(term: Term) -> Self {
        Self {
            term,
            lines: BTreeMap::new(),
            width: 0,
            tasks: BTreeSet::new(),
            times: StartTimes::default(),
            began: BTreeMap::new(),
            logs: None,
            made: Timestamp::now(),
            unechoed: None,
        }
    }

    /// Names the tasks of a plan, of which a change of state does not tell that they are tasks.
    #[must_use]
    pub fn with_plan(mut self, plan: &Plan) -> Self {
        let tasks = plan.services.values().filter(|spec| spec.kind == Kind::Task);
        self.tasks.extend(tasks.map(|spec| spec.id.to_string()));
        self
    }

    /// Where no log lines are shown: what runs for long is mentioned with its last line.
    #[must_use]
    pub fn with_logs(mut self, logs: PathBuf) -> Self {
        self.logs = Some(logs);
        self
    }

    /// When each service that was started while this view watched began, and when it was ready.
    #[must_use]
    pub fn times(&self) -> &StartTimes {
        &self.times
    }

    /// The state to begin with. `fresh`: the supervisor was started for this very start, so that what it has done counts.
    pub fn status(&mut self, status: &Status, fresh: bool) {
        if fresh {
            self.times.begun_before(&status.snapshot);
        }
        let tasks = status.snapshot.services.iter().filter(|service| service.kind == Kind::Task);
        self.tasks.extend(tasks.map(|service| service.name.clone()));
        self.width = status.snapshot.services.iter().map(|service| service.name.len()).max().unwrap_or(0).min(30);
        for service in &status.snapshot.services {
            let waiting = status.waiting.iter().find(|(id, _)| id.as_str() == service.name).map(|(_, on)| on);
            let reason = waiting
                .filter(|on| !on.is_empty())
                .map(|on| format!("waiting for {}", on.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")))
                .or_else(|| service.reason.clone());
            if let Some(ms) = service.uptime_ms
                && let Some(began) = Instant::now().checked_sub(Duration::from_millis(ms))
            {
                self.began.insert(service.name.clone(), began);
            }
            self.change(&service.name, (service.state, service.health), reason.as_deref(), false, None);
        }
    }

    /// Something new.
    pub fn item(&mut self, item: &FeedItem) {
        match item {
            FeedItem::Notice(notice) => self.notice(notice),
            FeedItem::Said { id, text } if self.building(id.as_str(), text) => {}
            FeedItem::Said { id, text } => match self.term.progress {
                Progress::Quiet => {}
                Progress::Json => drop(data(serde_json::json!({"service": id, "said": text}))),
                // On a terminal the live line of a service that is stopping shows what it is waited for.
                Progress::Tty if self.stopping(id.as_str(), text) || self.starting_elsewhere(id.as_str(), text) => {}
                _ => self.print(&format!("{:width$}  {}", id.as_str(), safe(text), width = self.width)),
            },
            FeedItem::Stopped(report) if report.killed && self.term.progress != Progress::Json => {
                self.print(&format!("{:width$}  had to be killed", report.id.as_str(), width = self.width));
            }
            FeedItem::Accepted { .. } | FeedItem::Settled { .. } | FeedItem::Stopped(_) | FeedItem::Finished(_) => {}
        }
    }

    fn stopping(&self, name: &str, text: &str) -> bool {
        let is_stopping =
            |line: &&ProgressLine| line.is_live && line.state == State::Stopping && text.starts_with("waiting for ");
        let Some(line) = self.lines.get(name).filter(is_stopping) else { return false };
        live_lines::set(name, self.live_text(name, "33", &format!("stopping: {text}")), Some(line.since));
        true
    }

    /// Takes what is said of the port that a service listens on into its line, until it is ready.
    fn starting_elsewhere(&self, name: &str, text: &str) -> bool {
        let is_starting = |line: &&ProgressLine| line.is_live && line.state == State::Starting && said_elsewhere(text).is_some();
        let Some(line) = self.lines.get(name).filter(is_starting) else { return false };
        live_lines::set(name, self.live_text(name, "33", &format!("starting: {text}")), Some(line.since));
        true
    }

    /// Takes what is said of a build into the line of its service.
    fn building(&mut self, name: &str, text: &str) -> bool {
        let known = [BUILDING, WAITING_TO_BUILD].into_iter().find(|known| *known == text);
        let Some(line) = self.lines.get_mut(name) else { return false };
        if line.state == State::Fetching && text.starts_with("downloading ") {
            line.activity = None;
        }
        let Some(activity) = known else { return false };
        let activity = match line.state {
            State::Initialising => activity,
            State::Fetching => FROM_SOURCE,
            _ => return false,
        };
        if !matches!(self.term.progress, Progress::Tty | Progress::Plain) {
            return false;
        }
        line.activity = Some(activity);
        let shown = format!("{name:width$}  {activity}", width = self.width);
        // A build that is over at once is not worth a line, as everything that prepares a service.
        line.pending = (self.term.progress == Progress::Plain).then_some(shown);
        if line.is_live {
            let since = line.since;
            live_lines::set(name, self.live_text(name, "33", activity), Some(since));
        }
        true
    }

    fn live_text(&self, name: &str, code: &str, text: &str) -> String {
        format!("{name:width$}  {}", paint(self.term.err_color, code, safe(text)), width = self.width)
    }

    fn notice(&mut self, notice: &StateChange) {
        let name = notice.copy_name();
        if self.term.progress == Progress::Json {
            if let Ok(line) = serde_json::to_string(notice) {
                drop(data(line));
            }
            self.times.change(&name, notice.to, notice.health, self.tasks.contains(&name), Instant::now());
            return;
        }
        let own_exit = notice.own_exit();
        let has_exited = notice.exit_code.is_some() || own_exit.is_some();
        let reason = own_exit.as_deref().or(notice.reason.as_deref());
        // As the supervisor wrote it down: lines that came before we heard of it count.
        let at = notice.ts.parse().unwrap_or_else(|_| Timestamp::now());
        self.change(&name, (notice.to, notice.health), reason, has_exited, Some(at));
    }

    /// `at`: when it changed; absent for what was so before we looked.
    fn change(
        &mut self,
        name: &str,
        (state, health): (State, Health),
        reason: Option<&str>,
        has_exited: bool,
        at: Option<Timestamp>,
    ) {
        let (now, first) = (Instant::now(), at.is_none());
        let log_since = at.unwrap_or(self.made).as_microsecond();
        let is_task = self.tasks.contains(name);
        if !first {
            self.times.change(name, state, health, is_task, now);
        }
        let beat = now + HEARTBEAT;
        let line = self.lines.entry(name.to_owned()).or_insert_with(|| ProgressLine {
            is_live: false,
            since: now,
            state: State::Stopped,
            health: Health::None,
            pending: None,
            beat,
            waiting: None,
            log_since,
            activity: None,
        });
        let same = line.state == state && line.health == health;
        // One without a probe runs at once.
        let is_unknown = !self.began.contains_key(name);
        let begins = state == State::Starting && line.state != State::Starting
            || state == State::Running && (is_unknown || is_task && line.state != State::Running);
        if begins && !first {
            self.began.insert(name.to_owned(), now);
        }
        if line.state != state {
            (line.since, line.beat, line.log_since, line.activity) = (now, beat, log_since, None);
        }
        line.state = state;
        line.health = health;
        line.waiting = reason.filter(|_| state == State::Waiting).map(str::to_owned);
        let took = self.began.get(name).map(|began| now.duration_since(*began));
        if !state.is_live() {
            self.began.remove(name);
        }
        let text = describe(state, health, took, reason);
        match self.term.progress {
            Progress::Tty => {
                line.is_live = true;
                let timed = matches!(state, State::Fetching | State::Initialising | State::Starting | State::Stopping)
                    || state == State::BackingOff
                    || state == State::Running && is_task;
                let code = match (state, health) {
                    (State::Stopping, _) => "33",
                    (State::Failed | State::Blocked, _) | (_, Health::Unhealthy) => "31",
                    (State::Running, _) if is_task => "33",
                    (State::Running | State::Completed, _) => "32",
                    (State::Skipped | State::Stopped | State::Waiting | State::Asleep, _) => "2",
                    _ => "33",
                };
                if self.unechoed.is_none() {
                    self.unechoed = UnechoedControlKeys::start();
                }
                live_lines::set(name, self.live_text(name, code, &text), timed.then_some(now));
            }
            // What was so before we looked is no change.
            Progress::Plain if !first && !same => {
                let text = format!("{name:width$}  {}", safe(&text), width = self.width);
                // Every service passes through these, most without anything to fetch, to initialise or to wait for.
                let ends_itself = state == State::Stopping && (is_task || has_exited);
                let brief = ends_itself || matches!(state, State::Fetching | State::Initialising);
                if brief {
                    line.pending = Some(text);
                } else {
                    line.pending = None;
                    say(text);
                }
            }
            Progress::Plain | Progress::Json | Progress::Quiet => {}
        }
    }

    /// Waits until [`ProgressView::tick`] has something to show: for ever where only a change can bring it.
    pub async fn due(&self) {
        match self.due_at() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    fn due_at(&self) -> Option<Instant> {
        if self.term.progress != Progress::Plain {
            return None;
        }
        let is_idle = self.is_idle();
        let due = |(name, line): (&String, &ProgressLine)| match &line.pending {
            Some(_) => Some(line.since + WORTH_A_LINE),
            None => (line.is_busy(self.tasks.contains(name)) || is_idle && line.waiting.is_some()).then_some(line.beat),
        };
        self.lines.iter().filter_map(due).min()
    }

    /// Whether nothing is being done that explains why others wait.
    fn is_idle(&self) -> bool {
        !self.lines.iter().any(|(name, line)| line.is_busy(self.tasks.contains(name)))
    }

    /// Shows what has lasted long enough.
    pub fn tick(&mut self) {
        if self.term.progress != Progress::Plain {
            return;
        }
        let (now, is_idle) = (Instant::now(), self.is_idle());
        let unmet = if is_idle { self.unmet() } else { BTreeMap::new() };
        for (name, line) in &mut self.lines {
            if line.waiting.is_some() && is_idle && now >= line.beat {
                let waited = now.duration_since(line.since);
                // Ever more seldom: it may be so for hours.
                line.beat = now + waited.max(HEARTBEAT);
                let took = human(waited);
                // Where all of it holds, it is about to start.
                if let Some(waiting) = unmet.get(name) {
                    say(format!(
                        "{name:width$}  {} for {took}; to see why: devrun why {name}",
                        safe(waiting),
                        width = self.width
                    ));
                }
            }
            if line.pending.is_some() && now >= line.since + WORTH_A_LINE {
                line.pending.take().into_iter().for_each(say);
            }
            if line.is_busy(self.tasks.contains(name)) && now >= line.beat {
                line.beat = now + HEARTBEAT;
                let last = self.logs.as_deref().and_then(|logs| last_line(logs, name, line.log_since)).unwrap_or_default();
                let took = human(now.duration_since(line.since));
                let activity = line.activity.unwrap_or(line.state.as_str());
                say(format!("{name:width$}  {activity} for {took}{last}", width = self.width));
            }
        }
    }

    /// What each waiting service still waits for: its reason was written down when its wait began.
    fn unmet(&self) -> BTreeMap<String, String> {
        let holds = |text: &str| {
            let (name, condition) = text.split_once(" (").unwrap_or((text, ""));
            let other = self.lines.get(name);
            other.is_some_and(|other| match (other.state, condition) {
                (State::Running, "healthy)") => !matches!(other.health, Health::Starting | Health::Unhealthy),
                (State::Running, "completed)") => false,
                (State::Running | State::Completed | State::Asleep, _) | (State::Starting, "started)") => true,
                _ => false,
            })
        };
        let unmet = |reason: &str| match reason.strip_prefix(WAITING_FOR) {
            None => Some(reason.to_owned()),
            Some(all) => {
                let left: Vec<&str> = all.split(", ").filter(|text| !holds(text)).collect();
                (!left.is_empty()).then(|| format!("{WAITING_FOR}{}", left.join(", ")))
            }
        };
        self.lines.iter().filter_map(|(name, line)| Some((name.clone(), unmet(line.waiting.as_deref()?)?))).collect()
    }

    /// A line above the live ones.
    pub fn print(&self, text: &str) {
        if self.term.progress != Progress::Quiet {
            say(text);
        }
    }

    /// A line about a key that was just pressed, such as Ctrl-C: below its echo, which there is where no lines are live.
    pub fn answer_key(&self, text: &str) {
        if self.term.progress == Progress::Tty && self.unechoed.is_none() {
            say("");
        }
        self.print(text);
    }

    /// Whether live lines are on the screen.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.term.progress == Progress::Tty && !self.lines.is_empty()
    }

    /// Writes to stdout while the live lines step aside.
    pub fn beside<R>(&self, write: impl FnOnce() -> R) -> R {
        if self.is_live() { live_lines::above(write) } else { write() }
    }

    /// Takes the live lines away.
    pub fn clear(&mut self) {
        for (name, line) in std::mem::take(&mut self.lines) {
            if line.is_live {
                live_lines::remove(&name);
            }
        }
        self.unechoed = None;
    }
}

/// What a service wrote last since it is in its state, for the line that says that it still runs.
fn last_line(logs: &std::path::Path, name: &str, since: i64) -> Option<String> {
    let query = LogQuery { since: Some(since), ..LogQuery::default() };
    let text = last_texts(logs, &ServiceId::parse(name).ok()?, &query, 1).ok()?.pop()?;
    Some(format!(": {}", shortened(safe(&text).trim(), 120)))
}

fn describe(state: State, health: Health, took: Option<Duration>, reason: Option<&str>) -> String {
    let reason = reason.filter(|reason| !reason.is_empty());
    match (state, reason) {
        // These say it all.
        (State::Waiting, Some(reason)) if reason.starts_with("waiting for ") => return reason.to_owned(),
        (State::Completed, Some(reason)) if reason.starts_with("already done") => return reason.to_owned(),
        (State::Stopping, Some(reason)) if reason.starts_with("exited with ") || reason.starts_with("killed by ") => {
            return reason.to_owned();
        }
        _ => {}
    }
    let head = match (state, health) {
        (State::Completed, _) => match took {
            Some(took) => format!("completed after {}", human(took)),
            None => "completed".to_owned(),
        },
        (State::Running, Health::Healthy) => match took {
            Some(took) => format!("healthy after {}", human(took)),
            None => "healthy".to_owned(),
        },
        (State::Running, Health::Unhealthy) => "unhealthy".to_owned(),
        (state, _) => state.to_string(),
    };
    match reason {
        Some(reason) => format!("{head}: {reason}"),
        None => head,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_said_twice() {
        let waiting = |reason| describe(State::Waiting, Health::None, None, Some(reason));
        assert_eq!(waiting("waiting for db (healthy)"), "waiting for db (healthy)");
        let took = Some(Duration::from_secs(38));
        assert_eq!(describe(State::Completed, Health::None, took, None), "completed after 38s");
        let done = "already done (2026-11-28 03:56:54)";
        assert_eq!(describe(State::Completed, Health::None, took, Some(done)), done);
        assert_eq!(describe(State::Failed, Health::None, took, Some("exit 1")), "failed: exit 1");
        let crashed = "exited with 9; restarts in 0.3s";
        assert_eq!(describe(State::Stopping, Health::None, took, Some(crashed)), crashed);
    }

    #[test]
    fn only_what_does_not_hold_yet_is_waited_for() {
        let mut view =
            ProgressView::new(Term { out_color: false, err_color: false, progress: Progress::Quiet, interactive: false });
        let mut change = |name: &str, state, health, reason| {
            view.change(name, (state, health), reason, false, Some(Timestamp::now()));
            view.unmet().remove("api")
        };
        let waits = Some("waiting for db (healthy), cache (healthy), venv (completed)");
        let first = change("api", State::Waiting, Health::None, waits);
        assert_eq!(first.as_deref(), waits);
        change("db", State::Running, Health::Healthy, None);
        change("venv", State::Running, Health::None, None);
        let left = change("cache", State::Running, Health::Starting, None);
        assert_eq!(left.as_deref(), Some("waiting for cache (healthy), venv (completed)"));
        change("cache", State::Running, Health::None, None);
        assert_eq!(change("venv", State::Completed, Health::None, None), None);
        assert_eq!(change("api", State::Waiting, Health::None, Some("to be built")).as_deref(), Some("to be built"));
    }

    #[test]
    fn a_fetch_that_builds_is_called_so() {
        let mut view =
            ProgressView::new(Term { out_color: false, err_color: false, progress: Progress::Plain, interactive: false });
        view.change("mongo", (State::Fetching, Health::None), None, false, Some(Timestamp::now()));
        assert!(view.building("mongo", BUILDING));
        assert_eq!(view.lines["mongo"].activity, Some(FROM_SOURCE));
        assert!(!view.building("mongo", "downloading mongodb"));
        assert_eq!(view.lines["mongo"].activity, None);
        view.change("mongo", (State::Initialising, Health::None), None, false, Some(Timestamp::now()));
        assert!(view.building("mongo", BUILDING));
        assert_eq!(view.lines["mongo"].activity, Some(BUILDING));
    }

    /// A stack in which nothing happens does not wake its `up`, and a terminal has its own timers.
    #[test]
    fn only_what_is_awaited_in_plain_lines_is_looked_at_again() {
        let view = |progress, state| {
            let mut view = ProgressView::new(Term { out_color: false, err_color: false, progress, interactive: false });
            view.change("web", (state, Health::None), None, false, None);
            view
        };
        let begun = Instant::now();
        let due = view(Progress::Plain, State::Starting).due_at();
        assert!(due.is_some_and(|at| at >= begun + HEARTBEAT), "{due:?}");
        for (progress, state) in [
            (Progress::Plain, State::Running),
            (Progress::Tty, State::Running),
            (Progress::Tty, State::Starting),
            (Progress::Json, State::Starting),
        ] {
            assert_eq!(view(progress, state).due_at(), None, "{progress:?} {state}");
        }
        // What waits is mentioned where nothing that is being done explains it.
        let mut view = view(Progress::Plain, State::Running);
        view.change("api", (State::Waiting, Health::None), Some("waiting for web (healthy)"), false, Some(Timestamp::now()));
        let waits = |view: &ProgressView| view.due_at().is_some_and(|at| at >= begun + HEARTBEAT);
        assert!(waits(&view));
        view.lines.get_mut("api").unwrap().beat = begun;
        view.tick();
        assert!(waits(&view), "it is mentioned again");
        view.lines.get_mut("api").unwrap().beat = begun;
        view.change("db", (State::Starting, Health::None), None, false, Some(Timestamp::now()));
        assert!(waits(&view), "db is waited for, and mentioned itself");
    }
}
