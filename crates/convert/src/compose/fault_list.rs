//! The faults of a project's files that were found so far, one a place.

use std::collections::BTreeSet;

use super::super::file_fault::FileFault;
use super::super::report::At;
use super::values::Values;

/// Collects faults.
pub(super) struct FaultList<'a> {
    /// What values are filled in with before they are judged.
    pub values: &'a Values,
    pub faults: Vec<FileFault>,
    /// Places that have a fault: what an anchor shares is judged where it is used, and named once.
    seen: BTreeSet<At>,
}

impl<'a> FaultList<'a> {
    pub(super) fn new(values: &'a Values) -> Self {
        Self { values, faults: Vec::new(), seen: BTreeSet::new() }
    }

    pub(super) fn add(&mut self, at: At, message: String, help: impl Into<String>) {
        if self.seen.insert(at) {
            self.faults.push(FileFault { at, message, help: help.into() });
        }
    }
}
