//! The two words of `ps`: `state` and `health`. The contract fixes their spelling.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $type { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }
        impl $type {
            /// The word of the contract.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
            /// Every value, in the contract's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }
    };
}

words!(
    /// Where one service stands.
    State {
        /// Its dependencies do not hold yet.
        Waiting = "waiting",
        /// Its binary is being found or fetched.
        Fetching = "fetching",
        /// First boot, or `pre_start`.
        Initialising = "initialising",
        /// Spawned; its probe has not passed yet.
        Starting = "starting",
        /// Up.
        Running = "running",
        /// Not started: its first connection starts it (`start = "on-demand"`).
        Asleep = "asleep",
        /// Crashed; the policy restarts it in a moment.
        BackingOff = "backing-off",
        /// Asked to stop; its tree is not proved empty yet.
        Stopping = "stopping",
        /// Stopped on request, or never started.
        Stopped = "stopped",
        /// A task that is done, or a service that ended well and is not restarted.
        Completed = "completed",
        /// Given up.
        Failed = "failed",
        /// Cannot start, as a dependency cannot meet its condition any more.
        Blocked = "blocked",
        /// Left out: optional and not to be had.
        Skipped = "skipped",
    }
);

words!(
    /// What the probe says.
    Health {
        /// No probe, or nothing running.
        None = "none",
        /// Running, no pass yet.
        Starting = "starting",
        /// The last attempts passed.
        Healthy = "healthy",
        /// `retries` attempts failed in a row.
        Unhealthy = "unhealthy",
    }
);

impl State {
    /// Whether a process of the service may be alive in this state.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Initialising | Self::Starting | Self::Running | Self::Stopping)
    }
    /// Whether its port is open, or may be.
    #[must_use]
    pub fn holds_port(self) -> bool {
        self.is_live() || self == Self::Asleep
    }
    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Completed | Self::Failed | Self::Blocked | Self::Skipped)
    }
}
