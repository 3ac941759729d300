//! Tests that need the real system; one binary, as each links everything.

mod process;
