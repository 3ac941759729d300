//! The client program of a server: next to the server's own binary, on PATH, in the usual directories, in the store. Where the version
//! matters, as it does to Postgres, all of them are asked for theirs, and one is fetched if none suits.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use devrun_model::{Failure, FailureKind, Launch, ServiceSpec};
use devrun_store::{FetchOptions, Located, NoDownloadProgress, Program, major};

use crate::app::load::{self, Project};
use crate::ui::download::Bars;
use crate::ui::term::Term;

/// What a Postgres client is for, and with which versions that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresWork {
    /// `pg_dump`: it refuses a server of a later major version.
    Dump {
        /// The server's version.
        server: String,
    },
    /// `pg_restore`: it cannot read the archive of a later `pg_dump`.
    LoadArchive {
        /// The version of the `pg_dump`.
        made_by: String,
    },
    /// `psql`, for a dump as SQL text.
    LoadText {
        /// The server's version.
        server: String,
        /// Whether the dump has `\restrict` in it, which `psql` knows since the releases of August 2025 (CVE-2025-8714).
        restricted: bool,
    },
    /// `psql`, for a person.
    Console {
        /// The server's version, where it is known.
        server: String,
    },
}

impl PostgresWork {
    /// The program that does it.
    #[must_use]
    pub fn program(&self) -> &'static str {
        match self {
            Self::Dump { .. } => "pg_dump",
            Self::LoadArchive { .. } => "pg_restore",
            Self::LoadText { .. } | Self::Console { .. } => "psql",
        }
    }

    /// The version that the program's should be next to.
    fn wanted(&self) -> &str {
        match self {
            Self::Dump { server } | Self::LoadText { server, .. } | Self::Console { server } => server,
            Self::LoadArchive { made_by } => made_by,
        }
    }

    fn fits(&self, version: &str) -> bool {
        match self {
            Self::Dump { .. } | Self::LoadArchive { .. } => major(version) >= major(self.wanted()),
            Self::LoadText { restricted, .. } => !restricted || knows_restrict(version),
            Self::Console { .. } => true,
        }
    }

    /// The versions that suit, for people.
    fn suitable(&self) -> String {
        match self {
            Self::Dump { .. } | Self::LoadArchive { .. } => format!("{} or later", major(self.wanted())),
            Self::LoadText { restricted: true, .. } => "18, 17.6, 16.10, 15.14, 14.19, 13.22 or later".to_owned(),
            Self::LoadText { .. } | Self::Console { .. } => "any version".to_owned(),
        }
    }
}

/// Since these minor versions.
fn knows_restrict(version: &str) -> bool {
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0_u32);
    match major(version) {
        0..=12 => false,
        13 => minor >= 22,
        14 => minor >= 19,
        15 => minor >= 14,
        16 => minor >= 10,
        17 => minor >= 6,
        _ => true,
    }
}

/// Where the server is, without looking for it in the network.
async fn server(project: &Project, spec: &ServiceSpec) -> Option<Located> {
    let Launch::Recipe(recipe) = &spec.launch else { return None };
    devrun_store::which(recipe, &silent(project)).await.ok()
}

fn silent(project: &Project) -> FetchOptions {
    load::fetch_options(project, true, None, Arc::new(NoDownloadProgress))
}

fn recipe_name(spec: &ServiceSpec, usual: &str) -> String {
    match &spec.launch {
        Launch::Recipe(recipe) => recipe.recipe.name.clone(),
        _ => usual.to_owned(),
    }
}

/// The first program of this name, whatever its version: its path and the variables that it needs.
///
/// # Errors
/// `Binary`, with a way to get it.
pub async fn find(project: &Project, spec: &ServiceSpec, name: &str) -> Result<(PathBuf, BTreeMap<String, String>), Failure> {
    let located = server(project, spec).await;
    let found = devrun_store::program_paths(&recipe_name(spec, ""), name, located.as_ref(), &silent(project))?;
    if let Some(program) = found.into_iter().next() {
        return Ok((program.path, program.env));
    }
    let failure = Failure::new(FailureKind::Binary, format!("cannot find {name}, neither with {} nor on PATH", spec.id));
    Err(failure.help(match name {
        "mariadb" | "mariadb-dump" => "apt-get install mariadb-client",
        _ => "apt-get install redis-tools",
    }))
}

/// The version of the server that would be started here; empty where that is not known.
pub async fn postgres_version(project: &Project, spec: &ServiceSpec) -> String {
    server(project, spec).await.map(|located| located.version).unwrap_or_default()
}

/// The Postgres client whose version suits the work: the nearest to the server's, at or above it where there is one. Fetched where
/// none suits, unless it is a console or `DEVRUN_OFFLINE` is set.
///
/// # Errors
/// `Binary`, naming the versions that there are and a way to get another.
pub async fn find_postgres(project: &Project, spec: &ServiceSpec, work: &PostgresWork, term: Term) -> Result<Program, Failure> {
    let (name, located) = (work.program(), server(project, spec).await);
    let fits = |version: &str| work.fits(version);
    let found = devrun_store::programs(&recipe_name(spec, "postgres"), name, located.as_ref(), &silent(project)).await?;
    if let Some(program) = devrun_store::nearest(&found, work.wanted(), &fits) {
        return Ok(program.clone());
    }
    if matches!(work, PostgresWork::Console { .. }) {
        return Err(Failure::new(FailureKind::Binary, format!("cannot find {name}, neither with {} nor on PATH", spec.id))
            .help("devrun sql 'SELECT 1' needs no client; or: apt-get install postgresql-client"));
    }
    let mut notes = Vec::new();
    if let Launch::Recipe(recipe) = &spec.launch {
        let options = load::fetch_options_by_environment(project, Arc::new(Bars::new(term)));
        match devrun_store::fetch_program(&recipe.recipe, name, work.wanted(), &fits, &options).await? {
            Ok(program) => return Ok(program),
            Err(why) => notes = why,
        }
    }
    Err(missing(spec, work, &found, &notes))
}

fn missing(spec: &ServiceSpec, work: &PostgresWork, found: &[Program], notes: &[String]) -> Failure {
    let name = work.program();
    let here = match found {
        [] => "there is none here".to_owned(),
        all => {
            let all = all.iter().map(|program| format!("{} in {}", program.version, folder(program))).collect::<Vec<_>>();
            format!("there is {}", all.join(", "))
        }
    };
    let for_what = match work {
        PostgresWork::Dump { server } => format!("{} is postgres {server}", spec.service),
        PostgresWork::LoadArchive { made_by } => format!("the dump was made by pg_dump {made_by}"),
        PostgresWork::LoadText { .. } | PostgresWork::Console { .. } => "the dump has \\restrict in it".to_owned(),
    };
    let mut reason = match work {
        PostgresWork::LoadText { restricted: false, .. } => format!("cannot find {name}, neither with {} nor on PATH", spec.id),
        _ => format!("no {name} is suitable: {for_what}, so it must be {}; {here}", work.suitable()),
    };
    if !notes.is_empty() {
        reason = format!("{reason}; none could be fetched: {}", notes.join("; "));
    }
    let package = format!("apt-get install postgresql-client-{}", major(work.wanted()));
    Failure::new(FailureKind::Binary, reason).help(match (work, load::is_offline(&load::environment())) {
        (_, true) => format!("without DEVRUN_OFFLINE, devrun fetches it; or: {package}"),
        (PostgresWork::Dump { .. }, false) => {
            format!("{package}; or save the data directory: devrun backup {} --directory", spec.service)
        }
        _ => package,
    })
}

fn folder(program: &Program) -> String {
    program.path.parent().unwrap_or(&program.path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(versions: &[&str]) -> Vec<Program> {
        let program = |version: &&str| Program {
            path: PathBuf::from(format!("/{version}/bin/pg")),
            version: (*version).to_owned(),
            env: BTreeMap::new(),
            is_of_server: false,
        };
        versions.iter().map(program).collect()
    }

    #[track_caller]
    fn chosen(work: &PostgresWork, versions: &[&str], expected: Option<&str>) {
        let found = programs(versions);
        let program = devrun_store::nearest(&found, work.wanted(), &|version| work.fits(version));
        assert_eq!(program.map(|program| program.version.as_str()), expected, "{work:?} of {versions:?}");
    }

    #[test]
    fn each_work_has_versions_that_suit() {
        let server = || "16.14".to_owned();
        let dump = PostgresWork::Dump { server: server() };
        chosen(&dump, &["15.18", "18.4", "17.10"], Some("17.10"));
        chosen(&dump, &["15.18"], None);
        let archive = PostgresWork::LoadArchive { made_by: "17.10".to_owned() };
        chosen(&archive, &["15.18", "16.14", "18.4"], Some("18.4"));
        chosen(&archive, &["16.14"], None);
        let text = |restricted| PostgresWork::LoadText { server: server(), restricted };
        chosen(&text(false), &["15.2", "13.1"], Some("15.2"));
        chosen(&text(true), &["15.2", "16.9", "15.14"], Some("15.14"));
        chosen(&text(true), &["15.13", "14.18", "17.5"], None);
        chosen(&PostgresWork::Console { server: server() }, &["15.18", "9.6"], Some("15.18"));
        for version in ["13.22", "14.19", "15.14", "16.10", "17.6", "18.0", "19"] {
            assert!(knows_restrict(version), "{version}");
        }
        for version in ["12.99", "13.21", "16.9", "17.5"] {
            assert!(!knows_restrict(version), "{version}");
        }
    }
}
