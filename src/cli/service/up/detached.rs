//! `up -d`: a second process supervises, this one waits until everything is ready.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncBufReadExt as _;
use tokio::net::unix::pipe;

use super::{ROUNDS, Stack, StartViewer};
use crate::app::load;
use crate::app::session::{Session, Settled, Signals, until_settled};
use crate::app::stop_wait;
use crate::app::supervise::{self, Answer, SupervisorOptions};
use crate::cli::service::up::UpArgs;
use crate::ui::term::say;
use devrun_keeper::BlockedSignals;
use devrun_keeper::daemonize::{self, ForkSide};
use devrun_keeper::system_limits;
use devrun_model::exit;
use devrun_model::{Failure, FailureKind};
use devrun_runtime::ports::PortReservations;

impl Stack {
    /// A second process supervises; this one waits until everything is ready. One waits better than it works: it needs no
    /// second thread.
    pub(super) fn detached(self, args: &UpArgs) -> Result<i32, Failure> {
        for _ in 0..ROUNDS {
            let places = &self.project.places;
            if load::is_running(places)?
                && crate::app::runtime::waiting_runtime()?.block_on(stop_wait::answers(places, self.term))?
            {
                match crate::app::runtime::waiting_runtime()?.block_on(self.join(None, false))? {
                    Some(code) => return Ok(code),
                    None => continue,
                }
            }
            // If a supervisor was met that was just ending; nothing has begun yet.
            crate::app::runtime::fit_to_fork()?;
            crate::app::runtime::ensure_threads()?;
            devrun_runtime::runtime_dir::prepare(places)?;
            let internal = |what: &str, error: std::io::Error| {
                Failure::new(FailureKind::Internal, format!("{what}: {error}")).help(system_limits::help(&error))
            };
            let log = devrun_runtime::runtime_dir::append(&places.supervisor_log()).map_err(|error| {
                Failure::new(FailureKind::Config, format!("cannot open {}: {error}", places.supervisor_log().display())).help(
                    format!(
                        "remove it: rm{} '{}'",
                        if places.supervisor_log().is_dir() { " -r" } else { "" },
                        places.supervisor_log().display()
                    ),
                )
            })?;
            let reserved = self.project.reserved.get().and_then(PortReservations::descriptor);
            // One that ended this process between the fork and its first look at signals would leave the start to go on, with no one
            // who asked for it.
            let held = BlockedSignals::new().map_err(|error| internal("signals cannot be blocked", error))?;
            let side = daemonize::fork(log, reserved).map_err(|error| internal("the supervisor cannot be started", error))?;
            let ForkSide::Parent { answer, hold } = side else {
                drop(held);
                let silent = Arc::new(devrun_store::NoDownloadProgress);
                let fetch = load::fetch_options(&self.project, args.offline, args.mirror.clone(), silent);
                let Self { project, plan, targets, options, port_advice, .. } = self;
                // The ports stay set aside as long as `project` is there.
                let places = project.places.clone();
                return supervise::run(SupervisorOptions { plan, places, fetch, targets, options, port_advice });
            };
            if let Some(code) = crate::app::runtime::waiting_runtime()?.block_on(self.watch(answer, hold, held, args.no_wait))? {
                return Ok(code);
            }
        }
        Err(stop_wait::keeps_ending())
    }

    /// Watches the start of the supervisor that was just made. While `hold` is there, it does not end. `None`: another one was
    /// quicker, and has ended.
    async fn watch(&self, answer: File, mut hold: File, held: BlockedSignals, no_wait: bool) -> Result<Option<i32>, Failure> {
        let mute = |_: std::io::Error| self.supervisor_lost("before it answered");
        let mut signals = Signals::take()?;
        drop(held);
        let mut lines = tokio::io::BufReader::new(pipe::Receiver::from_file(answer).map_err(mute)?).lines();
        let mut interrupted = None;
        let answer = loop {
            let line = tokio::select! {
                line = lines.next_line() => line.map_err(mute)?.unwrap_or_default(),
                code = signals.next() => {
                    if interrupted.replace(code).is_some() {
                        return Ok(Some(code));
                    }
                    say("interrupted: the start is being undone (press Ctrl-C again to leave at once)");
                    // It ends at once what an earlier run left, and starts nothing. Without it its end is the answer.
                    let _gone = hold.write_all(&[u8::try_from(code).unwrap_or(0)]);
                    continue;
                }
            };
            match serde_json::from_str(&line).map_err(|error| mute(error.into()))? {
                Answer::Note(text) => say(text),
                answer => break answer,
            }
        };
        match answer {
            Answer::Failed(failure) => match interrupted.filter(|_| failure.kind == FailureKind::Cancelled) {
                Some(code) => Ok(Some(code)),
                None => Err(failure),
            },
            Answer::Note(_) => Ok(Some(exit::DONE)),
            Answer::Held(pid) => self.join(pid, false).await,
            Answer::Ready if no_wait => Ok(Some(exit::DONE)),
            Answer::Ready => {
                let begun = std::time::Instant::now();
                let Some((mut session, status)) = Session::remote(&self.project.places, Duration::from_secs(10)).await? else {
                    // Killed, or stopped by somebody else: its run does not end before we watch. The keeper stops what it has begun.
                    return Err(Failure::new(
                        FailureKind::Elsewhere,
                        "the supervisor was ended from outside, and its start with it",
                    )
                    .help(format!("devrun up -d again; see {}", self.project.places.supervisor_log().display())));
                };
                drop(hold);
                let mut view = self.view();
                let settled = match interrupted {
                    Some(code) => Settled::Interrupted(code),
                    None => until_settled(&mut session, &status, None, &mut view, &mut signals).await?,
                };
                view.clear();
                self.conclude(settled, &mut session, &status, view.times(), begun.elapsed(), StartViewer::Owner).await.map(Some)
            }
        }
    }
}
