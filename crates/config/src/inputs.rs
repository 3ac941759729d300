//! What the caller hands in: the files, the command line's words about them, and everything outside that a value may come
//! from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::shared_server::SharedServer;
use devrun_model::{FirstCopy, Paths, RememberedScale};

/// One file, read by the caller.
#[derive(Debug, Clone)]
pub struct Source {
    /// As shown in messages; relative to the working directory where that is shorter.
    pub name: String,
    /// Its absolute path.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// What the command line says about the file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--project-name`.
    pub project_name: Option<String>,
    /// `--mode`, `DEVRUN_MODE`.
    pub mode: Option<String>,
    /// `--profile`; `*` is all.
    pub profiles: Vec<String>,
    /// Services named on the command line: their profiles do not matter.
    pub named: Vec<String>,
    /// `--instance`.
    pub instance: String,
    /// `--ports auto`.
    pub ports_auto: bool,
    /// `--scale`, `devrun scale`.
    pub scale: BTreeMap<String, u32>,
    /// What `devrun scale` has set before; each counts while the procfile's number is the one that it was set over.
    pub remembered_scale: BTreeMap<String, RememberedScale>,
    /// What the first copies are called in the run that is there.
    pub first_copies: BTreeMap<String, FirstCopy>,
    /// `--no-init-cache` makes it false.
    pub init_cache: bool,
    /// The port of the first line of a plain Procfile; the default is 5000.
    pub base_port: Option<u16>,
}

/// Everything outside the procfile that a value may come from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where state lies.
    pub places: Paths,
    /// The environment of the client that asks.
    pub shell: BTreeMap<String, String>,
    /// `--env-file`, then `[project].env_file` and the services' `env_file`, by absolute path; `None`: not there.
    pub env_files: BTreeMap<PathBuf, Option<String>>,
    /// The text of the `.env` next to the procfile where the procfile does not name it: no value comes from it, a help may name it.
    pub unread_env: Option<String>,
    /// `--env-file` as given, absolute.
    pub env_file_flag: Option<PathBuf>,
    /// Values by name; a wanted one that is absent is shown as a placeholder by read-only commands.
    pub secrets: BTreeMap<String, String>,
    /// Ports chosen for `auto`, `private` and recipes without one: service, port name → number.
    pub ports: BTreeMap<(String, String), u16>,
    /// Recipes given as files (`use = "./x.toml"`) and the templates of `render`: absolute path → text. A file that
    /// is not there is left out.
    pub recipe_files: BTreeMap<PathBuf, String>,
    /// `[config].keys`: the files of that directory by name.
    pub keys: BTreeMap<String, String>,
    /// Feeds jitter.
    pub seed: u64,
    /// The directory of the git branch's data below `branches/`, where `branch_data` is on and a branch is checked out.
    pub branch: Option<String>,
    /// The shared servers, by services with `scope = "user"`. One that is absent here is an ordinary service.
    pub shared: BTreeMap<String, SharedServer>,
    /// Where the user's local certificate authority is; `None`: the user has no state directory.
    pub local_ca: Option<LocalCaFiles>,
}

/// The files of the user's local certificate authority, which may not have been made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCaFiles {
    /// Their directory.
    pub directory: PathBuf,
    /// The variables by which programs trust it, each with a file that holds all that they trusted without it.
    pub variables: BTreeMap<String, String>,
    /// Why its files cannot be used, where they exist.
    pub problem: Option<String>,
}

impl Facts {
    /// Where state lies, and nothing else: no variable, no file, no secret, no port.
    #[must_use]
    pub fn of_places(places: Paths) -> Self {
        Self {
            places,
            shell: BTreeMap::new(),
            env_files: BTreeMap::new(),
            unread_env: None,
            env_file_flag: None,
            secrets: BTreeMap::new(),
            ports: BTreeMap::new(),
            recipe_files: BTreeMap::new(),
            keys: BTreeMap::new(),
            seed: 1,
            branch: None,
            shared: BTreeMap::new(),
            local_ca: None,
        }
    }

    /// Data of volumes without a path of their own.
    #[must_use]
    pub fn data(&self, mode: Option<&str>) -> PathBuf {
        match &self.branch {
            Some(branch) => {
                let data = self.places.state.join("branches").join(branch).join("data");
                mode.map_or_else(|| data.clone(), |mode| data.join(mode))
            }
            None => self.places.data(mode),
        }
    }
}
