//! What foreman and overmind look up beside a Procfile: the port of its first line, and other Procfiles.

use devrun_model::{Failure, FailureKind};
use devrun_store::trusted_file;

use crate::app::project::Project;

/// The `port:` of `.foreman`, else `PORT` of `.env`, else that of the shell; `None` where none of them says a port.
///
/// # Errors
/// `Config` when one of these files may not be read.
pub fn base_port(project: &Project) -> Result<Option<u16>, Failure> {
    let plain = |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("Procfile"));
    if !project.files.iter().any(plain) {
        return Ok(None);
    }
    let foreman = trusted_file::read_trusted(&project.root.join(".foreman"))?.unwrap_or_default();
    let dotenv = trusted_file::read_trusted(&project.root.join(".env"))?.unwrap_or_default();
    let of_foreman = foreman.lines().find_map(|line| line.trim().strip_prefix("port:")).and_then(number);
    let of_dotenv = dotenv
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("export ").trim_start().strip_prefix("PORT="))
        .filter_map(number)
        .next_back();
    Ok(of_foreman.or(of_dotenv).or_else(|| project.env.get("PORT").and_then(|text| number(text))))
}

/// The file of another tool that `devrun import` reads and devrun itself does not.
#[must_use]
pub fn importable(folder: &std::path::Path) -> Option<&'static str> {
    ["process-compose.yaml", "process-compose.yml"].into_iter().find(|name| folder.join(name).is_file())
}

/// Why no project is found in a directory. A Procfile of another name must be named: nobody knows which of them is meant.
#[must_use]
pub fn no_procfile(folder: &std::path::Path) -> Failure {
    let names =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let other = names.filter(|name| name.starts_with("Procfile.")).min();
    let failure =
        Failure::new(FailureKind::Config, format!("cannot find procfile.toml in {} or any parent directory", folder.display()));
    match other {
        Some(other) => failure.help(format!("name the one that is here: devrun -f {other} …")),
        None => {
            let make = match importable(folder) {
                Some(name) => format!("devrun import {name} writes one"),
                None => "devrun init writes one from what is here, devrun import FILE from a compose file".to_owned(),
            };
            failure.help(format!("{make}; or name one: devrun -f FILE …"))
        }
    }
}

fn number(text: &str) -> Option<u16> {
    let text = text.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    text.parse().ok().filter(|number| *number > 0)
}
