//! The words on the socket. One JSON value a line.

use serde::{Deserialize, Serialize};

use devrun_model::feed::{FeedItem, Status};
use devrun_model::{Command, Failure, ServiceId};

/// The protocol's version; both sides must speak the same one.
pub const VERSION: u32 = 1;
/// The longest line in bytes; a longer one ends the connection. The longest there is is a plan, which a second `up` sends
/// whole: with a thousand services of twenty variables each it takes less than a quarter of this, which a test holds on to.
pub const MAX_LINE: usize = 16 * 1024 * 1024;

/// The first line of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`].
    pub devrun: u32,
    /// The program's version, for messages.
    pub version: String,
    /// The supervisor.
    pub pid: i32,
    /// The project's name.
    pub project: String,
    /// The procfile's folder.
    pub root: String,
}

/// Client to server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlRequest {
    /// The present state, once.
    Status,
    /// The present state and everything after it, until the connection ends.
    Watch,
    /// As `Watch`, for a service of the stack: it takes no seat that is kept for somebody else.
    Follow,
    /// Do something.
    Do {
        /// Comes back in `FeedItem::Accepted`.
        token: u64,
        /// What.
        command: Box<Command>,
    },
    /// INT, as from a terminal.
    Interrupt,
    /// What only the supervisor knows of a service.
    Inspect(ServiceId),
    /// A seat at a service's terminal, for the rest of this connection.
    Attach {
        /// Whose.
        id: ServiceId,
        /// The window's width.
        columns: u16,
        /// The window's height.
        rows: u16,
    },
    /// Typed at an attached terminal.
    Keys(Vec<u8>),
    /// The window has another size now.
    Resize {
        /// Its width.
        columns: u16,
        /// Its height.
        rows: u16,
    },
    /// What `up` with this plan would do.
    Changes(std::sync::Arc<devrun_model::Plan>),
    /// What `restart` with this plan would do.
    RestartChanges(std::sync::Arc<devrun_model::Plan>, devrun_model::RestartTargets),
}

/// Server to client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlReply {
    /// To `Status`, and the first one to `Watch`.
    Status(Box<Status>),
    /// To `Watch`.
    Item(FeedItem),
    /// To `Do` and `Interrupt`: it was passed on.
    Taken,
    /// To `Inspect`.
    Inspected(Option<serde_json::Value>),
    /// To `Attach`: what the service writes follows.
    Attached,
    /// To `Attach`: there is no such seat.
    NotAttached(Failure),
    /// What an attached service wrote.
    Screen(Vec<u8>),
    /// It writes no more: it has ended, or this client was too slow.
    ScreenEnded,
    /// To `Changes` and `RestartChanges`.
    Changes(devrun_model::PlannedChanges),
    /// The line was not understood.
    Refused(String),
}
