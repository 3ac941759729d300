//! `devrun web`: the browser dashboard and `/metrics`, on loopback.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::ui::term::{Term, data, say};
use devrun_keeper::system_limits;
use devrun_model::{Failure, FailureKind};
use devrun_runtime::ports::{self, PortConflict};
use devrun_web::WebServer;

use crate::app::observer::Observer;
use crate::app::port_conflicts;
use crate::app::session::Signals;
use crate::app::stack_changes::watch_stack;
use crate::app::web_stack::WebStack;
use crate::globals::Globals;

// `web`.
#[derive(Debug, Args)]
pub struct WebArgs {
    /// Port to listen on [default: any free one]
    #[arg(long, value_name = "P", default_value_t = 0, hide_default_value = true)]
    pub port: u16,
    /// Keep the token in this file, made where it is absent [default: a new token each time]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Open the page in the browser
    #[arg(long)]
    pub open: bool,
}

/// Ports that are tried for one to offer.
const CANDIDATES: usize = 100;
/// Bytes of the token.
const TOKEN: usize = 24;

/// Runs it until a signal comes.
///
/// # Errors
/// `Config` when there is no project, `PortTaken` when the port cannot be bound.
pub fn run(globals: &Globals, args: &WebArgs, _term: Term) -> Result<i32, Failure> {
    let observer = Observer::new(globals)?;
    let runtime = crate::app::runtime::runtime()?;
    let code = runtime.block_on(async {
        let mut signals = Signals::take()?;
        let token = args.token_file.as_deref().map_or_else(token, kept_token)?;
        let server = match WebServer::bind(args.port, token).await {
            Ok(server) => server,
            Err(error) => return Err(cannot_bind(args.port, &error).await),
        };
        let url = server.url();
        if data(&url).is_err() {
            return Ok(devrun_model::exit::DONE);
        }
        if args.open {
            open(&url);
        }
        let stack = WebStack::new(observer.clone(), watch_stack(observer));
        tokio::select! {
            () = devrun_web::serve(server, Arc::new(stack)) => Ok(devrun_model::exit::DONE),
            code = signals.next() => Ok(code),
        }
    });
    // Connections that are open end with the process.
    runtime.shutdown_background();
    code
}

/// Who holds the port, and another one.
async fn cannot_bind(port: u16, error: &std::io::Error) -> Failure {
    if system_limits::is_reached(error) {
        return port_conflicts::cannot_bind("127.0.0.1", port, error);
    }
    let reason = match ports::check("127.0.0.1", port) {
        Err(PortConflict::Held(holder)) => {
            let mut named = [(port, holder)];
            port_conflicts::name_projects(&mut named).await;
            let [(_, holder)] = named;
            format!("port {port} is held by {holder}")
        }
        Err(conflict @ PortConflict::Forbidden) => conflict.failure("127.0.0.1", port).reason,
        _ => format!("cannot bind port {port}: {error}"),
    };
    let lowest = port.max(ports::first_unprivileged());
    let help = match (lowest..=u16::MAX).take(CANDIDATES).find(|other| ports::check("127.0.0.1", *other).is_ok()) {
        Some(free) => format!("devrun web --port {free}; or devrun web, which takes any free one"),
        None => "devrun web, which takes any free port".to_owned(),
    };
    Failure::new(FailureKind::PortTaken, reason).help(help)
}

fn token() -> Result<String, Failure> {
    let mut bytes = [0u8; TOKEN];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(FailureKind::Internal, format!("cannot make a token: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The token of a file that only its user can read.
fn kept_token(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let cannot = |error: std::io::Error| {
        Failure::new(FailureKind::Config, format!("cannot use {shown}: {error}")).help("name a file in a directory of your own")
    };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let token = token()?;
            writeln!(file, "{token}").map_err(cannot)?;
            Ok(token)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(path).map_err(cannot)?;
            if std::fs::metadata(path).map_err(cannot)?.mode() & 0o077 != 0 {
                return Err(Failure::new(FailureKind::Config, format!("{shown} is readable by other users"))
                    .help(format!("chmod 600 {shown}, or remove it: a new one is made")));
            }
            let token = text.trim();
            if token.len() < 2 * TOKEN || !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(Failure::new(
                    FailureKind::Config,
                    format!("{shown} holds no token: {} letters and digits are needed", 2 * TOKEN),
                )
                .help(format!("remove {shown}: a new one is made")));
            }
            Ok(token.to_owned())
        }
        Err(error) => Err(cannot(error)),
    }
}

/// Leaves it to the desktop. The address with the token is visible to other users in the list of processes for a moment, so
/// the page is opened through a file that only this user can read.
fn open(url: &str) {
    if let Err(error) = open_through_file(url) {
        say(format!("cannot open a browser: {error}; open the address above"));
    }
}

fn open_through_file(url: &str) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new().prefix("devrun-").suffix(".html").tempfile()?;
    write!(file, "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=\"0;url={url}\">")?;
    let path = file.into_temp_path();
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut child = std::process::Command::new(opener)
        .arg(&path)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    std::thread::spawn(move || {
        // The desktop takes the file over in its own time; it is removed when the command has ended and had time to read.
        let _status = child.wait();
        std::thread::sleep(std::time::Duration::from_secs(10));
        drop(path);
    });
    Ok(())
}
