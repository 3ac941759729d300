//! Everything that needs the operating system or the whole binary, in one test binary, as each one links everything.

mod harness;
mod layers;
