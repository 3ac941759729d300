//! A command that was found, and what it needs.

/// A command that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The service's name.
    pub name: String,
    /// Its directory below the project's; empty is that one.
    pub dir: String,
    /// Its command.
    pub run: String,
    /// Its port, where one is known or usual.
    pub port: Option<u16>,
    /// It takes its port from PORT and has no usual one: any free one will do.
    pub reads_port: bool,
    /// The file that says so.
    pub from: String,
    /// What `devrun build` would do.
    pub build: Option<String>,
    /// What is wrong with its command.
    pub fault: Option<String>,
    /// The name that it has where its directory has none.
    pub(super) role: String,
    /// It is one line of a shell.
    pub(super) is_shell: bool,
    /// The tasks that install what it needs.
    pub(super) installs: Vec<Install>,
    /// Recipes that its dependencies name.
    pub(super) uses: Vec<&'static str>,
    /// Variables beyond those of the recipes.
    pub(super) env: Vec<(&'static str, String)>,
    /// Keys that are worth a look, as comments.
    pub(super) proposals: Vec<String>,
}

/// A task that fetches dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Install {
    /// `venv`, `npm` and the like.
    pub(super) kind: &'static str,
    pub(super) run: String,
    /// The directory that it fills, which then is not filled again; without one it runs at each start.
    pub(super) fills: Option<&'static str>,
    /// The files that say what is installed.
    pub(super) inputs: Vec<&'static str>,
}

/// A framework among the dependencies of a directory whose application was not found: nothing that could be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingModule {
    /// The directory below the project's; empty is that one.
    pub(super) dir: String,
    /// The file that names the framework.
    pub(super) from: &'static str,
    /// The framework, as people write it.
    pub(super) framework: &'static str,
    /// The command, with `MODULE` where the module's name belongs.
    pub(super) run: &'static str,
    pub(super) port: u16,
}

impl std::fmt::Display for MissingModule {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let from = if self.dir.is_empty() { self.from.to_owned() } else { format!("{}/{}", self.dir, self.from) };
        write!(out, "{from} names {}, but no module with its application was found", self.framework)
    }
}

impl Script {
    pub(super) fn new(role: &str, run: impl Into<String>, port: Option<u16>, from: &str) -> Self {
        Self {
            name: String::new(),
            dir: String::new(),
            run: run.into(),
            port,
            reads_port: false,
            from: from.to_owned(),
            build: None,
            fault: None,
            role: role.to_owned(),
            is_shell: false,
            installs: Vec::new(),
            uses: Vec::new(),
            env: Vec::new(),
            proposals: Vec::new(),
        }
    }
    /// The same, after this task.
    pub(super) fn after(mut self, install: Option<Install>) -> Self {
        self.installs.extend(install);
        self
    }
    /// The same, with a key as a comment.
    pub(super) fn propose(mut self, line: &str) -> Self {
        self.proposals.push(line.to_owned());
        self
    }
}
