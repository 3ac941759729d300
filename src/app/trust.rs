//! `devrun trust`: puts the certificate of the local authority into the certificate stores of this machine and its browsers, and
//! takes it out again.
//!
//! A store is asked whether it has the certificate before and after it is changed. The name in every store holds the
//! certificate's fingerprint, so nothing but what was put there is ever taken out. What was put anywhere is remembered, as an
//! authority that has been replaced is to be removed too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use devrun_gateway::LocalCaPaths;
use devrun_model::{Failure, FailureKind};
use devrun_runtime::runtime_dir;
use serde::Serialize;

use crate::app::{local_ca, user_state};

/// A store of the whole system: where a certificate is put, with which extension, how the store takes notice, also of one that
/// is gone, and the file that it makes of all certificates.
struct SystemStore {
    anchors: &'static str,
    extension: &'static str,
    update: &'static [&'static str],
    update_removed: &'static [&'static str],
    result: &'static str,
}

/// Debian and its kin, Fedora, Arch, openSUSE; the first whose directory is there.
const SYSTEM_STORES: &[SystemStore] = &[
    SystemStore {
        anchors: "/usr/local/share/ca-certificates",
        extension: "crt",
        update: &["update-ca-certificates"],
        update_removed: &["update-ca-certificates", "--fresh"],
        result: "/etc/ssl/certs/ca-certificates.crt",
    },
    SystemStore {
        anchors: "/etc/pki/ca-trust/source/anchors",
        extension: "pem",
        update: &["update-ca-trust", "extract"],
        update_removed: &["update-ca-trust", "extract"],
        result: "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    },
    SystemStore {
        anchors: "/etc/ca-certificates/trust-source/anchors",
        extension: "crt",
        update: &["update-ca-trust", "extract"],
        update_removed: &["update-ca-trust", "extract"],
        result: "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
    },
    SystemStore {
        anchors: "/etc/pki/trust/anchors",
        extension: "pem",
        update: &["update-ca-certificates"],
        update_removed: &["update-ca-certificates"],
        result: "/etc/ssl/ca-bundle.pem",
    },
];

/// What became of one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// `system` or `browser`.
    pub kind: &'static str,
    /// A file, or a directory of an NSS database.
    pub location: String,
    /// What it holds now, or what keeps it from that.
    pub state: StoreState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to type where it could not be done here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// The state of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoreState {
    /// It had the certificate already.
    Present,
    /// It has it now.
    Installed,
    /// It does not have it any more.
    Removed,
    /// It had nothing to remove.
    Absent,
    /// Only root may change it.
    NeedsRoot,
    /// A program is missing that could change it.
    NeedsTool,
    /// A program of the system refused.
    Failed,
}

impl std::fmt::Display for StoreState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Present => f.pad("already installed"),
            Self::Installed => f.pad("installed"),
            Self::Removed => f.pad("removed"),
            Self::Absent => f.pad("not installed"),
            Self::NeedsRoot => f.pad("needs root"),
            Self::NeedsTool => f.pad("needs certutil"),
            Self::Failed => f.pad("failed"),
        }
    }
}

/// All that was done.
#[derive(Debug, Serialize)]
pub struct TrustReport {
    /// The certificate's file; `None`: there is none any more.
    pub certificate: Option<PathBuf>,
    /// Its SHA-256.
    pub fingerprint: Option<String>,
    /// By store.
    pub stores: Vec<StoreReport>,
}

/// One certificate, by what it is called in stores.
struct Anchor {
    fingerprint: String,
    /// The file and what it holds; only an earlier authority has none.
    file: Option<(PathBuf, Vec<u8>)>,
}

impl Anchor {
    fn short(&self) -> &str {
        self.fingerprint.get(..8).unwrap_or(&self.fingerprint)
    }
    /// In an NSS database and in a keychain.
    fn nickname(&self) -> String {
        format!("devrun local CA {}", self.short())
    }
    fn file_name(&self, extension: &str) -> String {
        format!("devrun-local-ca-{}.{extension}", self.short())
    }
}

/// Puts the certificate into all stores; what an earlier authority has left there is taken out.
///
/// # Errors
/// `Config` when the authority cannot be used.
pub fn install(env: &BTreeMap<String, String>) -> Result<TrustReport, Failure> {
    let directory = local_ca::directory(env).ok_or_else(no_home)?;
    let (authority, _) = local_ca::ensure(&directory)?;
    let certificate = LocalCaPaths::new(&directory).certificate();
    let text = fs::read(&certificate).map_err(|error| unusable(&certificate, &error))?;
    let anchor = Anchor { fingerprint: authority.fingerprint(), file: Some((certificate.clone(), text)) };
    let earlier: Vec<Anchor> = remembered(env).into_iter().filter(|one| *one != anchor.fingerprint).map(earlier).collect();
    remember(env, |all| _ = all.insert(anchor.fingerprint.clone()))?;
    let mut stores = Vec::new();
    for store in stores_of(env) {
        for anchor in &earlier {
            stores.extend(store.remove(anchor).filter(|report| report.state != StoreState::Absent));
        }
        stores.extend(store.install(&anchor));
    }
    Ok(TrustReport { certificate: Some(certificate), fingerprint: Some(anchor.fingerprint), stores })
}

/// Takes the certificate, and those of earlier authorities, out of all stores.
///
/// # Errors
/// `Config` when what was done cannot be remembered.
pub fn remove(env: &BTreeMap<String, String>) -> Result<TrustReport, Failure> {
    let mut stores = Vec::new();
    let anchors: Vec<Anchor> = remembered(env).into_iter().map(earlier).collect();
    for store in stores_of(env) {
        let removed: Vec<StoreReport> = anchors.iter().filter_map(|anchor| store.remove(anchor)).collect();
        let is_changed = |report: &&StoreReport| report.state != StoreState::Absent;
        match removed.iter().find(is_changed) {
            Some(_) => stores.extend(removed.iter().filter(is_changed).cloned()),
            None => stores.extend(removed.into_iter().next()),
        }
    }
    if stores.iter().all(|report| matches!(report.state, StoreState::Removed | StoreState::Absent)) {
        remember(env, BTreeSet::clear)?;
    }
    Ok(TrustReport { certificate: None, fingerprint: None, stores })
}

fn earlier(fingerprint: String) -> Anchor {
    Anchor { fingerprint, file: None }
}

/// The fingerprints of all certificates that were put anywhere.
fn remembered(env: &BTreeMap<String, String>) -> BTreeSet<String> {
    let text = user_state::directory(env).and_then(|state| fs::read_to_string(state.join(REMEMBERED)).ok());
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

const REMEMBERED: &str = "trusted.json";

fn remember(env: &BTreeMap<String, String>, change: impl FnOnce(&mut BTreeSet<String>)) -> Result<(), Failure> {
    let state = user_state::directory(env).ok_or_else(no_home)?;
    let (before, path) = (remembered(env), state.join(REMEMBERED));
    let mut after = before.clone();
    change(&mut after);
    if before == after {
        return Ok(());
    }
    let text = serde_json::to_vec(&after).map_err(|error| unusable(&path, &std::io::Error::other(error)))?;
    runtime_dir::replace(&path, &text).map_err(|error| unusable(&path, &error))
}

fn no_home() -> Failure {
    Failure::new(FailureKind::Config, "the local certificate authority needs a state directory of the user, and HOME is not set")
        .help("set HOME or XDG_STATE_HOME")
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("{} cannot be used: {error}", path.display()))
}

/// A place where certificates are trusted.
enum Store {
    System(&'static SystemStore),
    Keychain(PathBuf),
    /// A directory with a database of NSS: Chromium's and Firefox's.
    Nss(PathBuf),
}

fn stores_of(env: &BTreeMap<String, String>) -> Vec<Store> {
    let mut stores = Vec::new();
    let home = env.get("HOME").map(PathBuf::from).unwrap_or_default();
    if cfg!(target_os = "macos") {
        stores.push(Store::Keychain(home.join("Library/Keychains/login.keychain-db")));
    } else {
        stores.extend(SYSTEM_STORES.iter().find(|store| Path::new(store.anchors).is_dir()).map(Store::System));
    }
    let data = env.get("XDG_DATA_HOME").map_or_else(|| home.join(".local/share"), PathBuf::from);
    let mut directories = vec![
        home.join(".pki/nssdb"),
        data.join("pki/nssdb"),
        home.join("snap/chromium/current/.pki/nssdb"),
        home.join(".var/app/org.chromium.Chromium/.pki/nssdb"),
    ];
    for profiles in [
        home.join(".mozilla/firefox"),
        home.join("snap/firefox/common/.mozilla/firefox"),
        home.join(".var/app/org.mozilla.firefox/.mozilla/firefox"),
        home.join("Library/Application Support/Firefox/Profiles"),
    ] {
        let mut found: Vec<PathBuf> = fs::read_dir(profiles).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        found.sort();
        directories.extend(found);
    }
    stores.extend(directories.into_iter().filter(|directory| directory.join("cert9.db").is_file()).map(Store::Nss));
    stores
}

impl Store {
    fn report(&self, location: &Path, state: StoreState, command: Option<String>) -> StoreReport {
        let kind = if matches!(self, Self::Nss(_)) { "browser" } else { "system" };
        StoreReport { kind, location: location.display().to_string(), state, reason: None, command }
    }

    /// What a program did: the state if it succeeded.
    fn outcome(&self, location: &Path, done: Result<String, String>, state: StoreState) -> StoreReport {
        match done {
            Ok(_) => self.report(location, state, None),
            Err(reason) => StoreReport { reason: Some(reason), ..self.report(location, StoreState::Failed, None) },
        }
    }

    fn install(&self, anchor: &Anchor) -> Option<StoreReport> {
        let (source, text) = anchor.file.as_ref()?;
        Some(match self {
            Self::System(store) => {
                let place = Path::new(store.anchors).join(anchor.file_name(store.extension));
                let is_there = || fs::read(&place).is_ok_and(|there| there == *text) && has(store.result, text);
                if is_there() {
                    return Some(self.report(&place, StoreState::Present, None));
                }
                if !nix::unistd::geteuid().is_root() {
                    let command =
                        format!("sudo install -m 644 {} {} && sudo {}", quoted(source), quoted(&place), store.update.join(" "));
                    return Some(self.report(&place, StoreState::NeedsRoot, Some(command)));
                }
                let done = write(&place, text).map_err(|error| error.to_string()).and_then(|()| run(store.update));
                let done = done.and_then(|said| {
                    if is_there() {
                        Ok(said)
                    } else {
                        Err(format!("{} did not add it to {}", store.update.join(" "), store.result))
                    }
                });
                self.outcome(&place, done, StoreState::Installed)
            }
            Self::Keychain(keychain) => {
                if self.keychain_has(keychain, anchor) {
                    return Some(self.report(keychain, StoreState::Present, None));
                }
                let words = ["security", "add-trusted-cert", "-r", "trustRoot", "-k", &text_of(keychain), &text_of(source)];
                self.outcome(keychain, run(&words), StoreState::Installed)
            }
            Self::Nss(directory) => {
                let (database, nickname) = (format!("sql:{}", directory.display()), anchor.nickname());
                match nss_has(&database, &nickname) {
                    None => return Some(self.without_tool(directory)),
                    Some(true) => return Some(self.report(directory, StoreState::Present, None)),
                    Some(false) => {}
                }
                let words = ["certutil", "-A", "-d", &database, "-t", "C,,", "-n", &nickname, "-i", &text_of(source)];
                self.outcome(directory, run(&words), StoreState::Installed)
            }
        })
    }

    fn remove(&self, anchor: &Anchor) -> Option<StoreReport> {
        Some(match self {
            Self::System(store) => {
                let place = Path::new(store.anchors).join(anchor.file_name(store.extension));
                if fs::symlink_metadata(&place).is_err() {
                    return Some(self.report(&place, StoreState::Absent, None));
                }
                if !nix::unistd::geteuid().is_root() {
                    let command = format!("sudo rm {} && sudo {}", quoted(&place), store.update_removed.join(" "));
                    return Some(self.report(&place, StoreState::NeedsRoot, Some(command)));
                }
                let done = fs::remove_file(&place).map_err(|error| error.to_string()).and_then(|()| run(store.update_removed));
                self.outcome(&place, done, StoreState::Removed)
            }
            Self::Keychain(keychain) => {
                if !self.keychain_has(keychain, anchor) {
                    return Some(self.report(keychain, StoreState::Absent, None));
                }
                // With its trust settings.
                let words = ["security", "delete-certificate", "-Z", &anchor.fingerprint, "-t", &text_of(keychain)];
                self.outcome(keychain, run(&words), StoreState::Removed)
            }
            Self::Nss(directory) => {
                let (database, nickname) = (format!("sql:{}", directory.display()), anchor.nickname());
                match nss_has(&database, &nickname) {
                    None => return Some(self.without_tool(directory)),
                    Some(false) => return Some(self.report(directory, StoreState::Absent, None)),
                    Some(true) => {}
                }
                let done = run(&["certutil", "-D", "-d", &database, "-n", &nickname]);
                self.outcome(directory, done, StoreState::Removed)
            }
        })
    }

    fn without_tool(&self, directory: &Path) -> StoreReport {
        let command = "install certutil (libnss3-tools on Debian and Ubuntu, nss-tools on Fedora, nss elsewhere), then repeat";
        self.report(directory, StoreState::NeedsTool, Some(command.to_owned()))
    }

    fn keychain_has(&self, keychain: &Path, anchor: &Anchor) -> bool {
        run(&["security", "find-certificate", "-a", "-Z", "-c", &anchor.nickname(), &text_of(keychain)])
            .is_ok_and(|said| said.to_ascii_lowercase().contains(&anchor.fingerprint))
    }
}

/// Whether a database has a certificate of this name; `None`: the program that could say is not installed.
fn nss_has(database: &str, nickname: &str) -> Option<bool> {
    let found = Command::new("certutil").args(["-L", "-d", database, "-n", nickname]).stdin(Stdio::null()).output();
    found.ok().map(|done| done.status.success())
}

/// Whether a file of certificates has this one, whatever else it says about it.
fn has(file: &str, certificate: &[u8]) -> bool {
    let body = |text: &str| {
        let body = text.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END")?.0;
        Some(body.split_whitespace().collect::<String>())
    };
    let Some(wanted) = std::str::from_utf8(certificate).ok().and_then(body) else { return false };
    let all = fs::read_to_string(file).unwrap_or_default();
    all.split_inclusive("-----END CERTIFICATE-----").any(|one| body(one).is_some_and(|found| found == wanted))
}

fn write(place: &Path, text: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = place.with_extension("new");
    fs::write(&stage, text)?;
    fs::set_permissions(&stage, fs::Permissions::from_mode(0o644))?;
    fs::rename(&stage, place)
}

/// Runs a program of the system. An error is a sentence's fragment.
fn run(words: &[&str]) -> Result<String, String> {
    let [program, arguments @ ..] = words else { return Err("no command".to_owned()) };
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let done = done.map_err(|error| format!("cannot run {program}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).lines().next().unwrap_or_default().to_owned();
    Err(format!("{program} failed ({}): {said}", done.status))
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

/// As one word of a shell.
pub(crate) fn quoted(path: &Path) -> String {
    let text = text_of(path);
    let is_plain = text.chars().all(|char| char.is_ascii_alphanumeric() || "/._-".contains(char));
    if is_plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
