//! Before a copy behind a gateway or a shared address is signalled, those in front of it are notified: they send nothing more to
//! it, and say when what they had sent is answered. So no request meets a server that is ending.

use std::path::{Path, PathBuf};
use std::time::Duration;

use devrun_model::{DrainRequest, Launch, ServiceId, ServiceSpec, State};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::engine_state::Engine;

/// Of the grace period so much is left for the stop itself.
const LEFT_FOR_STOP: Duration = Duration::from_secs(2);

impl Engine {
    /// The sockets of those that send requests to a copy; none while everything is being stopped, as they go first then.
    pub(super) fn drains_of(&self, spec: &ServiceSpec) -> Vec<PathBuf> {
        if self.core.is_stopping() || spec.ports.is_empty() {
            return Vec::new();
        }
        let is_up = |state: Option<State>| matches!(state, Some(State::Running | State::Starting));
        let gateways = self.core.service_views().into_iter().filter(|view| is_up(Some(view.state))).filter(|view| {
            let gateway = self.core.spec(&view.id).and_then(|spec| match &spec.launch {
                Launch::Recipe(recipe) => recipe.gateway.as_ref(),
                _ => None,
            });
            gateway.is_some_and(|gateway| gateway.upstreams.contains_key(&spec.service))
        });
        let mut ids: Vec<ServiceId> = gateways.map(|view| view.id).collect();
        if spec.shared.is_some() {
            ids.push(ServiceId::single(&spec.service));
        }
        ids.iter().flat_map(|id| drain_sockets(&self.places.service_run(id))).collect()
    }
}

/// The sockets of all processes of a gateway; two overlap while one replaces the other. A directory that cannot be read has none.
fn drain_sockets(dir: &Path) -> Vec<PathBuf> {
    let stem = Path::new(DrainRequest::SOCKET).file_stem();
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.file_stem() == stem && path.extension().is_some()).collect()
}

/// Waits until nothing is in flight on a copy, or most of its grace period is over. One that does not answer is not waited for.
pub(super) async fn wait(sockets: Vec<PathBuf>, id: &ServiceId, pid: Option<i32>, grace: Duration) {
    let limit = grace.saturating_sub(LEFT_FOR_STOP).max(grace / 2);
    let request = DrainRequest { name: id.to_string(), pid };
    let asked: Vec<_> = sockets
        .into_iter()
        .map(|socket| {
            let request = request.clone();
            tokio::spawn(async move {
                // A gateway that has just ended has no requests.
                let _gone = ask(&socket, &request).await;
            })
        })
        .collect();
    let all = async {
        for one in asked {
            // It was not aborted, and does not panic.
            let _done = one.await;
        }
    };
    // Requests that take longer are cut by the stop.
    let _late = tokio::time::timeout(limit, all).await;
}

async fn ask(socket: &std::path::Path, request: &DrainRequest) -> std::io::Result<()> {
    let (reader, mut writer) = UnixStream::connect(socket).await?.into_split();
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    writer.write_all(line.as_bytes()).await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        if line == "idle" {
            break;
        }
    }
    Ok(())
}
