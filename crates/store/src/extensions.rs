//! Extensions of a Postgres: which sources have those that a procfile asks for, and whether a server that is there has them.
//!
//! A server has an extension where `NAME.control` lies in the `extension` directory of its share directory. Where that is cannot be
//! asked without `pg_config`, which many packages leave out, so the usual places are looked at; a server with none of them is
//! believed, and `CREATE EXTENSION` tells.

use std::path::{Path, PathBuf};

use super::catalog::{Catalog, CatalogSource};

/// Whether a source has extensions, as far as the catalogue knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Coverage {
    /// All of them.
    Full,
    /// Nothing is known of its extensions.
    Unknown,
    /// One at least is missing.
    Lacking,
}

/// Whether a source of the catalogue has these extensions.
pub(super) fn coverage(source: &CatalogSource, wanted: &[String]) -> Coverage {
    match &source.extensions {
        None if !wanted.is_empty() => Coverage::Unknown,
        Some(known) if wanted.iter().any(|name| !is_built_in(name) && !known.contains(name)) => Coverage::Lacking,
        _ => Coverage::Full,
    }
}

/// Those that the server at this path does not have.
pub(super) fn missing<'a>(server: &Path, wanted: &'a [String]) -> Vec<&'a str> {
    let Some(dir) = extension_dir(server).filter(|_| !wanted.is_empty()) else { return Vec::new() };
    let absent = |name: &&String| !is_built_in(name) && !dir.join(format!("{name}.control")).exists();
    wanted.iter().filter(absent).map(String::as_str).collect()
}

/// `extension pg_trgm`, `extensions pg_trgm, vector`.
pub(super) fn named<T: AsRef<str>>(names: &[T]) -> String {
    let word = if names.len() == 1 { "extension" } else { "extensions" };
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    format!("{word} {}", names.join(", "))
}

/// `no extension pg_trgm`, `no extensions pg_trgm, vector`.
pub(super) fn lacks(missing: &[&str]) -> String {
    format!("no {}", named(missing))
}

/// What can be done where no server with these extensions can be had: versions that have a source with them, or where to put them.
pub(super) fn advice(catalog: &Catalog, wanted: &[String], here: &str) -> String {
    let has = |source: &CatalogSource| source.serves(here) && coverage(source, wanted) == Coverage::Full;
    let versions: Vec<&str> = catalog
        .versions
        .iter()
        .filter(|version| version.sources.iter().any(has))
        .map(|version| version.version.split('.').next().unwrap_or(&version.version))
        .collect();
    let (name, names) = (&catalog.recipe, wanted.join(", "));
    match versions.first() {
        Some(newest) => format!(
            "{names} can be fetched with {name} {}: use = \"{name}@{newest}\"; data of another version must be moved with devrun backup",
            list(&versions)
        ),
        None => format!(
            "correct `extensions`, or install {names} for a {name} of this system and name its directory: [sources.{name}] path = \"DIRECTORY\""
        ),
    }
}

fn list(versions: &[&str]) -> String {
    let mut versions = versions.to_vec();
    versions.dedup();
    versions.join(" and ")
}

/// Part of every server.
fn is_built_in(name: &str) -> bool {
    name == "plpgsql"
}

fn extension_dir(server: &Path) -> Option<PathBuf> {
    let server = server.canonicalize().ok()?;
    let bin = server.parent()?;
    let prefix = bin.parent()?;
    let mut places =
        Vec::from(["share/extension", "share/postgresql/extension", "share/pgsql/extension"].map(|place| prefix.join(place)));
    // Debian: /usr/lib/postgresql/16/bin and /usr/share/postgresql/16.
    if let (Some(version), Some(lib)) = (prefix.file_name(), prefix.parent().and_then(Path::parent)) {
        places.push(lib.with_file_name("share").join("postgresql").join(version).join("extension"));
    }
    places.into_iter().find(|place| place.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "linux-x86_64";

    fn wanted(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }

    #[test]
    fn the_catalogue_knows_which_sources_have_contrib_and_which_have_pgvector() {
        let catalog = Catalog::of("postgres").unwrap();
        let version = catalog.versions.iter().find(|version| version.version == "16.14").unwrap();
        let source = |kind: fn(&CatalogSource) -> bool| version.sources.iter().find(|one| one.serves(HERE) && kind(one)).unwrap();
        let (npm, wheel) = (source(|one| one.npm.is_some()), source(|one| one.pypi.is_some()));
        for (names, of_npm, of_wheel) in [
            (&[][..], Coverage::Full, Coverage::Full),
            (&["plpgsql"], Coverage::Full, Coverage::Full),
            (&["pg_trgm"], Coverage::Full, Coverage::Lacking),
            (&["vector"], Coverage::Lacking, Coverage::Full),
            (&["vector", "pg_trgm"], Coverage::Lacking, Coverage::Lacking),
        ] {
            let names = wanted(names);
            assert_eq!((coverage(npm, &names), coverage(wheel, &names)), (of_npm, of_wheel), "{names:?}");
        }
        let unknown = CatalogSource::default();
        assert_eq!(coverage(&unknown, &wanted(&["pg_trgm"])), Coverage::Unknown);
        assert_eq!(coverage(&unknown, &[]), Coverage::Full);
    }

    #[test]
    fn the_advice_names_versions_that_have_it() {
        let catalog = Catalog::of("postgres").unwrap();
        let vector = advice(&catalog, &wanted(&["vector"]), HERE);
        assert!(vector.starts_with("vector can be fetched with postgres 18 and 16: use = \"postgres@18\""), "{vector}");
        let none = advice(&catalog, &wanted(&["pg_trgn"]), HERE);
        assert!(none.starts_with("correct `extensions`, or install pg_trgn"), "{none}");
    }

    #[test]
    fn a_server_has_what_lies_in_its_share_directory() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for (server, dir) in [
            ("one/bin/postgres", "one/share/extension"),
            ("two/bin/postgres", "two/share/postgresql/extension"),
            ("usr/lib/postgresql/16/bin/postgres", "usr/share/postgresql/16/extension"),
        ] {
            touch(&at(server));
            touch(&at(dir).join("pg_trgm.control"));
            let names = wanted(&["plpgsql", "pg_trgm", "vector"]);
            assert_eq!(missing(&at(server), &names), ["vector"], "{server}");
            assert_eq!(missing(&at(server), &[]), Vec::<&str>::new());
        }
        // Where nothing can be seen, the server tells.
        touch(&at("three/bin/postgres"));
        assert_eq!(missing(&at("three/bin/postgres"), &wanted(&["vector"])), Vec::<&str>::new());
        assert_eq!(lacks(&["vector"]), "no extension vector");
        assert_eq!(lacks(&["vector", "postgis"]), "no extensions vector, postgis");
    }
}
