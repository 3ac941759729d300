//! The options of `devrun up`.

use clap::Args;

#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Services to bring up; all if none
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Return when everything is ready; the supervisor goes on in the background
    #[arg(short = 'd', long, short_alias = 'D', overrides_with = "detach")]
    pub detach: bool,
    /// Compose's word for what `-d` does here; both may be given
    #[arg(long, hide = true, overrides_with = "wait", conflicts_with = "no_wait")]
    pub wait: bool,
    /// Restart what runs, also what is unchanged
    #[arg(long)]
    pub force_recreate: bool,
    /// Compose's options for what is always so here
    #[arg(long, hide = true, aliases = ["no-build", "no-recreate", "quiet-pull", "no-color", "no-log-prefix"], action = clap::ArgAction::Count)]
    pub remove_orphans: u8,
    /// With -d: return at once
    #[arg(long, requires = "detach")]
    pub no_wait: bool,
    /// Only the named services, not what they need
    #[arg(long)]
    pub no_deps: bool,
    /// A failed start takes everything down again
    #[arg(long)]
    pub rollback: bool,
    /// Any failure takes everything down
    #[arg(long, alias = "abort-on-container-exit", alias = "abort-on-container-failure")]
    pub abort_on_failure: bool,
    /// Everything goes down when this one ends, and its exit code is ours
    #[arg(long, value_name = "S")]
    pub exit_code_from: Option<String>,
    /// Copies of a service: S=N
    #[arg(long, value_name = "S=N")]
    pub scale: Vec<String>,
    /// For the whole start
    #[arg(short = 't', long, value_name = "T")]
    pub timeout: Option<String>,
    /// Choose free ports for everything
    #[arg(long, value_name = "auto")]
    pub ports: Option<String>,
    /// Make a new database cluster from nothing instead of from the cached empty one
    #[arg(long)]
    pub no_init_cache: bool,
    /// Fetch nothing
    #[arg(long, env = "DEVRUN_OFFLINE")]
    pub offline: bool,
    /// A base URL or file:// folder in the place of every vendor host
    #[arg(long, value_name = "BASE", env = "DEVRUN_MIRROR")]
    pub mirror: Option<String>,
    /// Delete data, secrets and logs first; says what and asks
    #[arg(long)]
    pub clean: bool,
    /// Run the build commands first
    #[arg(long)]
    pub build: bool,
    /// A throw-away copy: own state, own ports, nothing kept
    #[arg(long)]
    pub ephemeral: bool,
    /// Say what would be done, and why; do nothing
    #[arg(long)]
    pub plan: bool,
}

impl UpArgs {
    /// Whether a supervisor in the background is wanted.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.detach || self.wait
    }
}
