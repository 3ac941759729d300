//! `devrun attach`: the terminal of a service with `tty = true`, in the place of ours.
//!
//! Ours is raw meanwhile: every key goes to the service, Ctrl-C too; only Ctrl-] is ours. Whatever ends this command, a guard
//! gives the terminal back as it was. Input that comes from a pipe or a file has an end: as with `docker attach` the output is
//! shown until the service ends, and the service is not sent an end of file, which would end most of them.

use clap::Args;
use std::collections::VecDeque;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use crate::ui::output;
use crate::ui::term::{is_dumb, say};
use devrun_keeper::terminal::{self, RawMode, TerminalSize};
use devrun_model::exit;
use devrun_model::feed::Status;
use devrun_model::{Failure, FailureKind, Paths, ServiceId, State};
use devrun_runtime::control::{ControlReceiver, ControlReply, ControlSender};

use crate::app::load;
use crate::app::session::Signals;
use crate::app::signals;
use crate::globals::Globals;

#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Service
    #[arg(value_name = "SERVICE")]
    pub service: String,
}

/// Ctrl-].
const LEAVE: u8 = 0x1d;
/// Bursts of keys of a terminal that may wait here, beyond those that the supervisor keeps for a service that does not read.
const HELD_KEYS: usize = 64;
/// How long Ctrl-] waits for the keys before it to be sent.
const LEAVE_WAITS: Duration = Duration::from_millis(300);
/// Where standard output is not a terminal.
const USUAL: TerminalSize = TerminalSize { columns: 80, rows: 24 };

enum Left {
    Ended,
    Detached,
    Gone,
    Suspended,
    Signal(i32),
}

/// Runs it.
///
/// # Errors
/// `Elsewhere` when nothing runs or the supervisor ends meanwhile; `Config` when the service has no terminal.
pub fn run(globals: &Globals, args: &AttachArgs) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let not_running = || Failure::new(FailureKind::Elsewhere, "nothing is running").help("devrun up -d");
    crate::app::runtime::runtime()?.block_on(async {
        let mut client = crate::app::connect::supervisor(&project.places).await?.ok_or_else(not_running)?;
        let status = client.status().await?.ok_or_else(not_running)?;
        crate::app::running_mode::check_given(&project, &status.snapshot)?;
        let found = crate::app::request::ids(globals, &project, &status.snapshot, std::slice::from_ref(&args.service))?;
        let id: ServiceId = match found.as_slice() {
            [id] => id.clone(),
            several => {
                let names: Vec<&str> = several.iter().map(ServiceId::as_str).collect();
                return Err(Failure::new(FailureKind::Config, format!("{} has several copies", args.service))
                    .help(format!("name one: {}", names.join(", "))));
            }
        };
        let size = terminal::size(std::io::stdout()).unwrap_or(USUAL);
        client.attach(&id, size.columns, size.rows).await?;
        let (mut requests, mut replies) = client.split();
        let mut lost = false;
        let left = {
            let stdin = std::io::stdin();
            let interactive = stdin.is_terminal();
            if interactive {
                say(format!("attached to {id} (detach with Ctrl-])"));
            }
            // Before the terminal is raw: a signal between the two would end us without giving it back.
            let mut taken = Taken::new()?;
            let mut keys = typed();
            let mut screen = Screen::default();
            loop {
                let raw = if interactive { RawMode::enter(stdin.as_fd()).ok() } else { None };
                let input = SentInput { requests: &mut requests, keys: &mut keys, interactive, id: &id, lost: &mut lost };
                let left = sit(input, &mut replies, &mut taken, &mut screen).await;
                screen.tidy();
                drop(raw);
                match left? {
                    Left::Suspended => signals::hold(),
                    left => break left,
                }
            }
        };
        let note = if lost { "; keys that it has not read are lost" } else { "" };
        Ok(match left {
            Left::Ended => {
                say(format!("\n{id} has ended{note}"));
                exit::DONE
            }
            Left::Detached => {
                say(format!("\ndetached from {id}; it keeps running{note}"));
                exit::DONE
            }
            Left::Gone => return Err(connection_lost(&project.places, &id).await),
            Left::Suspended => exit::DONE,
            Left::Signal(code) => code,
        })
    })
}

/// The signals that concern us while the terminal is raw.
struct Taken {
    signals: Signals,
    resized: Signal,
    suspended: Signal,
}

impl Taken {
    fn new() -> Result<Self, Failure> {
        let (resized, suspended) =
            (signals::receive(SignalKind::window_change())?, signals::receive(SignalKind::from_raw(libc::SIGTSTP))?);
        Ok(Self { signals: Signals::take()?, resized, suspended })
    }
}

/// Why there is no connection any more: the supervisor has ended, or has closed the connection of a client that did not read.
async fn connection_lost(places: &Paths, id: &ServiceId) -> Failure {
    let status = match crate::app::connect::supervisor(places).await {
        Ok(Some(mut client)) => client.status().await.ok().flatten(),
        _ => None,
    };
    let runs = |status: Status| status.snapshot.services.iter().any(|one| one.name == id.as_str() && one.state == State::Running);
    if status.is_some_and(runs) {
        let reason = format!("the supervisor closed the connection: the output of {id} was not read in time");
        return Failure::new(FailureKind::Elsewhere, reason)
            .help(format!("devrun attach {id}; devrun logs -f {id} shows its output"));
    }
    Failure::new(FailureKind::Elsewhere, "the supervisor ended").help("devrun ps; devrun logs")
}

async fn sit(
    mut input: SentInput<'_>,
    replies: &mut ControlReceiver,
    taken: &mut Taken,
    screen: &mut Screen,
) -> Result<Left, Failure> {
    let Taken { signals: ending, resized, suspended } = taken;
    // Each waits for the supervisor without the other: where a service answers all that is typed, both directions fill up.
    let sent = input.send(resized);
    let shown = show(replies, screen);
    tokio::pin!(sent, shown);
    loop {
        tokio::select! {
            left = &mut sent => return left,
            left = &mut shown => return left,
            // Not by Ctrl-Z, which is a key of the service's.
            Some(()) = suspended.recv() => if signals::can_be_resumed() { return Ok(Left::Suspended) },
            code = ending.next() => return Ok(Left::Signal(code)),
        }
    }
}

async fn show(replies: &mut ControlReceiver, screen: &mut Screen) -> Result<Left, Failure> {
    loop {
        match replies.next().await? {
            None => return Ok(Left::Gone),
            Some(ControlReply::ScreenEnded) => return Ok(Left::Ended),
            Some(ControlReply::Screen(bytes)) => {
                if screen.show(&bytes).is_err() {
                    return Ok(Left::Detached);
                }
            }
            Some(_) => {}
        }
    }
}

/// What goes to the service: keys, and the size of our terminal.
struct SentInput<'a> {
    requests: &'a mut ControlSender,
    keys: &'a mut Receiver<Vec<u8>>,
    interactive: bool,
    id: &'a ServiceId,
    lost: &'a mut bool,
}

/// How keys were sent.
enum Sent {
    All,
    /// Ctrl-], or the terminal was closed.
    Left,
}

impl SentInput<'_> {
    async fn send(&mut self, resized: &mut Signal) -> Result<Left, Failure> {
        let mut has_input = true;
        loop {
            tokio::select! {
                typed = self.keys.recv(), if has_input => {
                    let Some(bytes) = typed else {
                        // A terminal that was closed.
                        if self.interactive {
                            return Ok(Left::Detached);
                        }
                        has_input = false;
                        say(format!("end of input: showing the output of {} until it ends (Ctrl-C detaches)", self.id));
                        continue;
                    };
                    if matches!(self.deliver(bytes).await?, Sent::Left) {
                        return Ok(Left::Detached);
                    }
                }
                Some(()) = resized.recv() => {
                    if let Some(size) = terminal::size(std::io::stdout()) {
                        self.requests.resize(size.columns, size.rows).await?;
                    }
                }
            }
        }
    }

    /// Sends keys, which a service that does not read holds up. A pipe waits then; what is typed at a terminal is looked through for
    /// Ctrl-] meanwhile, and rings the bell where it has no place any more, as a terminal does by itself.
    async fn deliver(&mut self, bytes: Vec<u8>) -> Result<Sent, Failure> {
        let mut leave_at = None;
        let mut queue = VecDeque::new();
        queue.extend(if self.interactive { before_leaving(bytes, &mut leave_at) } else { Some(bytes) });
        while let Some(bytes) = queue.pop_front() {
            let sending = self.requests.keys(bytes);
            tokio::pin!(sending);
            loop {
                tokio::select! {
                    biased;
                    sent = &mut sending => break sent?,
                    () = tokio::time::sleep_until(leave_at.unwrap_or_else(Instant::now)), if leave_at.is_some() => {
                        *self.lost = true;
                        return Ok(Sent::Left);
                    }
                    typed = self.keys.recv(), if self.interactive && leave_at.is_none() => {
                        let Some(more) = typed else { return Ok(Sent::Left) };
                        let more = before_leaving(more, &mut leave_at);
                        if queue.len() < HELD_KEYS {
                            queue.extend(more);
                        } else {
                            *self.lost = true;
                            // A terminal that is gone is noticed elsewhere.
                            let _gone = output::write(output::Stream::Err, b"\x07");
                        }
                    }
                }
            }
        }
        Ok(if leave_at.is_some() { Sent::Left } else { Sent::All })
    }
}

/// The keys before Ctrl-], with which the time begins that those have which were typed before it.
fn before_leaving(mut bytes: Vec<u8>, leave_at: &mut Option<Instant>) -> Option<Vec<u8>> {
    if let Some(position) = bytes.iter().position(|byte| *byte == LEAVE) {
        bytes.truncate(position);
        *leave_at = Some(Instant::now() + LEAVE_WAITS);
    }
    Some(bytes).filter(|bytes| !bytes.is_empty())
}

/// What is typed. Reading a terminal cannot be given up, so it has a thread that ends with the process.
fn typed() -> Receiver<Vec<u8>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0u8; 4096];
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Our side of the screen, and what a service may have left switched on there.
#[derive(Default)]
struct Screen {
    other_page: bool,
    modes: bool,
}

impl Screen {
    fn show(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let has = |text: &[u8]| bytes.windows(text.len()).rposition(|part| part == text);
        match (has(b"\x1b[?1049h"), has(b"\x1b[?1049l")) {
            (Some(on), off) if off.is_none_or(|off| on > off) => self.other_page = true,
            (_, Some(_)) => self.other_page = false,
            _ => {}
        }
        self.modes |= has(b"\x1b[?").is_some();
        let mut out = output::Stdout;
        out.write_all(bytes)?;
        out.flush()
    }
    /// Mouse reports, bracketed paste and a hidden cursor are no state of the line discipline, so nobody else gives them back.
    fn tidy(&self) {
        let mut out = std::io::stdout().lock();
        if !out.is_terminal() || is_dumb() {
            return;
        }
        let mut text = String::from("\x1b[0m");
        if self.modes {
            text.push_str("\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?25h");
        }
        if self.other_page {
            text.push_str("\x1b[?1049l");
        }
        // A terminal that is gone needs nothing back.
        let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
