//! Scripts of the project that a command runs. A service's name in one of them reaches nothing here, and the file stays as it is:
//! each such line is named, with what takes the name's place.

use super::super::report::{At, shorten};
use super::draft::Draft;
use super::hostnames::{self, HostMatch};
use super::importer::Importer;
use super::load;

/// A script that is larger is not read.
const LARGEST: usize = 64 << 10;
/// Lines of one script that are named.
const MOST_LINES: usize = 5;

impl Importer<'_> {
    /// Names the lines of the scripts among the words of a command that ask for a service.
    pub(super) fn names_in_scripts(&mut self, draft: &Draft, words: &[String]) {
        let parts = words.iter().flat_map(|word| word.split([' ', '\n', '\t', ';', '&', '|', '"', '\'', '(', ')']));
        let paths: Vec<String> = parts.filter(|word| may_be_script(word)).map(str::to_owned).collect();
        for path in paths {
            let path = load::join(&draft.dir, &path);
            let Some(text) = (self.read)(&path).filter(|text| text.len() <= LARGEST) else { continue };
            if !(text.starts_with("#!") || path.extension().is_some_and(|end| end == "sh" || end == "bash")) {
                continue;
            }
            let file = self.file_index(&path);
            let mut named = 0;
            for (line, number) in text.lines().zip(1u32..) {
                let mut found = HostMatch::new();
                let plain = line.trim();
                if plain.starts_with('#') || hostnames::rewrite(plain, false, &self.targets, &mut found) == plain {
                    continue;
                }
                let Some((name, _)) = found.first() else { continue };
                let Some(target) = self.targets.iter().find(|target| target.name == *name) else { continue };
                let (host, variable) = (target.hosts.last().unwrap_or(name), name.to_ascii_uppercase().replace('-', "_"));
                let here = if target.present && target.has_port {
                    format!("let it read a variable, with env = {{ {variable}_ADDR = \"${{{name}.addr}}\" }}")
                } else {
                    "write 127.0.0.1 there".to_owned()
                };
                let text = format!("the script names the service `{host}`, which is not a host here: {here}: {}", shorten(plain));
                self.report.not_mapped(At { file, line: number, column: 1 }, draft.what("command"), text);
                named += 1;
                if named == MOST_LINES {
                    break;
                }
            }
        }
    }
}

/// Whether a word of a command can be the path of a script of the project.
fn may_be_script(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    let is_local = !word.starts_with(['/', '-', '$', '~']) && !word.contains("://") && !word.contains('=');
    // Anything else may be a program, which is not read.
    is_local && (name.ends_with(".sh") || name.ends_with(".bash") || name.contains("entrypoint"))
}
