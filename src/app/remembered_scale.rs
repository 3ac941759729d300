//! The numbers of copies that `devrun scale` has set. Each counts for as long as the procfile's own number is the one that it
//! was set over.

use std::collections::BTreeMap;
use std::path::PathBuf;

use devrun_model::{Failure, FailureKind, Paths, RememberedScale};
use devrun_runtime::runtime_dir;

fn file(places: &Paths) -> PathBuf {
    places.state.join("scale.json")
}

/// All of them; one that cannot be read is as good as none.
#[must_use]
pub fn read(places: &Paths) -> BTreeMap<String, RememberedScale> {
    std::fs::read(file(places)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Writes all of them.
///
/// # Errors
/// `Config` when the state directory cannot be written to.
pub fn write(places: &Paths, all: &BTreeMap<String, RememberedScale>) -> Result<(), Failure> {
    if *all == read(places) {
        return Ok(());
    }
    let file = file(places);
    let text = serde_json::to_vec_pretty(all).unwrap_or_default();
    runtime_dir::replace(&file, &text)
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot write {}: {error}", file.display())))
}

/// Back to the procfile's numbers.
///
/// # Errors
/// As [`write()`].
pub fn forget(places: &Paths, services: &[&String]) -> Result<(), Failure> {
    let mut all = read(places);
    all.retain(|name, _| !services.contains(&name));
    write(places, &all)
}

/// Adds what was set, over the numbers of the procfile.
///
/// # Errors
/// As [`write()`].
pub fn remember(places: &Paths, scale: &BTreeMap<String, u32>, declared: &BTreeMap<String, u32>) -> Result<(), Failure> {
    let mut all = read(places);
    for (name, copies) in scale {
        let procfile = declared.get(name).copied().unwrap_or(1);
        all.insert(name.clone(), RememberedScale { copies: *copies, procfile });
    }
    write(places, &all)
}
