//! Who waits for whose end, and who is reached by which name at which port.

use super::super::yaml::{YamlNode, YamlValue};
use super::config_files::MANAGEMENT;
use super::draft::{ContainerCommand, Draft, NativeKind, port_name, variable};
use super::hostnames::Target;
use super::importer::Importer;
use super::labels;
use super::stack_images;
use super::syntax::PortMapping;

impl Importer<'_> {
    /// Who waits for whose end, who is reached at which port.
    pub(super) fn relate(&mut self, drafts: &mut [Draft]) {
        let mut completed = Vec::new();
        for draft in drafts.iter() {
            for (name, on) in draft.get("depends_on").and_then(YamlNode::map).into_iter().flatten() {
                if on.get("condition").and_then(YamlNode::scalar).as_deref() == Some("service_completed_successfully") {
                    completed.push(name.name.clone());
                }
            }
        }
        for draft in drafts.iter_mut() {
            let once =
                draft.get("restart").and_then(YamlNode::scalar).and_then(|text| self.values.fill(&text)).as_deref() == Some("no");
            let named = ["migrat", "setup", "init", "seed", "createbucket", "bootstrap"]
                .iter()
                .any(|word| draft.key.name.to_ascii_lowercase().contains(word));
            let run = matches!(draft.kind, NativeKind::Run { .. });
            draft.task |= run && (completed.contains(&draft.key.name) || (once && named && draft.ports.is_empty()));
        }
        // Names of images and of containers look like addresses and are none.
        let no_address = ["image", "build", "container_name", "labels", "hostname", "volumes", "networks"];
        let mut texts: Vec<String> = drafts
            .iter()
            .flat_map(|draft| draft.map().iter().filter(|(key, _)| !no_address.contains(&key.name.as_str())))
            .flat_map(|(_, node)| texts(node))
            .collect();
        for draft in drafts.iter() {
            texts.extend(self.texts_of_files(draft));
        }
        for draft in drafts.iter_mut() {
            if !draft.ports.is_empty() || draft.task || !matches!(draft.kind, NativeKind::Run { .. }) {
                continue;
            }
            let at = draft.key.at;
            let exposed = draft.get("expose").map(YamlNode::texts).unwrap_or_default();
            let asked = texts.iter().find_map(|text| asked_for(text, &draft.key.name));
            let said = draft.get("environment").and_then(|node| variable(node, "PORT")).and_then(|text| text.parse::<u16>().ok());
            let file = port_of_image(draft);
            let first = exposed.first().and_then(|(port, _)| port.split('/').next()?.parse::<u16>().ok());
            let routed =
                draft.get("labels").and_then(labels::traefik_port).and_then(|port| self.values.fill(&port)?.parse::<u16>().ok());
            if let Some(port) = first.or(routed).or(asked).or(said).or(file).or_else(|| port_variable_of_image(draft)) {
                draft.ports.push((PortMapping { container: port.to_string(), ..PortMapping::default() }, at));
            }
        }
        let targets = drafts
            .iter()
            .map(|draft| {
                let text = |key: &str| draft.get(key).and_then(YamlNode::scalar);
                let mut hosts = vec![draft.key.name.clone()];
                hosts.extend([text("container_name"), text("hostname")].into_iter().flatten());
                for (_, network) in draft.get("networks").and_then(YamlNode::map).into_iter().flatten() {
                    let fixed = ["ipv4_address", "ipv6_address"].iter().filter_map(|key| network.get(key)?.scalar());
                    hosts.extend(fixed.filter_map(|address| self.values.fill(&address)));
                    hosts.extend(
                        network.get("aliases").map(YamlNode::texts).unwrap_or_default().into_iter().map(|(name, _)| name),
                    );
                }
                hosts.retain(|host| !host.contains('$') && !host.is_empty() && host != "localhost");
                let main = draft.main();
                let named = match &draft.kind {
                    NativeKind::Recipe { known, .. } => {
                        let mut named: Vec<(u16, String)> =
                            known.named.iter().map(|(port, name)| (*port, (*name).to_owned())).collect();
                        if known.recipe == "rabbitmq" && self.has_management(draft, &texts) {
                            named.push((MANAGEMENT, "management".to_owned()));
                        }
                        named
                    }
                    _ => draft
                        .ports
                        .iter()
                        .skip(1)
                        .filter_map(|(port, _)| Some((port.container.parse().ok()?, port_name(&port.container))))
                        .collect(),
                };
                Target {
                    name: draft.name.clone(),
                    hosts,
                    also_main: draft.listeners(&self.values),
                    main: main.or_else(|| draft.ports.first().and_then(|(port, _)| port.container.parse().ok())),
                    named,
                    present: draft.kind.is_present(),
                    has_port: !draft.task && draft.kind.is_present() && main.is_some(),
                    remapped: self.remapped(draft),
                    recipe: match &draft.kind {
                        NativeKind::Recipe { known, .. } => Some(known.recipe),
                        _ => None,
                    },
                    open: is_open(draft),
                    path: stack_images::path(draft),
                }
            })
            .collect();
        self.targets = targets;
        // `links: [db:database]` gives a service another name.
        for draft in drafts.iter() {
            for (link, _) in draft.get("links").map(YamlNode::texts).unwrap_or_default() {
                if let Some((name, alias)) = link.split_once(':')
                    && let Some(target) =
                        self.targets.iter_mut().find(|target| target.hosts.first().is_some_and(|host| host == name))
                {
                    target.hosts.push(alias.to_owned());
                }
            }
        }
        // The longest name first, so that `db-replica` is not taken for `db`.
        for target in &mut self.targets {
            target.hosts.sort_by_key(|host| std::cmp::Reverse(host.len()));
            target.hosts.dedup();
        }
    }

    /// The number that a recipe's main port is published under, where it is not the usual one.
    fn remapped(&self, draft: &Draft) -> Option<String> {
        let NativeKind::Recipe { known, .. } = &draft.kind else { return None };
        let also = draft.listeners(&self.values);
        let is_main = |port: &PortMapping| {
            port.container.parse().is_ok_and(|number: u16| known.main.contains(&number) || also.contains(&number))
        };
        let (port, _) = draft.ports.iter().find(|(port, _)| is_main(port))?;
        let host = self.values.fill(port.host.as_deref()?)?;
        (host != port.container).then_some(host)
    }
}

/// Whether compose's server took logins without a password.
pub(super) fn is_open(draft: &Draft) -> bool {
    let NativeKind::Recipe { known, .. } = &draft.kind else { return false };
    let truth = |name: &str| {
        draft.variable(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "on"))
    };
    match known.recipe {
        "postgres" => draft.variable("POSTGRES_HOST_AUTH_METHOD").as_deref() == Some("trust"),
        "mariadb"
            if ["MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD"]
                .iter()
                .any(|name| draft.variable(name).is_some_and(|value| !value.is_empty())) =>
        {
            false
        }
        "mariadb" => [
            "MYSQL_ALLOW_EMPTY_PASSWORD",
            "MARIADB_ALLOW_EMPTY_PASSWORD",
            "MARIADB_ALLOW_EMPTY_ROOT_PASSWORD",
            "ALLOW_EMPTY_PASSWORD",
        ]
        .iter()
        .any(|name| truth(name)),
        _ => false,
    }
}

/// The port that the image exposes. It is that of the image's own command: a service that gives another one, such as a worker of
/// the same image, listens there only where its command or its health check says so.
fn port_of_image(draft: &Draft) -> Option<u16> {
    let NativeKind::Run { command, dockerfile: Some(file) } = &draft.kind else { return None };
    let port = *file.expose.first()?;
    let digits = port.to_string();
    let names = |text: &str| text.split(|char: char| !char.is_ascii_digit()).any(|number| number == digits);
    let is_said = match command {
        ContainerCommand::Foreign(_) => true,
        ContainerCommand::Words(words) => {
            words.iter().any(|word| names(word))
                || draft.get("healthcheck").is_some_and(|node| texts(node).iter().any(|text| names(text)))
        }
    };
    is_said.then_some(port)
}

/// `ENV PORT` of the image, for the image's own command.
fn port_variable_of_image(draft: &Draft) -> Option<u16> {
    match &draft.kind {
        NativeKind::Run { command: ContainerCommand::Foreign(_), dockerfile: Some(file) } => file.variable("PORT")?.parse().ok(),
        _ => None,
    }
}

/// All the texts of a tree.
pub(super) fn texts(node: &YamlNode) -> Vec<String> {
    match &node.value {
        YamlValue::List(list) => list.iter().flat_map(texts).collect(),
        YamlValue::Map(map) => map.iter().flat_map(|(_, node)| texts(node)).collect(),
        _ => node.scalar().into_iter().collect(),
    }
}

/// The port at which a text asks for a host.
fn asked_for(text: &str, host: &str) -> Option<u16> {
    let mut from = 0;
    while let Some(at) = text[from..].find(host) {
        let start = from + at;
        let after = &text[start + host.len()..];
        let free = text[..start].chars().next_back().is_none_or(|char| matches!(char, '/' | '@' | ',' | '=' | ' ' | '"' | '\''));
        if free
            && let Some(tail) = after.strip_prefix(':')
            && let Ok(port) = tail[..tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len())].parse()
        {
            return Some(port);
        }
        from = start + host.len();
    }
    None
}
