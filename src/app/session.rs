//! The supervisor that another process is: to watch it and to ask it. What this process supervises itself is in `stack_session`.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind};

use crate::app::signals::receive;
use crate::ui::progress::ProgressView;
use devrun_model::exit;
use devrun_model::feed::Outcome;
use devrun_model::feed::{FeedItem, Status, StopReport};
use devrun_model::{Command, Failure, Paths};
use devrun_runtime::control::ControlClient;

/// A connection that watches the supervisor behind the control socket, and asks it.
pub struct Session {
    client: ControlClient,
    /// For further connections.
    places: Paths,
}

impl Session {
    /// Watches the supervisor behind the socket; one that is just starting or ending is given some seconds. `None`: none came
    /// in that time, or there is none any more, which its lock tells at once, however it ended.
    ///
    /// # Errors
    /// `Elsewhere` when it cannot be reached.
    pub async fn remote(places: &Paths, patience: Duration) -> Result<Option<(Self, Status)>, Failure> {
        let give_up = tokio::time::Instant::now() + patience;
        loop {
            if let Some(mut client) = crate::app::connect::supervisor(places).await?
                && let Some(status) = client.watch().await?
            {
                return Ok(Some((Self { client, places: places.clone() }, status)));
            }
            if tokio::time::Instant::now() >= give_up || !crate::app::load::is_running(places)? {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The next item; `None` when the supervisor has ended.
    ///
    /// # Errors
    /// `Elsewhere` when the connection broke in the middle of an item.
    pub async fn next(&mut self) -> Result<Option<FeedItem>, Failure> {
        self.client.item().await
    }

    /// Asks for something.
    ///
    /// # Errors
    /// `Elsewhere` when it cannot be asked.
    pub async fn command(&mut self, token: u64, command: Command) -> Result<(), Failure> {
        self.client.command(token, command).await
    }

    /// INT.
    ///
    /// # Errors
    /// `Elsewhere` when it cannot be asked.
    pub async fn interrupt(&mut self) -> Result<(), Failure> {
        self.client.interrupt().await
    }

    /// The present state, beside the feed.
    ///
    /// # Errors
    /// `Elsewhere` when it cannot be asked.
    pub async fn status(&self) -> Result<Option<Status>, Failure> {
        match crate::app::connect::supervisor(&self.places).await? {
            Some(mut client) => client.status().await,
            None => Ok(None),
        }
    }
}

/// A number that tells our request from others'.
#[must_use]
pub fn token() -> u64 {
    let mut bytes = [0u8; 8];
    // Without randomness the pid still tells us from everybody who lives now.
    if getrandom::fill(&mut bytes).is_err() {
        return u64::from(std::process::id());
    }
    u64::from_le_bytes(bytes)
}

/// How a watched start ended.
#[derive(Debug)]
pub enum Settled {
    /// One way or the other.
    Outcome(Outcome),
    /// The supervisor ended first; with its last word, where it had one.
    Gone(Option<Outcome>),
    /// Ctrl-C or another signal came: the exit code that says so.
    Interrupted(i32),
}

/// Shows what happens until the start that was asked for has settled.
///
/// `token` is that of our request; without one, a start that has settled before we came counts.
///
/// # Errors
/// `Elsewhere` when the connection breaks.
pub async fn until_settled(
    session: &mut Session,
    status: &Status,
    token: Option<u64>,
    view: &mut ProgressView,
    signals: &mut Signals,
) -> Result<Settled, Failure> {
    view.status(status, token.is_none());
    if token.is_none()
        && let Some(outcome) = &status.settled
    {
        return Ok(Settled::Outcome(outcome.clone()));
    }
    loop {
        let item = tokio::select! {
            item = session.next() => item?,
            code = signals.next() => return Ok(Settled::Interrupted(code)),
            () = view.due() => {
                view.tick();
                continue;
            }
        };
        let Some(item) = item else { return Ok(Settled::Gone(None)) };
        view.item(&item);
        match item {
            FeedItem::Settled { token: settled, outcome } if token.is_none() || Some(settled) == token => {
                return Ok(Settled::Outcome(outcome));
            }
            FeedItem::Finished(outcome) => return Ok(Settled::Gone(Some(outcome))),
            _ => {}
        }
    }
}

/// Shows what happens until the supervisor has ended. Returns the stops and the last word.
///
/// # Errors
/// `Elsewhere` when the connection breaks.
pub async fn until_gone(
    session: &mut Session,
    view: &mut ProgressView,
    signals: &mut Signals,
) -> Result<(Vec<StopReport>, Option<Outcome>, Option<i32>), Failure> {
    let (mut stops, mut last, mut interrupted) = (Vec::new(), None, None);
    loop {
        let item = tokio::select! {
            item = session.next() => item?,
            code = signals.next() => {
                interrupted = Some(code);
                // The second request to end means: kill. A closed terminal is not a request.
                if code != exit::HUP {
                    session.interrupt().await?;
                }
                continue;
            }
            () = view.due() => {
                view.tick();
                continue;
            }
        };
        let Some(item) = item else { return Ok((stops, last, interrupted)) };
        view.item(&item);
        match item {
            FeedItem::Stopped(report) => stops.push(report),
            FeedItem::Finished(outcome) => last = Some(outcome),
            _ => {}
        }
    }
}

/// INT, TERM and HUP of this process.
pub struct Signals {
    int: Signal,
    term: Signal,
    hup: Signal,
    has_come: bool,
}

impl Signals {
    /// Takes them over.
    ///
    /// # Errors
    /// `Internal` when they cannot be had.
    pub fn take() -> Result<Self, Failure> {
        let (int, term, hup) =
            (receive(SignalKind::interrupt())?, receive(SignalKind::terminate())?, receive(SignalKind::hangup())?);
        Ok(Self { int, term, hup, has_come: false })
    }
    /// The exit code of the next one that asks for an end, after the first: one HUP may be followed by another, as the kernel sends
    /// it when a terminal is closed and a shell does for its jobs, and neither is a person who has lost patience.
    pub async fn next_wish(&mut self) -> i32 {
        loop {
            let code = self.next().await;
            let is_repeated = std::mem::replace(&mut self.has_come, true);
            if code != exit::HUP || !is_repeated {
                return code;
            }
        }
    }
    /// The exit code of the next one.
    pub async fn next(&mut self) -> i32 {
        tokio::select! {
            Some(()) = self.int.recv() => exit::INT,
            Some(()) = self.term.recv() => exit::TERM,
            Some(()) = self.hup.recv() => exit::HUP,
            else => std::future::pending().await,
        }
    }
}
