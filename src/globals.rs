//! The options that every command has. They are read by the application layer too, which must not know the commands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How to show a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressArg {
    /// Live display on a terminal, plain lines otherwise.
    Auto,
    /// Live display.
    Tty,
    /// One line per change.
    Plain,
    /// One JSON object per change.
    Json,
    /// Only failures.
    Quiet,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ }) => {
        impl $type {
            /// As typed.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $word),+ } }
        }
    };
}

words!(Color { Auto = "auto", Always = "always", Never = "never" });

words!(ProgressArg { Auto = "auto", Tty = "tty", Plain = "plain", Json = "json", Quiet = "quiet" });

/// Options before or after any verb.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Procfile to read; several are merged in order
    #[arg(short = 'f', long = "file", value_name = "FILE", global = true, env = "DEVRUN_FILE", help_heading = "Global options")]
    pub file: Vec<PathBuf>,
    /// Directory from which to search for the procfile
    #[arg(
        short = 'C',
        long,
        value_name = "DIR",
        global = true,
        env = "DEVRUN_PROJECT_DIRECTORY",
        help_heading = "Global options"
    )]
    pub project_directory: Option<PathBuf>,
    /// Override the project name
    #[arg(short = 'p', long, value_name = "NAME", global = true, env = "DEVRUN_PROJECT_NAME", help_heading = "Global options")]
    pub project_name: Option<String>,
    /// Overlay [modes.M] to apply
    #[arg(long, value_name = "M", global = true, env = "DEVRUN_MODE", help_heading = "Global options")]
    pub mode: Option<String>,
    /// Enable a profile; `*` enables all
    #[arg(long, value_name = "P", global = true, env = "DEVRUN_PROFILE", value_delimiter = ',', help_heading = "Global options")]
    pub profile: Vec<String>,
    /// Env file whose values take precedence over those of `[project]`
    #[arg(long, value_name = "F", global = true, env = "DEVRUN_ENV_FILE", help_heading = "Global options")]
    pub env_file: Option<PathBuf>,
    /// Run an isolated copy with its own state and ports
    #[arg(long, value_name = "NAME", global = true, help_heading = "Global options")]
    pub instance: Option<String>,
    /// State directory to use instead of .devrun/
    #[arg(long, value_name = "DIR", global = true, env = "DEVRUN_STATE_DIR", help_heading = "Global options")]
    pub state_dir: Option<PathBuf>,
    /// When to use color
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        env = "DEVRUN_COLOR",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub color: Color,
    /// How to display progress
    #[arg(
        long,
        value_name = "HOW",
        global = true,
        env = "DEVRUN_PROGRESS",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub progress: ProgressArg,
    /// Print debug output (also DEBUG=1; select with DEVRUN_LOG=FILTER)
    #[arg(long, global = true, help_heading = "Global options")]
    pub debug: bool,
    /// Answer yes to every question
    #[arg(short = 'y', long, global = true, help_heading = "Global options")]
    pub yes: bool,
}

/// The options here that take a value, as they are typed.
const TAKES_VALUE: [&str; 13] = [
    "-f",
    "--file",
    "-C",
    "--project-directory",
    "-p",
    "--project-name",
    "--mode",
    "--profile",
    "--env-file",
    "--instance",
    "--state-dir",
    "--color",
    "--progress",
];

/// Where the name of the command stands among the words of a command line.
#[must_use]
pub fn verb_at(words: &[OsString]) -> Option<usize> {
    let mut is_value = false;
    words.iter().enumerate().skip(1).find_map(|(at, word)| {
        let text = word.to_string_lossy();
        if is_value {
            is_value = false;
            return None;
        }
        is_value = TAKES_VALUE.contains(&text.as_ref());
        (!text.starts_with('-')).then_some(at)
    })
}

impl Globals {
    /// The options that mean the project of one procfile, whatever the caller's own project is. How to print and what to answer stays.
    #[must_use]
    pub fn of_procfile(&self, path: PathBuf) -> Self {
        Self {
            file: vec![path],
            project_directory: None,
            project_name: None,
            mode: None,
            profile: Vec::new(),
            env_file: None,
            instance: None,
            state_dir: None,
            ..self.clone()
        }
    }
}
