//! What can be asked of a running supervisor.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::{ServiceId, ServiceName};
use super::plan::Plan;
use super::policy::Signal;

/// The switches of `up` that the core acts on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UpOptions {
    /// Only the named services, not what they need.
    pub no_deps: bool,
    /// A failed start takes everything down again.
    pub rollback: bool,
    /// Any failure, at any time, takes everything down.
    pub abort_on_failure: bool,
    /// Everything goes down when this one ends, and its code is ours.
    pub exit_code_from: Option<ServiceId>,
    /// Build commands are run before the starts.
    pub build: bool,
}

/// What services are stopped for on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StopPurpose {
    /// By `devrun stop`.
    #[default]
    Manual,
    /// Until `devrun snapshot save` has copied their data.
    SnapshotSave,
    /// Until `devrun backup` has copied their data.
    Backup,
}

impl std::fmt::Display for StopPurpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Manual => "by hand",
            Self::SnapshotSave => "snapshot save",
            Self::Backup => "backup",
        })
    }
}

/// A request, resolved to ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Bring up `targets` (empty: every service of the plan) and what they need. A plan that differs from the one in
    /// force is taken over first: changed services are restarted, removed ones stopped. A full `up` forgets stops by hand.
    Up {
        /// The plan to take over, where one was sent along.
        plan: Option<Arc<Plan>>,
        /// Which ones; empty: all.
        targets: Vec<ServiceId>,
        /// Switches.
        options: UpOptions,
    },
    /// Start these, and what they need.
    Start {
        /// The plan as read anew, with the environment of whoever asks.
        #[serde(default)]
        plan: Option<Arc<Plan>>,
        /// Which ones; empty: all.
        targets: Vec<ServiceId>,
    },
    /// Stop these by hand, their dependents left alone.
    Stop {
        /// Which ones; empty: all.
        targets: Vec<ServiceId>,
        /// What for.
        #[serde(default)]
        purpose: StopPurpose,
    },
    /// Stop and start these.
    Restart {
        /// The plan as read anew.
        plan: Option<Arc<Plan>>,
        /// Which ones; empty: all.
        targets: Vec<ServiceId>,
        /// Those that depend on them too.
        with_dependents: bool,
        /// Shortens the grace of these.
        #[serde(default)]
        grace_ms: Option<u64>,
    },
    /// Another number of copies of these services: the new ones are started, the highest ones stopped, the others left alone.
    Scale {
        /// The plan as read again, with the new numbers.
        plan: Arc<Plan>,
        /// Which services.
        services: Vec<ServiceName>,
    },
    /// A password was renewed: servers that have taken it already get their new definition and run on, everybody else
    /// who reads it is restarted.
    #[serde(rename = "Renew")]
    RotateSecret {
        /// The plan with the new password.
        plan: Arc<Plan>,
        /// Servers that were given it while they ran.
        given: Vec<ServiceId>,
        /// Those that are restarted; empty: nobody.
        targets: Vec<ServiceId>,
    },
    /// A signal to the leaders of these.
    Kill {
        /// Which ones.
        targets: Vec<ServiceId>,
        /// Which signal.
        signal: Signal,
    },
    /// Stop everything in reverse order, then end.
    Down {
        /// Shortens every grace.
        grace_ms: Option<u64>,
    },
    /// Kill everything at once, then end.
    KillAll,
}

/// Which services a `restart` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartTargets {
    /// Which ones; empty: all.
    pub targets: Vec<ServiceId>,
    /// Those that depend on them too.
    pub with_dependents: bool,
}

/// What a request would do to each service: a word (`start`, `restart`, `stop`, `keep`) and why.
pub type PlannedChanges = BTreeMap<ServiceId, (String, String)>;
