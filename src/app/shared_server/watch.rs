//! The second service of a shared server's stack: drops databases that were given up, and takes the stack down when no checkout
//! uses the server any more.

use std::path::Path;
use std::time::{Duration, Instant};

use devrun_model::Failure;

use super::{grant, leases, location, start};
use crate::app::load;
use crate::app::own_command;
use crate::globals::Globals;
use crate::ui::term::say;

/// How often it looks.
const STEP: Duration = Duration::from_millis(500);
/// How long the server stays without a checkout: a restart of the only one need not wait for it.
const LINGER: Duration = Duration::from_secs(3);
/// When a stop that was asked for and has not come is asked for again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches until the stack is down.
///
/// # Errors
/// As the file system says.
pub fn run(globals: &Globals) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let directory = project.root;
    let runtime = crate::app::runtime::waiting_runtime()?;
    let mut used = Instant::now();
    let mut asked: Option<Instant> = None;
    let mut refused = None;
    loop {
        // A server that does not answer now may later; what was given up stays listed until it is gone.
        let reason = given_up(globals, &directory, &runtime).err().map(|failure| failure.reason);
        if reason != refused
            && let Some(reason) = &reason
        {
            say(format!("a database that was given up cannot be dropped: {reason}"));
        }
        refused = reason;
        if !leases::holders(&directory)?.is_empty() {
            (used, asked) = (Instant::now(), None);
        } else if used.elapsed() >= LINGER && asked.is_none_or(|asked| asked.elapsed() >= PATIENCE) {
            say("no checkout uses this server any more; stopping it");
            own_command::spawn(globals, &["down".into()])?;
            asked = Some(Instant::now());
        }
        std::thread::sleep(STEP);
    }
}

fn given_up(globals: &Globals, directory: &Path, runtime: &tokio::runtime::Runtime) -> Result<(), Failure> {
    if leases::given_up(directory)?.is_empty() {
        return Ok(());
    }
    let _alone = location::alone(directory)?;
    let owner = start::owner(&start::of_directory(globals, directory))?;
    runtime.block_on(grant::drop_given_up(directory, &owner))
}
