//! `devrun __gateway`: joins the HTTP server of `devrun-gateway` with what the supervisor says of the services behind it.
//!
//! The supervisor is followed over its control socket: at each change of a routed service the whole state is asked for, as a
//! restart may have changed ports too. While no supervisor answers, what was known last holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use devrun_gateway::{AccessLog, Availability, Gateway, RouteCounts, Upstream, Upstreams};
use devrun_keeper::system_limits;
use devrun_model::feed::FeedItem;
use devrun_model::ready::Endpoint;
use devrun_model::{
    Failure, FailureKind, FixedCopy, GatewayConfig, GatewayKind, GatewaySpec, Health, Paths, ServiceName, ServiceStatus,
    Snapshot, State, exit,
};
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;

use crate::app::{connect, drain_socket, port_conflicts, runtime, signals};

/// Between two tries to find the supervisor.
const RECONNECT: Duration = Duration::from_millis(250);

/// Serves until TERM or INT.
///
/// # Errors
/// `Config` for a file that is no configuration, `PortTaken` when the address cannot be had.
pub fn run(file: &Path) -> Result<i32, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot read {}: {error}", file.display())))?;
    let config: GatewayConfig = serde_json::from_str(&text)
        .map_err(|error| Failure::new(FailureKind::Config, format!("invalid {}: {error}", file.display())))?;
    // It was started by a link, whose name would be shown.
    #[cfg(target_os = "linux")]
    let _still_named_exe = nix::sys::prctl::set_name(c"devrun-gateway");
    raise_open_files();
    let (log, writer) = AccessLog::start(config.logs.clone()).map_err(internal("the access log cannot be written"))?;
    // Of the requests on a shared address the services have their own logs.
    let log = if config.kind == GatewayKind::Routes { log } else { log.errors_only() };
    let runtime = match config.kind {
        GatewayKind::SharedStreams => runtime::server_runtime()?,
        // HTTP connections are served on threads of their own.
        GatewayKind::Routes | GatewayKind::SharedHttp => runtime::waiting_runtime()?,
    };
    let served = runtime.block_on(serve(config, log.clone()));
    // Streams of a shared address are cut here; the gateway's threads have ended.
    runtime.shutdown_background();
    log.finish(writer);
    served.map(|()| exit::DONE)
}

async fn serve(config: GatewayConfig, log: AccessLog) -> Result<(), Failure> {
    let (mut term, mut int) = (signals::receive(SignalKind::terminate())?, signals::receive(SignalKind::interrupt())?);
    let listener = match devrun_keeper::inherited_socket::take() {
        Some(socket) => socket
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(socket))
            .map_err(internal("cannot use the passed socket"))?,
        // By hand, or of a supervisor that does not pass it.
        None => listen(&config.listen).await?,
    };
    let upstreams = Arc::new(Upstreams::new());
    let (drains, _removed_at_the_end) = drain_socket::bind(&config.drain)?;
    let counts = Arc::new(RouteCounts::new(&config.spec));
    tokio::spawn(drain_socket::serve(drains, Arc::clone(&upstreams), Arc::clone(&counts)));
    if config.spec.copies.is_empty() {
        tokio::spawn(follow(config.places, config.spec.clone(), Arc::clone(&upstreams)));
    } else {
        upstreams.replace(fixed(&config.spec));
    }
    let ended = async {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    if config.kind == GatewayKind::SharedStreams {
        devrun_gateway::serve_streams(listener, upstreams, config.service, log, ended).await;
        return Ok(());
    }
    let gateway = Gateway::new(config.spec, upstreams, log, counts)
        .map_err(|reason| Failure::new(FailureKind::Config, reason).help("check the gateway's `headers` and `tls`"))?;
    devrun_gateway::serve(listener, gateway, ended).await.map_err(internal("cannot start the threads of the gateway"))
}

fn internal(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::new(FailureKind::Internal, format!("{what}: {error}")).help(system_limits::help(&error))
}

async fn listen(at: &Endpoint) -> Result<TcpListener, Failure> {
    let host = match at.host.as_str() {
        "" | "*" => "0.0.0.0",
        host => host.trim_matches(['[', ']']),
    };
    TcpListener::bind((host, at.port)).await.map_err(|error| port_conflicts::cannot_bind(host, at.port, &error))
}

/// Each WebSocket takes two descriptors, and the usual soft limit is that of programs that use `select`.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With the lower limit it serves fewer connections at a time.
        let _as_before = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Keeps `upstreams` up to date for as long as this process lives.
async fn follow(places: Paths, spec: GatewaySpec, upstreams: Arc<Upstreams>) {
    loop {
        // A supervisor that does not answer, or has ended, is looked for again.
        if let Ok(Some(mut client)) = connect::supervisor(&places).await
            && let Ok(Some(status)) = client.follow().await
        {
            upstreams.replace(known(&spec, &status.snapshot));
            while let Ok(Some(item)) = client.item().await {
                if !concerns(&spec, &item) {
                    continue;
                }
                match state(&places).await {
                    Some(snapshot) => upstreams.replace(known(&spec, &snapshot)),
                    None => break,
                }
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Whether something changed for a service that a route leads to.
fn concerns(spec: &GatewaySpec, item: &FeedItem) -> bool {
    let FeedItem::Notice(change) = item else { return false };
    ServiceName::new(change.service.clone()).is_ok_and(|name| spec.upstreams.contains_key(&name))
}

async fn state(places: &Paths) -> Option<Snapshot> {
    let mut client = connect::supervisor(places).await.ok()??;
    client.status().await.ok()?.map(|status| status.snapshot)
}

/// The copies that the configuration names: one that is down refuses its connections.
fn fixed(spec: &GatewaySpec) -> BTreeMap<String, Vec<Upstream>> {
    let upstream = |service: &ServiceName, copy: &FixedCopy| Upstream {
        name: copy.name.clone(),
        pid: None,
        host: spec.upstreams.get(service).map_or_else(|| "127.0.0.1".to_owned(), |upstream| upstream.host.clone()),
        ports: copy.ports.clone(),
        availability: Availability::Ready,
        state: State::Running.to_string(),
        reason: None,
    };
    let all = |(service, copies): (&ServiceName, &Vec<FixedCopy>)| {
        (service.to_string(), copies.iter().map(|copy| upstream(service, copy)).collect())
    };
    spec.copies.iter().map(all).collect()
}

/// The routed services of a snapshot, copy by copy.
fn known(spec: &GatewaySpec, snapshot: &Snapshot) -> BTreeMap<String, Vec<Upstream>> {
    let mut services: BTreeMap<String, Vec<Upstream>> = BTreeMap::new();
    for status in &snapshot.services {
        let Ok(name) = ServiceName::new(status.service.clone()) else { continue };
        let Some(upstream) = spec.upstreams.get(&name) else { continue };
        services.entry(status.service.clone()).or_default().push(Upstream {
            name: status.name.clone(),
            pid: status.pid,
            host: upstream.host.clone(),
            ports: status.ports.clone(),
            availability: availability(status),
            state: status.state.to_string(),
            reason: status.reason.clone(),
        });
    }
    services
}

fn availability(status: &ServiceStatus) -> Availability {
    match (status.state, status.health) {
        (State::Running, Health::Unhealthy) => Availability::Unhealthy,
        // A connection waits in the kernel's queue for the process that it starts.
        (State::Running | State::Asleep, _) => Availability::Ready,
        // Of a restart, most likely; where it is not, the next state says so in a moment.
        (State::Stopping, _)
        | (State::Waiting | State::Fetching | State::Initialising | State::Starting | State::BackingOff, _) => {
            Availability::Starting
        }
        (State::Stopped | State::Completed | State::Failed | State::Blocked | State::Skipped, _) => Availability::Down,
    }
}
