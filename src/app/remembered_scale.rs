//! The numbers of copies that `devrun scale` has set. Each counts for as long as the procfile's own number is the one that it
//! was set over. Those of `up --scale` count until the next `up` of everything and for as long as the stack runs, as compose has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use devrun_model::{Failure, FailureKind, Paths, RememberedScale};
use devrun_runtime::runtime_dir;

type Scales = BTreeMap<String, RememberedScale>;

fn file(places: &Paths) -> PathBuf {
    places.state.join("scale.json")
}

/// Those of `up --scale`.
fn file_of_up(places: &Paths) -> PathBuf {
    places.state.join("scale-up.json")
}

/// One that cannot be read is as good as none.
fn read_file(file: &Path) -> Scales {
    devrun_keeper::regular_file::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write_file(file: &Path, all: &Scales) -> Result<(), Failure> {
    if *all == read_file(file) {
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(all).unwrap_or_default();
    runtime_dir::replace(file, &text)
        .map_err(|error| Failure::new(FailureKind::Config, format!("cannot write {}: {error}", file.display())))
}

/// Those that `devrun scale` has set.
#[must_use]
pub fn read(places: &Paths) -> Scales {
    read_file(&file(places))
}

/// All that count. `is_up`: the stack runs, and this is not an `up` of everything.
#[must_use]
pub fn in_force(places: &Paths, is_up: bool) -> Scales {
    let mut all = read(places);
    if is_up {
        all.extend(read_file(&file_of_up(places)));
    }
    all
}

/// What `up --scale` has set. `all`: nothing was named, so that what earlier ones have set is over.
///
/// # Errors
/// As [`write()`].
pub fn set_by_up(
    places: &Paths,
    scale: &BTreeMap<String, u32>,
    declared: &BTreeMap<String, u32>,
    all: bool,
) -> Result<(), Failure> {
    let mut set = if all { Scales::new() } else { read_file(&file_of_up(places)) };
    set.extend(over(scale, declared));
    if !set.is_empty() {
        runtime_dir::prepare(places)?;
    }
    write_file(&file_of_up(places), &set)
}

fn over<'a>(
    scale: &'a BTreeMap<String, u32>,
    declared: &'a BTreeMap<String, u32>,
) -> impl Iterator<Item = (String, RememberedScale)> + 'a {
    scale.iter().map(|(name, copies)| {
        (name.clone(), RememberedScale { copies: *copies, procfile: declared.get(name).copied().unwrap_or(1) })
    })
}

/// What is remembered, to be put back where a change is refused.
#[derive(Debug)]
pub struct SavedScale {
    of_scale: Scales,
    of_up: Scales,
}

/// What is remembered now.
#[must_use]
pub fn saved(places: &Paths) -> SavedScale {
    SavedScale { of_scale: read(places), of_up: read_file(&file_of_up(places)) }
}

/// Puts back what was remembered.
///
/// # Errors
/// As [`write()`].
pub fn restore(places: &Paths, saved: &SavedScale) -> Result<(), Failure> {
    write(places, &saved.of_scale)?;
    write_file(&file_of_up(places), &saved.of_up)
}

/// Writes all of them.
///
/// # Errors
/// `Config` when the state directory cannot be written to.
pub fn write(places: &Paths, all: &Scales) -> Result<(), Failure> {
    write_file(&file(places), all)
}

/// Back to the procfile's numbers.
///
/// # Errors
/// As [`write()`].
pub fn forget(places: &Paths, services: &[&String]) -> Result<(), Failure> {
    for file in [file(places), file_of_up(places)] {
        let mut all = read_file(&file);
        all.retain(|name, _| !services.contains(&name));
        write_file(&file, &all)?;
    }
    Ok(())
}

/// Adds what was set, over the numbers of the procfile.
///
/// # Errors
/// As [`write()`].
pub fn remember(places: &Paths, scale: &BTreeMap<String, u32>, declared: &BTreeMap<String, u32>) -> Result<(), Failure> {
    forget(places, &scale.keys().collect::<Vec<_>>())?;
    let mut all = read(places);
    all.extend(over(scale, declared));
    write(places, &all)
}
