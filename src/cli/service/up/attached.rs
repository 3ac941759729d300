//! Attached `up`: this process is the supervisor and shows the merged output, or watches the supervisor that is there.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::hints::ATTACHED;
use super::log_output::{drain, show, show_waiting};
use super::{ROUNDS, Stack, no_thread};
use crate::app::load;
use crate::app::password_advice;
use crate::app::signals::{self, Aside};
use crate::app::stack_session::{Boot, RunSignals, StackClaim, StackEvent, StackSession, exit_code};
use crate::app::start_scope::PlannedStart;
use crate::app::stop_wait;
use crate::cli::service::up::UpArgs;
use crate::ui::download;
use crate::ui::logview::LogView;
use crate::ui::progress::ProgressView;
use crate::ui::summary;
use crate::ui::term::{Progress, say};
use crate::ui::{exit_line, output};
use devrun_model::exit;
use devrun_model::feed::{FeedItem, Outcome, StopReport};
use devrun_model::{Failure, FailureKind, Kind, ServiceId, State};

/// What the run has shown so far.
struct Shown {
    view: ProgressView,
    lines: LogView,
    begun: Instant,
    /// The exit code of the first signal.
    interrupted: Option<i32>,
    stops: Vec<StopReport>,
    first_failures: Option<Outcome>,
    /// Of the start that this run asked for.
    token: u64,
}

impl Stack {
    /// This process becomes the supervisor, or the viewer of the one that is there.
    pub(super) fn alone(self, args: &UpArgs) -> Result<i32, Failure> {
        let places = &self.project.places;
        // Where no other process holds the lock, the keeper loads while the runtime is made.
        let claim = if load::is_running(places)? { None } else { StackClaim::take(places)?.ok() };
        let runtime = crate::app::runtime::runtime()?;
        let code = runtime.block_on(self.attached(args, claim));
        // All that matters has been waited for; what is left of its tasks ends with the process.
        runtime.shutdown_background();
        code
    }

    async fn attached(self, args: &UpArgs, claim: Option<StackClaim>) -> Result<i32, Failure> {
        let claim = match claim {
            Some(claim) => claim,
            None => match self.join_or_claim().await? {
                Err(code) => return Ok(code),
                Ok(claim) => claim,
            },
        };
        let signals = RunSignals::with_controls()?;
        let fetch = load::fetch_options(&self.project, args.offline, args.mirror.clone(), download::progress(self.term));
        let start = PlannedStart::new(&self.plan, &self.targets, self.options.no_deps).advised(self.port_advice.clone());
        let mut session = match claim.boot(start, fetch, signals, std::future::pending(), say).await? {
            Boot::Done(session) => session,
            Boot::Interrupted(code) => return Ok(code),
        };
        output::detach().map_err(no_thread)?;
        session.follow_logs();
        let status = session.watch().await?;
        let ids: Vec<ServiceId> = self.plan.services.keys().cloned().collect();
        let token = session.command(self.up(false));
        let mut shown = Shown {
            token,
            view: ProgressView::new(self.term).with_plan(&self.plan),
            lines: LogView::new(self.log_style, &ids),
            begun: Instant::now(),
            interrupted: None,
            stops: Vec::new(),
            first_failures: None,
        };
        shown.view.status(&status, false);
        let third = exit_at_third_signal()?;
        let mut ended = loop {
            let event = tokio::select! {
                biased;
                event = session.next() => event?,
                () = shown.view.due() => {
                    shown.view.tick();
                    continue;
                }
            };
            match event {
                StackEvent::Signal(code) => interrupt(code, &session, &mut shown, &third).await,
                StackEvent::Control(control) => self.control(control, &session, &shown).await,
                StackEvent::Feed(item) => self.show_news(item, &mut session, &mut shown).await,
                StackEvent::FeedClosed => {}
                StackEvent::Log(item) => show(item, &mut session, &mut shown.lines, &shown.view),
                StackEvent::Ended(ended) => break ended,
            }
        };
        drain(&mut session, &mut shown.lines, &shown.view);
        shown.view.clear();
        self.goodbye(&shown.stops);
        for (pid, command) in &ended.survivors {
            say(format!("pid {pid} ({command}) could not be ended"));
        }
        if let Some(outcome) = shown.first_failures
            && ended.outcome.failures.is_empty()
        {
            ended.outcome = outcome;
        }
        let code = exit_code(&ended, shown.interrupted);
        if code != exit::DONE && shown.interrupted.is_none() {
            let line = exit_line::of_outcome(&ended.outcome, self.options.exit_code_from.as_ref());
            say(line.unwrap_or_else(|| exit_line::last_line(code, None, exit::meaning(code))));
        }
        Ok(code)
    }

    async fn show_news(&self, item: FeedItem, session: &mut StackSession, shown: &mut Shown) {
        shown.view.item(&item);
        match item {
            FeedItem::Settled { token, mut outcome } => {
                if shown.interrupted.is_some() {
                    // What was stopped before it was ready has not failed.
                    outcome.failures.retain(|failed| failed.failure.kind != FailureKind::Cancelled);
                    outcome.blocked.clear();
                    if outcome.failures.is_empty() {
                        return;
                    }
                }
                password_advice::add(&mut outcome, &self.advice);
                self.launch_places.add(&mut outcome);
                show_waiting(session, &mut shown.lines, &shown.view);
                shown.view.clear();
                // What another command asked for has begun later than this start, and is summed up by that command.
                if (token == shown.token || !outcome.failures.is_empty())
                    && let Some(status) = session.engine().status().await
                {
                    self.summary(&status.snapshot, &outcome, shown.view.times(), shown.begun.elapsed(), &ATTACHED);
                }
                if !outcome.failures.is_empty() {
                    shown.first_failures.get_or_insert(outcome);
                }
            }
            // A task that has ended by itself was not stopped.
            FeedItem::Stopped(report) if shown.interrupted.is_some() || !self.is_task(&report.id) => shown.stops.push(report),
            // It ended and was started again, or failed: that was no stop of this run.
            FeedItem::Notice(notice) if !matches!(notice.to, State::Stopping | State::Stopped) => {
                if matches!(notice.to, State::Failed | State::Completed)
                    && notice.from != notice.to
                    && shown.interrupted.is_none()
                {
                    self.say_waits_for_change(&notice.service, |text| shown.view.print(text));
                }
                let copy = notice.copy_name();
                shown.stops.retain(|report| report.id.as_str() != copy);
            }
            _ => {}
        }
    }

    async fn control(&self, control: Aside, session: &StackSession, shown: &Shown) {
        match control {
            Aside::Status => {
                if let Some(status) = session.engine().status().await {
                    let lines = signals::dump(&status);
                    self.note(&lines);
                    lines.iter().for_each(|line| shown.view.print(line));
                }
            }
            Aside::Hold if signals::can_be_resumed() => {
                shown.view.answer_key("on hold: services keep running, nothing is restarted; `fg` brings this back");
                signals::hold();
                shown.view.print("resumed: timeouts continue");
            }
            Aside::Hold => shown.view.print("no shell could bring this back; Ctrl-Z does nothing"),
        }
    }

    /// The exit code of the supervisor that is there, or the claim where there is none any more.
    async fn join_or_claim(&self) -> Result<Result<StackClaim, i32>, Failure> {
        let places = &self.project.places;
        for _ in 0..ROUNDS {
            let pid = if stop_wait::answers(places, self.term).await? {
                None
            } else {
                match StackClaim::take(places)? {
                    Ok(claim) => return Ok(Ok(claim)),
                    Err(pid) => pid,
                }
            };
            if let Some(code) = self.join(pid, true).await? {
                return Ok(Err(code));
            }
        }
        Err(stop_wait::keeps_ending())
    }

    fn is_task(&self, id: &ServiceId) -> bool {
        self.plan.services.get(id).is_some_and(|spec| spec.kind == Kind::Task)
    }

    /// Adds lines to the supervisor's log, as a detached one would.
    fn note(&self, lines: &[String]) {
        let open = devrun_runtime::runtime_dir::append(&self.project.places.supervisor_log());
        // The terminal shows them as well.
        let _unwritten = open.and_then(|mut file| file.write_all((lines.join("\n") + "\n").as_bytes()));
    }

    fn goodbye(&self, stops: &[StopReport]) {
        if !matches!(self.term.progress, Progress::Quiet | Progress::Json) {
            let table = summary::stops(stops);
            if !table.is_empty() {
                say(table.trim_end());
            }
        }
    }
}

/// The first signal stops the stack, the second kills it.
async fn interrupt(code: i32, session: &StackSession, shown: &mut Shown, third: &AtomicBool) {
    session.engine().interrupt();
    if shown.interrupted.is_some() {
        // Its answer comes after the kill was asked of the keeper, which then holds whatever becomes of us.
        let _ended = session.engine().status().await;
        third.store(true, Ordering::Relaxed);
        answer(shown, code, "killing everything; a third signal leaves the rest to the keeper");
    } else {
        answer(shown, code, "stopping (press Ctrl-C again to kill)");
    }
    shown.interrupted.get_or_insert(code);
}

/// A line about a signal, which begins a line of its own.
fn answer(shown: &mut Shown, code: i32, text: &str) {
    // A terminal that is gone needs no line.
    let _gone = shown.lines.end_line(&mut output::Stdout);
    if code == exit::INT { shown.view.answer_key(text) } else { shown.view.print(text) }
}

/// Once the flag is set, the next INT or TERM ends this process, even if nothing else here works any more.
fn exit_at_third_signal() -> Result<Arc<AtomicBool>, Failure> {
    let third = Arc::new(AtomicBool::new(false));
    for (signal, code) in [(libc::SIGINT, exit::INT), (libc::SIGTERM, exit::TERM)] {
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(&third))
            .map_err(|error| signals::refused(&error))?;
    }
    Ok(third)
}
