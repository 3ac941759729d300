//! A mounted `postgresql.conf` → `set`: its lines are read once, at the import.

use std::path::PathBuf;

use super::super::report::shorten;
use super::super::toml_writer::{Toml, TomlEntries};
use super::draft::Draft;
use super::importer::Importer;

/// Settings that keys of the procfile, or the recipe, stand for.
const OWN: &[&str] = &[
    "listen_addresses",
    "port",
    "data_directory",
    "config_file",
    "hba_file",
    "ident_file",
    "external_pid_file",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "logging_collector",
    "log_directory",
    "log_filename",
    "log_file_mode",
    "log_rotation_age",
    "log_rotation_size",
    "log_truncate_on_rotation",
    "stats_temp_directory",
];

impl Importer<'_> {
    /// The configuration files that are mounted: path in the container, path here, text.
    pub(super) fn postgres_files(&self, draft: &Draft) -> Vec<(String, PathBuf, String)> {
        let mut found = Vec::new();
        for (target, source) in &draft.mounts {
            let name = target.rsplit('/').next().unwrap_or(target);
            let is_file = name.ends_with(".conf") && !name.contains("hba") && !name.contains("ident");
            // A directory that holds one, as `-c config_file=/etc/postgresql/postgresql.conf` wants it.
            if !is_file && !target.starts_with("/etc/postgres") {
                continue;
            }
            let path = if is_file { source.clone() } else { source.join("postgresql.conf") };
            if let Some(text) = (self.read)(&path) {
                found.push((target.clone(), path, text));
            }
        }
        found
    }

    /// The lines of the mounted files, where the command line does not say them.
    pub(super) fn postgres_file_lines(&mut self, draft: &Draft, set: &mut TomlEntries) {
        for (_, path, text) in self.postgres_files(draft) {
            let file = self.file_index(&path);
            for (name, value, line) in lines(&text) {
                let at = super::super::report::At { file, line, column: 1 };
                let what = draft.what("volumes");
                if OWN.contains(&name.as_str()) {
                    self.report.dropped(at, what, format!("{name}: the recipe decides it itself"));
                } else if name.starts_with("include") || name.starts_with("ssl") || name.ends_with("_file") {
                    self.report.not_mapped(at, what, format!("{name} = {} is left out", shorten(&value)));
                } else if !set.iter().any(|(known, _)| *known == name) {
                    self.report.mapped(at, what, format!("set.{name} = {value:?}"));
                    set.push((name, Toml::text(value.replace('$', "$$"))));
                }
            }
        }
    }
}

/// The settings of a `postgresql.conf`, and their lines: the last one of a name counts.
fn lines(text: &str) -> Vec<(String, String, u32)> {
    let mut found: Vec<(String, String, u32)> = Vec::new();
    for (line, number) in text.lines().zip(1u32..) {
        let line = line.trim();
        let end = line.find(|char: char| !(char.is_ascii_alphanumeric() || matches!(char, '_' | '.'))).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        if name.is_empty() || rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        let value = match rest.strip_prefix('\'') {
            Some(quoted) => {
                let mut value = String::new();
                let mut chars = quoted.chars().peekable();
                while let Some(char) = chars.next() {
                    match char {
                        // Two are one, and so is one behind a backslash.
                        '\'' if chars.peek() == Some(&'\'') => value.extend(chars.next()),
                        '\'' => break,
                        '\\' => value.extend(chars.next()),
                        char => value.push(char),
                    }
                }
                value
            }
            None => rest.split(['#', ' ', '\t']).next().unwrap_or_default().to_owned(),
        };
        let name = name.to_ascii_lowercase();
        found.retain(|(known, ..)| *known != name);
        found.push((name, value, number));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_and_without_quotes() {
        let text = "# c\nmax_connections = 150\t\t# (change requires restart)\n#work_mem = 4MB\nlog_line_prefix '%m [%p] it''s # '\nShared_Buffers=128MB\nmax_connections = 200\n = x\nempty =\n";
        let found: Vec<String> = lines(text).into_iter().map(|(name, value, line)| format!("{name}={value}:{line}")).collect();
        assert_eq!(found, ["log_line_prefix=%m [%p] it's # :4", "shared_buffers=128MB:5", "max_connections=200:6"]);
    }
}
