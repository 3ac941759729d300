//! What the system already has.
//!
//! Owns: the folders that are looked into, when a folder is complete, and asking a server for its version. All tools of a
//! recipe come from one folder: an `initdb` of another version than its `postgres` makes data that the server refuses.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, access};

use devrun_model::RecipeData;

use super::catalog::Catalog;
use super::extensions;
use super::subprocess::{Cancel, Subprocess};
use super::version::{self, VersionRequest};

/// Clients: welcome where they are, missed by nobody.
const CLIENTS: &[&str] = &[
    "psql",
    "pg_isready",
    "pg_ctl",
    "pg_dump",
    "pg_dumpall",
    "pg_restore",
    "redis-cli",
    "valkey-cli",
    "mariadb",
    "mysql",
    "mariadb-dump",
    "cypher-shell",
    "mc",
    "nats",
    "promtool",
];

/// Usual folders of every recipe, after PATH: `NAME` stands for the recipe's, `*` for a version.
const FOLDERS: &[&str] = &[
    "/opt/homebrew/opt/NAME@*/bin",
    "/opt/homebrew/opt/NAME/bin",
    "/usr/local/opt/NAME@*/bin",
    "/usr/local/opt/NAME/bin",
    "/home/linuxbrew/.linuxbrew/opt/NAME@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/NAME/bin",
    "/opt/homebrew/bin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/sbin",
];

/// A complete folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemTools {
    /// As the server reports it; empty where it says nothing that can be understood.
    pub version: String,
    /// Absolute paths by name.
    pub tools: BTreeMap<String, PathBuf>,
    /// Where they are.
    pub folder: PathBuf,
    /// Whether the server was run for its version, now or before.
    pub asked: bool,
}

/// Where to look.
#[derive(Debug, Clone)]
pub struct SearchScope<'a> {
    /// The caller's environment.
    pub env: &'a BTreeMap<String, String>,
    /// Versions that are known.
    pub answers: &'a VersionCache,
    /// Servers in this folder are not run.
    pub unasked: Option<PathBuf>,
    /// Extensions that a Postgres must have.
    pub extensions: &'a [String],
}

/// Whether this user may execute the file.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// The first executable of this name on the caller's PATH that fits.
#[must_use]
pub fn on_path(name: &str, env: &BTreeMap<String, String>, fits: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    path_folders(env).map(|folder| folder.join(name)).find(|path| is_executable(path) && fits(path.as_path()))
}

/// PATH's folders but for relative ones, which would mean another place in another process.
fn path_folders(env: &BTreeMap<String, String>) -> impl Iterator<Item = PathBuf> {
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect::<Vec<_>>().into_iter()
}

/// Executables that must be in a folder: the recipe's, clients apart. The server itself always counts.
#[must_use]
pub fn required<'a>(recipe: &'a RecipeData, catalog: &Catalog) -> Vec<&'a str> {
    let optional = |name: &str| CLIENTS.contains(&name) || catalog.optional.iter().any(|known| known == name);
    recipe.bin.iter().enumerate().filter(|(place, name)| *place == 0 || !optional(name)).map(|(_, name)| name.as_str()).collect()
}

/// The recipe's tools in this folder, or the first that is missing.
///
/// # Errors
/// The name of what is missing.
pub fn tools_in(folder: &Path, recipe: &RecipeData, catalog: &Catalog) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut tools = BTreeMap::new();
    let server = recipe.bin.first();
    let find = |name: &str| {
        let beside = sibling(folder).filter(|_| server.is_some_and(|server| server != name));
        [Some(folder.to_owned()), beside].into_iter().flatten().map(|folder| folder.join(name)).find(|path| is_executable(path))
    };
    for name in required(recipe, catalog) {
        tools.insert(name.to_owned(), find(name).ok_or_else(|| name.to_owned())?);
    }
    for name in recipe.bin.iter().chain(&catalog.optional) {
        if let Some(path) = find(name).filter(|_| !tools.contains_key(name)) {
            tools.insert(name.clone(), path);
        }
    }
    Ok(tools)
}

/// `bin` and `sbin` of one prefix are one folder: distributions put the server into one and what sets it up into the other.
fn sibling(folder: &Path) -> Option<PathBuf> {
    let other = match folder.file_name()?.to_str()? {
        "sbin" => "bin",
        "bin" => "sbin",
        _ => return None,
    };
    Some(folder.parent()?.join(other))
}

/// The folder that really holds the server, where `folder` only links to it: a link on PATH often comes without the tools
/// that lie beside its target.
fn behind_links(folder: &Path, recipe: &RecipeData, catalog: &Catalog) -> Option<(PathBuf, BTreeMap<String, PathBuf>)> {
    let server = recipe.bin.first()?;
    let real = folder.join(server).canonicalize().ok()?;
    let real_folder = real.parent()?;
    // A link to a program of another name is one that looks at its own name; it is used by its own name.
    if real_folder == folder || real.file_name()? != OsStr::new(server) {
        return None;
    }
    let tools = tools_in(real_folder, recipe, catalog).ok()?;
    Some((real_folder.to_owned(), tools))
}

/// Every folder worth a look, in order, each once.
pub(super) fn folders(recipe: &str, catalog: &Catalog, env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = path_folders(env).collect();
    for pattern in catalog.folders.iter().map(String::as_str).chain(FOLDERS.iter().copied()) {
        folders.extend(expand(&pattern.replace("NAME", recipe)));
    }
    let mut seen = std::collections::BTreeSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// The recipe's servers on this machine, of whatever version.
#[must_use]
pub fn servers(recipe: &RecipeData, catalog: &Catalog, env: &BTreeMap<String, String>) -> Vec<PathBuf> {
    let Some(name) = recipe.bin.first() else { return Vec::new() };
    folders(&recipe.name, catalog, env).into_iter().map(|folder| folder.join(name)).filter(|path| is_executable(path)).collect()
}

/// The folders that a pattern with at most one `*` names, highest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut versions: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_prefix(prefix).map(ToOwned::to_owned))
        .collect();
    versions.sort_by(|a, b| version::compare(b, a));
    versions.into_iter().map(|version| PathBuf::from(format!("{before}{version}{after}"))).collect()
}

/// Asks a server for its version.
///
/// # Errors
/// Why it could not be run; an answer that holds no version is an empty one.
pub fn ask_version(
    server: &Path,
    args: &[String],
    extra: &BTreeMap<String, String>,
    caller: &BTreeMap<String, String>,
    cancel: &Cancel,
) -> Result<String, String> {
    let mut env = extra.clone();
    env.insert("LC_ALL".to_owned(), "C".to_owned());
    env.insert("HOME".to_owned(), "/nonexistent".to_owned());
    if let Some(path) = caller.get("PATH") {
        env.insert("PATH".to_owned(), path.clone());
    }
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    let run = Subprocess { program: server, args, env: &env, dir: Some(Path::new("/")), limit: Duration::from_secs(10) };
    let ended = run.wait(cancel, || ()).map_err(|error| error.to_string())?;
    // Some begin with their own path, in which a number means nothing.
    let own = server.display().to_string();
    let in_output = |text: &str| version::in_output(&text.replace(&own, ""));
    let version = in_output(&ended.stdout).or_else(|| in_output(&ended.stderr).filter(|_| ended.ok()));
    match version {
        Some(version) => Ok(version),
        None if ended.ok() => Ok(String::new()),
        None => Err(ended.complaint()),
    }
}

/// What system servers said of their versions, so that a warm start runs none of them. An answer holds as long as the file
/// is the same one (size, times and inode); a file of answers that is lost or damaged costs a few milliseconds.
#[derive(Debug, Default)]
pub struct VersionCache {
    file: Option<PathBuf>,
}

impl VersionCache {
    /// Kept in this file.
    #[must_use]
    pub fn kept_in(file: PathBuf) -> Self {
        Self { file: Some(file) }
    }
    fn read(&self) -> BTreeMap<String, String> {
        let bytes = self.file.as_ref().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
    fn key(path: &Path) -> Option<String> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(path).ok()?;
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        Some(format!("{} {} {} {times:?}", path.display(), meta.len(), meta.ino()))
    }
    fn known(&self, path: &Path) -> Option<String> {
        self.file.as_ref()?;
        self.read().remove(&Self::key(path)?)
    }
    fn note(&self, path: &Path, version: &str) {
        let (Some(file), Some(key)) = (&self.file, Self::key(path)) else { return };
        let mut answers = self.read();
        let prefix = format!("{} ", path.display());
        answers.retain(|known, _| !known.starts_with(&prefix));
        answers.insert(key, version.to_owned());
        let written = serde_json::to_vec(&answers).map_err(std::io::Error::from).and_then(|bytes| {
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            crate::atomic_file::replace(file, &bytes)
        });
        // A cache that cannot be written is asked again next time.
        drop(written);
    }
}

/// As [`ask_version`], where the answer is not known.
///
/// # Errors
/// As [`ask_version`].
pub(super) fn version_of(
    program: &Path,
    args: &[String],
    extra: &BTreeMap<String, String>,
    caller: &BTreeMap<String, String>,
    answers: &VersionCache,
    cancel: &Cancel,
) -> Result<String, String> {
    if let Some(version) = answers.known(program) {
        return Ok(version);
    }
    ask_version(program, args, extra, caller, cancel).inspect(|version| answers.note(program, version))
}

/// The first complete folder whose server's version will do, and why others would not.
#[must_use]
pub fn find_installed(
    recipe: &RecipeData,
    catalog: &Catalog,
    request: &VersionRequest,
    SearchScope { env, answers, unasked, extensions: wanted }: &SearchScope<'_>,
    cancel: &Cancel,
) -> (Option<SystemTools>, Vec<String>) {
    let mut rejected = Vec::new();
    let mut asked = std::collections::BTreeSet::new();
    let Some(server) = recipe.bin.first() else { return (None, rejected) };
    for folder in folders(&recipe.name, catalog, env) {
        if cancel.is_cancelled() || !is_executable(&folder.join(server)) {
            continue;
        }
        let (folder, tools) = match behind_links(&folder, recipe, catalog) {
            Some(real) => real,
            None => match tools_in(&folder, recipe, catalog) {
                Ok(tools) => (folder, tools),
                Err(missing) => {
                    rejected.push(format!("{} has no {missing}", folder.display()));
                    continue;
                }
            },
        };
        // On many systems /bin is a link to /usr/bin.
        if !asked.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        let path = folder.join(server);
        let missing = extensions::missing(&path, wanted);
        let answer = match answers.known(&path) {
            Some(version) => Ok(version),
            None if unasked.as_ref().is_some_and(|project| path.canonicalize().is_ok_and(|real| real.starts_with(project))) => {
                if !missing.is_empty() {
                    rejected.push(format!("{} has {}", folder.display(), extensions::lacks(&missing)));
                    continue;
                }
                return (Some(SystemTools { version: String::new(), tools, folder, asked: false }), rejected);
            }
            None => ask_version(&path, &catalog.version_args, &BTreeMap::new(), env, cancel)
                .inspect(|version| answers.note(&path, version)),
        };
        match answer {
            Ok(version) if request.admits(&version) && !missing.is_empty() => {
                rejected.push(format!("{} has {version} and {}", folder.display(), extensions::lacks(&missing)));
            }
            Ok(version) if request.admits(&version) => {
                return (Some(SystemTools { version, tools, folder, asked: true }), rejected);
            }
            Ok(version) if version.is_empty() => rejected.push(format!("{} does not say its version", folder.display())),
            Ok(version) => rejected.push(format!("{} has {version}", folder.display())),
            Err(why) => rejected.push(format!("{} does not run: {why}", folder.display())),
        }
    }
    (None, rejected)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn recipe(bin: &[&str]) -> RecipeData {
        let mut recipe: RecipeData = toml::from_str("name = \"made-up\"\nsummary = \"\"").unwrap();
        recipe.bin = bin.iter().map(|name| (*name).to_owned()).collect();
        recipe
    }

    fn script(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path_of(folders: &[&Path]) -> BTreeMap<String, String> {
        let joined = std::env::join_paths(folders).unwrap().into_string().unwrap();
        BTreeMap::from([("PATH".to_owned(), format!("{joined}:/usr/bin:/bin"))])
    }

    static NO_ANSWERS: VersionCache = VersionCache { file: None };

    fn place(env: &BTreeMap<String, String>) -> SearchScope<'_> {
        SearchScope { env, answers: &NO_ANSWERS, unasked: None, extensions: &[] }
    }

    #[test]
    fn the_first_complete_folder_with_a_fitting_version_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let (half, old, new) = (root.path().join("half"), root.path().join("old"), root.path().join("new"));
        script(&half.join("made-upd"), "echo made-upd 2.0");
        for (folder, version) in [(&old, "1.9.3"), (&new, "2.4")] {
            script(&folder.join("made-upd"), &format!("echo made-upd {version}"));
            script(&folder.join("made-init"), "exit 1");
        }
        script(&new.join("psql"), "exit 1");
        let recipe = recipe(&["made-upd", "made-init", "psql"]);
        let catalog = Catalog::of("made-up").unwrap();
        let env = path_of(&[&half, &old, &new]);
        let (found, rejected) =
            find_installed(&recipe, &catalog, &VersionRequest::new(Some("2")), &place(&env), &Cancel::default());
        let found = found.unwrap();
        assert_eq!((found.version.as_str(), &found.folder), ("2.4", &new));
        assert!(found.tools.contains_key("psql"));
        assert_eq!(rejected.len(), 2, "{rejected:?}");
        let (found, _) = find_installed(&recipe, &catalog, &VersionRequest::new(None), &place(&env), &Cancel::default());
        let found = found.unwrap();
        assert_eq!(found.folder, old);
        assert!(!found.tools.contains_key("psql"), "a client came from another folder");
        assert_eq!(find_installed(&recipe, &catalog, &VersionRequest::new(Some("3")), &place(&env), &Cancel::default()).0, None);
    }

    #[test]
    fn bin_and_sbin_of_one_prefix_are_one_folder() {
        let root = tempfile::tempdir().unwrap();
        script(&root.path().join("sbin/made-upd"), "echo 1.2");
        script(&root.path().join("bin/made-init"), "exit 1");
        let recipe = recipe(&["made-upd", "made-init"]);
        let catalog = Catalog::of("made-up").unwrap();
        let tools = tools_in(&root.path().join("sbin"), &recipe, &catalog).unwrap();
        assert_eq!(tools["made-init"], root.path().join("bin/made-init"));
        // The server itself is not looked for next door: its folder is what is being asked about.
        assert_eq!(tools_in(&root.path().join("bin"), &recipe, &catalog).unwrap_err(), "made-upd");
    }

    #[test]
    fn a_link_on_the_path_leads_to_the_folder_of_its_target() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (links, real) = (root.join("links"), root.join("real"));
        for tool in ["made-upd", "made-init", "psql"] {
            script(&real.join(tool), "echo 1.2");
        }
        std::fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink(real.join("made-upd"), links.join("made-upd")).unwrap();
        let recipe = recipe(&["made-upd", "made-init", "psql"]);
        let catalog = Catalog::of("made-up").unwrap();
        let (found, _) =
            find_installed(&recipe, &catalog, &VersionRequest::new(None), &place(&path_of(&[&links])), &Cancel::default());
        let found = found.unwrap();
        assert_eq!(found.folder, real);
        assert_eq!(found.tools.len(), 3);
    }

    #[test]
    fn a_server_that_does_not_run_is_passed_over() {
        let root = tempfile::tempdir().unwrap();
        script(&root.path().join("made-upd"), "echo cannot load >&2; exit 127");
        let catalog = Catalog::of("made-up").unwrap();
        let env = path_of(&[root.path()]);
        let (found, rejected) =
            find_installed(&recipe(&["made-upd"]), &catalog, &VersionRequest::new(None), &place(&env), &Cancel::default());
        assert_eq!(found, None);
        assert!(rejected[0].contains("cannot load"), "{rejected:?}");
    }
}
