//! `devrun version`.

use clap::Args;
use devrun_model::Failure;
use devrun_model::exit;
use serde_json::json;

use crate::ui::term::data;

// `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Compose's words for a line or JSON
    #[arg(long, hide = true, value_name = "pretty|json", value_parser = ["pretty", "json"])]
    pub format: Option<String>,
    /// Compose's word: the number alone
    #[arg(long, hide = true)]
    pub short: bool,
}

/// Prints the version; as JSON with what a bug report needs to know about the build.
///
/// # Errors
/// Never; a reader that has closed the pipe is not an error.
pub fn run(args: &VersionArgs) -> Result<i32, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let _reader_gone = if args.short {
        data(version)
    } else if args.json || args.format.as_deref() == Some("json") {
        data(
            json!({
                "name": "devrun",
                "version": version,
                "os": std::env::consts::OS,
                "arch": std::env::consts::ARCH,
                "libc": if cfg!(target_env = "musl") { "musl" } else if cfg!(target_env = "gnu") { "gnu" } else { "system" },
                "debug": cfg!(debug_assertions),
            })
            .to_string(),
        )
    } else {
        data(format!("devrun {version}"))
    };
    Ok(exit::DONE)
}
