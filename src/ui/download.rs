//! Download bars.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use devrun_model::ByteSize;
use devrun_store::DownloadProgress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::live_lines;
use super::term::{self, Term, say};

/// The name of the line of a download among the live ones, which no service can have.
const LINE: &str = " download";

/// What shows downloads where progress is shown at all.
#[must_use]
pub fn progress(term: Term) -> Arc<dyn DownloadProgress> {
    match term.progress {
        term::Progress::Tty | term::Progress::Plain => Arc::new(Bars::new(term)),
        term::Progress::Json | term::Progress::Quiet => Arc::new(devrun_store::NoDownloadProgress),
    }
}

/// One bar at a time on a terminal; a line at the beginning and at the end elsewhere.
pub struct Bars {
    term: Term,
    bar: Mutex<Option<ProgressBar>>,
    begun: Mutex<Option<(String, Instant)>>,
}

impl Bars {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(term: Term) -> Self {
        Self { term, bar: Mutex::new(None), begun: Mutex::new(None) }
    }
}

impl DownloadProgress for Bars {
    fn begin(&self, what: &str, total: Option<u64>) {
        if let Ok(mut begun) = self.begun.lock() {
            *begun = Some((what.to_owned(), Instant::now()));
        }
        if self.term.progress == term::Progress::Tty {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
            let template = if total.is_some() {
                "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
            } else {
                "{msg} {spinner} {bytes} {elapsed}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            let bar = live_lines::add(LINE, bar.with_message(what.to_owned()));
            if let Ok(mut slot) = self.bar.lock() {
                *slot = Some(bar);
            }
        } else {
            let size = total.map(|total| format!(" ({})", ByteSize(total))).unwrap_or_default();
            say(format!("{what}{size}"));
        }
    }

    fn advance(&self, so_far: u64) {
        if let Ok(slot) = self.bar.lock()
            && let Some(bar) = slot.as_ref()
        {
            bar.set_position(so_far);
        }
    }

    fn note(&self, text: &str) {
        say(text);
    }

    fn end(&self, how: &str) {
        if let Ok(mut slot) = self.bar.lock()
            && slot.take().is_some()
        {
            live_lines::remove(LINE);
        }
        if let Ok(mut begun) = self.begun.lock()
            && let Some((what, at)) = begun.take()
        {
            say(format!("{what}: {how} after {}", devrun_model::duration::human(at.elapsed())));
        }
    }
}
