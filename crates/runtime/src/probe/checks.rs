//! The checks of one `ready` or `alive` table, made ready once and tried together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use super::command::CommandContext;
use super::connect::{self, OwnershipGate, connect_raw};
use super::result::{ProbeError, ProbeOk, ProbeResult, RetryHint, spent, unusable};
use super::{bolt, command, file, grpc, http, http_reply, https, pg, redis, s3, sql};
use devrun_logs::visible_text;
use devrun_model::pattern_error::pattern_error;
use devrun_model::{Check, Failure, ReadySpec};

/// What the attempts of one generation share.
pub(crate) struct CheckContext {
    /// Who may listen.
    pub gate: OwnershipGate,
    /// For `cmd`.
    pub commands: Option<Arc<CommandContext>>,
    /// For `uptime`: when the probes began, right after the spawn.
    pub began: Instant,
    /// For one attempt.
    pub timeout: Duration,
}

/// All checks of one table.
pub(crate) struct CheckSet {
    items: Vec<PreparedCheck>,
    any: bool,
}

struct PreparedCheck {
    check: Check,
    ready: CheckState,
}

/// What is done once and not at every attempt.
enum CheckState {
    /// Nothing.
    Plain,
    /// A `log` pattern, and whether a line has matched. Shared with whoever passes lines on.
    Log(Arc<LogMatch>),
    /// Whether `READY=1` has come.
    Notify(Arc<AtomicBool>),
    /// The pattern for a body, and the client for TLS.
    Http(Option<regex::bytes::Regex>, Option<reqwest::Client>),
    /// It can never pass.
    Unusable(Failure),
}

/// A `log` check between the one who reads the output and the one who waits for it.
pub(crate) struct LogMatch {
    pattern: regex::bytes::Regex,
    matched: AtomicBool,
}

impl LogMatch {
    /// Whether it still waits.
    pub(crate) fn waits(&self) -> bool {
        !self.matched.load(Ordering::Acquire)
    }
    /// Looks at a line.
    pub(crate) fn line(&self, line: &[u8]) {
        if self.waits() && visible_text::matches(&self.pattern, line) {
            self.matched.store(true, Ordering::Release);
        }
    }
}

/// No timer of ours is this late while it can run.
const PROCESS_WAS_HELD: Duration = Duration::from_millis(750);

impl CheckSet {
    /// Makes the checks of a table ready. What cannot be used says so at each attempt.
    pub(crate) fn new(spec: &ReadySpec, notified: &Arc<AtomicBool>) -> Self {
        let items = spec.checks.iter().map(|check| PreparedCheck { ready: prepare(check, notified), check: check.clone() });
        Self { items: items.collect(), any: spec.any }
    }

    /// The `log` checks among them.
    pub(crate) fn logs(&self) -> impl Iterator<Item = Arc<LogMatch>> {
        self.items.iter().filter_map(|item| match &item.ready {
            CheckState::Log(log) => Some(Arc::clone(log)),
            _ => None,
        })
    }

    /// Addresses of this machine without one of which a pass is out of the question.
    pub(crate) fn local_addresses(&self) -> Vec<SocketAddr> {
        let own = if self.any { None } else { self.items.iter().find_map(|item| item.check.endpoint()) };
        own.map(connect::local_addresses).unwrap_or_default()
    }

    /// Whether a pass is for good: nothing is left that could fail later.
    pub(crate) fn is_final(&self, context: &CheckContext) -> bool {
        if self.any {
            self.items.iter().any(|item| item.stays(context))
        } else {
            self.items.iter().all(|item| item.stays(context))
        }
    }

    /// One attempt of all of them, within the timeout. A miss that was noticed long after its timeout says only that this
    /// process was held meanwhile (Ctrl-Z, SIGSTOP, suspend), and nothing about the service: it is asked again.
    pub(crate) async fn attempt(&self, context: &CheckContext) -> ProbeResult {
        loop {
            let began = Instant::now();
            let verdict = self.once(context).await;
            if verdict.is_ok() || began.elapsed() <= context.timeout + PROCESS_WAS_HELD {
                return verdict;
            }
        }
    }

    async fn once(&self, context: &CheckContext) -> ProbeResult {
        let all = async { if self.any { self.first(context).await } else { self.every(context).await } };
        match tokio::time::timeout(context.timeout, all).await {
            Ok(verdict) => verdict,
            Err(_) => Err(ProbeError::new(format!("timed out after {}", devrun_model::duration::format(context.timeout)))),
        }
    }

    /// What costs nothing is asked first; the first miss ends the attempt.
    async fn every(&self, context: &CheckContext) -> ProbeResult {
        let (mut answers, mut notes) = (Vec::new(), Vec::new());
        let mut items: Vec<&PreparedCheck> = self.items.iter().collect();
        items.sort_by_key(|item| item.price());
        for item in items {
            let hit = item.attempt(context).await?;
            answers.push(hit.answer);
            notes.extend(hit.note);
        }
        let note = if notes.is_empty() { None } else { Some(notes.join("; ")) };
        Ok(ProbeOk::new(answers.join(", ")).note(note))
    }

    /// All at once, so that one that hangs does not hide one that passes.
    async fn first(&self, context: &CheckContext) -> ProbeResult {
        let mut running: futures_util::stream::FuturesUnordered<_> =
            self.items.iter().map(|item| item.attempt(context)).collect();
        let (mut answers, mut fatal, mut retry) = (Vec::new(), None, RetryHint::Event);
        while let Some(verdict) = futures_util::StreamExt::next(&mut running).await {
            match verdict {
                Ok(hit) => return Ok(hit),
                Err(miss) => {
                    answers.push(miss.answer);
                    fatal = fatal.or(miss.fatal);
                    retry = retry.min(miss.retry);
                }
            }
        }
        // The order in which they failed is chance; an answer that changes for no reason would be told each time.
        answers.sort();
        // One way that cannot be mended does not close the others.
        let fatal = fatal.filter(|_| self.items.len() == 1);
        Err(ProbeError { answer: answers.join(", "), fatal, retry, closed: Vec::new() })
    }
}

impl PreparedCheck {
    /// What is told or looked up comes before a connection, and that before a process.
    fn price(&self) -> u8 {
        match self.check {
            Check::Log { .. } | Check::Notify | Check::Uptime { .. } => 0,
            Check::File { .. } | Check::Unix { .. } => 1,
            Check::Cmd { .. } => 3,
            _ => 2,
        }
    }

    fn stays(&self, context: &CheckContext) -> bool {
        match (&self.ready, &self.check) {
            (CheckState::Log(log), _) => !log.waits(),
            (CheckState::Notify(seen), _) => seen.load(Ordering::Acquire),
            (_, Check::Uptime { least }) => context.began.elapsed() >= *least,
            _ => false,
        }
    }

    async fn attempt(&self, context: &CheckContext) -> ProbeResult {
        let gate = Some(&context.gate);
        if let CheckState::Unusable(failure) = &self.ready {
            return Err(ProbeError::fatal(failure.clone()));
        }
        match &self.check {
            Check::Http { at, tls, path, status, headers, .. } => {
                let (body, client) = match &self.ready {
                    CheckState::Http(body, client) => (body.as_ref(), client.as_ref()),
                    _ => (None, None),
                };
                let want = http_reply::HttpExpectation { path, status, headers, body };
                match client.filter(|_| *tls) {
                    Some(client) => https::check(client, at, &want, gate).await,
                    None => http::check(at, &want, gate).await,
                }
            }
            Check::Tcp { at } => {
                let reached = connect_raw(at, gate).await?;
                Ok(ProbeOk::new(format!("{at} accepts connections")).note(reached.note))
            }
            Check::Unix { path } => unix(path).await,
            Check::Pg { at, database, user } => pg::check(at, database, user, gate).await,
            Check::Sql { at, user, password, database, query } => {
                sql::check(at, &sql::Login { user, password: password.as_deref(), database }, query, gate).await
            }
            Check::Redis { at, user, password, roundtrip } => {
                redis::check(at, user.as_deref(), password.as_deref(), *roundtrip, gate).await
            }
            Check::Bolt { at } => bolt::check(at, gate).await,
            Check::Grpc { at, service } => grpc::check(at, service, gate).await,
            Check::S3 { at, access_key, secret_key } => s3::check(at, access_key, secret_key, gate).await,
            Check::Cmd { command } => command::check(command, context.commands.as_deref(), context.timeout).await,
            Check::Log { pattern } => match &self.ready {
                CheckState::Log(log) if !log.waits() => Ok(ProbeOk::new(format!("a line matched {pattern:?}"))),
                _ => Err(ProbeError::new(format!("no line has matched {pattern:?}")).retry(RetryHint::Event)),
            },
            Check::File { path, max_age } => file::check(path, *max_age).await,
            Check::Notify => match &self.ready {
                CheckState::Notify(seen) if seen.load(Ordering::Acquire) => Ok(ProbeOk::new("READY=1")),
                _ => Err(ProbeError::new("no READY=1 has come").retry(RetryHint::Event)),
            },
            Check::Uptime { least } => {
                let up = context.began.elapsed();
                if up >= *least {
                    Ok(ProbeOk::new(format!("up for {}", devrun_model::duration::format(*least))))
                } else {
                    let text = format!("up for less than {}", devrun_model::duration::format(*least));
                    Err(ProbeError::new(text).retry(RetryHint::In(*least - up)))
                }
            }
        }
    }
}

fn prepare(check: &Check, notified: &Arc<AtomicBool>) -> CheckState {
    let pattern = |text: &str| {
        regex::bytes::Regex::new(text).map_err(|error| {
            unusable(
                format!("invalid pattern {text:?}: {}", pattern_error(&error)),
                "escape literal characters with a backslash: `\\.`, `\\(`",
            )
        })
    };
    match check {
        Check::Log { pattern: text } => match pattern(text) {
            Ok(pattern) => CheckState::Log(Arc::new(LogMatch { pattern, matched: AtomicBool::new(false) })),
            Err(failure) => CheckState::Unusable(failure),
        },
        Check::Http { at, tls, headers, path, body, .. } => {
            if let Err(failure) = http::check_request(path, headers) {
                return CheckState::Unusable(failure);
            }
            let client = if *tls { Some(https::client(at)) } else { None };
            match (body.as_deref().map(pattern).transpose(), client.transpose()) {
                (Ok(body), Ok(client)) => CheckState::Http(body, client),
                (Err(failure), _) | (_, Err(failure)) => CheckState::Unusable(failure),
            }
        }
        Check::Notify => CheckState::Notify(Arc::clone(notified)),
        _ => CheckState::Plain,
    }
}

async fn unix(path: &Path) -> ProbeResult {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(ProbeOk::new(format!("{} accepts connections", path.display()))),
        Err(error) => Err(ProbeError::new(match error.kind() {
            std::io::ErrorKind::NotFound => format!("{} is not there", path.display()),
            std::io::ErrorKind::ConnectionRefused => format!("connection refused on {}", path.display()),
            _ => format!("no connection to {}: {error}", path.display()),
        })),
    }
}

/// One attempt of one check against something that is no service of ours (`wait URL`).
///
/// # Errors
/// What was answered instead, and a failure where waiting cannot mend it. `cmd`, `log` and `notify` belong to a service
/// and never pass here.
pub async fn attempt(check: &Check, timeout: Duration) -> Result<String, (String, Option<Failure>)> {
    let began = Instant::now();
    let checks = CheckSet::new(&ReadySpec::new(vec![check.clone()]), &Arc::default());
    let context = CheckContext { gate: OwnershipGate::new(None, String::new()), commands: None, began, timeout };
    match checks.attempt(&context).await {
        Ok(hit) => Ok(format!("{} in {}", hit.answer, spent(began.elapsed()))),
        Err(miss) => Err((miss.answer, miss.fatal)),
    }
}
