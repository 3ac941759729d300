//! Binaries: downloads that go wrong, archives that mean harm, installers that are killed. No registry and no vendor is
//! touched: artifacts are made here and served by a server of our own.

mod archives;
mod clients;
mod hostile;
mod installs;
mod kills;
mod server;
mod transfers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use devrun_model::recipe::SourceSpec;
use devrun_model::{RecipeData, RecipeUse};
use devrun_store::{FetchOptions, NoDownloadProgress};

/// A throw-away place to fetch into, whose PATH holds no server of any recipe.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub options: FetchOptions,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("devrun-fetch-").tempdir().unwrap();
        let env = BTreeMap::from([
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("HOME".to_owned(), folder.path().to_string_lossy().into_owned()),
            ("DEVRUN_TEST_ALLOW_HTTP".to_owned(), "1".to_owned()),
        ]);
        let options = FetchOptions {
            store: folder.path().join("store"),
            lock_file: folder.path().join("devrun.lock"),
            offline: false,
            mirror: None,
            env,
            progress: Arc::new(NoDownloadProgress),
        };
        Self { folder, options }
    }
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
    pub fn lock(&self) -> String {
        std::fs::read_to_string(&self.options.lock_file).unwrap_or_default()
    }
    /// Puts a folder of fake programs first on PATH.
    pub fn programs(&mut self, programs: &[(&str, &str)]) {
        let bin = self.path().join("fake-bin");
        std::fs::create_dir_all(&bin).unwrap();
        for (name, script) in programs {
            archives::executable(&bin.join(name), &format!("#!/bin/sh\n{script}\n"));
        }
        self.options.env.insert("PATH".to_owned(), format!("{}:/usr/bin:/bin", bin.display()));
    }
    /// Names of complete entries, and of whatever else lies in the store.
    pub fn stored(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (folder, prefix) in [("made-up", ""), (".stage", ".stage/")] {
            let Ok(entries) = std::fs::read_dir(self.options.store.join(folder)) else { continue };
            found.extend(
                entries
                    .map(|entry| format!("{prefix}{}", entry.unwrap().file_name().to_string_lossy()))
                    .filter(|name| name != ".lock"),
            );
        }
        found.sort();
        found
    }
}

/// A recipe of a server that no system has.
pub fn recipe(source: SourceSpec, version: Option<&str>) -> RecipeUse {
    let mut recipe: RecipeData = toml::from_str("name = \"made-up\"\nsummary = \"of the tests\"").unwrap();
    recipe.bin = vec!["made-upd".to_owned()];
    recipe.install.insert("linux".to_owned(), "apt-get install made-up".to_owned());
    recipe.install.insert("macos".to_owned(), "brew install made-up".to_owned());
    RecipeUse {
        recipe,
        version: version.map(ToOwned::to_owned),
        settings: BTreeMap::new(),
        init: Vec::new(),
        extensions: Vec::new(),
        locale: None,
        encoding: None,
        migrations: None,
        source: Some(source),
        init_cache: true,
        gateway: None,
    }
}

/// `[sources.made-up] url = …`.
pub fn from_url(url: &str) -> RecipeUse {
    recipe(SourceSpec { version: Some("1.2.3".to_owned()), url: Some(url.to_owned()), ..SourceSpec::default() }, None)
}

/// Every path below a folder with its kind, mode and content: the hash of a tree, readable when it differs.
pub fn tree_of(folder: &Path) -> BTreeMap<PathBuf, String> {
    use std::os::unix::fs::MetadataExt;
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if name.to_string_lossy().starts_with(".devrun-stamps") {
                continue;
            }
            if meta.is_dir() {
                found.insert(name, format!("folder {:o}", meta.mode()));
                walk(root, &path, found);
            } else if meta.is_symlink() {
                found.insert(name, format!("link {}", std::fs::read_link(&path).unwrap().display()));
            } else {
                let pin = devrun_store::pin::of_file(&path).unwrap();
                found.insert(name, format!("file {:o} {}", meta.mode(), pin.sha256));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}
