//! What does not come along: services that nothing here can run, kept as comments, and the check that no key is lost
//! without a word.

use super::super::yaml::{YamlNode, YamlValue};
use super::draft::{ContainerCommand, Draft, NativeKind};
use super::importer::Importer;
use super::syntax;

impl Importer<'_> {
    /// A service that nothing here can run stands at the end, as a comment with all that could be made of its keys: what is
    /// missing is the command.
    pub(super) fn left_out(&mut self, draft: &Draft, hint: &str, all: &[Draft]) {
        let words = |key: &str| draft.get(key).and_then(syntax::words).unwrap_or_default();
        let mut command = words("entrypoint");
        if command.is_empty() {
            command.push("COMMAND".to_owned());
        }
        command.extend(words("command"));
        let stand_in = Draft {
            key: draft.key.clone(),
            name: draft.name.clone(),
            node: draft.node.clone(),
            kind: NativeKind::Run { command: ContainerCommand::Words(command), dockerfile: None },
            task: draft.task,
            ports: draft.ports.clone(),
            dir: draft.dir.clone(),
            mounts: draft.mounts.clone(),
            context: draft.context.clone(),
            repeated: draft.repeated.clone(),
            machine_names: draft.machine_names.clone(),
        };
        // Nothing of it counts: it takes no port away, needs no variable and keeps no volume.
        let before = (
            std::mem::take(&mut self.report),
            self.unset.clone(),
            self.taken.clone(),
            self.volumes.clone(),
            self.secrets.clone(),
        );
        self.report.files.clone_from(&before.0.files);
        let section = self.section(&stand_in, all);
        (self.report, self.unset, self.taken, self.volumes, self.secrets) = before;
        let image = draft.get("image").and_then(YamlNode::scalar).map(|image| format!("{image}; ")).unwrap_or_default();
        let lost = self.lost_keys(draft);
        self.out.below.push(format!("{image}{hint}"));
        let kind = if draft.task { "tasks" } else { "services" };
        self.out.below.extend(section.text(&format!("{kind}.{}", draft.name)).trim().lines().map(str::to_owned));
        self.out.below.extend(lost);
        self.out.below.push(String::new());
        let keys: Vec<&str> = syntax::each(draft.map())
            .map(|(name, ..)| name)
            .filter(|name| !name.starts_with("x-") && !matches!(*name, "image" | "build"))
            .collect();
        if !keys.is_empty() {
            let text = format!("what of {} has a native meaning stands in the comment at the end", keys.join(", "));
            self.report.not_mapped(draft.key.at, format!("services.{}", draft.key.name), text);
        }
    }

    /// A service whose work is containers themselves: named at the end, without a table that wants a command.
    pub(super) fn container_only(&mut self, draft: &Draft, reason: &str) {
        let image = draft.get("image").and_then(YamlNode::scalar).unwrap_or_default();
        let text = format!("{image} has no work without containers: {reason}");
        self.out.below.push(format!("services.{}: {text}", draft.name));
        self.out.below.push(String::new());
        self.report.dropped(draft.key.at, format!("services.{}", draft.key.name), text);
    }

    /// A line for each key that has no place in the comment.
    fn lost_keys(&self, draft: &Draft) -> Vec<String> {
        let mut lines = Vec::new();
        for item in draft.get("volumes").and_then(YamlNode::list).unwrap_or_default() {
            let Some(mount) = self.mount(item) else { continue };
            let source = mount.source.as_deref().filter(|_| mount.bind);
            if let Some(source) = source {
                lines.push(format!("volumes: {source} → {}", mount.target));
            }
        }
        for (host, address, _) in draft.get("extra_hosts").map(super::addresses::extra_hosts).unwrap_or_default() {
            lines.push(format!("extra_hosts: {host} → {address}"));
        }
        for key in [
            "user",
            "labels",
            "networks",
            "hostname",
            "privileged",
            "cap_add",
            "devices",
            "network_mode",
            "configs",
            "secrets",
            "sysctls",
            "gpus",
            "shm_size",
        ] {
            let Some(node) = draft.get(key) else { continue };
            let text = match &node.value {
                YamlValue::Map(map) => map
                    .iter()
                    .map(|(key, node)| node.scalar().map_or_else(|| key.name.clone(), |value| format!("{}={value}", key.name)))
                    .collect::<Vec<_>>()
                    .join(", "),
                _ => node.texts().into_iter().map(|(text, _)| text).collect::<Vec<_>>().join(", "),
            };
            if !text.is_empty() {
                lines.push(format!("{key}: {text}"));
            }
        }
        lines
    }

    /// No key of a service is lost without a word, whatever the code above has overlooked.
    pub(super) fn audit(&mut self, draft: &Draft) {
        for (name, node, at) in syntax::each(draft.map()) {
            let what = draft.what(name);
            let is_reported =
                |line: &str| line.strip_prefix(what.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
            let empty = match &node.value {
                YamlValue::Null => true,
                YamlValue::List(list) => list.is_empty(),
                YamlValue::Map(map) => map.is_empty(),
                _ => false,
            };
            if !empty && !name.starts_with("x-") && !self.report.lines.iter().any(|line| is_reported(&line.what)) {
                self.report.not_mapped(at, what, "nothing was made of it");
            }
        }
    }
}
