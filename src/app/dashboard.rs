//! What moves the terminal dashboard: the feed of the supervisor, notices of the log files, keys, and the terminal itself.
//!
//! It waits for these and for nothing else, so while nothing changes nothing wakes it: no clock is shown, and CPU and memory
//! are looked at when something is drawn anyway. Text that other code would print has no place on this screen and is dropped.

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use crossterm::clipboard::CopyToClipboard;
use crossterm::event::{Event, KeyEventKind};
use crossterm::execute;
use futures_util::StreamExt;
use regex::bytes::Regex;
use tokio::signal::unix::SignalKind;

use crate::ui::dashboard::layout::log_rows;
use crate::ui::dashboard::state::event_line;
use crate::ui::dashboard::{Dashboard, DashboardRequest, LogRow, Pane, Prompt, ServiceUsage, draw, handle_key, handle_mouse};
use crate::ui::local_time::local_time;
use crate::ui::summary;
use devrun_logs::growth::LogGrowth;
use devrun_logs::scroll::{LogCursor, LogPositions, LogWindow, PlacedLine, ScrollStart};
use devrun_logs::{LogStream, visible_text};
use devrun_model::pattern_error::pattern_error;
use devrun_model::{Failure, ServiceId, exit};
use devrun_runtime::stats::{self, UsageSample};

use crate::app::dashboard_screen::{HangupGuard, Screen, failed, has_gone, keys, mouse_capture};
use crate::app::observer::Observer;
use crate::app::session::{Session, Signals};
use crate::app::stack_changes::{GATHER, PACE};
use crate::app::{log_selection, signals, viewer_command};

/// CPU and memory are looked at so often at most.
const SAMPLE: Duration = Duration::from_secs(2);
/// Lines that are read one after the other before the window is made again at the end.
const CATCH_UP: usize = 5000;
/// State changes that are listed at most.
const EVENTS: usize = 2000;

/// What has happened.
enum Happened {
    Key(Option<std::io::Result<Event>>),
    Feed(Result<Option<()>, Failure>),
    Logs,
    Due,
    Signal(i32),
    Suspended,
}

struct Owner {
    observer: Observer,
    board: Dashboard,
    ids: Vec<ServiceId>,
    window: LogWindow,
    /// Where the last search has found something.
    match_at: Option<LogPositions>,
    samples: BTreeMap<String, UsageSample>,
    sampled: Option<Instant>,
    session: Option<Session>,
}

/// Shows the dashboard until it is left, or its terminal has gone.
///
/// # Errors
/// `Config` when there is no terminal, `Elsewhere` when the supervisor cannot be reached.
pub async fn run(observer: Observer, color: bool) -> Result<i32, Failure> {
    let _until_it_is_left = HangupGuard::start();
    match show(observer, color).await {
        // Whatever of it failed first.
        Err(_) if has_gone() => Ok(exit::HUP),
        ended => ended,
    }
}

async fn show(observer: Observer, color: bool) -> Result<i32, Failure> {
    let status = observer.status().await?;
    let mut ending = Signals::take()?;
    let mut stops = signals::receive(SignalKind::from_raw(libc::SIGTSTP))?;
    let folder = observer.project().places.logs();
    let mut growth = LogGrowth::new(&folder);
    let window = LogWindow::new(&folder, &[], &ScrollStart::Newest, None);
    let board = Dashboard::new(status, color);
    let mut owner = Owner {
        observer,
        board,
        ids: Vec::new(),
        window,
        match_at: None,
        samples: BTreeMap::new(),
        sampled: None,
        session: None,
    };
    owner.connect().await?;
    let mut screen = Screen::take(true)?;
    let mut pressed = keys()?;
    owner.resize();
    owner.open(&ScrollStart::Newest);
    let (mut due, mut new_state, mut new_logs) = (Some(Instant::now()), false, false);
    let mut drawn = Instant::now();
    loop {
        let happened = tokio::select! {
            biased;
            code = ending.next() => Happened::Signal(code),
            Some(()) = stops.recv() => Happened::Suspended,
            key = pressed.next() => Happened::Key(key),
            () = wait(due) => Happened::Due,
            item = next_item(&mut owner.session) => Happened::Feed(item),
            // While something waits to be drawn, notices are left to gather.
            () = growth.changed(), if due.is_none() => Happened::Logs,
        };
        let request = match happened {
            Happened::Signal(code) => return Ok(code),
            // The terminal is gone.
            Happened::Key(None | Some(Err(_))) => return Ok(exit::HUP),
            Happened::Key(Some(Ok(event))) => {
                due = Some(Instant::now());
                owner.event(event)
            }
            Happened::Suspended => {
                due = Some(Instant::now());
                Some(DashboardRequest::Suspend)
            }
            Happened::Feed(found) => {
                if !matches!(found, Ok(Some(()))) {
                    owner.session = None;
                }
                new_state = true;
                due.get_or_insert_with(|| Instant::now() + GATHER);
                None
            }
            Happened::Logs => {
                new_logs = true;
                due = Some((Instant::now() + GATHER).max(drawn + PACE));
                None
            }
            Happened::Due => {
                due = None;
                if owner.session.is_none() && new_logs {
                    // The log of events grows with a new supervisor too.
                    new_state |= owner.connect().await?;
                }
                if std::mem::take(&mut new_state) {
                    owner.refresh_state().await;
                }
                if std::mem::take(&mut new_logs) {
                    growth.arm();
                    owner.refresh_logs();
                }
                owner.sample();
                owner.draw(&mut screen)?;
                drawn = Instant::now();
                None
            }
        };
        match request {
            None => {}
            Some(DashboardRequest::Quit) => return Ok(exit::DONE),
            Some(DashboardRequest::Suspend) if !signals::can_be_resumed() => {
                owner.board.message = Some("no shell could bring this back; Ctrl-Z does nothing".to_owned());
            }
            Some(request @ (DashboardRequest::Attach | DashboardRequest::Suspend)) => {
                drop(pressed);
                drop(screen);
                if request == DashboardRequest::Attach {
                    owner.attach();
                } else {
                    signals::hold();
                    // The supervisor does not wait for a viewer that does not read.
                    owner.session = None;
                    owner.connect().await?;
                    new_logs = true;
                }
                screen = Screen::take(owner.board.mouse)?;
                pressed = keys()?;
                owner.resize();
                owner.fit();
            }
            Some(DashboardRequest::Redraw) => screen.redraw().map_err(|error| failed(&error))?,
            Some(request) => {
                if let DashboardRequest::Act(verb) = request {
                    owner.board.message = Some(format!("{verb} …"));
                    owner.draw(&mut screen)?;
                }
                owner.carry_out(request).await;
            }
        }
    }
}

async fn wait(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn next_item(session: &mut Option<Session>) -> Result<Option<()>, Failure> {
    match session {
        Some(session) => Ok(session.next().await?.map(|_| ())),
        None => std::future::pending().await,
    }
}

impl Owner {
    /// True: a supervisor was found.
    async fn connect(&mut self) -> Result<bool, Failure> {
        if self.session.is_some() {
            return Ok(false);
        }
        match Session::remote(&self.observer.project().places, Duration::ZERO).await {
            Ok(Some((session, status))) => {
                self.session = Some(session);
                self.take_status(status);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(failure) => {
                self.board.message = Some(failure.reason);
                Ok(false)
            }
        }
    }

    async fn refresh_state(&mut self) {
        match self.observer.status().await {
            Ok(status) => self.take_status(status),
            Err(failure) => self.board.message = Some(failure.reason),
        }
    }

    fn take_status(&mut self, status: devrun_model::feed::Status) {
        let before = self.board.selected;
        if let Some(outcome) = status.settled.as_ref().filter(|outcome| !outcome.failures.is_empty()) {
            self.board.report = summary::failures(outcome, None, false).lines().map(str::to_owned).collect();
        }
        self.board.update(status);
        if self.board.selected != before {
            self.reopen();
        }
    }

    fn event(&mut self, event: Event) -> Option<DashboardRequest> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => handle_key(&mut self.board, key),
            Event::Mouse(mouse) => handle_mouse(&mut self.board, mouse),
            Event::Paste(text) => {
                if let Some(Prompt { text: typed, .. }) = &mut self.board.prompt {
                    typed.extend(text.chars().filter(|char| !char.is_control()));
                }
                None
            }
            Event::Resize(..) => {
                self.resize();
                self.fit();
                None
            }
            _ => None,
        }
    }

    fn resize(&mut self) {
        if let Ok(size) = crossterm::terminal::size() {
            self.board.size = size;
        }
    }

    async fn carry_out(&mut self, request: DashboardRequest) {
        let name = self.board.selected_service().map(|service| service.name.clone());
        match request {
            DashboardRequest::ShowLog => self.reopen(),
            DashboardRequest::Scroll(by) => self.scroll(by),
            DashboardRequest::Oldest => {
                self.board.follows = false;
                self.open(&ScrollStart::Oldest);
            }
            DashboardRequest::Newest => {
                self.board.follows = true;
                self.open(&ScrollStart::Newest);
            }
            DashboardRequest::Search { older } => self.search(older).await,
            DashboardRequest::Filter => self.refilter(),
            DashboardRequest::JumpTo(text) => match moment(&text) {
                Ok(micros) => {
                    self.board.follows = false;
                    self.open(&ScrollStart::Time(micros));
                }
                Err(failure) => self.board.message = Some(failure.reason),
            },
            DashboardRequest::Why => {
                if let Some(name) = name {
                    match self.observer.explain(&name).await {
                        Ok(found) => {
                            let mut lines = found.lines(local_time);
                            lines.extend(found.help.iter().map(|help| format!("help: {help}")));
                            self.board.show_text(format!("why {name}"), lines);
                        }
                        Err(failure) => self.board.message = Some(failure.reason),
                    }
                }
            }
            DashboardRequest::Inspect => {
                if let Some(name) = name {
                    self.show_output(format!("inspect {name}"), vec!["inspect".to_owned(), name]).await;
                }
            }
            DashboardRequest::Graph => {
                self.show_output("graph".to_owned(), vec!["graph".to_owned(), "--live".to_owned()]).await;
            }
            DashboardRequest::Events => {
                let events = self.observer.events();
                let wanted = |service: &str| {
                    name.as_ref().is_none_or(|name| name == service || name.split_once('.').is_some_and(|(of, _)| of == service))
                };
                let mut lines: Vec<String> = events
                    .iter()
                    .rev()
                    .filter(|event| wanted(&event.service))
                    .take(EVENTS)
                    .map(|event| event_line(event, &local_time(&event.ts)))
                    .collect();
                lines.reverse();
                let count = lines.len();
                self.board.show_text("state changes", lines);
                let newest = count.saturating_sub(log_rows(&self.board));
                if let Pane::Text { top, .. } = &mut self.board.pane {
                    *top = newest;
                }
            }
            DashboardRequest::Act(verb) => self.act(verb, name).await,
            DashboardRequest::Copy(text) => {
                let count = text.lines().count();
                self.board.message = Some(match execute!(stdout(), CopyToClipboard::to_clipboard_from(text)) {
                    Ok(()) if count == 1 => "copied 1 line".to_owned(),
                    Ok(()) => format!("copied {count} lines"),
                    Err(error) => format!("cannot copy: {error}"),
                });
            }
            DashboardRequest::Mouse(on) => {
                if let Err(error) = mouse_capture(on) {
                    self.board.message = Some(format!("cannot change the mouse: {error}"));
                }
            }
            DashboardRequest::Quit | DashboardRequest::Attach | DashboardRequest::Redraw | DashboardRequest::Suspend => {}
        }
    }

    async fn show_output(&mut self, title: String, words: Vec<String>) {
        match viewer_command::run_aside(self.observer.globals(), words).await {
            Ok(output) if output.code == exit::DONE => {
                self.board.show_text(title, output.stdout.lines().map(str::to_owned).collect());
            }
            Ok(output) => self.board.show_text(title, output.stderr.lines().map(str::to_owned).collect()),
            Err(failure) => self.board.message = Some(failure.reason),
        }
    }

    async fn act(&mut self, verb: &'static str, name: Option<String>) {
        // With nothing running, a start is an `up`.
        let is_down = self.board.status.snapshot.supervisor_pid.is_none();
        let mut words = match verb {
            "start" if is_down => vec!["up".to_owned(), "-d".to_owned(), "--no-wait".to_owned()],
            verb => vec![verb.to_owned()],
        };
        words.extend(name.clone());
        let shown = words.join(" ");
        self.board.message = Some(match viewer_command::run_aside(self.observer.globals(), words).await {
            Ok(output) if output.code == exit::DONE => format!("{shown}: done"),
            Ok(output) => output.last_line().to_owned(),
            Err(failure) => failure.reason,
        });
        if let Err(failure) = self.connect().await {
            self.board.message = Some(failure.reason);
        }
        self.refresh_state().await;
        self.refresh_logs();
    }

    fn attach(&mut self) {
        let Some(name) = self.board.selected_service().map(|service| service.name.clone()) else { return };
        match viewer_command::run_on_terminal(self.observer.globals(), &["attach", &name]) {
            Ok(exit::DONE) => {}
            Ok(code) => self.board.message = Some(format!("attach {name}: exit {code} ({})", exit::meaning(code))),
            Err(failure) => self.board.message = Some(failure.reason),
        }
    }

    /// The log files of the selection.
    fn selection(&self) -> Vec<ServiceId> {
        let known = log_selection::known(self.observer.project());
        let Some(service) = self.board.selected_service() else { return known };
        let further = format!("{}/", service.name);
        known.into_iter().filter(|id| id.as_str() == service.name || id.as_str().starts_with(&further)).collect()
    }

    fn pattern(&mut self, text: Option<String>) -> Option<Regex> {
        match Regex::new(&text?) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.board.message = Some(format!("invalid pattern: {}", pattern_error(&error)));
                None
            }
        }
    }

    /// A window of the selection's log at this place.
    fn open(&mut self, start: &ScrollStart) {
        self.ids = self.selection();
        let filter = self.pattern(self.board.filter.clone());
        self.window = LogWindow::new(&self.observer.project().places.logs(), &self.ids, start, filter);
        self.board.found = None;
        self.fit();
    }

    /// The log of another selection, at the same time.
    fn reopen(&mut self) {
        let at = self.window.lines().next().map(|line| line.line.micros);
        match at {
            Some(micros) if !self.board.follows => self.open(&ScrollStart::Time(micros)),
            _ => self.open(&ScrollStart::Newest),
        }
    }

    fn refilter(&mut self) {
        if self.board.follows {
            self.open(&ScrollStart::Newest);
        } else {
            let top = self.window.top();
            self.open(&ScrollStart::At(top));
        }
    }

    /// As many lines as the screen has room for.
    fn fit(&mut self) {
        let height = log_rows(&self.board);
        if self.board.follows {
            while self.window.extend_down(CATCH_UP) == CATCH_UP {
                self.window.trim_top(height);
            }
            self.window.trim_top(height);
        }
        let missing = height.saturating_sub(self.window.count());
        self.window.extend_down(missing);
        let missing = height.saturating_sub(self.window.count());
        let above = self.window.extend_up(missing);
        self.board.found = self.board.found.map(|found| found + above);
        self.window.trim_bottom(height);
        self.show_rows();
    }

    fn show_rows(&mut self) {
        self.board.rows = self.window.lines().map(row).collect();
    }

    fn scroll(&mut self, by: i64) {
        let height = log_rows(&self.board);
        let count = usize::try_from(by.unsigned_abs()).unwrap_or(usize::MAX);
        self.board.found = None;
        if by < 0 {
            if self.window.extend_up(count) > 0 {
                self.board.follows = false;
            }
            self.window.trim_bottom(height);
        } else {
            let added = self.window.extend_down(count);
            self.window.trim_top(height);
            if added < count {
                self.board.follows = true;
            }
        }
        self.show_rows();
    }

    fn refresh_logs(&mut self) {
        if self.selection() != self.ids {
            let top = self.window.top();
            if self.board.follows {
                self.open(&ScrollStart::Newest);
            } else {
                self.open(&ScrollStart::At(top));
            }
            return;
        }
        if self.window.refresh() && (self.board.follows || self.window.count() < log_rows(&self.board)) {
            self.fit();
        }
    }

    async fn search(&mut self, older: bool) {
        let Some(pattern) = self.pattern(self.board.search.clone()) else { return };
        let (folder, ids) = (self.observer.project().places.logs(), self.ids.clone());
        let filter = self.pattern(self.board.filter.clone());
        let from = match (&self.match_at, self.board.found) {
            (Some(at), Some(_)) => at.clone(),
            _ => self.window.bottom(),
        };
        let skips = !older && self.board.found.is_some();
        let find = move || {
            let mut from = from;
            if skips {
                let mut cursor = LogCursor::new(&folder, &ids, &ScrollStart::At(from));
                let _found_before = cursor.newer();
                from = cursor.positions();
            }
            LogWindow::find(&folder, &ids, &from, &pattern, filter.as_ref(), older)
        };
        match tokio::task::spawn_blocking(find).await {
            Ok(Some(at)) => {
                let height = log_rows(&self.board);
                self.board.follows = false;
                self.open(&ScrollStart::At(at.clone()));
                let above = self.window.extend_up(height / 3);
                self.window.trim_bottom(height);
                // Near the end there were lines above it already.
                let before = self.window.lines().position(|line| at.get(&line.line.id) == Some(&line.start));
                self.board.found = before.or(Some(above));
                self.match_at = Some(at);
                self.show_rows();
            }
            Ok(None) => {
                let way = if older { "older" } else { "newer" };
                self.board.message = Some(format!("no {way} line matches {}", self.board.search.clone().unwrap_or_default()));
            }
            Err(error) => self.board.message = Some(format!("cannot search: {error}")),
        }
    }

    /// Looks at CPU and memory, if it is time to.
    fn sample(&mut self) {
        let now = Instant::now();
        if self.sampled.is_some_and(|at| now - at < SAMPLE) {
            return;
        }
        let took = self.sampled.map(|at| (now - at).as_secs_f64());
        let services = &self.board.status.snapshot.services;
        let samples: BTreeMap<String, UsageSample> =
            services.iter().filter_map(|service| Some((service.name.clone(), stats::tree(service.pid?)))).collect();
        self.board.usage = samples
            .iter()
            .map(|(name, sample)| {
                let before = self.samples.get(name);
                let (sum, spent) = stats::total(before.unwrap_or(&UsageSample::new()), sample);
                let cpu = before.zip(took).map(|(_, took)| spent as f64 / 10.0 / took.max(0.001));
                (name.clone(), ServiceUsage { cpu, memory: sum.memory })
            })
            .collect();
        self.samples = samples;
        self.sampled = Some(now);
    }

    fn draw(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let board = &self.board;
        let drawn = screen.terminal.draw(|frame| draw(board, frame.area(), frame.buffer_mut()));
        drawn.map_err(|error| failed(&error))?;
        stdout().flush().map_err(|error| failed(&error))
    }
}

fn row(placed: &PlacedLine) -> LogRow {
    let line = &placed.line;
    let time = jiff::Timestamp::from_microsecond(line.micros)
        .map(|at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string())
        .unwrap_or_default();
    LogRow {
        service: line.id.to_string(),
        time,
        text: visible_text::visible(&line.bytes),
        is_note: line.stream == LogStream::Devrun,
        is_stderr: line.stream == LogStream::Stderr,
    }
}

/// `10m` ago, a time of today, or RFC 3339, as microseconds since 1970.
fn moment(text: &str) -> Result<i64, Failure> {
    let today = jiff::Zoned::now();
    for form in ["%H:%M:%S", "%H:%M"] {
        if let Ok(time) = jiff::civil::Time::strptime(form, text)
            && let Ok(at) = today.date().to_datetime(time).to_zoned(today.time_zone().clone())
        {
            return Ok(at.timestamp().as_microsecond());
        }
    }
    log_selection::moment(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_today_and_others() {
        let at = moment("14:05").unwrap();
        assert_eq!(moment("14:05:30").unwrap() - at, 30_000_000);
        assert_eq!(moment("2026-11-28T03:56:54.016342Z").unwrap(), 1_795_838_214_016_342);
        assert!(moment("10m").unwrap() > 1_700_000_000_000_000);
        assert!(moment("noon").is_err());
    }
}
