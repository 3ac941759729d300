//! How the copies of each service are called in this run: `api`, or `api.1` … The supervisor writes it down for whoever reads
//! the procfile while it runs, as a copy keeps its name for as long as the run lasts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use devrun_model::{FirstCopy, Paths, Plan};

use crate::runtime_dir;

fn file(places: &Paths) -> PathBuf {
    places.run.join("copies.json")
}

/// What a run has written down.
#[must_use]
pub fn read(places: &Paths) -> BTreeMap<String, FirstCopy> {
    devrun_keeper::regular_file::read(&file(places))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// What the supervisor knows of it.
#[derive(Debug, Default)]
pub struct CopyNames(BTreeMap<String, FirstCopy>);

impl CopyNames {
    /// Takes in a plan; a service that is known keeps its names.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn observe(&mut self, plan: &Plan, places: &Paths) -> std::io::Result<()> {
        let before = self.0.len();
        for spec in plan.services.values().filter(|spec| spec.replica == 1) {
            let first = if spec.id.as_str() == spec.service.as_str() { FirstCopy::Alone } else { FirstCopy::Numbered };
            self.0.entry(spec.service.to_string()).or_insert(first);
        }
        if self.0.len() == before {
            return Ok(());
        }
        runtime_dir::ensure_run(places).map_err(|failure| std::io::Error::other(failure.to_string()))?;
        let text = serde_json::to_vec(&self.0)?;
        runtime_dir::replace(&file(places), &text)
    }
}
