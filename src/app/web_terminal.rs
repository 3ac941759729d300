//! The terminal of a service for the page: a connection to the supervisor as `devrun attach` has it, and what the page types.

use tokio::sync::mpsc;

use devrun_model::{Failure, FailureKind, Paths, ServiceId};
use devrun_runtime::control::ControlReply;
use devrun_web::{TerminalEnds, TerminalInput};

/// Pieces of output, and of what is typed, that may wait.
const WAITING: usize = 64;

/// Attaches to a service with `tty = true`. It is detached when one of the ends is dropped.
///
/// # Errors
/// `Elsewhere` when nothing runs, `Config` when there is no such service or it has no terminal.
pub async fn attach(places: &Paths, name: &str, columns: u16, rows: u16) -> Result<TerminalEnds, Failure> {
    let not_running = || Failure::new(FailureKind::Elsewhere, "nothing is running").help("devrun up -d");
    let mut client = crate::app::connect::supervisor(places).await?.ok_or_else(not_running)?;
    let status = client.status().await?.ok_or_else(not_running)?;
    let is_known = status.snapshot.services.iter().any(|one| one.name == name);
    let id = ServiceId::parse(name).ok().filter(|_| is_known);
    let id = id.ok_or_else(|| Failure::new(FailureKind::Config, format!("unknown service or task `{name}`")))?;
    client.attach(&id, columns, rows).await?;
    let (to_page, output) = mpsc::channel(WAITING);
    let (input, mut typed) = mpsc::channel(WAITING);
    let (mut requests, mut replies) = client.split();
    let page = to_page.clone();
    // Each waits for the supervisor without the other: where a service answers all that is typed, both directions fill up.
    let shown = async move {
        loop {
            match replies.next().await {
                Ok(Some(ControlReply::Screen(bytes))) => {
                    if to_page.send(bytes).await.is_err() {
                        return;
                    }
                }
                // The service has ended, or the supervisor.
                Ok(Some(ControlReply::ScreenEnded) | None) | Err(_) => return,
                Ok(Some(_)) => {}
            }
        }
    };
    let sent = async move {
        while let Some(input) = typed.recv().await {
            let sent = match input {
                TerminalInput::Keys(bytes) => requests.keys(bytes).await,
                TerminalInput::Resize { columns, rows } => requests.resize(columns, rows).await,
            };
            if sent.is_err() {
                return;
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = shown => {}
            () = sent => {}
            // Also while a service that reads nothing holds up what is sent, and writes nothing.
            () = page.closed() => {}
        }
    });
    Ok(TerminalEnds { output, input })
}
