//! The shared address of copies that do not speak HTTP: each connection goes to the copy with the fewest, and bytes go both ways
//! until both sides have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::access_log::AccessLog;
use super::connect::connect;
use super::upstreams::{Choice, Lease, Unavailable, Upstreams};

/// How long a connection waits for a copy that is starting.
const WAIT: Duration = Duration::from_secs(10);
/// Between two tries while every copy refuses.
const RETRY: Duration = Duration::from_millis(50);
/// At the end connections may continue for this long.
const DRAIN: Duration = Duration::from_secs(5);
/// For each direction.
const BUFFER: usize = 16 * 1024;

/// Serves until `ended` returns.
pub async fn serve_streams(
    listener: TcpListener,
    upstreams: Arc<Upstreams>,
    service: String,
    log: AccessLog,
    ended: impl Future<Output = ()>,
) {
    let (service, open) = (Arc::<str>::from(service), Arc::new(AtomicUsize::new(0)));
    tokio::pin!(ended);
    loop {
        let accepted = tokio::select! {
            () = &mut ended => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (upstreams, service, log) = (Arc::clone(&upstreams), Arc::clone(&service), log.clone());
                let counted = Counted::begin(&open);
                tokio::spawn(async move {
                    if let Err(reason) = join(stream, &upstreams, &service).await {
                        log.error(reason);
                    }
                    drop(counted);
                });
            }
            // Out of descriptors, most likely: the backlog keeps callers waiting meanwhile.
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
    drop(listener);
    let until = Instant::now() + DRAIN;
    while open.load(Ordering::Relaxed) > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One open connection.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn begin(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Joins a client with a copy. An error is that there was none.
async fn join(mut client: TcpStream, upstreams: &Upstreams, service: &str) -> Result<(), String> {
    let (mut upstream, mut lease) = connect_copy(upstreams, service).await?;
    // It may last for ever, as those of a pool do: no one waits for its end.
    lease.without_end();
    // Small messages would wait for an acknowledgement; a connection that is gone already shows by itself.
    let _ended = client.set_nodelay(true).and_then(|()| upstream.set_nodelay(true));
    // A reset is how many clients hang up.
    let _reset = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await;
    Ok(())
}

/// A connection to the least busy copy; it waits for one that is starting, and goes to the next where one refuses.
async fn connect_copy(upstreams: &Upstreams, service: &str) -> Result<(TcpStream, Lease), String> {
    let mut changes = upstreams.changes();
    let deadline = Instant::now() + WAIT;
    let mut tried: Vec<Arc<str>> = Vec::new();
    loop {
        let (why, pause) = match upstreams.choose(service, "main", &tried) {
            Choice::Use(lease) => match connect(&lease.address.authority).await {
                Ok(stream) => return Ok((stream, lease)),
                Err(_) => {
                    tried.push(Arc::clone(&lease.address.authority));
                    continue;
                }
            },
            Choice::Exhausted(why) => (why, RETRY),
            Choice::Wait(why) => (why, deadline.saturating_duration_since(Instant::now())),
            Choice::Down(Unavailable { state, reason }) => {
                let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                return Err(format!("a connection was closed: {service} is {state}{reason}"));
            }
            Choice::Unknown => return Err(format!("a connection was closed: {service} is not part of this run")),
        };
        tried.clear();
        if Instant::now() >= deadline {
            return Err(format!("a connection was closed: {service} is {} after {} s", why.state, WAIT.as_secs()));
        }
        tokio::select! {
            () = changes.next() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::upstreams::{Availability, Upstream};

    /// A server that sends its number and closes.
    async fn numbered(number: u8) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).await.is_ok() {
                        if stream.write_all(&[byte[0], number]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    fn copy(name: &str, port: u16, availability: Availability) -> Upstream {
        Upstream {
            name: name.to_owned(),
            pid: Some(1),
            host: "127.0.0.1".to_owned(),
            ports: BTreeMap::from([("main".to_owned(), port)]),
            availability,
            state: "running".to_owned(),
            reason: None,
        }
    }

    async fn shared(copies: Vec<Upstream>) -> (u16, Arc<Upstreams>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstreams = Arc::new(Upstreams::new());
        upstreams.replace(BTreeMap::from([("api".to_owned(), copies)]));
        let (log, _writer) = AccessLog::start(None).unwrap();
        tokio::spawn(serve_streams(listener, Arc::clone(&upstreams), "api".to_owned(), log, std::future::pending()));
        (port, upstreams)
    }

    async fn ask(stream: &mut TcpStream) -> u8 {
        stream.write_all(b"x").await.unwrap();
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[0], b'x');
        answer[1]
    }

    #[tokio::test]
    async fn connections_go_to_the_copy_with_the_fewest_and_past_one_that_refuses() {
        let (one, two) = (numbered(1).await, numbered(2).await);
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let refuses = dead.local_addr().unwrap().port();
        drop(dead);
        let (port, _upstreams) = shared(vec![
            copy("api.1", one, Availability::Ready),
            copy("api.2", two, Availability::Ready),
            copy("api.3", refuses, Availability::Ready),
        ])
        .await;
        let mut open = Vec::new();
        let mut by = [0, 0, 0];
        for _ in 0..8 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            by[usize::from(ask(&mut stream).await)] += 1;
            open.push(stream);
        }
        assert_eq!(by, [0, 4, 4]);
    }

    #[tokio::test]
    async fn a_connection_waits_for_a_copy_that_is_starting_and_is_closed_for_one_that_is_down() {
        let one = numbered(1).await;
        let (port, upstreams) = shared(vec![copy("api.1", one, Availability::Starting)]).await;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        upstreams.replace(BTreeMap::from([("api".to_owned(), vec![copy("api.1", one, Availability::Ready)])]));
        assert_eq!(ask(&mut stream).await, 1);
        upstreams.replace(BTreeMap::from([("api".to_owned(), vec![copy("api.1", one, Availability::Down)])]));
        let mut closed = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert_eq!(closed.read(&mut [0]).await.unwrap_or(0), 0);
    }
}
