//! Finishes a restore that was cut short, before anything starts on its data.
//!
//! Loading a project for a start calls this, so it takes the instance lock itself and imports nothing that loads one.

use std::time::Duration;

use devrun_data::PendingSwap;
use devrun_keeper::lock::{InstanceLock, InstanceLockError};
use devrun_model::{Failure, FailureKind};

use crate::app::project::Project;
use crate::ui::term::say;

/// Who only asks whether a supervisor is there has the lock for an instant.
const TRIES: u32 = 20;

/// Does what a killed `restore` has left to do, if it has.
///
/// # Errors
/// `Elsewhere` when the stack is up; as the file system says.
pub fn finish(project: &Project) -> Result<(), Failure> {
    let state = &project.places.state;
    if PendingSwap::find(state)?.is_none() {
        return Ok(());
    }
    let path = project.places.instance_lock();
    for _ in 0..TRIES {
        match InstanceLock::take_without_pid(&path) {
            Ok(_lock) => {
                // Whoever held the lock may have done it.
                if let Some(pending) = PendingSwap::find(state)? {
                    say(format!("the restore of {} was interrupted; finishing it", pending.what()));
                    pending.finish()?.drop_old()?;
                }
                return Ok(());
            }
            Err(InstanceLockError::Held(_)) => std::thread::sleep(Duration::from_millis(5)),
            Err(InstanceLockError::Failed(failure)) => return Err(failure),
        }
    }
    Err(Failure::new(FailureKind::Elsewhere, "a restore was interrupted, and the stack is up or its data are being replaced")
        .help("devrun down, then try again"))
}
