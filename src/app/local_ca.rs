//! The user's local certificate authority: where it is, and when it is made. Signing is done in `devrun-gateway`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use devrun_config::LocalCaFiles;
use devrun_gateway::{LocalCa, LocalCaChange, LocalCaError, LocalCaPaths};
use devrun_model::{Failure, FailureKind, Launch, Plan};
use devrun_runtime::{init, runtime_dir};

use crate::app::user_state;

/// Where systems keep all their certificates in one file: Debian and its kin, Fedora, openSUSE, then Alpine and macOS.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Node adds the file to its own certificates.
const NODE: &str = "NODE_EXTRA_CA_CERTS";
/// It comes before `SSL_CERT_FILE`, so it matters only where the caller has set it.
const CURL: &str = "CURL_CA_BUNDLE";
const VARIABLES: &[&str] = &[NODE, "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", CURL];

/// The directory of the authority; `None`: the user has no home directory.
#[must_use]
pub fn directory(env: &BTreeMap<String, String>) -> Option<PathBuf> {
    user_state::directory(env).map(|state| state.join("ca"))
}

/// Its files, whether they exist or not.
#[must_use]
pub fn files(env: &BTreeMap<String, String>) -> Option<LocalCaFiles> {
    let directory = directory(env)?;
    let file_of = |bundle: Bundle| match bundle.source {
        Some(source) => bundle_of(&directory, &source),
        None => LocalCaPaths::new(&directory).certificate(),
    };
    let variables = bundles(env, &directory).into_iter().map(|(name, bundle)| (name, file_of(bundle).display().to_string()));
    let variables = variables.collect();
    let problem = match LocalCa::open(&LocalCaPaths::new(&directory), jiff::Timestamp::now()) {
        Err(LocalCaError::Unusable(reason)) => Some(reason),
        // One that is missing or too old the next start replaces.
        Ok(_) | Err(LocalCaError::Missing(_) | LocalCaError::Expired(_)) => None,
    };
    Some(LocalCaFiles { variables, problem, directory })
}

/// What a variable names: a file that holds these certificates and the authority's, or that one alone.
struct Bundle {
    source: Option<PathBuf>,
}

/// By variable. All but Node take the file in the place of the system's certificates (OpenSSL, Python, Go, requests, httpx, curl),
/// so what was trusted without it stands in it: the file that the caller's own variable names, or the system's.
fn bundles(env: &BTreeMap<String, String>, directory: &Path) -> BTreeMap<String, Bundle> {
    let system = SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
    let mut found = BTreeMap::new();
    for name in VARIABLES {
        let source = match env.get(*name).filter(|value| !value.is_empty()).map(PathBuf::from) {
            // A stack that was started by a service of another one has it already; a file that is missing is the caller's affair.
            Some(own) if own.starts_with(directory) || !own.is_file() => continue,
            Some(own) => Some(own),
            None if *name == NODE => None,
            None if *name == CURL => continue,
            None if system.is_none() => continue,
            None => system.clone(),
        };
        found.insert((*name).to_owned(), Bundle { source });
    }
    found
}

fn bundle_of(directory: &Path, source: &Path) -> PathBuf {
    let hash = init::hash_inputs(&[source.display().to_string()], &[]);
    directory.join(format!("bundle-{}.pem", hash.get(..8).unwrap_or(&hash)))
}

/// Makes the authority where a gateway of the plan serves HTTPS. Returns what to say about it.
///
/// # Errors
/// `Config` when its files cannot be used.
pub fn prepare(env: &BTreeMap<String, String>, plan: &Plan) -> Result<Option<&'static str>, Failure> {
    let is_needed = plan.services.values().any(|spec| {
        matches!(&spec.launch, Launch::Recipe(recipe) if recipe.gateway.as_ref().is_some_and(|gateway| gateway.tls.is_some()))
    });
    match directory(env).filter(|_| is_needed) {
        Some(directory) => {
            let (authority, note) = ensure(&directory)?;
            for source in bundles(env, &directory).into_values().filter_map(|bundle| bundle.source) {
                let bundle = bundle_of(&directory, &source);
                authority
                    .write_bundle(&LocalCaPaths::new(&directory), &source, &bundle)
                    .map_err(|error| Failure::new(FailureKind::Config, format!("cannot write {}: {error}", bundle.display())))?;
            }
            Ok(note)
        }
        None => Ok(None),
    }
}

/// The authority, made where there is none, and what to say about it.
///
/// # Errors
/// `Config` when its files cannot be used.
pub fn ensure(directory: &Path) -> Result<(LocalCa, Option<&'static str>), Failure> {
    runtime_dir::make_private(directory, "certificate").map_err(|failure| {
        failure.help(format!("check the owner and the mode of {}, or set XDG_STATE_HOME", directory.display()))
    })?;
    let paths = LocalCaPaths::new(directory);
    let (authority, change) = LocalCa::ensure(&paths, jiff::Timestamp::now()).map_err(|reason| {
        Failure::new(FailureKind::Config, format!("the local certificate authority cannot be used: {reason}"))
            .help(format!("rm -r '{}', and the next start makes another; then devrun trust", directory.display()))
    })?;
    let note = match change {
        LocalCaChange::Kept => None,
        LocalCaChange::Created => {
            Some("created a local certificate authority for HTTPS; `devrun trust` makes browsers accept it")
        }
        LocalCaChange::Replaced => Some(
            "the local certificate authority was replaced: the last one had expired or lacked a file; run `devrun trust` again",
        ),
    };
    Ok((authority, note))
}
