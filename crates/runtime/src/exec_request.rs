//! What the process of a service is: program, words, environment, identity, and the files that it finds. Made of a definition
//! alone, here for a command of the user's and by `recipes` for a server; for the keeper's spawn and for the units of
//! `export systemd`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::user;
use devrun_model::keeper::RunAs;
use devrun_model::{CommandLine, Failure, FailureKind, Paths, ServiceSpec};

/// What to exec for a service, and what to write before.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecRequest {
    /// The executable.
    pub program: PathBuf,
    /// Its words; the first is the name it sees.
    pub argv: Vec<String>,
    /// The whole environment, marks apart.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub dir: PathBuf,
    /// OS identity.
    pub run_as: RunAs,
    /// Files to write, 0600, before the spawn, each once; those of the service's own `render` are among them.
    pub files: Vec<(PathBuf, String)>,
    /// Its own runtime directory is emptied first.
    pub needs_dir: bool,
}

impl ExecRequest {
    /// A command of the user's. `program` is what its first word was found to be earlier.
    ///
    /// # Errors
    /// `Binary` when it cannot be found, `Config` for its user.
    pub fn of_command(
        spec: &ServiceSpec,
        command: &CommandLine,
        program: Option<PathBuf>,
        places: &Paths,
    ) -> Result<Self, Failure> {
        let program = match (program, command.argv.first()) {
            (Some(program), _) => program,
            (None, Some(word)) => devrun_store::find_command(word, &spec.env, &spec.dir)?,
            (None, None) => return Err(Failure::new(FailureKind::Config, "the command is empty")),
        };
        let mut env = spec.env.clone();
        env.extend(command.env.clone());
        let files = rendered(spec, places);
        // What names `${dir.run}` means to write there.
        let own_dir = places.service_run(&spec.id).display().to_string();
        let names_it = command.argv.iter().chain(env.values()).any(|text| text.contains(&own_dir));
        Ok(Self {
            program,
            argv: command.argv.clone(),
            env,
            dir: spec.dir.clone(),
            run_as: user::of(spec)?,
            needs_dir: !files.is_empty() || names_it,
            files,
        })
    }
}

/// The files of the service's own `render`.
pub(crate) fn rendered(spec: &ServiceSpec, places: &Paths) -> Vec<(PathBuf, String)> {
    let run = places.service_run(&spec.id);
    spec.render.iter().map(|(name, text)| (run.join(name), text.clone())).collect()
}
