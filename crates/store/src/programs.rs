//! Programs that work with a server and may be of another version than it is: `pg_dump`, `psql`, `mariadb-dump`.
//!
//! All tools of a server come from one folder (see `system`). Its clients may lie anywhere: with the server, in the folders of PATH, in
//! the usual folders of distributions, in other entries of the store. Which of their versions suits is the caller's to say.
//! What is fetched for it is not pinned: `devrun.lock` says which server a project runs.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use devrun_model::{Failure, RecipeData};

use super::blocking::blocking;
use super::catalog::{Catalog, CatalogSource};
use super::fetch_options::FetchOptions;
use super::install::{InstallJob, install};
use super::located::Located;
use super::manifest::StoreEntry;
use super::platform;
use super::store::Store;
use super::subprocess::Cancel;
use super::system::{self, VersionCache, is_executable};
use super::transfer::FetchError;
use super::version::{self, VersionRequest};

/// A program that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its path.
    pub path: PathBuf,
    /// As it reports it; empty where nobody asked.
    pub version: String,
    /// Variables that it needs.
    pub env: BTreeMap<String, String>,
    /// Whether it lies with the server that it is for.
    pub is_of_server: bool,
}

/// All programs of this name, each once, by the place where they are: with the server, PATH, usual folders, the store. They are not
/// run, so none has a version.
///
/// # Errors
/// `Internal` for a catalogue that cannot be read.
pub fn program_paths(
    recipe: &str,
    name: &str,
    server: Option<&Located>,
    options: &FetchOptions,
) -> Result<Vec<Program>, Failure> {
    let catalog = Catalog::of(recipe)?;
    let mut found = Vec::new();
    if let Some(located) = server
        && let Some(path) = located.tools.get(name)
    {
        found.push(Program { path: path.clone(), version: String::new(), env: located.env.clone(), is_of_server: true });
    }
    let plain = |path| Program { path, version: String::new(), env: BTreeMap::new(), is_of_server: false };
    found.extend(system::folders(recipe, &catalog, &options.env).into_iter().map(|folder| plain(folder.join(name))));
    let store = Store::at(&options.store);
    if store.check(recipe).is_ok() {
        found.extend(store.entries(recipe).iter().filter_map(|entry| of_entry(entry, name)));
    }
    let mut seen = BTreeSet::new();
    found.retain(|program| {
        is_executable(&program.path) && seen.insert(program.path.canonicalize().unwrap_or_else(|_| program.path.clone()))
    });
    // A link to a program of another name chooses one of those that are listed as well.
    found.sort_by_key(|program| !program.is_of_server && is_wrapper(&program.path));
    Ok(found)
}

/// As [`program_paths`], with the versions that they report. Those that do not run or do not say it are left out.
///
/// # Errors
/// As [`program_paths`]; `Internal` where the look-up itself breaks.
pub async fn programs(
    recipe: &str,
    name: &str,
    server: Option<&Located>,
    options: &FetchOptions,
) -> Result<Vec<Program>, Failure> {
    let cancel = Cancel::default();
    let _ends_with_us = cancel.on_drop();
    let found = program_paths(recipe, name, server, options)?;
    let (answers, env) = (Store::at(&options.store).answers(), options.env.clone());
    blocking(move || {
        let asked = found.into_iter().filter_map(|program| {
            let version = ask(&program, &answers, &env, &cancel)?;
            Some(Program { version, ..program })
        });
        asked.collect()
    })
    .await
}

fn ask(program: &Program, answers: &VersionCache, env: &BTreeMap<String, String>, cancel: &Cancel) -> Option<String> {
    let args = ["--version".to_owned()];
    // What a wrapper says changes while its file does not.
    let none = VersionCache::default();
    let answers = if is_wrapper(&program.path) { &none } else { answers };
    system::version_of(&program.path, &args, &program.env, env, answers, cancel).ok().filter(|version| !version.is_empty())
}

fn is_wrapper(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real.file_name() != path.file_name())
}

fn of_entry(entry: &StoreEntry, name: &str) -> Option<Program> {
    if entry.manifest.platform != platform::current() || entry.verify().is_err() {
        return None;
    }
    let path = entry.tools().remove(name)?;
    Some(Program { path, version: entry.manifest.reported.clone(), env: entry.env(), is_of_server: false })
}

/// The one whose version is nearest to `wanted`: at or above it, else below. Of one major version, that of the server, then the newest.
#[must_use]
pub fn nearest<'a>(programs: &'a [Program], wanted: &str, fits: &dyn Fn(&str) -> bool) -> Option<&'a Program> {
    let wanted = major(wanted);
    programs.iter().filter(|program| fits(&program.version)).min_by(|a, b| {
        let place = |program: &Program| {
            let major = major(&program.version);
            (major < wanted, major.abs_diff(wanted), Reverse(program.is_of_server))
        };
        place(a).cmp(&place(b)).then_with(|| version::compare(&b.version, &a.version))
    })
}

/// The first number of a version.
#[must_use]
pub fn major(version: &str) -> u32 {
    version.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Fetches a program of a fitting version into the store: the nearest to `wanted`, from a source that the catalogue pins. The inner
/// error holds why none could be fetched.
///
/// # Errors
/// `Integrity` for an artifact that is not what is pinned; `Config` for a store that cannot be used.
pub async fn fetch_program(
    recipe: &RecipeData,
    name: &str,
    wanted: &str,
    fits: &dyn Fn(&str) -> bool,
    options: &FetchOptions,
) -> Result<Result<Program, Vec<String>>, Failure> {
    let catalog = Catalog::of(&recipe.name)?;
    let sources = sources(&catalog, (name, &platform::current()), wanted, fits);
    if options.offline || sources.is_empty() {
        return Ok(Err(Vec::new()));
    }
    let cancel = Cancel::default();
    let _ends_with_us = cancel.on_drop();
    let store = Store::at(&options.store);
    let _turn = {
        let (recipe, store, cancel, progress) = (recipe.name.clone(), store.clone(), cancel.clone(), options.progress.clone());
        blocking(move || {
            store.turn(&recipe, &cancel, || {
                progress.begin(&format!("waiting for another fetch of {recipe}"), None);
                progress.end("its turn");
            })
        })
        .await??
    };
    let mut notes = Vec::new();
    for (version, source) in sources {
        let label = source.label();
        // Whoever had the turn before may have brought it.
        let is_it = |entry: &StoreEntry| entry.manifest.source == label && entry.manifest.version == version;
        if let Some(program) = store.entries(&recipe.name).into_iter().find(is_it).and_then(|entry| of_entry(&entry, name)) {
            return Ok(Ok(program));
        }
        let job = InstallJob {
            recipe: recipe.clone(),
            catalog: catalog.clone(),
            request: VersionRequest::new(Some(&version)),
            version: Some(version),
            source,
            pinned: None,
            vouched: false,
        };
        match install(job, &store, options, &cancel).await {
            Ok(entry) => match of_entry(&entry, name) {
                Some(program) => return Ok(Ok(program)),
                None => notes.push(format!("{label}: it holds no {name}")),
            },
            Err(FetchError::Fatal(failure)) => return Err(failure),
            Err(FetchError::TryNextSource(reason)) => notes.push(format!("{label}: {reason}")),
        }
    }
    Ok(Err(notes))
}

/// Pinned sources that have the program for a platform, the nearest version first.
fn sources(
    catalog: &Catalog,
    (name, platform): (&str, &str),
    wanted: &str,
    fits: &dyn Fn(&str) -> bool,
) -> Vec<(String, CatalogSource)> {
    let wanted = major(wanted);
    let mut versions: Vec<_> = catalog.versions.iter().filter(|version| fits(&version.version)).collect();
    versions.sort_by(|a, b| -> Ordering {
        let place = |version: &str| (major(version) < wanted, major(version).abs_diff(wanted));
        place(&a.version).cmp(&place(&b.version)).then_with(|| version::compare(&b.version, &a.version))
    });
    let usable = |source: &&CatalogSource| source.serves(platform) && source.sha256.is_some() && source.bin.contains_key(name);
    let sources = versions
        .into_iter()
        .flat_map(|version| version.sources.iter().filter(usable).map(|source| (version.version.clone(), source.clone())));
    sources.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use super::*;
    use crate::NoDownloadProgress;

    fn script(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn options(root: &Path, path: &[&Path]) -> FetchOptions {
        let joined = std::env::join_paths(path).unwrap().into_string().unwrap();
        FetchOptions {
            store: root.join("store"),
            lock_file: root.join("devrun.lock"),
            offline: true,
            mirror: None,
            env: BTreeMap::from([("PATH".to_owned(), joined)]),
            progress: Arc::new(NoDownloadProgress),
        }
    }

    fn of(version: &str, is_of_server: bool) -> Program {
        let path = PathBuf::from(format!("/{version}/{is_of_server}"));
        Program { path, version: version.to_owned(), env: BTreeMap::new(), is_of_server }
    }

    /// A recipe of that name has no usual folders, so what the machine has does not count.
    #[tokio::test]
    async fn every_place_is_looked_at_and_each_program_once() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (first, second, third) = (root.join("first"), root.join("second"), root.join("third"));
        script(&first.join("made-up-dump"), "echo 'made-up-dump (Made-up) 15.18 (Debian 15.18-0+deb12u1)'");
        script(&second.join("made-up-dump"), "echo 'made-up-dump (Made-up) 17.2'");
        script(&third.join("made-up-dump"), "echo broken >&2; exit 127");
        script(&root.join("wrapper"), "echo 'made-up-dump (Made-up) 99.1'");
        let links = root.join("links");
        std::fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(root.join("wrapper"), links.join("made-up-dump")).unwrap();
        let same = root.join("same");
        std::fs::create_dir(&same).unwrap();
        std::os::unix::fs::symlink(first.join("made-up-dump"), same.join("made-up-dump")).unwrap();
        script(&root.join("server/made-up-dump"), "test -n \"$LIBS\" && echo 'made-up-dump (Made-up) 16.1'");
        let server = Located {
            recipe: "made-up".to_owned(),
            version: "16.1".to_owned(),
            tools: BTreeMap::from([("made-up-dump".to_owned(), root.join("server/made-up-dump"))]),
            env: BTreeMap::from([("LIBS".to_owned(), "there".to_owned())]),
            origin: "store".to_owned(),
            why: String::new(),
        };
        let options = options(&root, &[&links, &first, &same, &second, &third]);
        let found = programs("made-up", "made-up-dump", Some(&server), &options).await.unwrap();
        let versions: Vec<_> = found.iter().map(|program| program.version.as_str()).collect();
        assert_eq!(versions, ["16.1", "15.18", "17.2", "99.1"], "{found:?}");
        assert!(found[0].is_of_server && found[0].env.contains_key("LIBS"), "{found:?}");
        assert_eq!(program_paths("made-up", "made-up-dump", None, &options).unwrap().len(), 4);
        assert_eq!(program_paths("made-up", "no-such-dump", None, &options).unwrap(), []);
    }

    #[test]
    fn the_nearest_version_at_or_above_is_chosen() {
        let found = [of("15.18", false), of("18.4", false), of("16.2", false), of("16.14", false), of("17.5", false)];
        let choose = |found: &[Program], wanted: &str, least: u32| {
            nearest(found, wanted, &|version| major(version) >= least).map(|program| program.path.display().to_string())
        };
        assert_eq!(choose(&found, "16.14", 16).as_deref(), Some("/16.14/false"));
        assert_eq!(choose(&found, "14", 14).as_deref(), Some("/15.18/false"));
        assert_eq!(choose(&found, "19", 0).as_deref(), Some("/18.4/false"), "below, where nothing is above");
        assert_eq!(choose(&found, "19", 19), None);
        // The server's own, though another of that version is newer; not where its version is another one.
        let with_server = [of("16.14", false), of("16.2", true)];
        assert_eq!(choose(&with_server, "16.2", 16).as_deref(), Some("/16.2/true"));
        let with_server = [of("15.2", true), of("16.2", false)];
        assert_eq!(choose(&with_server, "16", 0).as_deref(), Some("/16.2/false"));
    }

    #[test]
    fn only_pinned_sources_with_the_program_are_fetched() {
        let text = format!(
            "recipe = \"x\"\n\
             [[version]]\nversion = \"18.1\"\n[[version.source]]\nplatform = \"any\"\npypi = \"a==1\"\nsize = 1\nsha256 = \"{sum}\"\nbin = {{ x = \"x\", dump = \"d\" }}\n\
             [[version]]\nversion = \"16.2\"\n[[version.source]]\nplatform = \"any\"\npypi = \"b==1\"\nsize = 1\nsha256 = \"{sum}\"\nbin = {{ x = \"x\", dump = \"d\" }}\n\
             [[version]]\nversion = \"16.14\"\n[[version.source]]\nplatform = \"any\"\nurl = \"https://x.test\"\nbin = {{ x = \"x\", dump = \"d\" }}\n\
             [[version.source]]\nplatform = \"any\"\nnpm = \"c@1\"\nsize = 1\nsha256 = \"{sum}\"\nbin = {{ x = \"x\" }}\n\
             [[version.source]]\nplatform = \"any\"\npypi = \"d==1\"\nsize = 1\nsha256 = \"{sum}\"\nbin = {{ x = \"x\", dump = \"d\" }}\n\
             [[version.source]]\nplatform = \"elsewhere\"\npypi = \"e==1\"\nsize = 1\nsha256 = \"{sum}\"\nbin = {{ x = \"x\", dump = \"d\" }}\n",
            sum = "0".repeat(64)
        );
        let catalog = Catalog::parse("x", &text).unwrap();
        let labels = |wanted: &str| {
            let least = major(wanted);
            let found = sources(&catalog, ("dump", "linux-x86_64"), wanted, &|version| major(version) >= least);
            found.into_iter().map(|(version, source)| format!("{version} {}", source.label())).collect::<Vec<_>>()
        };
        assert_eq!(labels("15.1"), ["16.14 pypi d==1", "16.2 pypi b==1", "18.1 pypi a==1"]);
        assert_eq!(labels("17.3"), ["18.1 pypi a==1"]);
        assert!(labels("19").is_empty());
    }

    /// Postgres 15 to 18 can be dumped with what the catalogue has, on the platforms that have a pinned source.
    #[test]
    fn the_catalogue_has_a_pg_dump() {
        let catalog = Catalog::of("postgres").unwrap();
        for platform in ["linux-x86_64", "linux-aarch64", "macos-aarch64"] {
            for (server, program) in [("15.18", "16.14"), ("16.14", "16.14"), ("17.10", "18.4"), ("18.4", "18.4")] {
                for name in ["pg_dump", "pg_restore", "psql"] {
                    let found = sources(&catalog, (name, platform), server, &|version| major(version) >= major(server));
                    let version = found.first().map(|(version, _)| version.as_str());
                    assert_eq!(version, Some(program), "{name} for {server} on {platform}");
                }
            }
        }
    }
}
