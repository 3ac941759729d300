//! The errors of a procfile: all of them are shown with their places, and the first one is the failure.

use devrun_config::Report;
use devrun_model::{Failure, FailureKind};
use devrun_runtime::trace_masks::masked;

use crate::ui::ci;
use crate::ui::term::say;

/// Shows a report and returns its first error.
#[must_use]
pub fn show(report: &Report, color: bool) -> Failure {
    say(masked(report.render(color).trim_end()));
    let shown = |place: devrun_config::ErrorPlace| devrun_config::ErrorPlace { message: masked(&place.message), ..place };
    ci::procfile_errors(&report.error_places().into_iter().map(shown).collect::<Vec<_>>());
    let first = report.first_error().unwrap_or_else(|| "the procfile has errors".to_owned());
    Failure::new(FailureKind::Config, masked(&first)).help("fix the errors above, then run `devrun check`").shown()
}
