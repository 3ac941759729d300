//! The health check of a service → its `ready`: a probe of ours where the test is known, else the command itself.

use super::super::report::shorten;
use super::super::toml_writer::{Section, Toml, TomlEntries};
use super::super::yaml::YamlNode;
use super::draft::{Draft, NativeKind, port_name};
use super::healthcheck_test::{self, Test};
use super::importer::Importer;

impl Importer<'_> {
    pub(super) fn health(&mut self, draft: &Draft, section: &mut Section) {
        let Some(node) = draft.healthcheck() else { return };
        let node = &node;
        let what = draft.what("healthcheck");
        if draft.task {
            self.report.dropped(node.at, what, "a task completes; nothing asks for its health");
            return;
        }
        let mut bad = Vec::new();
        let timings = healthcheck_test::timings(node, &mut bad);
        for (node, key) in bad {
            self.report.not_mapped(
                node.at,
                draft.what(&format!("healthcheck.{key}")),
                format!("invalid value {:?}", node.scalar().unwrap_or_default()),
            );
        }
        let recipe = matches!(draft.kind, NativeKind::Recipe { .. });
        let main = draft.main();
        let test = healthcheck_test::test(node);
        let mut ready: Vec<(String, Toml)> = match test {
            Some(Test::Off) => {
                self.report.mapped(node.at, what, "ready = false");
                section.set("ready", Toml::Bool(false));
                return;
            }
            None => Vec::new(),
            Some(Test::Cmd(ref words)) if words.iter().all(String::is_empty) => {
                self.report.not_mapped(node.at, what, "its `test` names no command: `ready = { http = \"/\" }` asks a page");
                return;
            }
            Some(Test::Pg) if matches!(&draft.kind, NativeKind::Recipe { known, .. } if known.recipe == "postgres") => {
                self.report.mapped(node.at, what.clone(), "pg_isready → ready.pg");
                vec![("pg".to_owned(), Toml::Bool(true))]
            }
            Some(Test::Redis) if matches!(&draft.kind, NativeKind::Recipe { known, .. } if matches!(known.recipe, "redis" | "valkey")) =>
            {
                self.report.mapped(node.at, what.clone(), "redis-cli ping → ready.redis");
                vec![("redis".to_owned(), Toml::text("PING"))]
            }
            Some(Test::Http(ref url))
                if section.has("files") && healthcheck_test::local(url).is_some_and(|(port, _)| main == Some(port)) =>
            {
                let path = healthcheck_test::local(url).map(|(_, path)| path).unwrap_or_default();
                self.report.mapped(node.at, what.clone(), format!("ready.http = \"{path}\""));
                vec![("http".to_owned(), Toml::text(path))]
            }
            Some(_) if section.has("files") => {
                self.report.mapped(node.at, what.clone(), "ready.tcp takes the test's place; the timings are kept");
                vec![("tcp".to_owned(), Toml::Bool(true))]
            }
            Some(_) if recipe => {
                self.report.mapped(node.at, what.clone(), "the recipe's own probe takes the test's place; the timings are kept");
                Vec::new()
            }
            // What the container's shell would have filled in is a placeholder here.
            Some(Test::Http(url)) => match healthcheck_test::local(&draft.with_variables(&url).replace("$$", "$")) {
                Some((port, path)) => {
                    let value = self.own_http(draft, main, port, &path);
                    let value = self.text(&value, node.at, false);
                    self.report.mapped(node.at, what.clone(), format!("ready.http = \"{value}\""));
                    vec![("http".to_owned(), Toml::text(value))]
                }
                None => {
                    let text = self.value(draft, "URL", &draft.with_variables(&url).replace("$$", "$"), node.at, false);
                    let text = self.own_ports(draft, &text);
                    self.report.mapped(node.at, what.clone(), format!("ready.http = \"{text}\""));
                    vec![("http".to_owned(), Toml::text(text))]
                }
            },
            Some(Test::Tcp(host, port)) => {
                let own = matches!(host.as_str(), "localhost" | "127.0.0.1" | "0.0.0.0");
                let value = if own && port.parse() == Ok(main.unwrap_or_default()) {
                    Toml::Bool(true)
                } else {
                    Toml::text(self.value(
                        draft,
                        "HOST",
                        &format!("{}:{port}", if own { "127.0.0.1" } else { &host }),
                        node.at,
                        false,
                    ))
                };
                self.report.mapped(node.at, what.clone(), format!("ready.tcp = {}", value.line()));
                vec![("tcp".to_owned(), value)]
            }
            Some(Test::Pg) => self.command_probe(draft, node, Toml::text("pg_isready")),
            Some(Test::Redis) => self.command_probe(draft, node, Toml::text("redis-cli ping")),
            Some(Test::Cmd(words)) => {
                let words: Vec<String> = words
                    .iter()
                    .map(|word| {
                        let word = self.value(draft, "", word, node.at, false);
                        self.own_ports(draft, &word)
                    })
                    .collect();
                self.command_probe(draft, node, Toml::texts(words))
            }
            Some(Test::Shell(line)) => {
                let line = self.value(draft, "", &line, node.at, false);
                let line = self.own_ports(draft, &line);
                self.command_probe(draft, node, Toml::texts(["sh".to_owned(), "-c".to_owned(), line]))
            }
        };
        if ready.is_empty() && !recipe {
            self.report.not_mapped(
                node.at,
                what,
                "has no `test`: the image's own does not come along; give it ready = { http = \"/\" }",
            );
        }
        for (key, value) in timings {
            let value = match value {
                Toml::Text(text) => Toml::text(self.text(&text, node.at, true)),
                value => value,
            };
            ready.push((key, value));
        }
        if !ready.is_empty() {
            section.set("ready", Toml::Table(ready));
        }
    }

    /// A path at the main port, a named one, or the URL where the port is neither.
    fn own_http(&self, draft: &Draft, main: Option<u16>, port: u16, path: &str) -> String {
        if main == Some(port) {
            return path.to_owned();
        }
        let named = draft.ports.iter().skip(1).find(|(known, _)| known.container.parse() == Ok(port));
        match named {
            Some((known, _)) => format!(":{}{path}", port_name(&known.container)),
            // A port that is not published, or one that the compose file got wrong and nobody noticed: as it is.
            None => format!("http://127.0.0.1:{port}{path}"),
        }
    }

    fn command_probe(&mut self, draft: &Draft, node: &YamlNode, command: Toml) -> TomlEntries {
        self.report.mapped(
            node.at,
            draft.what("healthcheck"),
            format!("ready.cmd = {}: its programs come from PATH", shorten(&command.line())),
        );
        vec![("cmd".to_owned(), command)]
    }
}
