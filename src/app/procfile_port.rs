//! What foreman and overmind look up beside a Procfile: the port of its first line, and other Procfiles.

use devrun_model::{Failure, FailureKind};
use devrun_store::trusted_file;

use crate::app::project::Project;

/// The `port:` of `.foreman`, else `PORT` of `.env`, else that of the shell; `None` where none of them says a port.
///
/// # Errors
/// `Config` when one of these files may not be read, and for what is not the number of a port, with its place.
pub fn base_port(project: &Project) -> Result<Option<u16>, Failure> {
    let plain = |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("Procfile"));
    if !project.files.iter().any(plain) {
        return Ok(None);
    }
    for (file, key, is_last_in_force) in [(".foreman", "port:", false), (".env", "PORT=", true)] {
        let text = trusted_file::read_trusted(&project.root.join(file))?.unwrap_or_default();
        if let Some(port) = of_file(file, &text, key, is_last_in_force)? {
            return Ok(Some(port));
        }
    }
    let Some(text) = project.env.get("PORT") else { return Ok(None) };
    number(text).map_err(|reason| {
        Failure::new(FailureKind::Config, format!("environment variable PORT: {reason}"))
            .help("unset PORT, or PORT=5000 devrun …")
    })
}

/// The port that a file says after `key`. What refers to something else (`$`) is left to who reads it.
fn of_file(file: &str, text: &str, key: &str, is_last_in_force: bool) -> Result<Option<u16>, Failure> {
    let mut found = None;
    for (at, line) in text.lines().enumerate() {
        let body = line.trim().trim_start_matches("export ").trim_start();
        let Some(value) = body.strip_prefix(key).filter(|value| !value.contains('$')) else { continue };
        let column = line.len() - line.trim_start().len() + (line.trim().len() - value.len()) + 1;
        let port = number(value).map_err(|reason| {
            Failure::new(FailureKind::Config, format!("{file}:{}:{column}: {reason}", at + 1))
                .help(format!("write {key}5000 in {file}, or remove the line"))
        })?;
        if port.is_some() && (found.is_none() || is_last_in_force) {
            found = port;
        }
    }
    Ok(found)
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

/// `None` for an empty one.
fn number(text: &str) -> Result<Option<u16>, String> {
    let text = text.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(format!("invalid port `{text}`: expected a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_file_is_a_number_or_an_error_at_its_place() {
        let of = |text: &str| of_file(".env", text, "PORT=", true).map_err(|failure| failure.reason);
        for (text, port) in [
            ("PORT=4000\nPORT=5000 # later\n", Some(5000)),
            ("export PORT=\"4000\"\r\n", Some(4000)),
            ("PORT=\nPORTS=x\nPORT=${X:-1}\n", None),
        ] {
            assert_eq!(of(text), Ok(port), "{text:?}");
        }
        for (text, place) in [
            ("A=1\nPORT=abc\n", ".env:2:6: invalid port `abc`"),
            ("  export PORT=65536\n", ".env:1:15: "),
            ("PORT=0", ".env:1:6: "),
        ] {
            assert!(of(text).unwrap_err().starts_with(place), "{text:?}: {:?}", of(text));
        }
        assert_eq!(of_file(".foreman", "port: 3000\nport: 4000\n", "port:", false).unwrap(), Some(3000));
    }
}
