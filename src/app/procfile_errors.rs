//! The errors of a procfile: all of them are shown with their places, and the first one is the failure.

use devrun_config::Report;
use devrun_model::mask::Masker;
use devrun_model::{Failure, FailureKind};

use crate::ui::ci;
use crate::ui::term::say;

/// Shows a report and returns its first error.
#[must_use]
pub fn show(report: &Report, color: bool) -> Failure {
    let masker = Masker::default();
    say(masker.text(report.render(color).trim_end()));
    let masked = |place: devrun_config::ErrorPlace| devrun_config::ErrorPlace { message: masker.text(&place.message), ..place };
    ci::procfile_errors(&report.error_places().into_iter().map(masked).collect::<Vec<_>>());
    let first = report.first_error().unwrap_or_else(|| "the procfile has errors".to_owned());
    Failure::new(FailureKind::Config, masker.text(&first)).help("fix the errors above, then run `devrun check`").shown()
}
