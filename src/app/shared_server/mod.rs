//! Servers that the checkouts of one user share (`scope = "user"`).
//!
//! A shared server is a stack of its own in the user's state directory, started by the same program, with two services: the
//! server, and a watch over its users. A checkout that starts registers a lease first (`leases`); a lease holds as long as the
//! checkout's instance lock is held, which the kernel sees to whatever becomes of its supervisor. When none holds any more,
//! the watch takes the shared stack down. Database and login of a checkout are made by `grant`, before its stack starts.

pub mod grant;
pub mod leases;
pub mod location;
pub mod start;
pub mod watch;
