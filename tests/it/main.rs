//! Everything that needs the operating system or the whole binary, in one test binary, as each one links everything.

mod case_orphans;
mod case_signals;
mod config;
mod convert;
mod failing;
mod fetch;
mod harness;
mod init;
mod invalid;
mod layers;
mod lifecycle;
mod logs;
mod probes;
mod process;
mod recipes;
mod secrets;
mod stopping;
mod verbs_disk;
mod verbs_look;
mod verbs_reference;
mod verbs_run;
