//! Everything that needs the operating system or the whole binary, in one test binary, as each one links everything.

mod config;
mod failing;
mod harness;
mod invalid;
mod layers;
mod lifecycle;
mod logs;
mod probes;
mod process;
mod stopping;
mod probes;
mod init;
mod recipes;
mod secrets;
mod fetch;
