//! The second process of `up -d`, a fork in a session of its own: it supervises the stack, and its parent watches.

use std::io::{Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ui::term::say;
use devrun_model::exit;
use devrun_model::{Command, Failure, Paths, Plan, ServiceId, UpOptions};
use devrun_store::FetchOptions;

use crate::app::signals::{self, Aside};
use crate::app::stack_session::{Boot, RunSignals, StackClaim, StackEvent, exit_code};
use crate::app::start_scope::{PlannedStart, PortAdvice};

/// What the second process of `up -d` is to do.
pub struct SupervisorOptions {
    /// The project.
    pub plan: Arc<Plan>,
    /// Its folders.
    pub places: Paths,
    /// Where binaries come from.
    pub fetch: FetchOptions,
    /// Which services.
    pub targets: Vec<ServiceId>,
    /// Switches.
    pub options: UpOptions,
    /// What to type where a port is taken.
    pub port_advice: PortAdvice,
}

/// What it answers on its standard output, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Something to show; the answer is still to come.
    Note(String),
    /// The control socket answers.
    Ready,
    /// Somebody else was first.
    Held(Option<i32>),
    /// It could not start.
    Failed(Failure),
}

/// The second process of `up -d`: starts, answers, and serves until everything is down.
///
/// # Errors
/// As [`StackClaim::boot`]; the parent has been told then.
pub fn run(order: SupervisorOptions) -> Result<i32, Failure> {
    // Before the runtime, whose threads would have to be copied with the keeper's process.
    let claim = match StackClaim::take(&order.places) {
        Ok(Ok(claim)) => claim,
        Ok(Err(pid)) => {
            answer(&Answer::Held(pid));
            return Ok(exit::ELSEWHERE);
        }
        Err(failure) => {
            answer(&Answer::Failed(failure.clone()));
            return Err(failure);
        }
    };
    let runtime = crate::app::runtime::runtime()?;
    let code = runtime.block_on(supervise(claim, order));
    // All that matters has been waited for; what is left of its tasks ends with the process.
    runtime.shutdown_background();
    code
}

async fn supervise(claim: StackClaim, order: SupervisorOptions) -> Result<i32, Failure> {
    let signals = RunSignals::with_controls()?;
    // Our parent writes the code of a signal that it got, or closes our standard input once it watches.
    let (said, mut heard) = tokio::sync::watch::channel(None::<Option<i32>>);
    tokio::task::spawn_blocking(move || {
        let mut byte = [0];
        let code = std::io::stdin().read(&mut byte).ok().filter(|count| *count > 0).map(|_| i32::from(byte[0]));
        // The run may be over, with no receiver left.
        let _over = said.send(Some(code));
    });
    let mut asked = heard.clone();
    let cancelled = async {
        match asked.wait_for(|said| said.flatten().is_some()).await.map(|code| code.flatten()) {
            Ok(code) => code.unwrap_or(exit::TERM),
            Err(_) => std::future::pending().await,
        }
    };
    let start = PlannedStart::new(&order.plan, &order.targets, order.options.no_deps).advised(order.port_advice);
    let note = |line: String| {
        say(&line);
        tell(&Answer::Note(line));
    };
    let mut session = match claim.boot(start, order.fetch, signals, cancelled, note).await {
        Ok(Boot::Done(session)) => session,
        Ok(Boot::Interrupted(code)) => {
            answer(&Answer::Failed(Failure::cancelled()));
            return Ok(code);
        }
        Err(failure) => {
            answer(&Answer::Failed(failure.clone()));
            return Err(failure);
        }
    };
    session.engine().hold();
    session.engine().command(0, Command::Up { plan: None, targets: order.targets, options: order.options });
    answer(&Answer::Ready);
    // A run that is over in a moment still tells our parent how it went. If it dies or hangs, nothing waits for it for long.
    let waiting = session.engine().clone();
    tokio::spawn(async move {
        let heard = tokio::time::timeout(std::time::Duration::from_secs(10), heard.wait_for(Option::is_some)).await;
        // An interrupted start is undone also where our parent does not stay to ask for it.
        if heard.is_ok_and(|said| said.is_ok_and(|code| code.flatten().is_some())) {
            waiting.command(0, Command::Down { grace_ms: None });
        }
        waiting.release();
    });
    let mut interrupted = None;
    loop {
        match session.next().await? {
            StackEvent::Signal(code) => {
                interrupted = Some(code);
                session.engine().interrupt();
            }
            StackEvent::Control(Aside::Status) => {
                if let Some(status) = session.engine().status().await {
                    signals::dump(&status).into_iter().for_each(say);
                }
            }
            // There is no terminal to hold us from, and neither news nor output was asked for.
            StackEvent::Control(Aside::Hold) | StackEvent::Feed(_) | StackEvent::FeedClosed | StackEvent::Log(_) => {}
            StackEvent::Ended(ended) => return Ok(exit_code(&ended, interrupted)),
        }
    }
}

/// The last line on stdout, which is closed then: the parent waits for that.
fn answer(answer: &Answer) {
    tell(answer);
    devrun_keeper::daemonize::close_stdout();
}

/// One line on stdout, for the parent.
fn tell(answer: &Answer) {
    if let Ok(mut line) = serde_json::to_string(answer) {
        line.push('\n');
        let mut out = std::io::stdout().lock();
        // The parent may be gone; then nobody waits for the answer.
        let _gone = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}
