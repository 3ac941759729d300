//! The threads that serve connections. Each has an event loop and a pool of connections to services of its own, so that a request,
//! its upstream connection and the answer stay on one thread and no other one is woken for them (docs/adr/0014-gateway-threads.md).

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::upstream_client::UpstreamClient;

/// All threads of one server. They end when this is dropped, and what they still serve is cut.
pub(crate) struct Workers {
    all: Vec<Worker>,
    next: AtomicUsize,
}

struct Worker {
    runtime: Handle,
    client: Arc<UpstreamClient>,
    /// Both absent once it is being ended.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// Starts a thread for each processor.
    pub(crate) fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, NonZero::get);
        Ok(Self { all: (0..count).map(|_| Worker::start()).collect::<io::Result<_>>()?, next: AtomicUsize::new(0) })
    }

    /// Serves a connection on the thread whose turn it is.
    pub(crate) fn serve<F>(&self, stream: TcpStream, serve: impl FnOnce(TcpStream, Arc<UpstreamClient>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        // One that cannot change its event loop is closed by being dropped.
        let (Some(worker), Ok(stream)) = (self.all.get(turn % self.all.len()), stream.into_std()) else { return };
        let client = Arc::clone(&worker.client);
        worker.runtime.spawn(async move {
            if let Ok(stream) = TcpStream::from_std(stream) {
                serve(stream, client).await;
            }
        });
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("gateway-worker".to_owned()).spawn(move || {
            let _stopped = runtime.block_on(stopped);
            // A file that is just being read is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, client: Arc::new(UpstreamClient::new()), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Workers {
    /// Returns when everything is cut, so that the access log has the lines of what was.
    fn drop(&mut self) {
        self.all.iter_mut().for_each(|worker| drop(worker.stop.take()));
        for thread in self.all.iter_mut().filter_map(|worker| worker.thread.take()) {
            let _panicked = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::mpsc::channel;
    use std::time::Duration;
    use tokio::net::TcpListener;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Connections that are accepted, and their other ends.
    async fn connections(count: usize) -> Vec<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut all = Vec::new();
        for _ in 0..count {
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            all.push((listener.accept().await.unwrap().0, client));
        }
        all
    }

    #[tokio::test]
    async fn connections_are_spread_over_the_threads() {
        let workers = Workers::start().unwrap();
        let (seen, threads) = channel();
        for (stream, _client) in connections(3 * workers.all.len()).await {
            let seen = seen.clone();
            workers.serve(stream, move |stream, _| async move {
                let before = std::thread::current().id();
                stream.writable().await.unwrap();
                tokio::task::yield_now().await;
                assert_eq!(std::thread::current().id(), before);
                seen.send(before).unwrap();
            });
        }
        let mut counts = BTreeMap::new();
        for _ in 0..3 * workers.all.len() {
            *counts.entry(format!("{:?}", threads.recv_timeout(PATIENCE).unwrap())).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), workers.all.len());
        assert!(counts.values().all(|count| *count == 3), "{counts:?}");
    }

    #[tokio::test]
    async fn the_end_cuts_what_is_being_served() {
        let workers = Workers::start().unwrap();
        let (begun, is_begun) = channel();
        let held = Arc::new(());
        let inner = Arc::clone(&held);
        let (stream, _client) = connections(1).await.remove(0);
        workers.serve(stream, move |_stream, _| async move {
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(inner);
        });
        is_begun.recv_timeout(PATIENCE).unwrap();
        drop(workers);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
