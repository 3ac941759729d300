//! The course of a download as lines about its service, for viewers of a supervisor that has no terminal of its own. Where downloads
//! are shown by another means, viewers are notified of builds only.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use devrun_model::feed::BUILDING;
use devrun_model::{ByteSize, ServiceId};
use devrun_store::DownloadProgress;
use tokio::sync::mpsc::UnboundedSender;

use super::task_result::TaskResult;

/// How often a download that goes on is reported.
const INTERVAL: Duration = Duration::from_secs(5);

/// Reports the downloads of one service.
pub(super) struct FetchNotices {
    id: ServiceId,
    task_results: UnboundedSender<TaskResult>,
    current: Mutex<Option<Download>>,
    /// What shows downloads in another way.
    shown_by: Option<Arc<dyn DownloadProgress>>,
}

struct Download {
    what: String,
    total: Option<u64>,
    reported_at: Instant,
}

impl FetchNotices {
    /// `progress`: that of the supervisor, which may show nothing.
    pub(super) fn new(id: ServiceId, task_results: UnboundedSender<TaskResult>, progress: Arc<dyn DownloadProgress>) -> Self {
        let shown_by = Some(progress).filter(|progress| progress.is_shown());
        Self { id, task_results, current: Mutex::new(None), shown_by }
    }

    fn say(&self, text: String) {
        // An engine that has ended reports nothing.
        let _ended = self.task_results.send(TaskResult::Said(self.id.clone(), text));
    }
}

impl DownloadProgress for FetchNotices {
    fn begin(&self, what: &str, total: Option<u64>) {
        // From source it may take many minutes.
        let is_build = what.starts_with("building ");
        if let Some(shown_by) = &self.shown_by {
            shown_by.begin(what, total);
            if is_build {
                self.say(BUILDING.to_owned());
            }
            return;
        }
        if let Ok(mut current) = self.current.lock() {
            *current = Some(Download { what: what.to_owned(), total, reported_at: Instant::now() });
        }
        let size = total.map(|total| format!(" ({})", ByteSize(total))).unwrap_or_default();
        self.say(format!("{what}{size}"));
        if is_build {
            self.say(BUILDING.to_owned());
        }
    }

    fn advance(&self, so_far: u64) {
        if let Some(shown_by) = &self.shown_by {
            return shown_by.advance(so_far);
        }
        let text = self.current.lock().ok().and_then(|mut current| {
            let download = current.as_mut().filter(|download| download.reported_at.elapsed() >= INTERVAL)?;
            download.reported_at = Instant::now();
            Some(format!("{}: {}", download.what, course(so_far, download.total)))
        });
        if let Some(text) = text {
            self.say(text);
        }
    }

    fn note(&self, text: &str) {
        match &self.shown_by {
            Some(shown_by) => shown_by.note(text),
            None => self.say(text.to_owned()),
        }
    }

    fn end(&self, how: &str) {
        if let Some(shown_by) = &self.shown_by {
            return shown_by.end(how);
        }
        let ended = self.current.lock().ok().and_then(|mut current| current.take());
        if let Some(download) = ended.filter(|_| how != "done") {
            self.say(format!("{}: {how}", download.what));
        }
    }
}

/// `45% of 22.4M`; without a known total the bytes alone.
fn course(so_far: u64, total: Option<u64>) -> String {
    match total.filter(|total| *total > 0) {
        Some(total) => format!("{}% of {}", so_far.min(total).saturating_mul(100) / total, ByteSize(total)),
        None => ByteSize(so_far).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    #[test]
    fn the_course_is_a_share_where_the_size_is_known() {
        assert_eq!(course(1 << 20, Some(4 << 20)), "25% of 4M");
        assert_eq!(course(9 << 20, Some(4 << 20)), "100% of 4M", "more came than was announced");
        assert_eq!(course(3 << 20, None), "3M");
        assert_eq!(course(0, Some(0)), "0B");
    }

    #[test]
    fn a_download_is_reported_with_its_size_and_its_failure() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let id = ServiceId::single(&ServiceName::new("db").unwrap());
        let notices = FetchNotices::new(id.clone(), sender, Arc::new(devrun_store::NoDownloadProgress));
        notices.begin("downloading postgres", Some(2 << 20));
        // Not again within the interval.
        notices.advance(1 << 20);
        notices.end("done");
        notices.begin("downloading redis", None);
        notices.end("failed");
        notices.begin("building mongodb (cargo)", None);
        let mut said = Vec::new();
        while let Ok(TaskResult::Said(of, text)) = receiver.try_recv() {
            assert_eq!(of, id);
            said.push(text);
        }
        assert_eq!(
            said,
            ["downloading postgres (2M)", "downloading redis", "downloading redis: failed", "building mongodb (cargo)", BUILDING]
        );
    }
}
