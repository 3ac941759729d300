//! Documentation for machines: `help --markdown`, `docs/llms.txt` and the section that `init --agents` writes. All of it is made
//! from the tables that the program itself uses, so it cannot be out of date.

use std::path::Path;

use clap::Parser;

use crate::ui::term::{Term, data};
use devrun_model::{Failure, FailureKind, exit};
use devrun_store::atomic_file;
use devrun_store::trusted_file;

use crate::app::agent::tools::{TOOLS, ToolEffect};
use crate::app::readonly;
use crate::cli::args::{Cli, HelpArgs};
use crate::cli::reference::{cli_reference, helps, procfile_reference};
use crate::globals::Globals;

/// `devrun help`.
///
/// # Errors
/// `Config` for a topic that there is not.
pub fn help(args: &HelpArgs, _term: Term) -> Result<i32, Failure> {
    let topic = args.topic.as_deref();
    if !args.markdown {
        // As `devrun TOPIC --help` prints it, colours included.
        let words = std::iter::once("devrun").chain(topic).chain(["--help"]);
        if let Err(page) = Cli::try_parse_from(words)
            && page.kind() == clap::error::ErrorKind::DisplayHelp
        {
            let _reader_gone = page.print();
            return Ok(exit::DONE);
        }
    } else if let Some(text) = markdown(topic) {
        return Ok(readonly::text(&text));
    }
    let names: Vec<String> = helps().into_iter().filter_map(|(name, _)| name.split(' ').nth(1).map(str::to_owned)).collect();
    let given = topic.unwrap_or_default();
    let help = match devrun_config::nearest(given, names.iter().map(String::as_str).collect::<Vec<_>>()) {
        Some(near) => format!("did you mean `devrun help {near}`?"),
        None => "`devrun help` lists the commands".to_owned(),
    };
    Err(Failure::new(FailureKind::Config, format!("unknown command `{given}`")).help(help))
}

fn page(topic: &str) -> Option<(String, String)> {
    helps().into_iter().find(|(name, _)| name.split(' ').nth(1) == Some(topic))
}

/// Without a topic: what an agent needs to begin, and every command.
fn markdown(topic: Option<&str>) -> Option<String> {
    match topic {
        None => Some(format!("{}\n{}", section(1), cli_reference())),
        Some("agents") => Some(section(1)),
        Some("procfile") => Some(procfile_reference()),
        Some("commands") => Some(cli_reference()),
        Some(topic) => page(topic).map(|(name, text)| format!("# {name}\n\n```text\n{text}```\n")),
    }
}

/// What an agent needs to work on a project that devrun runs. `level`: of its heading.
#[must_use]
pub fn section(level: usize) -> String {
    let head = "#".repeat(level);
    let mut out = format!(
        "{head} Services of this project: devrun\n\n\
         `procfile.toml` defines the services; `devrun` runs them natively, without containers. Every command ends by itself unless it \
         follows something (`-f`), takes `--json` where it prints a table, and tells by its exit code how it went.\n\n\
         | to | type |\n|---|---|\n"
    );
    for (what, command) in [
        ("start everything and wait until it is ready", "devrun up -d"),
        ("see states", "devrun ps --json"),
        ("learn why a service is not running or not ready", "devrun why SERVICE"),
        ("read logs, also of a stack that is down", "devrun logs -n 50 SERVICE"),
        ("apply a change of the procfile or of the code", "devrun restart SERVICE"),
        ("check the procfile without starting anything", "devrun check"),
        ("run a command in a service's environment", "devrun exec SERVICE -- CMD"),
        ("run tests against a fresh stack", "devrun run --ephemeral -- CMD"),
        ("stop everything; data stays", "devrun down"),
        ("read about one command", "devrun help --markdown COMMAND"),
        ("read about every key of procfile.toml", "devrun help --markdown procfile"),
    ] {
        out.push_str(&format!("| {what} | `{command}` |\n"));
    }
    out.push_str("\nExit codes: ");
    let codes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 124, 125].map(|code| format!("{code} {}", exit::meaning(code)));
    out.push_str(&codes.join("; "));
    out.push_str(".\n\n`devrun mcp` offers the same as tools of the Model Context Protocol:\n\n");
    for tool in TOOLS {
        let mark = if tool.effect == ToolEffect::Destroys { " Deletes data." } else { "" };
        out.push_str(&format!("- `{}`: {}{mark}\n", tool.name, tool.about));
    }
    out
}

/// `docs/llms.txt`: the project in one page, with what to read next (llmstxt.org).
#[must_use]
pub fn llms() -> String {
    let mut out = String::from(
        "# devrun\n\n> A process supervisor for projects of many services, without containers: one procfile.toml, real servers, started in the order \
         of their dependencies, and nothing left running when it is over.\n\n",
    );
    out.push_str(&section(2));
    out.push_str("\n## Docs\n\n");
    for (file, about) in [
        ("guide.md", "how to use it, from the first procfile on"),
        ("reference-procfile.md", "every key of procfile.toml"),
        ("reference-cli.md", "every command and option"),
        ("exit-codes.md", "every exit code, with what to do"),
        ("services.md", "the recipes: ready-made servers"),
        ("dashboards.md", "the terminal and browser dashboards, metrics, tools for agents"),
        ("gateway.md", "routes and the HTTP entry point"),
        ("secrets.md", "generated secrets and masking"),
        ("migrating.md", "from docker compose and others"),
        ("faq.md", "questions"),
    ] {
        out.push_str(&format!("- [{file}]({file}): {about}\n"));
    }
    out.push_str("\n## Commands\n\n");
    for (name, text) in helps().into_iter().skip(1) {
        out.push_str(&format!("- `{name}`: {}\n", text.lines().next().unwrap_or_default()));
    }
    out
}

const BEGIN: &str = "<!-- devrun: begin -->";
const END: &str = "<!-- devrun: end -->";

/// `devrun init --agents`: writes the section into AGENTS.md, or renews it there; what else is in the file stays.
///
/// # Errors
/// `Config` when the file cannot be read or written.
pub fn init_agents(globals: &Globals, output: Option<&Path>) -> Result<i32, Failure> {
    if output == Some(Path::new("-")) {
        return Ok(readonly::text(&section(2)));
    }
    let cwd = std::env::current_dir()
        .map_err(|error| Failure::new(FailureKind::Config, format!("the working directory cannot be read: {error}")))?;
    let base = globals.project_directory.as_ref().map_or_else(|| cwd.clone(), |dir| cwd.join(dir));
    let path = base.join(output.unwrap_or(Path::new("AGENTS.md")));
    let before = trusted_file::read_untrusted(&path)?;
    let after = with_section(before.as_deref().unwrap_or_default());
    let what = match &before {
        Some(before) if *before == after => "is up to date",
        Some(_) => "has the section now",
        None => "written",
    };
    if before.as_deref() != Some(after.as_str()) {
        atomic_file::replace(&path, after.as_bytes()).map_err(|error| {
            Failure::new(FailureKind::Config, format!("cannot write {}: {error}", path.display()))
                .help("devrun init --agents -o -")
        })?;
    }
    let _reader_gone = data(format!("{} {what}", path.display()));
    Ok(exit::DONE)
}

/// The text with our section in its place, or at its end.
fn with_section(text: &str) -> String {
    let ours = format!("{BEGIN}\n{}{END}", section(2));
    match (text.find(BEGIN), text.find(END)) {
        (Some(from), Some(to)) if from < to => {
            let (before, after) = (text.get(..from).unwrap_or_default(), text.get(to + END.len()..).unwrap_or_default());
            format!("{before}{ours}{after}")
        }
        _ if text.trim().is_empty() => format!("{ours}\n"),
        _ => format!("{}\n\n{ours}\n", text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_renewed_and_the_rest_stays() {
        let first = with_section("");
        assert!(first.starts_with(BEGIN) && first.ends_with("-->\n"));
        let own = format!("# Mine\n\ntext\n\n{BEGIN}\nold\n{END}\n\nmore\n");
        let renewed = with_section(&own);
        assert!(
            renewed.starts_with("# Mine\n\ntext\n\n<!-- devrun")
                && renewed.ends_with("-->\n\nmore\n")
                && !renewed.contains("old\n")
        );
        assert_eq!(with_section(&renewed), renewed);
        assert!(with_section("# Mine\n").starts_with("# Mine\n\n<!-- devrun"));
    }

    #[test]
    fn every_topic_has_its_page() {
        for topic in [None, Some("agents"), Some("procfile"), Some("commands"), Some("up"), Some("why")] {
            assert!(markdown(topic).is_some_and(|text| text.starts_with('#')), "{topic:?}");
        }
        assert!(markdown(Some("frobnicate")).is_none());
        assert!(section(2).contains("`explain_failure`"));
    }
}
