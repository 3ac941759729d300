//! Everything that needs the operating system or the whole binary, in one test binary, as each one links everything.

mod failing;
mod harness;
mod layers;
mod lifecycle;
mod logs;
mod stopping;
mod config;
mod invalid;
