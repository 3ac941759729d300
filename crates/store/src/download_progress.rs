//! Who watches a download.

/// Takes the course of a download; implemented by `ui`.
pub trait DownloadProgress: Send + Sync {
    /// A step began: `downloading postgres 18.4 (npm)`; the total in bytes where it is known.
    fn begin(&self, what: &str, total: Option<u64>);
    /// Bytes so far.
    fn advance(&self, so_far: u64);
    /// It ended; the text says how.
    fn end(&self, how: &str);
    /// Something to say between two steps.
    fn note(&self, _text: &str) {}
    /// Whether a person sees it; where not, the engine reports it to those who watch.
    fn is_shown(&self) -> bool {
        true
    }
}

/// Progress for no one.
#[derive(Debug, Default)]
pub struct NoDownloadProgress;

impl DownloadProgress for NoDownloadProgress {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _so_far: u64) {}
    fn end(&self, _how: &str) {}
    fn is_shown(&self) -> bool {
        false
    }
}
