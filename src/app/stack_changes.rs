//! Numbers that count up when the stack has changed: a state, or a log. For viewers that ask again then.
//!
//! It comes from the supervisor's feed and from the kernel's notices of the log files, so while nothing changes nothing runs.

use std::time::{Duration, Instant};

use devrun_logs::growth::LogGrowth;
use devrun_web::StackChanges;
use tokio::sync::watch;

use crate::app::observer::Observer;
use crate::app::session::Session;

/// Changes that come within this time are one.
pub(crate) const GATHER: Duration = Duration::from_millis(50);
/// While something is written all the time, viewers ask again, and draw, so often.
pub(crate) const PACE: Duration = Duration::from_millis(250);

/// Begins to watch; ends when no one listens any more.
#[must_use]
pub fn watch_stack(observer: Observer) -> watch::Receiver<StackChanges> {
    let (sender, receiver) = watch::channel(StackChanges::default());
    tokio::spawn(async move {
        let places = observer.project().places.clone();
        let mut growth = LogGrowth::new(&places.logs());
        let mut session: Option<Session> = None;
        let mut notified = Instant::now();
        loop {
            if session.is_none()
                && let Ok(Some((found, _))) = Session::remote(&places, Duration::ZERO).await
            {
                session = Some(found);
                sender.send_modify(|changes| changes.state += 1);
            }
            // Without a supervisor, what is written may be the first that is seen of one.
            let is_alone = session.is_none();
            let (state, logs) = tokio::select! {
                () = growth.changed() => (is_alone, true),
                item = async { match &mut session { Some(session) => session.next().await, None => std::future::pending().await } } => {
                    if !matches!(item, Ok(Some(_))) {
                        session = None;
                    }
                    (true, false)
                }
                () = sender.closed() => return,
            };
            tokio::time::sleep(GATHER.max(PACE.saturating_sub(notified.elapsed()))).await;
            notified = Instant::now();
            // Before viewers ask, so that nothing is missed.
            if logs {
                growth.arm();
            }
            sender.send_modify(|changes| {
                changes.state += u64::from(state);
                changes.logs += u64::from(logs);
            });
        }
    });
    receiver
}
