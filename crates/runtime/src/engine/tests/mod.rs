//! The engine in a world of our own: no process, no socket, and a clock that moves on when nothing else happens.

mod fake_time;
mod fake_world;
mod scenarios;
