//! The supervisor's end: accepts, checks who calls, serves.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use crate::engine::{Attachment, EngineHandle, WaitingKeys};
use devrun_model::Paths;

use super::connections::{ConnectionSlot, MAX_STAYING, OpenConnections};
use super::protocol::{ControlReply, ControlRequest, Hello, MAX_LINE, VERSION};

/// How long a client may take for its first line, and to take one of ours. A client asks as soon as it was greeted, so one
/// that says nothing only takes up a place.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often one looks whether a client is still there of which nothing is read.
const HELD_LOOK: Duration = Duration::from_millis(500);

/// A bound socket; removed when it is dropped.
#[derive(Debug)]
pub struct BoundSocket {
    listener: UnixListener,
    /// Where it is, and which file.
    place: SocketFile,
}

/// The file of a bound socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Whether the file is still there: not removed, and nothing else in its place.
    #[must_use]
    pub fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == (self.device, self.inode))
    }
}

impl BoundSocket {
    /// Its file.
    #[must_use]
    pub fn place(&self) -> SocketFile {
        self.place.clone()
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        // What was put in its place is not ours to remove; the folder goes at the end of the run anyway.
        if self.place.is_there() {
            let _gone = std::fs::remove_file(&self.place.path);
        }
    }
}

/// Binds under a temporary name and renames, so that a client never finds a socket nobody listens on yet; a stale one of an
/// earlier run is replaced. Only the holder of the instance lock may call this.
///
/// # Errors
/// As the system says.
pub fn bind(places: &Paths) -> io::Result<BoundSocket> {
    let path = places.socket();
    let temporary = path.with_extension("new");
    for place in [&path, &temporary] {
        move_directory_away(place)?;
    }
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&temporary)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
    let meta = std::fs::symlink_metadata(&temporary)?;
    std::fs::rename(&temporary, &path)?;
    Ok(BoundSocket { listener, place: SocketFile { path, device: meta.dev(), inode: meta.ino() } })
}

/// A directory in the place of a file of ours can be replaced by none. It is kept under another name: what is in it is not ours.
fn move_directory_away(place: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(place).is_ok_and(|meta| meta.is_dir()) {
        return Ok(());
    }
    let free = (1..).map(|number: u32| place.with_extension(format!("moved-{number}"))).find(|to| to.symlink_metadata().is_err());
    free.map_or(Ok(()), |to| std::fs::rename(place, to))
}

/// Serves until the task is dropped. `renewed`: sockets that take the place of the first.
pub async fn serve(
    mut bound: BoundSocket,
    mut renewed: mpsc::UnboundedReceiver<BoundSocket>,
    connections: OpenConnections,
    engine: EngineHandle,
    project: String,
    root: PathBuf,
) {
    loop {
        let accepted = tokio::select! {
            accepted = bound.listener.accept() => accepted,
            Some(next) = renewed.recv() => {
                bound = next;
                continue;
            }
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // Out of descriptors, most likely: the backlog keeps the caller waiting meanwhile.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if !is_allowed(&stream) {
            continue;
        }
        let Some(connection) = connections.admit().await else { continue };
        let (engine, project, root) = (engine.clone(), project.clone(), root.clone());
        tokio::spawn(async move {
            let evicted = connection.evicted();
            tokio::select! {
                () = evicted => {}
                // A connection that breaks has told its client so already.
                _broken = serve_connection(stream, engine, &project, &root, connection) => {}
            }
        });
    }
}

/// The folder keeps others out already; the peer's uid is the second lock.
fn is_allowed(stream: &UnixStream) -> bool {
    let us = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == us || peer.uid() == 0)
}

type LineFramed = Framed<UnixStream, LinesCodec>;

async fn send(wire: &mut LineFramed, reply: &impl serde::Serialize) -> io::Result<()> {
    let line = serde_json::to_string(reply)?;
    match tokio::time::timeout(REPLY_TIMEOUT, wire.send(line)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(io::Error::other(error)),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The next line; `None` when the client has gone. While it is `held`, nothing is read, and its lines wait in the socket.
async fn next_line(wire: &mut LineFramed, held: bool) -> Option<Result<String, LinesCodecError>> {
    if !held {
        return wire.next().await;
    }
    // What waits in the socket hides the end of the stream behind it.
    while !is_hung_up(wire.get_ref()) {
        tokio::time::sleep(HELD_LOOK).await;
    }
    None
}

fn is_hung_up(stream: &UnixStream) -> bool {
    let mut look = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let found = poll(&mut look, PollTimeout::ZERO);
    found.is_ok_and(|count| count > 0)
        && look[0].revents().is_some_and(|events| events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

async fn serve_connection(
    stream: UnixStream,
    engine: EngineHandle,
    project: &str,
    root: &Path,
    mut connection: ConnectionSlot,
) -> io::Result<()> {
    let mut wire = Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE));
    let hello = Hello {
        devrun: VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id().cast_signed(),
        project: project.to_owned(),
        root: root.display().to_string(),
    };
    send(&mut wire, &hello).await?;
    let mut feed: Option<tokio::sync::mpsc::Receiver<Arc<devrun_model::feed::FeedItem>>> = None;
    let mut terminal: Option<Attachment> = None;
    let mut waiting_keys: Option<WaitingKeys> = None;
    let mut asked = false;
    let silent = tokio::time::sleep(REPLY_TIMEOUT);
    tokio::pin!(silent);
    loop {
        tokio::select! {
            () = &mut silent, if !asked => return Ok(()),
            // A service that answers what is typed with more than that would fill the queue of a viewer that reads all the time, and
            // one that does not read what is typed would let it grow.
            line = next_line(&mut wire, waiting_keys.is_some() || terminal.as_ref().is_some_and(Attachment::is_behind)) => {
                let Some(line) = line else { return Ok(()) };
                let line = match line {
                    Ok(line) => line,
                    Err(error) => {
                        // Too long or no text. It may still be writing, so it may not read this.
                        let _unread = send(&mut wire, &ControlReply::Refused(error.to_string())).await;
                        return Err(io::Error::other(error));
                    }
                };
                asked = true;
                connection.asked();
                let reply = match serde_json::from_str::<ControlRequest>(&line) {
                    Err(error) => Some(ControlReply::Refused(error.to_string())),
                    Ok(ControlRequest::Status) => match engine.status().await {
                        Some(status) => Some(ControlReply::Status(Box::new(status))),
                        None => return Ok(()),
                    },
                    Ok(ControlRequest::Watch | ControlRequest::Follow | ControlRequest::Attach { .. }) if !connection.stay() => {
                        Some(ControlReply::Refused(format!("{MAX_STAYING} clients watch already")))
                    }
                    Ok(request @ (ControlRequest::Watch | ControlRequest::Follow)) => {
                        let takes_seat = matches!(request, ControlRequest::Watch);
                        let subscribed = if takes_seat { engine.subscribe().await } else { engine.follow().await };
                        let Some((status, receiver)) = subscribed else { return Ok(()) };
                        feed = Some(receiver);
                        Some(ControlReply::Status(Box::new(status)))
                    }
                    Ok(ControlRequest::Do { token, command }) => {
                        engine.command(token, *command);
                        Some(ControlReply::Taken)
                    }
                    Ok(ControlRequest::Interrupt) => {
                        engine.interrupt();
                        Some(ControlReply::Taken)
                    }
                    Ok(ControlRequest::Attach { id, columns, rows }) => Some(match engine.attach(id).await {
                        Ok(attachment) => {
                            attachment.resize(columns, rows);
                            terminal = Some(attachment);
                            ControlReply::Attached
                        }
                        Err(failure) => ControlReply::NotAttached(failure),
                    }),
                    Ok(ControlRequest::Keys(bytes)) => {
                        if let Some(terminal) = &terminal {
                            waiting_keys = terminal.keys(bytes);
                        }
                        None
                    }
                    Ok(ControlRequest::Resize { columns, rows }) => {
                        if let Some(terminal) = &terminal {
                            terminal.resize(columns, rows);
                        }
                        None
                    }
                    Ok(ControlRequest::Changes(plan)) => match engine.changes(plan, None).await {
                        Some(changes) => Some(ControlReply::Changes(changes)),
                        None => return Ok(()),
                    },
                    Ok(ControlRequest::RestartChanges(plan, targets)) => match engine.changes(plan, Some(targets)).await {
                        Some(changes) => Some(ControlReply::Changes(changes)),
                        None => return Ok(()),
                    },
                    Ok(ControlRequest::Inspect(id)) => Some(ControlReply::Inspected(engine.inspect(id).await)),
                };
                if let Some(reply) = reply {
                    send(&mut wire, &reply).await?;
                }
            }
            bytes = async { match &mut terminal { Some(terminal) => terminal.screen().await, None => std::future::pending().await } } => {
                match bytes {
                    Some(bytes) => send(&mut wire, &ControlReply::Screen(bytes.to_vec())).await?,
                    // Closed, as for one that takes no line of ours in time: the service has not ended.
                    None if terminal.as_ref().is_some_and(Attachment::is_overrun) => return Ok(()),
                    None => {
                        (terminal, waiting_keys) = (None, None);
                        send(&mut wire, &ControlReply::ScreenEnded).await?;
                    }
                }
            }
            () = async { match &waiting_keys { Some(keys) => keys.place().await, None => std::future::pending().await } } => {
                waiting_keys.take().into_iter().for_each(WaitingKeys::send);
            }
            item = async { match &mut feed { Some(feed) => feed.recv().await, None => std::future::pending().await } } => {
                match item {
                    Some(item) => send(&mut wire, &ControlReply::Item((*item).clone())).await?,
                    // The engine has ended, or we were too slow for it.
                    None => return Ok(()),
                }
            }
        }
    }
}
