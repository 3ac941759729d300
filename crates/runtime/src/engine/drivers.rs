//! What the engine asks of the world, as traits, so that a test can put a world of its own in their place (`tests`): probes, ports
//! and time. The keeper and the log pump need no trait: both are reached by messages over a channel already, and a test answers
//! those (`KeeperHandle::channel`).

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devrun_keeper::process_list;

use crate::ports::{self, PortConflict};
use crate::probe::{self, NotifySocket, ProbeAttempt, ProbeHandle, ProbeSubject, ReportSink, Sleeper};

/// A sleep.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Starts readiness and liveness probes.
pub trait ProbeRunner: Send + Sync {
    /// Begins to probe; answers go to `reports`. It ends when the probe is dropped.
    fn start(&self, subject: ProbeSubject, notify: Option<NotifySocket>, reports: ReportSink) -> Box<dyn RunningProbe>;
    /// Whether the process that was probed has ended, though nothing was reported of it yet.
    fn has_ended(&self, pid: i32) -> bool;
}

/// The probes of one process.
pub trait RunningProbe: Send {
    /// A complete line of the service's output.
    fn line(&self, line: &[u8]);
    /// Whether lines are worth passing on.
    fn wants_lines(&self) -> bool;
    /// How long after the spawn its port took the first connection.
    fn listening(&self) -> Option<Duration>;
    /// The last attempts, newest last.
    fn history(&self) -> Vec<ProbeAttempt>;
    /// Tries readiness at the pace of a start, or each `interval` again.
    fn set_often(&self, is_often: bool);
}

/// Knows which ports are free.
pub trait PortTable: Send + Sync {
    /// Whether a service may bind this port.
    ///
    /// # Errors
    /// What keeps it from that.
    fn check(&self, bind: &str, port: u16) -> Result<(), PortConflict>;
    /// How long ago this port had a connection that is none of our probes'; `None`: longer than the kernel remembers.
    ///
    /// # Errors
    /// When the kernel does not say.
    fn last_use(&self, port: u16) -> std::io::Result<Option<Duration>>;
}

/// Time that passes by itself, or as a test says.
pub trait TimeSource: Send + Sync {
    /// The present moment.
    fn now(&self) -> Instant;
    /// Sleeps.
    fn sleep(&self, duration: Duration) -> Sleep<'static>;
    /// The timer of the loop, which keeps to a tenth of a millisecond.
    fn timer(&self) -> Box<dyn LoopTimer>;
}

/// One timer that is set over and over.
pub trait LoopTimer: Send {
    /// Sleeps. May be dropped in the middle and used again.
    fn sleep(&mut self, duration: Duration) -> Sleep<'_>;
}

/// The world of one engine.
#[derive(Clone)]
pub struct Drivers {
    /// Probes.
    pub probes: Arc<dyn ProbeRunner>,
    /// Ports.
    pub ports: Arc<dyn PortTable>,
    /// Time.
    pub time: Arc<dyn TimeSource>,
}

impl Drivers {
    /// The real ones.
    #[must_use]
    pub fn system() -> Self {
        Self { probes: Arc::new(SystemProbes), ports: Arc::new(SystemPorts), time: Arc::new(MonotonicTime) }
    }
}

struct SystemProbes;

impl ProbeRunner for SystemProbes {
    fn start(&self, subject: ProbeSubject, notify: Option<NotifySocket>, reports: ReportSink) -> Box<dyn RunningProbe> {
        Box::new(probe::start_with(subject, notify, reports))
    }
    fn has_ended(&self, pid: i32) -> bool {
        process_list::has_ended(pid)
    }
}

impl RunningProbe for ProbeHandle {
    fn line(&self, line: &[u8]) {
        Self::line(self, line);
    }
    fn wants_lines(&self) -> bool {
        Self::wants_lines(self)
    }
    fn listening(&self) -> Option<Duration> {
        Self::listening(self)
    }
    fn history(&self) -> Vec<ProbeAttempt> {
        Self::history(self)
    }
    fn set_often(&self, is_often: bool) {
        Self::set_often(self, is_often);
    }
}

struct SystemPorts;

impl PortTable for SystemPorts {
    fn check(&self, bind: &str, port: u16) -> Result<(), PortConflict> {
        ports::check(bind, port)
    }
    fn last_use(&self, port: u16) -> std::io::Result<Option<Duration>> {
        ports::last_use(port)
    }
}

/// The clock that the kernel calls monotonic (clock_gettime(2)).
pub(super) struct MonotonicTime;

impl TimeSource for MonotonicTime {
    fn now(&self) -> Instant {
        Instant::now()
    }
    fn sleep(&self, duration: Duration) -> Sleep<'static> {
        Box::pin(tokio::time::sleep(duration))
    }
    fn timer(&self) -> Box<dyn LoopTimer> {
        Box::new(Sleeper::default())
    }
}

impl LoopTimer for Sleeper {
    fn sleep(&mut self, duration: Duration) -> Sleep<'_> {
        Box::pin(self.sleep_exactly(duration))
    }
}
