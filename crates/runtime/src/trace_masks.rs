//! The secrets that a trace must not show: one set for the process, as a process has one trace. Set when a plan is read, and when
//! a supervisor takes over a new one.

use std::sync::{PoisonError, RwLock};

use devrun_model::Plan;
use devrun_model::mask::Masker;

static MASKER: RwLock<Option<Masker>> = RwLock::new(None);

/// Masks the secrets of this plan from now on.
pub fn set(plan: &Plan) {
    *MASKER.write().unwrap_or_else(PoisonError::into_inner) = Some(Masker::new(plan, false));
}

/// The text, secrets in it masked; before a plan is read, those that are known by their form.
#[must_use]
pub fn masked(text: &str) -> String {
    match &*MASKER.read().unwrap_or_else(PoisonError::into_inner) {
        Some(masker) => masker.text(text),
        None => Masker::default().text(text),
    }
}
