//! Everything that needs the operating system or the whole binary, in one test binary, as each one links everything.

mod config;
mod failing;
mod fetch;
mod harness;
mod init;
mod invalid;
mod key_commands;
mod key_logs;
mod key_policies;
mod key_probes;
mod key_procfile;
mod key_restart;
mod key_tty;
mod key_watch;
mod layers;
mod lifecycle;
mod logs;
mod probes;
mod process;
mod recipes;
mod secrets;
mod stopping;
