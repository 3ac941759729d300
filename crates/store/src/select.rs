//! The contract's order: `[sources.NAME]`, the lock's pin in the store, the system, the catalogue.
//!
//! Owns which of them answers and why, and what is said when none does. It does no work itself.

use std::collections::BTreeMap;

use devrun_model::recipe::SourceSpec;
use devrun_model::{Failure, FailureKind, RecipeUse};

use super::blocking::blocking;
use super::catalog::{Catalog, CatalogSource};
use super::extensions::{self, Coverage};
use super::fetch_options::FetchOptions;
use super::install::{InstallJob, install};
use super::located::Located;
use super::lockfile::{self, LockFile};
use super::manifest::StoreEntry;
use super::pinned;
use super::platform;
use super::store::Store;
use super::subprocess::Cancel;
use super::system;
use super::transfer::FetchError;
use super::version::VersionRequest;

/// Said of a program of the project where nothing may be executed.
const UNASKED: &str = "version unknown until `devrun up` runs it";

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SelectMode {
    /// To run it: any of the four will do.
    Run,
    /// To say where it is: nothing is fetched.
    Look,
    /// To say whether a start would have it: nothing is fetched, and nothing is looked for where it could be.
    Offer,
    /// To have it in the store: the system does not count.
    Store,
    /// To pin the newest: neither the system nor what is pinned counts.
    Update,
}

impl SelectMode {
    fn only_looks(self) -> bool {
        matches!(self, Self::Look | Self::Offer)
    }
}

/// One thing that could be fetched.
#[derive(Debug, Clone)]
struct Candidate {
    version: Option<String>,
    source: CatalogSource,
    vouched: bool,
}

/// See [`super::locate`].
pub(crate) async fn find(recipe: &RecipeUse, options: &FetchOptions, aim: SelectMode) -> Result<Located, Failure> {
    let cancel = Cancel::default();
    let _ends_with_us = cancel.on_drop();
    if recipe.recipe.bin.is_empty() {
        return Ok(built_in(recipe));
    }
    let catalog = Catalog::of(&recipe.recipe.name)?;
    let spec = recipe.source.clone().unwrap_or_default();
    let request = VersionRequest::new(spec.version.as_deref().filter(|_| !has_place(&spec)).or(recipe.version.as_deref()));
    let search = Selection { recipe: recipe.clone(), catalog, request, spec, options: options.clone(), cancel };
    search.run(aim).await
}

/// What no source of the catalogue and no server of this machine has of a recipe's extensions, as far as files tell: nothing is run
/// and nothing is fetched.
///
/// # Errors
/// `Binary`, with what can be done; `Internal` where the catalogue cannot be read.
pub fn check_extensions(recipe: &RecipeUse, env: &BTreeMap<String, String>) -> Result<(), Failure> {
    let spec = recipe.source.clone().unwrap_or_default();
    if recipe.extensions.is_empty() || has_place(&spec) {
        return Ok(());
    }
    let catalog = Catalog::of(&recipe.recipe.name)?;
    let request = VersionRequest::new(spec.version.as_deref().or(recipe.version.as_deref()));
    let here = platform::current();
    let mut versions = catalog.versions.iter().filter(|version| request.admits(&version.version));
    let has = |source: &CatalogSource| source.serves(&here) && extensions::coverage(source, &recipe.extensions) == Coverage::Full;
    let servers = system::servers(&recipe.recipe, &catalog, env);
    if versions.any(|version| version.sources.iter().any(has))
        || servers.iter().any(|server| extensions::missing(server, &recipe.extensions).is_empty())
    {
        return Ok(());
    }
    let (name, names) = (&recipe.recipe.name, extensions::named(&recipe.extensions));
    let server = if request.is_any() { name.clone() } else { format!("{name} {request}") };
    Err(Failure::new(FailureKind::Binary, format!("no {server} with the {names} is known")).help(extensions::advice(
        &catalog,
        &recipe.extensions,
        &here,
    )))
}

fn has_place(spec: &SourceSpec) -> bool {
    spec.path.is_some() || spec.url.is_some() || spec.npm.is_some() || spec.pypi.is_some() || !spec.build.is_empty()
}

fn built_in(recipe: &RecipeUse) -> Located {
    Located {
        recipe: recipe.recipe.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tools: std::collections::BTreeMap::new(),
        env: std::collections::BTreeMap::new(),
        origin: "system".to_owned(),
        why: "it needs no binary of its own".to_owned(),
    }
}

#[derive(Clone)]
struct Selection {
    recipe: RecipeUse,
    catalog: Catalog,
    request: VersionRequest,
    spec: SourceSpec,
    options: FetchOptions,
    cancel: Cancel,
}

impl Selection {
    async fn run(self, aim: SelectMode) -> Result<Located, Failure> {
        if self.spec.path.is_some() {
            return blocking(move || self.given_path(aim)).await?;
        }
        let store = Store::at(&self.options.store);
        let candidates = self.candidates();
        let mut notes = Vec::new();
        if let Some(first) = candidates.first().filter(|_| aim == SelectMode::Offer && !self.options.offline) {
            let version = first.version.clone().unwrap_or_default();
            return Ok(self.located(version, BTreeMap::new(), "catalog", first.source.label()));
        }
        if aim != SelectMode::Update {
            let (here, at) = (self.clone(), store.clone());
            let known = candidates.clone();
            let looked = blocking(move || here.without_network(&known, &at, aim)).await?;
            match looked? {
                Ok(located) => return Ok(located),
                Err(rejected) => notes = rejected,
            }
        }
        if aim.only_looks() {
            return Err(self.not_here(&candidates, notes));
        }
        self.fetch_first(candidates, &store, aim, notes).await
    }

    /// A folder, or the server itself, that the procfile names.
    fn given_path(&self, aim: SelectMode) -> Result<Located, Failure> {
        let Some(path) = &self.spec.path else { return Err(self.nothing(Vec::new())) };
        let root = self.options.lock_file.parent().unwrap_or_else(|| std::path::Path::new("."));
        let path = root.join(path);
        let name = &self.recipe.recipe.name;
        let refuse = |reason: String| {
            Failure::new(FailureKind::Binary, reason).help(format!("correct `path` in [sources.{name}], or remove it"))
        };
        let mut missing = String::new();
        let folder = if path.is_file() { path.parent().unwrap_or(&path).to_owned() } else { path.clone() };
        for folder in [folder.clone(), folder.join("bin")] {
            match system::tools_in(&folder, &self.recipe.recipe, &self.catalog) {
                Ok(tools) => {
                    let Some(server) = self.recipe.recipe.bin.first().and_then(|server| tools.get(server)) else { continue };
                    let why = format!("[sources.{name}] says path = {:?}", path.display().to_string());
                    if aim.only_looks() {
                        let version = self.spec.version.clone().unwrap_or_default();
                        return Ok(self.located(version, tools, "path", format!("{why}; {UNASKED}")));
                    }
                    let empty = std::collections::BTreeMap::new();
                    let version =
                        system::ask_version(server, &self.catalog.version_args, &empty, &self.options.env, &self.cancel)
                            .map_err(|why| refuse(format!("{} does not run: {why}", server.display())))?;
                    let version = if version.is_empty() { self.spec.version.clone().unwrap_or_default() } else { version };
                    if !version.is_empty() && !self.request.admits(&version) {
                        return Err(refuse(format!("{} is {version}, wanted is {}", server.display(), self.request)));
                    }
                    return Ok(self.located(version, tools, "path", why));
                }
                Err(name) if missing.is_empty() => missing = name,
                Err(_) => {}
            }
        }
        Err(refuse(format!("{} holds no executable {missing}", path.display())))
    }

    /// The folder whose programs are not run by a command that only looks: the project's, which may be anybody's. `check` runs none.
    fn unasked(&self, aim: SelectMode) -> Option<std::path::PathBuf> {
        if aim == SelectMode::Offer {
            return Some("/".into());
        }
        let root = self.options.lock_file.parent().filter(|_| aim.only_looks())?;
        Some(root.canonicalize().unwrap_or_else(|_| root.to_owned()))
    }

    fn located(
        &self,
        version: String,
        tools: std::collections::BTreeMap<String, std::path::PathBuf>,
        origin: &str,
        why: String,
    ) -> Located {
        Located {
            recipe: self.recipe.recipe.name.clone(),
            version,
            tools,
            env: std::collections::BTreeMap::new(),
            origin: origin.to_owned(),
            why,
        }
    }

    fn stored(&self, entry: &StoreEntry, why: String) -> Result<Located, Failure> {
        entry.verify()?;
        let version = entry.manifest.reported.clone();
        let mut located = self.located(version, entry.tools(), "store", why);
        located.env = entry.env();
        Ok(located)
    }

    /// What could be fetched, in order.
    fn candidates(&self) -> Vec<Candidate> {
        let here = platform::current();
        if has_place(&self.spec) {
            let source = CatalogSource {
                platform: "any".to_owned(),
                url: self.spec.url.clone(),
                npm: self.spec.npm.clone(),
                pypi: self.spec.pypi.clone(),
                build: self.spec.build.clone(),
                module: self.spec.module.clone(),
                sha256: self.spec.sha256.clone(),
                unpack: super::catalog::UnpackRules {
                    strip: self.spec.npm.is_some().then_some(1),
                    ..super::catalog::UnpackRules::default()
                },
                ..CatalogSource::default()
            };
            return vec![Candidate { version: self.spec.version.clone(), source, vouched: true }];
        }
        let fitting = self.catalog.versions.iter().filter(|version| self.request.admits(&version.version));
        let mut candidates: Vec<Candidate> = fitting
            .flat_map(|version| {
                version.sources.iter().filter(|source| source.serves(&here)).map(|source| Candidate {
                    version: Some(version.version.clone()),
                    source: source.clone(),
                    vouched: false,
                })
            })
            .collect();
        self.keep_extensions(&mut candidates);
        candidates
    }

    /// Sources that have the extensions first, none that is known to lack one. Where none is known to have them, one version is tried.
    fn keep_extensions(&self, candidates: &mut Vec<Candidate>) {
        let coverage = |candidate: &Candidate| extensions::coverage(&candidate.source, &self.recipe.extensions);
        candidates.retain(|candidate| coverage(candidate) != Coverage::Lacking);
        candidates.sort_by_key(coverage);
        if let Some(first) = candidates.first().filter(|first| coverage(first) == Coverage::Unknown).cloned() {
            candidates.retain(|candidate| candidate.version == first.version);
        }
    }

    /// What the entry's server lacks of the extensions.
    fn lacking(&self, entry: &StoreEntry) -> Vec<&str> {
        let tools = entry.tools();
        let server = self.recipe.recipe.bin.first().and_then(|name| tools.get(name));
        server.map(|server| extensions::missing(server, &self.recipe.extensions)).unwrap_or_default()
    }

    /// The lock's entry that holds for this use: of the right source where the procfile names one.
    fn pin(&self, lock: &LockFile) -> Option<lockfile::LockEntry> {
        let labels: Option<Vec<String>> =
            has_place(&self.spec).then(|| self.candidates().iter().map(|candidate| candidate.source.label()).collect());
        let fits = |entry: &lockfile::LockEntry| {
            labels.as_ref().is_none_or(|labels| labels.contains(&entry.source)) && self.request.admits(&entry.version)
        };
        pinned::entry(lock, &self.recipe, &self.catalog, fits)
    }

    /// The steps that ask nobody. The inner error holds why what is there will not do.
    fn without_network(
        &self,
        candidates: &[Candidate],
        store: &Store,
        aim: SelectMode,
    ) -> Result<Result<Located, Vec<String>>, Failure> {
        let lock = LockFile::read(&self.options.lock_file)?;
        store.check(&self.recipe.recipe.name)?;
        let entries = store.entries(&self.recipe.recipe.name);
        let pin = self.pin(&lock);
        if let Some(pin) = &pin {
            let held = entries.iter().find(|entry| {
                entry.manifest.pin == pin.pin() && entry.manifest.version == pin.version && entry.manifest.source == pin.source
            });
            if held.is_some_and(|entry| !self.lacking(entry).is_empty()) {
                return Err(pinned::lacks(pin, &self.recipe.extensions));
            }
            if let Some(entry) = held {
                return self.stored(entry, format!("devrun.lock pins {} from {}", pin.version, pin.source)).map(Ok);
            }
        }
        let mut rejected = Vec::new();
        if !has_place(&self.spec) && aim != SelectMode::Store {
            let recipe = &self.recipe.recipe;
            let answers = store.answers();
            let unasked = self.unasked(aim);
            let place =
                system::SearchScope { env: &self.options.env, answers: &answers, unasked, extensions: &self.recipe.extensions };
            let (found, notes) = system::find_installed(recipe, &self.catalog, &self.request, &place, &self.cancel);
            if let Some(found) = found {
                let why = if self.request.is_any() {
                    format!("found in {}", found.folder.display())
                } else {
                    format!("found in {}, and {} was asked for", found.folder.display(), self.request)
                };
                let why = if found.asked { why } else { format!("{why}; {UNASKED}") };
                return Ok(Ok(self.located(found.version, found.tools, "system", why)));
            }
            rejected = notes;
        }
        if pin.is_some() {
            // What is pinned is fetched again, and nothing else is taken for it.
            return Ok(Err(rejected));
        }
        for candidate in candidates {
            let held = entries.iter().find(|entry| {
                let same_version = candidate.version.as_ref().is_none_or(|version| *version == entry.manifest.version)
                    || !candidate.source.deb.is_empty();
                same_version
                    && entry.manifest.source == candidate.source.label()
                    && entry.manifest.platform == platform::current()
                    && candidate.source.sha256.as_ref().is_none_or(|sum| *sum == entry.manifest.pin.sha256)
                    && (self.request.admits(&entry.manifest.version) || self.request.admits(&entry.manifest.reported))
                    && self.lacking(entry).is_empty()
            });
            if let Some(entry) = held {
                let located = self.stored(entry, format!("in the store, from {}", entry.manifest.source))?;
                if !aim.only_looks() {
                    LockFile::add(&self.options.lock_file, &locked(entry))?;
                }
                return Ok(Ok(located));
            }
        }
        Ok(Err(rejected))
    }

    async fn fetch_first(
        self,
        mut candidates: Vec<Candidate>,
        store: &Store,
        aim: SelectMode,
        mut notes: Vec<String>,
    ) -> Result<Located, Failure> {
        let turn = {
            let (here, store) = (self.clone(), store.clone());
            blocking(move || {
                let name = here.recipe.recipe.name.clone();
                store.turn(&name, &here.cancel, || {
                    here.options.progress.begin(&format!("waiting for another fetch of {name}"), None);
                    here.options.progress.end("its turn");
                })
            })
            .await?
        };
        let turn = match turn {
            Ok(turn) => turn,
            // A store that is somebody else's to fill is no mistake where nothing could be fetched into it anyway.
            Err(unusable) if unusable.kind == FailureKind::Config && (self.options.offline || candidates.is_empty()) => {
                notes.push(unusable.reason);
                return Err(self.nothing(notes));
            }
            Err(failure) => return Err(failure),
        };
        let mut pin = None;
        if aim != SelectMode::Update {
            // Whoever had the turn before us may have brought what we want.
            let (here, at, known) = (self.clone(), store.clone(), candidates.clone());
            if let Ok(located) = blocking(move || here.without_network(&known, &at, SelectMode::Store)).await?? {
                return Ok(located);
            }
            pin = self.pin(&LockFile::read(&self.options.lock_file)?);
        }
        if let Some(pin) = &pin {
            candidates.retain(|candidate| {
                candidate.source.label() == pin.source
                    && (candidate.version.as_ref().is_none_or(|version| *version == pin.version)
                        || !candidate.source.deb.is_empty())
            });
            if candidates.is_empty() {
                let reason =
                    format!("devrun.lock pins {} {} from {}, which is no longer known", pin.name, pin.version, pin.source);
                return Err(Failure::new(FailureKind::Binary, reason).help(format!("devrun lock --update {}", pin.name)));
            }
        }
        let mut rest = candidates.into_iter().peekable();
        while let Some(candidate) = rest.next() {
            let label = candidate.source.label();
            let job = InstallJob {
                recipe: self.recipe.recipe.clone(),
                catalog: self.catalog.clone(),
                request: self.request.clone(),
                version: candidate.version,
                source: candidate.source,
                pinned: pin.clone(),
                vouched: candidate.vouched,
            };
            match install(job, store, &self.options, &self.cancel).await {
                Ok(entry) if !self.lacking(&entry).is_empty() => {
                    notes.push(format!("{label}: {}", extensions::lacks(&self.lacking(&entry))));
                }
                Ok(entry) => {
                    let (path, line, here) = (self.options.lock_file.clone(), locked(&entry), self.clone());
                    blocking(move || match aim {
                        SelectMode::Update => LockFile::replace(&path, &line, |lock| here.pin(lock)),
                        _ => LockFile::add(&path, &line),
                    })
                    .await??;
                    drop(turn);
                    let why = format!("fetched from {}", entry.manifest.source);
                    return self.stored(&entry, why);
                }
                Err(FetchError::Fatal(failure)) => return Err(failure),
                Err(FetchError::TryNextSource(reason)) => {
                    // A host is named in its own reason, and a long URL beside it would hide what matters.
                    let note = if label.starts_with("url ") { reason } else { format!("{label}: {reason}") };
                    if rest.peek().is_some() && !self.options.offline {
                        self.options.progress.note(&format!("{note}; trying the next source"));
                    }
                    if !notes.contains(&note) {
                        notes.push(note);
                    }
                }
            }
        }
        let mut failure = self.nothing(notes);
        if let Some(pin) = pin {
            failure.help = Some(format!(
                "devrun.lock pins {} from {}; to take another source: devrun lock --update {}",
                pin.version, pin.source, pin.name
            ));
        }
        Err(failure)
    }

    fn wanted(&self) -> String {
        let name = &self.recipe.recipe.name;
        let server = if self.request.is_any() { name.clone() } else { format!("{name} {}", self.request) };
        if self.recipe.extensions.is_empty() {
            return server;
        }
        format!("{server} with the {}", extensions::named(&self.recipe.extensions))
    }

    /// Nothing fits and nothing could be had.
    fn nothing(&self, mut notes: Vec<String>) -> Failure {
        let mut reason = format!("no {} here, and none could be fetched", self.wanted());
        if self.options.offline {
            reason = format!("no {} here, and offline none is fetched", self.wanted());
            notes.retain(|note| !note.ends_with("offline"));
        }
        if !notes.is_empty() {
            reason = format!("{reason}: {}", notes.join("; "));
        }
        Failure::new(FailureKind::Binary, reason).help(self.hint())
    }

    /// Nothing fits, and nothing was fetched because nobody asked for it.
    fn not_here(&self, candidates: &[Candidate], notes: Vec<String>) -> Failure {
        let mut reason = format!("no {} here", self.wanted());
        if !notes.is_empty() {
            reason = format!("{reason}: {}", notes.join("; "));
        }
        let failure = Failure::new(FailureKind::Binary, reason);
        match candidates.first() {
            Some(candidate) => {
                failure.help(format!("devrun fetch {} gets it ({})", self.recipe.recipe.name, candidate.source.label()))
            }
            None => failure.help(self.hint()),
        }
    }

    /// How to install it by hand on this system.
    fn hint(&self) -> String {
        if !has_place(&self.spec)
            && let Some(other) = other_versions(&self.catalog, &self.request, &platform::current())
        {
            return other;
        }
        if !self.recipe.extensions.is_empty() && !has_place(&self.spec) {
            return extensions::advice(&self.catalog, &self.recipe.extensions, &platform::current());
        }
        let name = &self.recipe.recipe.name;
        let install = &self.recipe.recipe.install;
        let by_hand = systems().iter().find_map(|system| install.get(system)).cloned().or_else(|| {
            let all: Vec<String> = install.iter().map(|(system, line)| format!("{system}: {line}")).collect();
            (!all.is_empty()).then(|| all.join("; "))
        });
        if self.options.offline {
            return match by_hand {
                Some(line) => format!("run `devrun fetch {name}` once with a network, or install it: {line}"),
                None => format!("run `devrun fetch {name}` once with a network"),
            };
        }
        match by_hand {
            Some(line) => format!("install it: {line}; or say where it is in [sources.{name}]"),
            None => format!("install it, or say where it is in [sources.{name}]"),
        }
    }
}

/// Where no source has the version that was asked for: the versions that some source has for this platform.
fn other_versions(catalog: &Catalog, request: &VersionRequest, here: &str) -> Option<String> {
    let has_source = |version: &&super::catalog::CatalogVersion| version.sources.iter().any(|source| source.serves(here));
    let mut versions: Vec<&str> = catalog.versions.iter().filter(has_source).map(|one| one.version.as_str()).collect();
    if request.is_any() || versions.iter().any(|version| request.admits(version)) {
        return None;
    }
    versions.sort_by(|a, b| super::version::compare(b, a));
    versions.dedup();
    // The newest of the line that was asked for, else the newest of all.
    let wanted = request.to_string();
    let newest = versions.iter().find(|version| line_of(version) == line_of(&wanted)).or(versions.first())?;
    let (name, line, all) = (&catalog.recipe, line_of(newest), versions.join(", "));
    Some(format!(
        "use a version that can be fetched ({all}): use = \"{name}@{line}\"; or say where {name} {wanted} is in [sources.{name}]"
    ))
}

/// What one writes after the `@`: the first number of a dotted version, all of any other.
fn line_of(version: &str) -> &str {
    match version.split_once('.') {
        Some((line, _)) if !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit()) => line,
        _ => version,
    }
}

fn locked(entry: &StoreEntry) -> lockfile::LockEntry {
    lockfile::LockEntry {
        name: entry.manifest.name.clone(),
        version: entry.manifest.version.clone(),
        platform: entry.manifest.platform.clone(),
        source: entry.manifest.source.clone(),
        size: entry.manifest.pin.size,
        sha256: entry.manifest.pin.sha256.clone(),
    }
}

/// Names this system goes by, the closest first.
fn systems() -> Vec<String> {
    let mut names = Vec::new();
    if cfg!(target_os = "macos") {
        return vec!["macos".to_owned(), "brew".to_owned()];
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    for key in ["ID=", "ID_LIKE="] {
        let value = release.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        names.extend(value.trim_matches('"').split_whitespace().map(ToOwned::to_owned));
    }
    names.push("linux".to_owned());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(name: &str, version: &str) -> Option<String> {
        other_versions(&Catalog::of(name).unwrap(), &VersionRequest::new(Some(version)), "linux-x86_64")
    }

    #[test]
    fn a_version_without_a_source_is_answered_with_those_that_have_one() {
        for (name, version, then, named) in [
            ("postgres", "14", "postgres@18", "18.4, 17.10, 16.14"),
            ("postgres", "16.4", "postgres@16", "16.14"),
            ("redis", "7.2.5", "redis@7", "7.2.4"),
        ] {
            let help = help(name, version).unwrap();
            assert!(help.contains(&format!("use = \"{then}\"")) && help.contains(named), "{help}");
            assert!(help.contains(&format!("say where {name} {version} is in [sources.{name}]")), "{help}");
        }
        assert_eq!(help("postgres", "16"), None);
        assert_eq!(help("postgres", "latest"), None);
        assert_eq!((line_of("16.4"), line_of("RELEASE.2025"), line_of("18")), ("16", "RELEASE.2025", "18"));
    }
}
