//! `depends_on` and `links` → `depends_on`, with the condition that the target can meet here.

use super::super::report::At;
use super::super::toml_writer::{Section, Toml};
use super::super::yaml::{YamlNode, YamlValue};
use super::draft::{Draft, NativeKind};
use super::healthcheck_test::{self, Test};
use super::importer::Importer;

impl Importer<'_> {
    pub(super) fn dependencies(&mut self, draft: &Draft, all: &[Draft], section: &mut Section) {
        struct Edge {
            on: String,
            condition: &'static str,
            required: bool,
            restart: bool,
        }
        let mut edges: Vec<Edge> = Vec::new();
        let mut wanted: Vec<(String, At, String, bool, bool)> = Vec::new();
        match draft.get("depends_on").map(|node| (&node.value, node)) {
            Some((YamlValue::Map(map), _)) => {
                for (key, node) in map {
                    let condition =
                        node.get("condition").and_then(YamlNode::scalar).unwrap_or_else(|| "service_started".to_owned());
                    let flag = |name: &str, usual| node.get(name).and_then(YamlNode::truth).unwrap_or(usual);
                    wanted.push((key.name.clone(), key.at, condition, flag("required", true), flag("restart", false)));
                }
            }
            Some((_, node)) => {
                wanted.extend(node.texts().into_iter().map(|(name, at)| (name, at, "service_started".to_owned(), true, false)));
            }
            None => {}
        }
        for (link, at) in draft.get("links").map(YamlNode::texts).unwrap_or_default() {
            let name = link.split(':').next().unwrap_or_default().to_owned();
            if !wanted.iter().any(|(known, ..)| *known == name) {
                wanted.push((name, at, "service_started".to_owned(), true, false));
            }
        }
        for (name, at, condition, required, restart) in wanted {
            let what = draft.what("depends_on");
            let target = all.iter().find(|other| other.key.name == name);
            if target.is_none() && !required {
                self.report.dropped(at, what, format!("`{name}` is not in this file, and need not be"));
                continue;
            }
            let Some(target) = target else {
                self.report.not_mapped(at, what, format!("unknown service `{name}`"));
                continue;
            };
            if !target.kind.is_present() {
                self.report.not_mapped(at, what, format!("`{name}` is not run by devrun: start it before"));
                continue;
            }
            let probed = match &target.kind {
                NativeKind::Recipe { .. } => {
                    !matches!(target.healthcheck().as_ref().and_then(healthcheck_test::test), Some(Test::Off))
                }
                _ => {
                    !target.task
                        && target.healthcheck().as_ref().and_then(healthcheck_test::test).is_some_and(|test| test != Test::Off)
                }
            };
            let ours = match condition.as_str() {
                "service_completed_successfully" if target.task => "completed",
                "service_completed_successfully" => {
                    self.report.not_mapped(
                        at,
                        what.clone(),
                        format!("`{name}` stays up, so it never completes: it is waited for until it is started"),
                    );
                    "started"
                }
                "service_healthy" if target.task => "completed",
                "service_healthy" if probed => "healthy",
                "service_healthy" => {
                    self.report.not_mapped(at, what.clone(), format!("`{name}` has no health check that could pass: it is waited for until it is started; give it ready = {{ tcp = true }}"));
                    "started"
                }
                "service_started" => "started",
                other => {
                    self.report.not_mapped(at, what.clone(), format!("unknown condition {other:?}: `started` is used"));
                    "started"
                }
            };
            if target.name == draft.name || edges.iter().any(|edge| edge.on == target.name) {
                continue;
            }
            self.report.mapped(at, what, format!("{name}: {condition} → {ours}"));
            edges.push(Edge { on: target.name.clone(), condition: ours, required, restart });
        }
        if edges.is_empty() {
            return;
        }
        let value = if edges.iter().any(|edge| !edge.required || edge.restart) {
            Toml::Table(
                edges
                    .iter()
                    .map(|edge| {
                        let mut table = vec![("condition".to_owned(), Toml::text(edge.condition))];
                        if !edge.required {
                            table.push(("required".to_owned(), Toml::Bool(false)));
                        }
                        if edge.restart {
                            table.push(("restart".to_owned(), Toml::Bool(true)));
                        }
                        (edge.on.clone(), Toml::Table(table))
                    })
                    .collect(),
            )
        } else {
            Toml::texts(edges.iter().map(|edge| format!("{}:{}", edge.on, edge.condition)))
        };
        section.set("depends_on", value);
    }
}
