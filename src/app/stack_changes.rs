//! A number that counts up when the stack has changed: a state, or a log. For viewers that ask again then.
//!
//! It comes from the supervisor's feed and from the kernel's notices of the log files, so while nothing changes nothing runs.

use std::time::Duration;

use devrun_runtime::logs::growth::LogGrowth;
use tokio::sync::watch;

use crate::app::observer::Observer;
use crate::app::session::Session;

/// Changes that come within this time are one.
const GATHER: Duration = Duration::from_millis(50);

/// Begins to watch; ends when no one listens any more.
#[must_use]
pub fn watch_stack(observer: Observer) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    tokio::spawn(async move {
        let places = observer.project().places.clone();
        let mut growth = LogGrowth::new(&places.logs());
        let mut session: Option<Session> = None;
        loop {
            if session.is_none()
                && let Ok(Some((found, _))) = Session::remote(&places, Duration::ZERO).await
            {
                session = Some(found);
            }
            tokio::select! {
                () = growth.changed() => {}
                item = async { match &mut session { Some(session) => session.next().await, None => std::future::pending().await } } => {
                    if !matches!(item, Ok(Some(_))) {
                        session = None;
                    }
                }
                () = sender.closed() => return,
            }
            tokio::time::sleep(GATHER).await;
            sender.send_modify(|number| *number += 1);
        }
    });
    receiver
}
