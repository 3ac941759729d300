//! The caller's end.

use std::io;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use devrun_model::feed::{FeedItem, Status};
use devrun_model::{Command, Failure, FailureKind, Paths, PlannedChanges, RestartTargets, ServiceId};

use super::protocol::{ControlReply, ControlRequest, Hello, MAX_LINE, VERSION};

type Wire = Framed<UnixStream, LinesCodec>;

/// A connection to a supervisor.
#[derive(Debug)]
pub struct ControlClient {
    requests: ControlSender,
    replies: ControlReceiver,
    /// Who answered.
    pub hello: Hello,
}

/// The half of a connection that asks.
#[derive(Debug)]
pub struct ControlSender(SplitSink<Wire, String>);

/// The half of a connection that is answered.
#[derive(Debug)]
pub struct ControlReceiver(SplitStream<Wire>);

/// How long a supervisor may take to say hello; one that is stopped (SIGSTOP) accepts in the kernel and says nothing.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

impl ControlClient {
    /// Connects and reads the hello. `None`: nothing listens, or not the process that holds the instance lock.
    ///
    /// # Errors
    /// `Elsewhere` when it does not answer, belongs to another user, or speaks another version.
    pub async fn connect(places: &Paths) -> Result<Option<Self>, Failure> {
        let stream = match UnixStream::connect(places.socket()).await {
            Ok(stream) => stream,
            // Reset: it was killed while we stood in its queue.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
                ) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(Failure::new(FailureKind::Elsewhere, format!("the supervisor cannot be reached: {error}"))
                    .help("devrun down --emergency ends it and what it runs"));
            }
        };
        if !listens_for(places, &stream) {
            return Ok(None);
        }
        let us = nix::unistd::geteuid().as_raw();
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == us || peer.uid() == 0) {
            return Err(Failure::new(FailureKind::Elsewhere, "the control socket belongs to another user")
                .help(format!("remove {}", places.run.display())));
        }
        let mut wire = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
        let line = match tokio::time::timeout(REPLY_TIMEOUT, wire.next()).await {
            Ok(Some(Ok(line))) => line,
            // It ended while we called: nobody listens any more.
            Ok(None | Some(Err(LinesCodecError::Io(_)))) => return Ok(None),
            Ok(Some(Err(error))) => return Err(silent(&error.to_string())),
            Err(_) => return Err(silent("it does not answer")),
        };
        let hello: Hello = serde_json::from_str(&line).map_err(|error| silent(&error.to_string()))?;
        if hello.devrun != VERSION {
            return Err(Failure::new(
                FailureKind::Elsewhere,
                format!(
                    "the supervisor is devrun {} (protocol {}), this is {}",
                    hello.version,
                    hello.devrun,
                    env!("CARGO_PKG_VERSION")
                ),
            )
            .help("devrun down --emergency ends it; then `devrun up`"));
        }
        let (requests, replies) = wire.split();
        Ok(Some(Self { requests: ControlSender(requests), replies: ControlReceiver(replies), hello }))
    }

    /// Both halves, for a caller that reads while it is still sending: a supervisor whose reply is not read reads no request either.
    #[must_use]
    pub fn split(self) -> (ControlSender, ControlReceiver) {
        (self.requests, self.replies)
    }

    async fn send(&mut self, ask: &ControlRequest) -> Result<(), Failure> {
        self.requests.send(ask).await
    }

    /// The next reply; `None` when the supervisor has ended.
    ///
    /// # Errors
    /// `Elsewhere` when it sends something else than a reply.
    pub async fn next(&mut self) -> Result<Option<ControlReply>, Failure> {
        self.replies.next().await
    }

    /// The present state.
    ///
    /// # Errors
    /// `Elsewhere` when it does not answer.
    pub async fn status(&mut self) -> Result<Option<Status>, Failure> {
        self.send(&ControlRequest::Status).await?;
        self.until(|reply| match reply {
            ControlReply::Status(status) => Some(*status),
            _ => None,
        })
        .await
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// `Elsewhere` when it does not answer.
    pub async fn watch(&mut self) -> Result<Option<Status>, Failure> {
        self.send(&ControlRequest::Watch).await?;
        self.until(|reply| match reply {
            ControlReply::Status(status) => Some(*status),
            _ => None,
        })
        .await
    }

    /// Begins to watch on behalf of a service of the stack.
    ///
    /// # Errors
    /// `Elsewhere` when it does not answer.
    pub async fn follow(&mut self) -> Result<Option<Status>, Failure> {
        self.send(&ControlRequest::Follow).await?;
        self.until(|reply| match reply {
            ControlReply::Status(status) => Some(*status),
            _ => None,
        })
        .await
    }

    /// Asks for something; what comes of it is seen by watching.
    ///
    /// # Errors
    /// `Elsewhere` when it cannot be sent.
    pub async fn command(&mut self, token: u64, command: Command) -> Result<(), Failure> {
        self.send(&ControlRequest::Do { token, command: Box::new(command) }).await
    }

    /// INT, as from a terminal.
    ///
    /// # Errors
    /// `Elsewhere` when it cannot be sent.
    pub async fn interrupt(&mut self) -> Result<(), Failure> {
        self.send(&ControlRequest::Interrupt).await
    }

    /// What only the supervisor knows of a service.
    ///
    /// # Errors
    /// `Elsewhere` when it does not answer.
    pub async fn inspect(&mut self, id: &ServiceId) -> Result<Option<serde_json::Value>, Failure> {
        self.send(&ControlRequest::Inspect(id.clone())).await?;
        Ok(self
            .until(|reply| match reply {
                ControlReply::Inspected(value) => Some(value),
                _ => None,
            })
            .await?
            .flatten())
    }

    /// Sits down at a service's terminal; what it writes comes out of [`ControlClient::next`].
    ///
    /// # Errors
    /// `Config` when it has none, `Elsewhere` when it or its supervisor does not run.
    pub async fn attach(&mut self, id: &ServiceId, columns: u16, rows: u16) -> Result<(), Failure> {
        self.send(&ControlRequest::Attach { id: id.clone(), columns, rows }).await?;
        let answer = self
            .until(|reply| match reply {
                ControlReply::Attached => Some(Ok(())),
                ControlReply::NotAttached(failure) => Some(Err(failure)),
                _ => None,
            })
            .await?;
        answer.unwrap_or_else(|| Err(silent("it ended")))
    }

    /// What `up` with this plan would do to each service, or `restart` where that is meant.
    ///
    /// # Errors
    /// `Elsewhere` when it does not answer.
    pub async fn changes(
        &mut self,
        plan: std::sync::Arc<devrun_model::Plan>,
        restart: Option<RestartTargets>,
    ) -> Result<Option<PlannedChanges>, Failure> {
        let request = match restart {
            None => ControlRequest::Changes(plan),
            Some(targets) => ControlRequest::RestartChanges(plan, targets),
        };
        self.send(&request).await?;
        self.until(|reply| match reply {
            ControlReply::Changes(changes) => Some(changes),
            _ => None,
        })
        .await
    }

    /// The next item of the feed; `None` when the supervisor has ended.
    ///
    /// # Errors
    /// `Elsewhere` when it sends something else than a reply.
    pub async fn item(&mut self) -> Result<Option<FeedItem>, Failure> {
        self.until(|reply| match reply {
            ControlReply::Item(item) => Some(item),
            _ => None,
        })
        .await
    }

    async fn until<T>(&mut self, pick: impl Fn(ControlReply) -> Option<T>) -> Result<Option<T>, Failure> {
        loop {
            match self.next().await? {
                None => return Ok(None),
                Some(ControlReply::Refused(why)) => return Err(silent(&why)),
                Some(reply) => {
                    if let Some(found) = pick(reply) {
                        return Ok(Some(found));
                    }
                }
            }
        }
    }
}

impl ControlSender {
    async fn send(&mut self, ask: &ControlRequest) -> Result<(), Failure> {
        let line = serde_json::to_string(ask).map_err(|error| silent(&error.to_string()))?;
        if line.len() > MAX_LINE {
            return Err(Failure::new(
                FailureKind::Config,
                format!("the plan takes {} bytes; the supervisor accepts at most {MAX_LINE}", line.len()),
            )
            .help("devrun down, then devrun up: a first `up` sends nothing"));
        }
        match self.0.send(line).await {
            // A supervisor that has ended is noticed by reading, which also gives its last words.
            Ok(()) | Err(LinesCodecError::Io(_)) => Ok(()),
            Err(error) => Err(silent(&error.to_string())),
        }
    }

    /// Types at an attached terminal.
    ///
    /// # Errors
    /// `Elsewhere` when it cannot be sent.
    pub async fn keys(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        self.send(&ControlRequest::Keys(bytes)).await
    }

    /// The window has another size now.
    ///
    /// # Errors
    /// `Elsewhere` when it cannot be sent.
    pub async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), Failure> {
        self.send(&ControlRequest::Resize { columns, rows }).await
    }
}

impl ControlReceiver {
    /// The next reply; `None` when the supervisor has ended.
    ///
    /// # Errors
    /// `Elsewhere` when it sends something else than a reply.
    pub async fn next(&mut self) -> Result<Option<ControlReply>, Failure> {
        match self.0.next().await {
            None => Ok(None),
            Some(Ok(line)) => serde_json::from_str(&line).map(Some).map_err(|error| silent(&error.to_string())),
            // A supervisor that was killed resets the connection.
            Some(Err(_)) => Ok(None),
        }
    }
}

/// Whether the process that listens is the one that the instance lock names. The kernel says who listens (SO_PEERCRED of
/// unix(7)); a process in a namespace below ours is named by its number there, one in a namespace above has none here.
/// Where the lock file is gone there is nothing to compare with.
fn listens_for(places: &Paths, stream: &UnixStream) -> bool {
    let Ok(named) = std::fs::read_to_string(places.instance_lock()) else { return true };
    let Some(peer) = stream.peer_cred().ok().and_then(|peer| peer.pid()) else { return true };
    let Ok(named) = named.trim().parse::<i32>() else { return true };
    let inner = || {
        let status = std::fs::read_to_string(format!("/proc/{peer}/status")).ok()?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        numbers.split_ascii_whitespace().last()?.parse::<i32>().ok()
    };
    peer == named || peer == 0 || inner() == Some(named)
}

fn silent(why: &str) -> Failure {
    Failure::new(FailureKind::Elsewhere, format!("the supervisor cannot be reached: {why}"))
        .help("devrun down --emergency ends it and what it runs")
}
