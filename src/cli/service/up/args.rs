//! The options of `devrun up`.

use clap::Args;

#[derive(Debug, Clone, Default, Args)]
pub struct UpArgs {
    /// Services to start [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Run in the background; return when everything is ready
    #[arg(short = 'd', long, short_alias = 'D', overrides_with = "detach")]
    pub detach: bool,
    /// Compose's word for what `-d` does here; both may be given
    #[arg(long, hide = true, overrides_with = "wait", conflicts_with = "no_wait")]
    pub wait: bool,
    /// Restart what runs, also what is unchanged
    #[arg(long)]
    pub force_recreate: bool,
    /// Compose's options for what is always so here
    #[arg(
        long,
        hide = true,
        aliases = ["no-build", "no-recreate", "quiet-pull", "quiet-build", "menu", "renew-anon-volumes"],
        short_alias = 'V',
        action = clap::ArgAction::Count
    )]
    pub remove_orphans: u8,
    /// Compose's option: what has a `watch` is always watched
    #[arg(short = 'w', long, hide = true)]
    pub watch: bool,
    /// Compose's word for when images are pulled, of which there are none
    #[arg(long, hide = true, value_name = "always|missing|never")]
    pub pull: Option<String>,
    /// Compose's word for `--timeout`, in seconds
    #[arg(long, hide = true, value_name = "SECONDS", conflicts_with = "timeout")]
    pub wait_timeout: Option<String>,
    /// Compose's word for `--color never`
    #[arg(long, hide = true)]
    pub no_color: bool,
    /// Do not print service names
    #[arg(long, alias = "no-log-prefix")]
    pub no_prefix: bool,
    /// Show RFC 3339 timestamps
    #[arg(long)]
    pub timestamps: bool,
    /// With -d: return immediately
    #[arg(long, requires = "detach")]
    pub no_wait: bool,
    /// Do not start dependencies
    #[arg(long)]
    pub no_deps: bool,
    /// Stop everything if the start fails
    #[arg(long)]
    pub rollback: bool,
    /// Stop everything if any service fails
    #[arg(long, alias = "abort-on-container-exit", alias = "abort-on-container-failure")]
    pub abort_on_failure: bool,
    /// Stop everything when this service exits, and exit with its code
    #[arg(long, value_name = "S")]
    pub exit_code_from: Option<String>,
    /// Set the number of replicas of a service: S=N
    #[arg(long, value_name = "S=N")]
    pub scale: Vec<String>,
    /// Maximum time for the whole start
    #[arg(short = 't', long, value_name = "T")]
    pub timeout: Option<String>,
    /// Choose a free port for every service
    #[arg(long, value_name = "auto")]
    pub ports: Option<String>,
    /// Initialize databases from scratch instead of from the cached empty cluster
    #[arg(long)]
    pub no_init_cache: bool,
    /// Do not access the network
    #[arg(long, env = "DEVRUN_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,
    /// Base URL or file:// directory to use instead of vendor hosts
    #[arg(long, value_name = "BASE", env = "DEVRUN_MIRROR")]
    pub mirror: Option<String>,
    /// Delete data, secrets and logs first, after confirmation
    #[arg(long)]
    pub clean: bool,
    /// Run build commands first
    #[arg(long)]
    pub build: bool,
    /// Use a temporary copy with its own state and ports; keep nothing
    #[arg(long)]
    pub ephemeral: bool,
    /// Show what would be done, without doing it
    #[arg(long)]
    pub plan: bool,
    /// Open the dashboard; leaving it keeps the stack running
    #[arg(long, conflicts_with_all = ["detach", "plan", "ephemeral", "exit_code_from"])]
    pub ui: bool,
}

impl UpArgs {
    /// Whether a supervisor in the background is wanted.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.detach || self.wait
    }

    /// What to type where a port is taken: this command with other ports.
    #[must_use]
    pub fn port_advice(&self) -> String {
        let detach = if self.is_detached() { " -d" } else { "" };
        let services: String = self.services.iter().map(|name| format!(" {name}")).collect();
        format!("let devrun choose free ports: devrun up{detach} --ports auto{services}")
    }
}
