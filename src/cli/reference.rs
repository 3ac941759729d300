//! What is made from the tables of this program alone: completions, manual pages, the JSON Schema of the procfile, and
//! the reference pages in `docs/`.

use std::path::Path;

use crate::ui::term::Term;
use clap::CommandFactory;
use devrun_config::schema::{Shape, TableKind, keys_of};
use devrun_model::exit;
use devrun_model::{Failure, FailureKind};

use crate::app::procfile_schema::{name_of, places, schema_text};
use crate::app::readonly;
use crate::cli::args::{Cli, ManArgs};

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Config, format!("{} cannot be written: {error}", path.display())).help("choose another directory")
}

/// `devrun man`.
///
/// # Errors
/// `Config` when the folder cannot be written to.
pub fn man(args: &ManArgs, _term: Term) -> Result<i32, Failure> {
    let Some(dir) = &args.dir else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(|error| cannot(Path::new("the page"), &error))?;
        return Ok(readonly::text(&String::from_utf8_lossy(&text)));
    };
    std::fs::create_dir_all(dir).map_err(|error| cannot(dir, &error))?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(|error| cannot(dir, &error))?;
    Ok(exit::DONE)
}

/// `devrun schema`.
///
/// # Errors
/// Never.
pub fn print_schema(_term: Term) -> Result<i32, Failure> {
    Ok(readonly::text(&schema_text()))
}

// The reference pages.

const MADE: &str = "<!-- Made by `devrun __docs docs`; do not edit. -->";

fn words(shape: Shape) -> String {
    match shape {
        Shape::Text => "text".to_owned(),
        Shape::Scalar => "text, number or boolean".to_owned(),
        Shape::Bool => "boolean".to_owned(),
        Shape::Integer => "integer".to_owned(),
        Shape::Number => "number".to_owned(),
        Shape::Duration => "duration".to_owned(),
        Shape::Size => "size".to_owned(),
        Shape::Port => "port".to_owned(),
        Shape::Choice(words) => words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", "),
        Shape::List(inner) => format!("list of {}", words(*inner)),
        Shape::Map(inner) => format!("table of names: {}", words(*inner)),
        Shape::Table(place) => format!("[{}](#{})", name_of(place), anchor(place)),
        Shape::Either(shapes) => {
            let all: Vec<String> = shapes.iter().map(|shape| words(*shape)).collect();
            all.join(" or ")
        }
        Shape::Any => "anything".to_owned(),
    }
}

fn anchor(place: TableKind) -> String {
    format!("table-{}", name_of(place).replace('_', "-"))
}

/// `docs/reference-procfile.md`.
#[must_use]
pub fn procfile_reference() -> String {
    let mut out = format!(
        "# procfile.toml: every key\n\n{MADE}\n\nWhat a key is when it is absent stands in the column *default*. A key that is marked \
         *later* is read and checked and does nothing yet. `false` removes an inherited value.\n"
    );
    for place in places() {
        out.push_str(&format!("\n<a id=\"{}\"></a>\n## {}\n\n", anchor(place), title(place)));
        out.push_str("| key | takes | default | what it is |\n|---|---|---|---|\n");
        for key in keys_of(place) {
            let cell = |text: &str| text.replace('|', "\\|");
            out.push_str(&format!(
                "| `{}` | {} | {} | {} |\n",
                key.name,
                cell(&words(key.shape)),
                cell(key.default.unwrap_or("")),
                cell(key.doc),
            ));
        }
    }
    out
}

fn title(place: TableKind) -> String {
    match place {
        TableKind::Root => "The file".to_owned(),
        TableKind::Project | TableKind::Config | TableKind::Secrets => format!("`[{}]`", name_of(place)),
        TableKind::Service => "`[services.NAME]` and `[defaults]`".to_owned(),
        TableKind::Task => "`[tasks.NAME]`".to_owned(),
        TableKind::Volume => "`[volumes.NAME]`".to_owned(),
        TableKind::Source => "`[sources.NAME]`".to_owned(),
        TableKind::Ready => "`ready` and `alive`".to_owned(),
        TableKind::Requires => "`requires` of `[project]`".to_owned(),
        TableKind::EnvFile => "An entry of `env_file`".to_owned(),
        TableKind::Secret => "One secret of `generate`".to_owned(),
        TableKind::Dependency => "An entry of `depends_on`".to_owned(),
        TableKind::Route => "A route".to_owned(),
        TableKind::Bucket => "A bucket".to_owned(),
        TableKind::Index => "A collection or index".to_owned(),
        TableKind::Model => "A model".to_owned(),
        TableKind::Backoff | TableKind::Stop | TableKind::Update | TableKind::Limits | TableKind::Reserve | TableKind::Log => {
            format!("`{}`", name_of(place))
        }
    }
}

/// Every `--help`, the main one first.
#[must_use]
pub fn helps() -> Vec<(String, String)> {
    // A width of its own, so that the text does not depend on the terminal that asks; values of variables are left out.
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut pages = vec![("devrun".to_owned(), plain(&mut command))];
    let names: Vec<String> =
        command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| verb.get_name().to_owned()).collect();
    for name in names {
        if let Some(verb) = command.find_subcommand_mut(&name) {
            // Those stand on the first page; each of thirty pages would repeat them.
            let globals: Vec<clap::Id> =
                verb.get_arguments().filter(|arg| arg.is_global_set()).map(|arg| arg.get_id().clone()).collect();
            let mut verb = verb.clone();
            for global in globals {
                verb = verb.mut_arg(global, |arg| arg.hide(true));
            }
            pages.push((format!("devrun {name}"), plain(&mut verb)));
        }
    }
    pages
}

fn plain(command: &mut clap::Command) -> String {
    let names: Vec<clap::Id> = command.get_arguments().map(|arg| arg.get_id().clone()).collect();
    let mut shown = command.clone().term_width(100);
    for name in names {
        shown = shown.mut_arg(name, |arg| arg.hide_env_values(true));
    }
    let text = shown.render_long_help().to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

/// `docs/reference-cli.md`.
#[must_use]
pub fn cli_reference() -> String {
    let mut out = format!("# Command-line reference\n\n{MADE}\n\n");
    let pages = helps();
    for (name, _) in pages.iter().skip(1) {
        out.push_str(&format!("- [`{name}`](#{})\n", name.replace(' ', "-")));
    }
    for (name, text) in pages {
        out.push_str(&format!("\n## {name}\n\n```text\n{text}```\n"));
    }
    out.push_str("\n## Exit codes\n\n| code | meaning |\n|---|---|\n");
    for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 124, 125, 126, 127, 129, 130, 143] {
        out.push_str(&format!("| {code} | {} |\n", exit::meaning(code)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_is_known() {
        let all: String = helps().into_iter().map(|(name, text)| format!("$ {name} --help\n{text}\n")).collect();
        insta::assert_snapshot!("help", all);
    }

    #[test]
    fn every_verb_has_an_example() {
        for (name, text) in helps() {
            assert!(text.contains("Example"), "{name} --help shows no example");
        }
    }
}
