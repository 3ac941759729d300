//! What the tests share: a project in a short temporary folder, a keeper, and the servers of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use devrun_keeper::{KeeperHandle, KeeperOptions, OutputSink, OutputStream, Runner};
use devrun_model::keeper::{Identity, KeeperHello};
use devrun_model::{Launch, Paths, RecipeBook as _, RecipeUse, ServiceName, ServiceSpec, VolumeClass, VolumeName, VolumeSpec};
use devrun_runtime::recipes::{RecipeContext, RecipeRegistry};
use devrun_store::Located;

/// Says why a server that CI must have is absent: a failure there, elsewhere the test is ignored.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "CI must have it: {why}");
    crate::harness::skipped(why);
}

/// Whether the client of Postgres is installed; where it is not, the test is ignored.
pub fn has_psql() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("psql").is_file())
}

/// All that the processes said.
#[derive(Default)]
pub struct Output(Mutex<Vec<u8>>);

impl OutputSink for Output {
    fn write(&self, _: OutputStream, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

impl Output {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// A project with one service of one recipe.
pub struct Stack {
    folder: Option<tempfile::TempDir>,
    pub root: PathBuf,
    pub places: Paths,
    pub volume: VolumeSpec,
    pub spec: ServiceSpec,
    pub recipe: RecipeUse,
    pub located: Located,
    pub output: Arc<Output>,
}

impl Stack {
    pub fn new(located: Located) -> Self {
        let folder = tempfile::Builder::new().prefix("dr").tempdir_in("/tmp").unwrap();
        let root = folder.path().to_owned();
        let mut stack = Self::at(root, located);
        stack.folder = Some(folder);
        stack
    }

    /// The same project for every process that is told the same folder.
    pub fn at(root: PathBuf, located: Located) -> Self {
        let name = located.recipe.clone();
        let book = RecipeRegistry::new();
        let recipe = RecipeUse {
            recipe: book.find(&name).unwrap().clone(),
            version: None,
            settings: BTreeMap::new(),
            init: Vec::new(),
            extensions: Vec::new(),
            locale: None,
            encoding: None,
            migrations: None,
            source: None,
            init_cache: false,
            gateway: None,
        };
        let places = Paths { root: root.clone(), state: root.join(".devrun"), run: root.join("run") };
        for path in [places.logs(), places.run.clone()] {
            std::fs::create_dir_all(path).unwrap();
        }
        let volume_name = VolumeName::new("data").unwrap();
        let volume = VolumeSpec {
            name: volume_name.clone(),
            class: VolumeClass::Persistent,
            path: root.join(".devrun/data/data"),
            placed: false,
        };
        let mut spec = ServiceSpec::bare(ServiceName::new("db").unwrap(), root.clone(), Vec::new());
        spec.launch = Launch::Recipe(Box::new(recipe.clone()));
        spec.data = Some(volume_name);
        spec.ports.insert("main".to_owned(), crate::test_ports::free_port());
        spec.env.insert("PATH".to_owned(), std::env::var("PATH").unwrap());
        spec.env.insert("HOME".to_owned(), root.display().to_string());
        Self { folder: None, root, places, volume, spec, recipe, located, output: Arc::default() }
    }

    pub fn attribute(&mut self, name: &str, value: &str) {
        self.spec.attributes.insert(name.to_owned(), value.to_owned());
    }

    /// A keeper of its own, and a runner of its processes.
    pub async fn runner(&self) -> Runner {
        let hello = KeeperHello {
            run: devrun_runtime::init::nonce().unwrap(),
            project: "real".to_owned(),
            root: self.root.clone(),
            journal: self.places.journal(),
            cgroup: false,
            supervisor: Identity { pid: std::process::id().cast_signed(), start: 0, boot: String::new() },
            inherited: Vec::new(),
        };
        let options =
            KeeperOptions { program: PathBuf::from(env!("CARGO_BIN_EXE_devrun")), hello: hello.clone(), owns_children: false };
        let (keeper, _news) = KeeperHandle::start(options).await.unwrap();
        Runner {
            keeper,
            places: self.places.clone(),
            prepare: devrun_runtime::runtime_dir::ensure_run,
            service: self.spec.id.clone(),
            generation: 1,
            marks: [("DEVRUN_RUN_ID".to_owned(), hello.run)].into(),
            sink: Some(self.output.clone()),
        }
    }

    pub fn context<'a>(&'a self, runner: &'a Runner) -> RecipeContext<'a> {
        RecipeContext {
            spec: &self.spec,
            recipe: &self.recipe,
            located: &self.located,
            places: &self.places,
            volume: Some(&self.volume),
            runner,
        }
    }
}

/// The names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A runtime with everything on.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// Executables found in one of `folders`.
pub fn found(recipe: &str, version: &str, folder: &Path, tools: &[&str]) -> Option<Located> {
    let paths: BTreeMap<String, PathBuf> =
        tools.iter().map(|tool| ((*tool).to_owned(), folder.join(tool))).filter(|(_, path)| path.is_file()).collect();
    paths.contains_key(tools[0]).then(|| Located {
        recipe: recipe.to_owned(),
        version: version.to_owned(),
        tools: paths,
        env: BTreeMap::new(),
        origin: "system".to_owned(),
        why: "found by the test".to_owned(),
    })
}
