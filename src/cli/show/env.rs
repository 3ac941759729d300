//! `devrun env`: variables in the words of whoever reads them next. Never masked: that is what it is for.

use crate::app::service_env;

use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;

use clap::{Args, ValueEnum};

use crate::ui::output;
use crate::ui::term::{Term, say};
use devrun_model::client_env::Addressed;
use devrun_model::{Failure, exit, os_text};

use crate::app::load::{self, Wanted};
use crate::app::readonly;
use crate::app::running_mode;
use crate::app::snapshot;
use crate::globals::Globals;

// `env`.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// Service whose variables to print [default: variables for clients of the stack]
    #[arg(value_name = "SERVICE")]
    pub service: Option<String>,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "dotenv")]
    pub format: Form,
}

/// A way to write variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// NAME="value" for .env files.
    Dotenv,
    /// One object.
    Json,
    /// `export` lines for sh, bash and zsh.
    Shell,
    /// `set -gx` lines for fish.
    Fish,
    /// Lines for $GITHUB_ENV.
    Github,
}

/// Runs it.
///
/// # Errors
/// `Config` for a procfile with errors or a service that is not there.
pub fn run(globals: &Globals, args: &EnvArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let named: Vec<String> = args.service.iter().cloned().collect();
    let read = load::read(globals, &project, &Wanted { named, ..Wanted::look() })?;
    if !read.document.modes().is_empty()
        && let Ok(Some(stack)) = running_mode::running(&project)
    {
        running_mode::note_other(&stack, read.plan.mode.as_deref());
    }
    let env = match &args.service {
        Some(name) => {
            let spec = readonly::one(&read.plan, name)?;
            let mut env = service_env::exports(spec)?;
            env.extend(read.declared(spec)?);
            env
        }
        None => service_env::client(&read)?,
    };
    let is_port_open = read.plan.services.values().any(|spec| spec.ports.values().any(|port| *port == 0));
    if env.values().any(|value| is_placeholder(value, is_port_open)) {
        let lead = if snapshot::has_run(&project.places) { "" } else { "nothing has run here yet; " };
        say(format!(
            "note: {lead}a port shown as 0 or a secret shown as <secret NAME> is assigned at its first start: devrun up -d"
        ));
    }
    if args.format == Form::Json {
        return readonly::json(&env);
    }
    let mut out = String::new();
    for (name, value) in &env {
        if !is_name(name) {
            say(format!("{name} is not a valid shell variable name and is omitted"));
            continue;
        }
        out.push_str(&line(args.format, name, value)?);
    }
    let mut addressed = Addressed::default();
    env.iter().for_each(|(name, value)| addressed.variable(name, value));
    for name in project.env.keys().filter(|name| !env.contains_key(*name) && addressed.is_overridden_by(name)) {
        out.push_str(&unset(args.format, name));
    }
    let bytes = os_text::to_os(&out);
    if bytes.to_str().is_none() && !std::io::stdout().is_terminal() {
        // Values that are not UTF-8 leave as they came; a reader that is gone is no failure.
        let _reader_gone = output::write(output::Stream::Out, bytes.as_bytes());
        return Ok(exit::DONE);
    }
    Ok(readonly::text(&out))
}

/// Whether a value has the place of a secret that is not made yet, or of a port that is not chosen.
fn is_placeholder(value: &str, is_port_open: bool) -> bool {
    // As it stands, and as a part of an address.
    let is_secret = value.contains("<secret ") || value.contains("%3Csecret%20");
    let is_zero = |part: &str| part == "0" || part.strip_prefix('0').is_some_and(|rest| rest.starts_with(['/', '?', ',']));
    is_secret || is_port_open && value.split(':').any(is_zero)
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|char: char| char.is_ascii_digit())
        && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}

/// Takes a variable of the caller's shell out that would lead a client elsewhere; only a shell can.
fn unset(form: Form, name: &str) -> String {
    match form {
        Form::Shell => format!("unset {name}\n"),
        Form::Fish => format!("set -e {name}\n"),
        Form::Dotenv | Form::Json | Form::Github => String::new(),
    }
}

fn line(form: Form, name: &str, value: &str) -> Result<String, Failure> {
    Ok(match form {
        Form::Dotenv => format!("{name}={}\n", devrun_config::quote(value)),
        Form::Shell => format!("export {name}='{}'\n", value.replace('\'', "'\\''")),
        Form::Fish => format!("set -gx {name} '{}'\n", value.replace('\\', "\\\\").replace('\'', "\\'")),
        Form::Github if value.contains('\n') => {
            let mut end = "DEVRUN_EOF".to_owned();
            while value.lines().any(|line| line == end) {
                end.push('_');
            }
            format!("{name}<<{end}\n{value}\n{end}\n")
        }
        Form::Github | Form::Json => format!("{name}={value}\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_assigned_yet_is_recognised() {
        for (value, ports, expected) in [
            ("postgres://a:%3Csecret%20db%3E@127.0.0.1:0/x", false, true),
            ("<secret db>", false, true),
            ("redis://127.0.0.1:0/0", true, true),
            ("0", true, true),
            ("redis://127.0.0.1:6379/0", true, false),
            ("0", false, false),
            ("08:00", true, false),
        ] {
            assert_eq!(is_placeholder(value, ports), expected, "{value}");
        }
    }

    #[test]
    fn each_form_quotes_in_its_own_way() {
        for (form, value, expected) in [
            (Form::Dotenv, "postgres://a:b@127.0.0.1:5432/x?y=1", "X=postgres://a:b@127.0.0.1:5432/x?y=1\n"),
            (Form::Dotenv, "a b#c$d", "X='a b#c$d'\n"),
            (Form::Dotenv, "it's $5\n", "X=\"it's \\$5\\n\"\n"),
            (Form::Dotenv, "", "X=\n"),
            (Form::Shell, "it's", "export X='it'\\''s'\n"),
            (Form::Fish, "it's \\", "set -gx X 'it\\'s \\\\'\n"),
            (Form::Github, "a=b", "X=a=b\n"),
            (Form::Github, "a\nDEVRUN_EOF", "X<<DEVRUN_EOF_\na\nDEVRUN_EOF\nDEVRUN_EOF_\n"),
        ] {
            assert_eq!(line(form, "X", value).unwrap(), expected, "{form:?} {value:?}");
        }
    }
}
