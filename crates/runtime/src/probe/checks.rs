//! The checks of one `ready` or `alive` table, made ready once and tried together.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

use super::dial::{self, Gate, reach};
use super::runner::Commands;
use super::verdict::{Again, Hit, Miss, Verdict};
use super::{bolt, command, file, grpc, http, https, pg, redis, s3, spent, sql, unusable};
use devrun_model::{Check, Failure, ReadySpec};

/// What the attempts of one generation share.
pub struct Context {
    /// Who may listen.
    pub gate: Gate,
    /// For `cmd`.
    pub commands: Option<Arc<Commands>>,
    /// For `uptime`: when the probes began, right after the spawn.
    pub began: Instant,
    /// For one attempt.
    pub timeout: Duration,
}

/// All checks of one table.
pub struct Checks {
    items: Vec<Item>,
    any: bool,
}

struct Item {
    check: Check,
    ready: Prepared,
}

/// What is done once and not at every attempt.
enum Prepared {
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
pub struct LogMatch {
    pattern: regex::bytes::Regex,
    matched: AtomicBool,
}

impl LogMatch {
    /// Whether it still waits.
    pub fn waits(&self) -> bool {
        !self.matched.load(Ordering::Acquire)
    }
    /// Looks at a line.
    pub fn line(&self, line: &[u8]) {
        if self.waits() && self.pattern.is_match(line) {
            self.matched.store(true, Ordering::Release);
        }
    }
}

/// No timer of ours is this late while it can run.
const HELD: Duration = Duration::from_millis(750);

impl Checks {
    /// Makes the checks of a table ready. What cannot be used says so at each attempt.
    pub fn new(spec: &ReadySpec, notified: &Arc<AtomicBool>) -> Self {
        let items = spec.checks.iter().map(|check| Item { ready: prepare(check, notified), check: check.clone() });
        Self { items: items.collect(), any: spec.any }
    }

    /// The `log` checks among them.
    pub fn logs(&self) -> impl Iterator<Item = Arc<LogMatch>> {
        self.items.iter().filter_map(|item| match &item.ready {
            Prepared::Log(log) => Some(Arc::clone(log)),
            _ => None,
        })
    }

    /// Addresses of this machine without one of which a pass is out of the question.
    pub fn doors(&self) -> Vec<SocketAddr> {
        let own = if self.any { None } else { self.items.iter().find_map(|item| item.check.endpoint()) };
        own.map(dial::doors).unwrap_or_default()
    }

    /// Whether a pass is for good: nothing is left that could fail later.
    pub fn settled(&self, context: &Context) -> bool {
        if self.any {
            self.items.iter().any(|item| item.stays(context))
        } else {
            self.items.iter().all(|item| item.stays(context))
        }
    }

    /// One attempt of all of them, within the timeout. A miss that was noticed long after its timeout says only that this
    /// process was held meanwhile (Ctrl-Z, SIGSTOP, suspend), and nothing about the service: it is asked again.
    pub async fn attempt(&self, context: &Context) -> Verdict {
        loop {
            let began = Instant::now();
            let verdict = self.once(context).await;
            if verdict.is_ok() || began.elapsed() <= context.timeout + HELD {
                return verdict;
            }
        }
    }

    async fn once(&self, context: &Context) -> Verdict {
        let all = async { if self.any { self.first(context).await } else { self.every(context).await } };
        match tokio::time::timeout(context.timeout, all).await {
            Ok(verdict) => verdict,
            Err(_) => Err(Miss::new(format!("timed out after {}", devrun_model::duration::format(context.timeout)))),
        }
    }

    /// What costs nothing is asked first; the first miss ends the attempt.
    async fn every(&self, context: &Context) -> Verdict {
        let (mut answers, mut notes) = (Vec::new(), Vec::new());
        let mut items: Vec<&Item> = self.items.iter().collect();
        items.sort_by_key(|item| item.price());
        for item in items {
            let hit = item.attempt(context).await?;
            answers.push(hit.answer);
            notes.extend(hit.note);
        }
        let note = if notes.is_empty() { None } else { Some(notes.join("; ")) };
        Ok(Hit::new(answers.join(", ")).note(note))
    }

    /// All at once, so that one that hangs does not hide one that passes.
    async fn first(&self, context: &Context) -> Verdict {
        let mut running: futures_util::stream::FuturesUnordered<_> =
            self.items.iter().map(|item| item.attempt(context)).collect();
        let (mut answers, mut fatal, mut again) = (Vec::new(), None, Again::Event);
        while let Some(verdict) = futures_util::StreamExt::next(&mut running).await {
            match verdict {
                Ok(hit) => return Ok(hit),
                Err(miss) => {
                    answers.push(miss.answer);
                    fatal = fatal.or(miss.fatal);
                    again = again.min(miss.again);
                }
            }
        }
        // The order in which they failed is chance; an answer that changes for no reason would be told each time.
        answers.sort();
        // One way that cannot be mended does not close the others.
        let fatal = fatal.filter(|_| self.items.len() == 1);
        Err(Miss { answer: answers.join(", "), fatal, again, closed: Vec::new() })
    }
}

impl Item {
    /// What is told or looked up comes before a connection, and that before a process.
    fn price(&self) -> u8 {
        match self.check {
            Check::Log { .. } | Check::Notify | Check::Uptime { .. } => 0,
            Check::File { .. } | Check::Unix { .. } => 1,
            Check::Cmd { .. } => 3,
            _ => 2,
        }
    }

    fn stays(&self, context: &Context) -> bool {
        match (&self.ready, &self.check) {
            (Prepared::Log(log), _) => !log.waits(),
            (Prepared::Notify(seen), _) => seen.load(Ordering::Acquire),
            (_, Check::Uptime { least }) => context.began.elapsed() >= *least,
            _ => false,
        }
    }

    async fn attempt(&self, context: &Context) -> Verdict {
        let gate = Some(&context.gate);
        if let Prepared::Unusable(failure) = &self.ready {
            return Err(Miss::fatal(failure.clone()));
        }
        match &self.check {
            Check::Http { at, tls, path, status, headers, .. } => {
                let (body, client) = match &self.ready {
                    Prepared::Http(body, client) => (body.as_ref(), client.as_ref()),
                    _ => (None, None),
                };
                let want = http::Want { path, status, headers, body };
                match client.filter(|_| *tls) {
                    Some(client) => https::check(client, at, &want, gate).await,
                    None => http::check(at, &want, gate).await,
                }
            }
            Check::Tcp { at } => {
                let reached = reach(at, gate).await?;
                Ok(Hit::new(format!("{at} accepts connections")).note(reached.note))
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
                Prepared::Log(log) if !log.waits() => Ok(Hit::new(format!("a line matched {pattern:?}"))),
                _ => Err(Miss::new(format!("no line has matched {pattern:?}")).again(Again::Event)),
            },
            Check::File { path, max_age } => file::check(path, *max_age).await,
            Check::Notify => match &self.ready {
                Prepared::Notify(seen) if seen.load(Ordering::Acquire) => Ok(Hit::new("READY=1")),
                _ => Err(Miss::new("no READY=1 has come").again(Again::Event)),
            },
            Check::Uptime { least } => {
                let up = context.began.elapsed();
                if up >= *least {
                    Ok(Hit::new(format!("up for {}", devrun_model::duration::format(*least))))
                } else {
                    let text = format!("up for less than {}", devrun_model::duration::format(*least));
                    Err(Miss::new(text).again(Again::In(*least - up)))
                }
            }
        }
    }
}

fn prepare(check: &Check, notified: &Arc<AtomicBool>) -> Prepared {
    let pattern = |text: &str| {
        regex::bytes::Regex::new(text).map_err(|error| {
            unusable(
                format!("{text:?} is no pattern: {error}"),
                "write signs that stand for themselves with a backslash: `\\.`, `\\(`",
            )
        })
    };
    match check {
        Check::Log { pattern: text } => match pattern(text) {
            Ok(pattern) => Prepared::Log(Arc::new(LogMatch { pattern, matched: AtomicBool::new(false) })),
            Err(failure) => Prepared::Unusable(failure),
        },
        Check::Http { at, tls, headers, path, body, .. } => {
            if let Err(failure) = http::sound(path, headers) {
                return Prepared::Unusable(failure);
            }
            let client = if *tls { Some(https::client(at)) } else { None };
            match (body.as_deref().map(pattern).transpose(), client.transpose()) {
                (Ok(body), Ok(client)) => Prepared::Http(body, client),
                (Err(failure), _) | (_, Err(failure)) => Prepared::Unusable(failure),
            }
        }
        Check::Notify => Prepared::Notify(Arc::clone(notified)),
        _ => Prepared::Plain,
    }
}

async fn unix(path: &Path) -> Verdict {
    match UnixStream::connect(path).await {
        Ok(_) => Ok(Hit::new(format!("{} accepts connections", path.display()))),
        Err(error) => Err(Miss::new(match error.kind() {
            std::io::ErrorKind::NotFound => format!("{} is not there", path.display()),
            std::io::ErrorKind::ConnectionRefused => format!("nobody listens on {}", path.display()),
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
    let checks = Checks::new(&ReadySpec::new(vec![check.clone()]), &Arc::default());
    let context = Context { gate: Gate::new(None, String::new()), commands: None, began, timeout };
    match checks.attempt(&context).await {
        Ok(hit) => Ok(format!("{} in {}", hit.answer, spent(began.elapsed()))),
        Err(miss) => Err((miss.answer, miss.fatal)),
    }
}
