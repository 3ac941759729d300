//! Download bars.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use devrun_model::ByteSize;
use devrun_model::duration::human;
use devrun_store::DownloadProgress;

use super::live_lines;
use super::term::{self, Term, say};

/// The name of the line of a download among the live ones, which no service can have.
const LINE: &str = " download";
/// Columns of a bar.
const BAR: usize = 30;

/// One bar at a time on a terminal; a line at the beginning and at the end elsewhere.
pub struct Bars {
    term: Term,
    download: Mutex<Option<Download>>,
}

struct Download {
    what: String,
    total: Option<u64>,
    begun: Instant,
}

impl Bars {
    /// Nothing is shown yet.
    #[must_use]
    pub fn new(term: Term) -> Self {
        Self { term, download: Mutex::new(None) }
    }
}

impl Download {
    fn show(&self, so_far: u64) {
        // A size that is known ends in how long it will take, any other one in how long it has taken.
        let timer = self.total.is_none().then_some(self.begun);
        live_lines::set(LINE, self.line(so_far, self.begun.elapsed()), timer);
    }

    fn line(&self, so_far: u64, took: Duration) -> String {
        let what = &self.what;
        let rate = (so_far as f64 / took.as_secs_f64().max(0.1)) as u64;
        let Some(total) = self.total.filter(|total| *total > 0) else {
            return if so_far == 0 { what.clone() } else { format!("{what} {}", ByteSize(so_far)) };
        };
        let done = usize::try_from(so_far.min(total).saturating_mul(BAR as u64) / total).unwrap_or(BAR);
        let bar = format!("{}{}", "█".repeat(done), "░".repeat(BAR - done));
        let left = match total.saturating_sub(so_far).checked_div(rate) {
            Some(seconds) => format!(" {}", human(Duration::from_secs(seconds))),
            None => String::new(),
        };
        format!("{what} {bar} {}/{} {}/s{left}", ByteSize(so_far), ByteSize(total), ByteSize(rate))
    }
}

impl DownloadProgress for Bars {
    fn begin(&self, what: &str, total: Option<u64>) {
        let download = Download { what: what.to_owned(), total, begun: Instant::now() };
        if self.term.progress == term::Progress::Tty {
            download.show(0);
        } else {
            let size = total.map(|total| format!(" ({})", ByteSize(total))).unwrap_or_default();
            say(format!("{what}{size}"));
        }
        if let Ok(mut slot) = self.download.lock() {
            *slot = Some(download);
        }
    }

    fn advance(&self, so_far: u64) {
        if self.term.progress == term::Progress::Tty
            && let Ok(slot) = self.download.lock()
            && let Some(download) = slot.as_ref()
        {
            download.show(so_far);
        }
    }

    fn note(&self, text: &str) {
        say(text);
    }

    fn end(&self, how: &str) {
        live_lines::remove(LINE);
        if let Ok(mut slot) = self.download.lock()
            && let Some(download) = slot.take()
        {
            say(format!("{}: {how} after {}", download.what, human(download.begun.elapsed())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_size_rate_and_what_is_left() {
        let download = |total| Download { what: "redis 7.2".to_owned(), total, begun: Instant::now() };
        let line = download(Some(4 << 20)).line(1 << 20, Duration::from_secs(2));
        assert!(line.starts_with("redis 7.2 ███████░") && line.ends_with("░ 1M/4M 512K/s 6.0s"), "{line}");
        assert_eq!(download(None).line(1 << 20, Duration::from_secs(12)), "redis 7.2 1M");
        assert_eq!(download(Some(9)).line(0, Duration::ZERO).matches('░').count(), BAR);
    }
}
