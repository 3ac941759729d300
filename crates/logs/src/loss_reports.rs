//! How the pump counts output that a log file does not take, and tells viewers and the engine.

use devrun_model::ServiceId;

use super::log_stream::LogStream;
use super::loss::LossReport;
use super::pump_thread::{Pump, now};
use super::rotating_log_file::LogLoss;

/// Between two counts of a loss that continues.
const REPORT_EVERY_MICROS: i64 = 1_000_000;

impl Pump {
    /// Output of a service whose log cannot be opened: counted, and tried again once a second.
    pub(super) fn store_unopened(&self, id: &ServiceId, stream: LogStream, micros: i64, bytes: &[u8]) {
        let spec = match self.unopened.borrow().get(id) {
            Some(log) if micros - log.tried >= REPORT_EVERY_MICROS => Some(log.spec.clone()),
            _ => None,
        };
        if let Some(spec) = spec {
            self.open(id, &spec);
        }
        if let Some(file) = self.files.borrow_mut().get_mut(id) {
            file.append(stream, micros, bytes);
        } else if let Some(log) = self.unopened.borrow_mut().get_mut(id) {
            log.loss.add(bytes);
        }
        self.report_losses(id, micros);
    }

    /// Passes on what is lost: when it begins, at most once a second while it continues, and when it is over.
    pub(super) fn report_losses(&self, id: &ServiceId, micros: i64) {
        let (lost, ended) = match self.files.borrow_mut().get_mut(id) {
            Some(file) => {
                let (lost, ended) = file.losses();
                (lost.cloned(), ended)
            }
            None => (self.unopened.borrow().get(id).filter(|log| log.loss.bytes > 0).map(|log| log.loss.clone()), None),
        };
        let mut reported = self.reported.borrow_mut();
        let listener = self.losses.borrow();
        let tell = |loss: LogLoss, over| {
            if let Some(listener) = listener.as_ref() {
                // An engine that has ended wants to hear nothing.
                let _ended = listener.send(LossReport { id: id.clone(), loss, over });
            }
        };
        if let Some(loss) = ended {
            reported.remove(id);
            self.publish(id, LogStream::Devrun, now(), format!("{loss}; output is kept again\n").as_bytes());
            tell(loss, true);
        }
        if let Some(loss) = lost {
            let before = reported.get(id).copied();
            if before.is_none() {
                let text = format!("the log file cannot be written ({}); output is shown but not kept\n", loss.why);
                self.publish(id, LogStream::Devrun, now(), text.as_bytes());
            }
            if before.is_none_or(|before| micros.saturating_sub(before) >= REPORT_EVERY_MICROS) {
                reported.insert(id.clone(), micros.min(now()));
                tell(loss, false);
            }
        }
    }
}
