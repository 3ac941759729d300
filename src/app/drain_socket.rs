//! Where a gateway is notified that a copy is about to be stopped: it sends nothing more there, and says when what it had sent is
//! answered. One line in, two lines out; the supervisor waits for the second before it signals the copy. Whoever asks how its
//! routes are used gets one line of JSON.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use devrun_gateway::{RouteCounts, Upstreams};
use devrun_keeper::system_limits;
use devrun_model::route_usage::{ROUTE_USAGE_REQUEST, RouteUsage};
use devrun_model::{DrainRequest, Failure, FailureKind, Paths, ServiceId, ServiceStatus};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// A longer line is not a request.
const LONGEST: u64 = 4096;

/// Listens in the gateway's own runtime directory, which is private. The process's number is part of the name, as two processes
/// of a gateway may overlap.
///
/// # Errors
/// When the socket cannot be made.
pub fn bind(path: &Path) -> Result<(UnixListener, BoundPath), Failure> {
    let path = path.with_extension(std::process::id().to_string());
    // Of an earlier process with the same number.
    let _absent = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(|error| {
        if system_limits::is_reached(&error) {
            return Failure::new(FailureKind::Internal, format!("cannot open a socket: {error}"))
                .help(system_limits::help(&error));
        }
        let parent = path.parent().unwrap_or(&path).display();
        Failure::new(FailureKind::Config, format!("cannot listen on {}: {error}", path.display()))
            .help(format!("check owner, mode and free space: ls -ld '{parent}'; df -h '{parent}'"))
    })?;
    Ok((listener, BoundPath(path)))
}

/// The name of a socket; it is removed with this.
pub struct BoundPath(PathBuf);

impl Drop for BoundPath {
    fn drop(&mut self) {
        // The directory may have been emptied for the next process.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Answers for as long as this process lives.
pub async fn serve(listener: UnixListener, upstreams: Arc<Upstreams>, counts: Arc<RouteCounts>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (upstreams, counts) = (Arc::clone(&upstreams), Arc::clone(&counts));
                tokio::spawn(async move {
                    // Whoever asked is gone: the mark stays, as the copy is being stopped all the same.
                    let _gone = answer(stream, &upstreams, &counts).await;
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn answer(stream: UnixStream, upstreams: &Upstreams, counts: &RouteCounts) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt;
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(LONGEST)).read_line(&mut line).await?;
    if line.trim_end() == ROUTE_USAGE_REQUEST {
        let mut text = serde_json::to_vec(&counts.usage())?;
        text.push(b'\n');
        return writer.write_all(&text).await;
    }
    let request: DrainRequest = serde_json::from_str(&line)?;
    upstreams.drain(&request.name, request.pid);
    writer.write_all(b"draining\n").await?;
    upstreams.idle(&request.name).await;
    writer.write_all(b"idle\n").await
}

/// How long a gateway may take to say how its routes are used.
const ASKED: Duration = Duration::from_secs(1);

/// How the routes of a service are used; `None`: not a gateway, or not running.
pub async fn route_usage(places: &Paths, service: &ServiceStatus) -> Option<Vec<RouteUsage>> {
    let id = ServiceId::parse(&service.name).ok()?;
    let path = places.service_run(&id).join(DrainRequest::SOCKET).with_extension(service.pid?.to_string());
    let asked = async {
        let (reader, mut writer) = UnixStream::connect(path).await.ok()?.into_split();
        writer.write_all(format!("{ROUTE_USAGE_REQUEST}\n").as_bytes()).await.ok()?;
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).await.ok()?;
        serde_json::from_str(&line).ok()
    };
    tokio::time::timeout(ASKED, asked).await.ok().flatten()
}
