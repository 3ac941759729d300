//! What a Dockerfile puts around the program: init programs, entrypoint scripts, and the health check.

use std::path::{Path, PathBuf};

use super::super::report::At;
use super::super::yaml::{Merging, YamlKey, YamlNode, YamlValue};
use super::build_steps::files_of_image;
use super::dockerfile::Dockerfile;
use super::draft::{Draft, NativeKind, local};
use super::importer::Importer;

/// What only makes sense as root of a container.
const OF_A_CONTAINER: &[&str] = &[
    "gosu", "su-exec", "chown", "useradd", "adduser", "apt-get", "apk add", "setcap", "sysctl", "iptables", "/proc/1", "usermod",
];

impl Importer<'_> {
    /// The words of an entrypoint that come before a command: nothing for an init program, and a script of the project where it
    /// does nothing but prepare. One that only works in a container is left out, with a line.
    pub(super) fn around_command(
        &mut self,
        what: &str,
        at: At,
        file: &Dockerfile,
        context: Option<&PathBuf>,
        words: &[String],
    ) -> Vec<String> {
        let rest: Vec<String> = words
            .iter()
            .skip_while(|word| matches!(word.rsplit('/').next(), Some("tini" | "dumb-init" | "--" | "-g" | "-s" | "-v")))
            .cloned()
            .collect();
        let Some(first) = rest.first() else { return Vec::new() };
        let name = first.rsplit('/').next().unwrap_or(first);
        if !(name.contains("entrypoint") || name.ends_with(".sh")) {
            return rest;
        }
        let inside = super::load::join(Path::new(file.workdir.as_deref().unwrap_or("/")), first).display().to_string();
        let text = context.and_then(|context| {
            let mut files = files_of_image(file, context);
            files.push((file.workdir.clone().unwrap_or_default(), context.clone()));
            files.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
            let path = local(&inside, &files).filter(|path| self.exists(path)).or_else(|| Some(context.join(name)))?;
            (self.read)(&path)
        });
        let left_out = |why: String| format!("the entrypoint {} of its Dockerfile is left out: {why}", words.join(" "));
        match text {
            Some(text) => match OF_A_CONTAINER.iter().find(|word| text.contains(**word)) {
                Some(word) => {
                    self.report.not_mapped(
                        at,
                        what,
                        left_out(format!(
                            "it uses {word}, which is for a container; what else it prepares belongs into pre_start"
                        )),
                    );
                    Vec::new()
                }
                None => {
                    let shell = if text.lines().next().is_some_and(|line| line.contains("bash")) { "bash" } else { "sh" };
                    let mut prefix = vec![shell.to_owned()];
                    prefix.extend(rest);
                    prefix
                }
            },
            None => {
                self.report.not_mapped(at, what, left_out("what it prepares belongs into pre_start".to_owned()));
                Vec::new()
            }
        }
    }
}

impl Draft {
    /// The health check: the compose file's, with the image's test where it only changes the timings.
    pub(super) fn healthcheck(&self) -> Option<YamlNode> {
        let own = self.get("healthcheck");
        if own.is_some_and(|node| node.get("test").is_some() || node.get("disable").is_some()) {
            return own.cloned();
        }
        let NativeKind::Run { dockerfile: Some(file), .. } = &self.kind else { return own.cloned() };
        let Some(text) = file.health.as_deref() else { return own.cloned() };
        let at = own.map_or_else(|| self.get("build").map_or(self.key.at, |node| node.at), |node| node.at);
        let node = |value| YamlNode { value, at, merging: Merging::Usual };
        let mut map: Vec<(YamlKey, YamlNode)> = Vec::new();
        let mut rest = text.trim();
        while let Some(tail) = rest.strip_prefix("--") {
            let (flag, more) = tail.split_once(char::is_whitespace).unwrap_or((tail, ""));
            if let Some((name, value)) = flag.split_once('=') {
                map.push((YamlKey { name: name.replace('-', "_"), at }, node(YamlValue::Text(value.to_owned()))));
            }
            rest = more.trim_start();
        }
        let line = rest.strip_prefix("CMD").map(str::trim);
        let test = match line {
            Some(list) if list.starts_with('[') => {
                let words: Vec<String> = serde_json::from_str(list).unwrap_or_default();
                let words =
                    std::iter::once("CMD".to_owned()).chain(words).map(|word| node(YamlValue::Text(word.replace('$', "$$"))));
                YamlValue::List(words.collect())
            }
            Some(line) => YamlValue::List(vec![
                node(YamlValue::Text("CMD-SHELL".to_owned())),
                node(YamlValue::Text(line.replace('$', "$$"))),
            ]),
            None => YamlValue::Text("NONE".to_owned()),
        };
        for (key, value) in own.and_then(YamlNode::map).into_iter().flatten() {
            map.retain(|(known, _)| known.name != key.name);
            map.push((key.clone(), value.clone()));
        }
        map.push((YamlKey { name: "test".to_owned(), at }, node(test)));
        Some(node(YamlValue::Map(map)))
    }
}
