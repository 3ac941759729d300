//! From the files of a compose project to one tree: `include`, further files, `extends`.
//!
//! Tables merge by key, lists append, scalars replace; the exceptions are compose's own. Every value keeps the file it
//! came from, as its paths are relative to that file's folder.

use std::path::{Path, PathBuf};

use super::super::report::At;
use super::super::yaml::{self, Map, Merging, YamlKey, YamlNode, YamlValue, get};
use devrun_model::suggest;
use devrun_model::{Failure, FailureKind};

/// Reads a file; `None` where there is none.
pub(crate) type SourceReader<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The merged tree and the files it came from.
pub(crate) struct Loaded {
    pub tree: Map,
    pub files: Vec<PathBuf>,
    /// Names of the files as shown.
    pub names: Vec<String>,
    /// Env files of what is included, in their order.
    pub env_files: Vec<PathBuf>,
}

/// More files than this are a mistake, or an attack; what includes itself is found by its depth.
const MAX_FILES: usize = 5000;
const MAX_DEPTH: usize = 20;
/// Bytes of all files that belong together; one that is included or extended twice is read twice.
const MAX_READ: usize = 64 << 20;
/// What services take over by `extends`, together. A small file can ask for any number of copies of its largest service.
const MAX_EXTENDED: usize = 64 << 20;

struct Loader<'a> {
    root: &'a Path,
    read: SourceReader<'a>,
    files: Vec<PathBuf>,
    names: Vec<String>,
    read_bytes: usize,
    extended: usize,
    env_files: Vec<PathBuf>,
}

/// Loads and merges.
pub(crate) fn load(paths: &[PathBuf], root: &Path, read: SourceReader<'_>) -> Result<Loaded, Failure> {
    let mut loader =
        Loader { root, read, files: Vec::new(), names: Vec::new(), read_bytes: 0, extended: 0, env_files: Vec::new() };
    let mut tree = Map::new();
    for path in paths {
        let one = loader.file(path, None, 0)?;
        merge_file(&mut tree, one);
    }
    tree.retain(|(_, node)| node.merging != Merging::Reset);
    Ok(Loaded { tree, files: loader.files, names: loader.names, env_files: loader.env_files })
}

impl Loader<'_> {
    fn fail(&self, at: At, message: impl std::fmt::Display, help: impl Into<String>) -> Failure {
        let name = usize::try_from(at.file).ok().and_then(|file| self.names.get(file)).map_or("?", String::as_str);
        Failure::new(FailureKind::Config, format!("{name}:{}:{}: {message}", at.line, at.column.max(1))).help(help)
    }

    fn open(&mut self, path: &Path, from: Option<At>) -> Result<YamlNode, Failure> {
        let name = path.strip_prefix(self.root).unwrap_or(path).display().to_string();
        let index = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
        let Some(text) = (self.read)(path) else {
            let help = "check the path; it is relative to the directory of the file that names it";
            return Err(match from {
                Some(at) => self.fail(at, format!("{name} cannot be read"), help),
                None => Failure::new(FailureKind::Config, format!("{name} cannot be read")).help("check the path"),
            });
        };
        if self.files.len() >= MAX_FILES {
            return Err(Failure::new(FailureKind::Config, format!("more than {MAX_FILES} compose files belong together"))
                .help("does a file include itself?"));
        }
        self.read_bytes = self.read_bytes.saturating_add(text.len());
        if self.read_bytes > MAX_READ {
            let message = format!("the compose files that belong together are larger than {} MiB", MAX_READ >> 20);
            let help = "include or extend large files less often";
            return Err(match from {
                Some(at) => self.fail(at, message, help),
                None => Failure::new(FailureKind::Config, format!("{name}: {message}")).help(help),
            });
        }
        self.files.push(path.to_path_buf());
        self.names.push(name);
        // Compose merges the documents of one file in their order.
        let mut whole: Option<YamlNode> = None;
        for document in yaml::documents(&text) {
            let node = yaml::parse(&document, index).map_err(|bad| {
                let at = At { file: index, line: bad.line, column: bad.column };
                self.fail(at, bad.message, "fix the YAML there, then run the command again")
            })?;
            match (&mut whole, node.value) {
                (_, YamlValue::Null) => {}
                (Some(YamlNode { value: YamlValue::Map(tree), .. }), YamlValue::Map(more)) => merge_file(tree, more),
                (Some(_), value) => {
                    let other = YamlNode { value, ..node };
                    let message = format!("this document holds {} where a table is wanted", other.kind());
                    return Err(self.fail(other.at, message, "put it into a file of its own"));
                }
                (None, value) => whole = Some(YamlNode { value, ..node }),
            }
        }
        Ok(whole.unwrap_or(YamlNode {
            value: YamlValue::Null,
            at: At { file: index, line: 1, column: 1 },
            merging: Merging::Usual,
        }))
    }

    /// Refuses keys of a table that has only these: what is included and extended is not there any more when keys are judged.
    fn known_keys(&self, node: &YamlNode, of: &str, known: &[&str]) -> Result<(), Failure> {
        let is_unknown = |name: &str| !known.contains(&name) && !name.starts_with("x-");
        let unknown = node.map().and_then(|map| map.iter().find(|(key, _)| is_unknown(&key.name)));
        let Some((key, _)) = unknown else { return Ok(()) };
        let help = suggest::help(&key.name, known.iter().copied()).unwrap_or_default();
        Err(self.fail(key.at, format!("unknown key `{}` in `{of}`", key.name), help))
    }

    /// One file with what it includes and extends, `x-` keys left out.
    fn file(&mut self, path: &Path, from: Option<At>, depth: usize) -> Result<Map, Failure> {
        let node = self.open(path, from)?;
        let at = node.at;
        if depth > MAX_DEPTH {
            return Err(self.fail(at, "files include one another too deeply", "does a file include itself?"));
        }
        let folder = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let own = match node.value {
            YamlValue::Map(map) => map,
            YamlValue::Null => {
                return Err(self.fail(at, "the file is empty", "a compose file has `services:` and, below it, a name each"));
            }
            _ => {
                return Err(self.fail(
                    at,
                    format!("the file holds {} where a table is wanted", node.kind()),
                    "a compose file has `services:` and, below it, a name each",
                ));
            }
        };
        let mut tree = Map::new();
        if let Some(include) = get(&own, "include") {
            for entry in include.list().unwrap_or_default() {
                self.known_keys(entry, "include", &["path", "env_file", "project_directory"])?;
            }
            for path in included_env_files(include, &folder) {
                if !self.env_files.contains(&path) {
                    self.env_files.push(path);
                }
            }
            for (path, at) in included(include) {
                let more = self.file(&join(&folder, &path), Some(at), depth + 1)?;
                merge_file(&mut tree, more);
            }
        }
        let mut own: Map = own.into_iter().filter(|(key, _)| key.name != "include" && !key.name.starts_with("x-")).collect();
        let all = own.clone();
        if let Some((_, services)) = own.iter_mut().find(|(key, _)| key.name == "services")
            && let YamlValue::Map(services) = &mut services.value
        {
            for (key, service) in services.iter_mut() {
                *service = self.extended(&key.name, service.clone(), &all, &folder, depth)?;
            }
        }
        merge_file(&mut tree, own);
        Ok(tree)
    }

    /// A service with what it extends below it.
    fn extended(&mut self, name: &str, service: YamlNode, all: &Map, folder: &Path, depth: usize) -> Result<YamlNode, Failure> {
        let Some(extends) = service.get("extends") else { return Ok(service) };
        let at = extends.at;
        self.known_keys(extends, "extends", &["service", "file"])?;
        if depth > MAX_DEPTH {
            return Err(self.fail(at, format!("`{name}` extends itself, or too deeply"), "take one `extends` out"));
        }
        let wanted = match &extends.value {
            YamlValue::Map(_) => extends.get("service").and_then(YamlNode::scalar),
            _ => extends.scalar(),
        };
        let Some(wanted) = wanted else {
            return Err(self.fail(at, "`extends` names no service", "extends: { file: common.yml, service: NAME }"));
        };
        let base = match extends.get("file").and_then(YamlNode::scalar) {
            Some(file) => {
                let path = join(folder, &file);
                let node = self.open(&path, Some(at))?;
                let other = node.map().cloned().unwrap_or_default();
                let base = find(&other, &wanted).cloned();
                let folder = path.parent().unwrap_or(Path::new("/")).to_path_buf();
                base.map(|base| self.extended(&wanted, base, &other, &folder, depth + 1)).transpose()?
            }
            None => {
                let base = find(all, &wanted).cloned();
                base.map(|base| self.extended(&wanted, base, all, folder, depth + 1)).transpose()?
            }
        };
        let Some(mut base) = base else {
            return Err(self.fail(at, format!("cannot extend unknown service `{wanted}`"), "check its name"));
        };
        self.extended += base.size();
        if self.extended > MAX_EXTENDED {
            let most = MAX_EXTENDED >> 20;
            return Err(self.fail(
                at,
                format!("what services take over by `extends` is more than {most} MiB together"),
                "put large values into an env file",
            ));
        }
        if let YamlValue::Map(map) = &mut base.value {
            map.retain(|(key, _)| key.name != "extends");
        }
        let mut over = service;
        if let YamlValue::Map(map) = &mut over.value {
            map.retain(|(key, _)| key.name != "extends");
        }
        let at = over.at;
        merge_service(&mut base, over);
        base.at = at;
        Ok(base)
    }
}

fn find<'a>(tree: &'a Map, service: &str) -> Option<&'a YamlNode> {
    get(get(tree, "services")?.map()?, service)
}

fn included(node: &YamlNode) -> Vec<(String, At)> {
    let mut found = Vec::new();
    match &node.value {
        YamlValue::List(list) => list.iter().for_each(|item| found.extend(included(item))),
        YamlValue::Map(map) => found.extend(get(map, "path").map(YamlNode::texts).unwrap_or_default()),
        _ => found.extend(node.texts()),
    }
    found
}

/// The env files that an `include` reads its files with: those that it names, else the `.env` of the directory of its first file.
fn included_env_files(node: &YamlNode, folder: &Path) -> Vec<PathBuf> {
    let beside = |path: &str| join(folder, path).parent().map(|folder| folder.join(".env")).into_iter().collect::<Vec<_>>();
    match &node.value {
        YamlValue::List(list) => list.iter().flat_map(|item| included_env_files(item, folder)).collect(),
        YamlValue::Map(map) => match get(map, "env_file") {
            Some(files) => files.texts().iter().map(|(path, _)| join(folder, path)).collect(),
            None => match get(map, "project_directory").and_then(YamlNode::scalar) {
                Some(directory) => vec![join(folder, &directory).join(".env")],
                None => get(map, "path")
                    .map(YamlNode::texts)
                    .unwrap_or_default()
                    .first()
                    .map_or_else(Vec::new, |(path, _)| beside(path)),
            },
        },
        _ => node.scalar().map_or_else(Vec::new, |path| beside(&path)),
    }
}

/// Joins and takes `.` and `..` apart, as no disk is looked at.
pub(crate) fn join(folder: &Path, path: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

fn merge_file(tree: &mut Map, over: Map) {
    for (key, node) in over {
        match tree.iter_mut().find(|(old, _)| old.name == key.name) {
            None => tree.push((key, node)),
            Some((_, old)) if key.name == "services" => match (&mut old.value, node.value) {
                (YamlValue::Map(old), YamlValue::Map(services)) => {
                    for (key, service) in services {
                        match old.iter_mut().find(|(name, _)| name.name == key.name) {
                            Some((_, old)) => merge_service(old, service),
                            None => old.push((key, service)),
                        }
                    }
                    old.retain(|(_, node)| node.merging != Merging::Reset);
                }
                (old, value) => *old = value,
            },
            Some((_, old)) => merge(old, node),
        }
    }
}

fn merge_service(old: &mut YamlNode, over: YamlNode) {
    let (YamlValue::Map(_), YamlValue::Map(_)) = (&old.value, &over.value) else {
        *old = over;
        return;
    };
    let YamlValue::Map(entries) = over.value else { return };
    let YamlValue::Map(map) = &mut old.value else { return };
    for (key, node) in entries {
        let Some((_, old)) = map.iter_mut().find(|(name, _)| name.name == key.name) else {
            map.push((key, node));
            continue;
        };
        match key.name.as_str() {
            "command" | "entrypoint" => *old = node,
            "environment" | "labels" | "depends_on" | "networks" | "extra_hosts" | "sysctls" | "build" => {
                merge(old, node);
            }
            "healthcheck" => {
                if let (YamlValue::Map(map), Some(_)) = (&mut old.value, node.get("test")) {
                    map.retain(|(key, _)| key.name != "test");
                }
                merge(old, node);
            }
            "volumes" => {
                if let (YamlValue::List(list), Some(more)) = (&mut old.value, node.list()) {
                    list.retain(|item| {
                        !more.iter().any(|other| target_of(other).is_some() && target_of(other) == target_of(item))
                    });
                }
                merge(old, node);
            }
            _ => merge(old, node),
        }
    }
    map.retain(|(_, node)| node.merging != Merging::Reset);
}

/// The path in the container of a volume entry.
pub(crate) fn target_of(node: &YamlNode) -> Option<String> {
    match &node.value {
        YamlValue::Map(map) => get(map, "target").and_then(YamlNode::scalar),
        _ => super::syntax::split_volume(&node.scalar()?).map(|mount| mount.target),
    }
}

fn merge(old: &mut YamlNode, over: YamlNode) {
    if over.merging != Merging::Usual {
        *old = over;
        return;
    }
    match (&mut old.value, over.value) {
        (YamlValue::Map(old), YamlValue::Map(more)) => {
            for (key, node) in more {
                match old.iter_mut().find(|(name, _)| name.name == key.name) {
                    Some((_, old)) => merge(old, node),
                    None => old.push((key, node)),
                }
            }
            old.retain(|(_, node)| node.merging != Merging::Reset);
        }
        (YamlValue::List(old), YamlValue::List(more)) => {
            for node in more {
                if !old.iter().any(|known| known.value == node.value) {
                    old.push(node);
                }
            }
        }
        // A list of names or of NAME=VALUE beside a table of the same.
        (list @ YamlValue::List(_), YamlValue::Map(more)) => {
            let YamlValue::List(items) = std::mem::replace(list, YamlValue::Null) else { return };
            let mut base = YamlNode { value: YamlValue::Map(as_map(items)), at: over.at, merging: Merging::Usual };
            merge(&mut base, YamlNode { value: YamlValue::Map(more), at: over.at, merging: Merging::Usual });
            *list = base.value;
        }
        (YamlValue::Map(_), YamlValue::List(items)) => {
            merge(old, YamlNode { value: YamlValue::Map(as_map(items)), at: over.at, merging: Merging::Usual });
        }
        (_, value) => {
            old.value = value;
            old.at = over.at;
        }
    }
}

/// `[A=1, B]` as a table.
pub(crate) fn as_map(items: Vec<YamlNode>) -> Map {
    items
        .into_iter()
        .filter_map(|node| {
            let text = node.scalar()?;
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), YamlValue::Text(value.to_owned())),
                None => (text, YamlValue::Null),
            };
            Some((YamlKey { name, at: node.at }, YamlNode { value, at: node.at, merging: Merging::Usual }))
        })
        .collect()
}
