//! The keys that say how a service is kept: restarts, limits, stops, logs, profiles; and those that mean nothing here.

use super::super::report::At;
use super::super::toml_writer::{Section, Toml};
use super::super::yaml::{YamlNode, YamlValue, get};
use super::draft::{Draft, NativeKind};
use super::importer::Importer;
use super::{addresses, build_steps, config_files, labels, relations, syntax};

/// Keys with no native meaning, and why nothing is lost.
const DROPPED: &[(&str, &str)] = &[
    ("networks", "everything is on loopback"),
    ("network_mode", "everything is on loopback"),
    ("container_name", "the service's name is the name"),
    ("hostname", "all share this machine's name"),
    ("domainname", "all share this machine's name"),
    ("annotations", "nothing reads them"),
    ("label_file", "nothing reads them"),
    ("privileged", "programs run as you"),
    ("cap_add", "programs run as you"),
    ("cap_drop", "programs run as you"),
    ("security_opt", "programs run as you"),
    ("userns_mode", "programs run as you"),
    ("user", "programs run as you; as root, `user_id` takes the same value, for users of this machine"),
    ("group_add", "programs run as you"),
    ("read_only", "the machine's files are as writable as they are for you"),
    ("platform", "services run on this machine"),
    ("pull_policy", "images are not used"),
    ("init", "devrun reaps for all"),
    ("stdin_open", "the standard input of a service stays open anyway; `tty = true` gives a terminal"),
    ("attach", "`logs` takes names"),
    ("shm_size", "the machine's own shared memory is used"),
    ("dns", "the machine's own resolver is used"),
    ("dns_search", "the machine's own resolver is used"),
    ("dns_opt", "the machine's own resolver is used"),
    ("ipc", "processes of one machine share it"),
    ("pid", "processes of one machine share it"),
    ("uts", "processes of one machine share it"),
    ("cgroup", "devrun makes its own"),
    ("cgroup_parent", "devrun makes its own"),
    ("isolation", "containers are not used"),
    ("runtime", "containers are not used"),
    ("expose", "every port on loopback can be reached"),
    ("mac_address", "containers are not used"),
    ("storage_opt", "containers are not used"),
    ("oom_kill_disable", "the machine decides"),
    ("oom_score_adj", "the machine decides"),
    ("cpu_shares", "`limits.cpu` is what there is"),
    ("cpu_quota", "`limits.cpu` is what there is"),
    ("cpu_period", "`limits.cpu` is what there is"),
    ("cpuset", "`limits.cpu` is what there is"),
    ("cpu_count", "`limits.cpu` is what there is"),
    ("cpu_percent", "`limits.cpu` is what there is"),
    ("cpu_rt_period", "`limits.cpu` is what there is"),
    ("cpu_rt_runtime", "`limits.cpu` is what there is"),
    ("memswap_limit", "`limits.memory` is what there is"),
    ("mem_swappiness", "`limits.memory` is what there is"),
    ("blkio_config", "no limit"),
    ("device_cgroup_rules", "the machine's devices are there"),
    ("devices", "the machine's devices are there"),
    ("gpus", "the machine's devices are there"),
    ("sysctls", "they are the machine's"),
    ("use_api_socket", "Docker is not used"),
    ("links", "names became references"),
];

/// Keys that are mapped elsewhere.
const MAPPED: &[&str] = &[
    "image",
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "ports",
    "volumes",
    "depends_on",
    "healthcheck",
    "restart",
    "profiles",
    "deploy",
    "scale",
    "mem_limit",
    "pids_limit",
    "mem_reservation",
    "cpus",
    "ulimits",
    "stop_signal",
    "stop_grace_period",
    "logging",
    "tty",
    "develop",
    "working_dir",
    "secrets",
    "configs",
];

/// Restarts, limits, replicas, stops, logs, profiles.
pub(super) fn policies(importer: &mut Importer<'_>, draft: &Draft, section: &mut Section) {
    let deploy = draft.get("deploy");
    restart(importer, draft, deploy, section);
    replicas(importer, draft, deploy, section);
    let resources = deploy.and_then(|node| node.get("resources"));
    let limits = resources.and_then(|node| node.get("limits"));
    let reserve = resources.and_then(|node| node.get("reservations"));
    let mut table = amounts(importer, draft, limits, "limits", ("cpus", "mem_limit"));
    if let Some(node) = draft.get("ulimits").and_then(|node| node.get("nofile"))
        && let Some(number) = node.get("soft").unwrap_or(node).scalar().and_then(|text| text.parse().ok())
    {
        importer.report.mapped(node.at, draft.what("ulimits.nofile"), "limits.nofile");
        table.push(("nofile".to_owned(), Toml::Integer(number)));
    }
    table.extend(processes(importer, draft, limits).map(|pids| ("pids".to_owned(), Toml::Integer(pids))));
    if !table.is_empty() {
        section.set("limits", Toml::Table(table));
    }
    let table = amounts(importer, draft, reserve, "reservations", ("", "mem_reservation"));
    if !table.is_empty() {
        section.set("reserve", Toml::Table(table));
    }
    stop(importer, draft, section);
    log(importer, draft, section);
    if let Some(node) = draft.get("profiles") {
        let profiles: Vec<String> =
            node.texts().into_iter().map(|(text, _)| importer.values.fill(&text).unwrap_or(text)).collect();
        let on = profiles.iter().find(|profile| importer.profiles.iter().any(|on| on == *profile || on == "*"));
        if let Some(on) = on {
            importer.report.mapped(node.at, draft.what("profiles"), format!("`{on}` is on by COMPOSE_PROFILES: it always runs"));
        } else if !profiles.is_empty() {
            importer.report.mapped(node.at, draft.what("profiles"), profiles.join(", "));
            section.set("profiles", Toml::texts(profiles));
        }
    }
    if let Some(node) = draft.get("tty").filter(|node| node.truth() == Some(true)) {
        if draft.get("stdin_open").and_then(YamlNode::truth) == Some(true) && matches!(draft.kind, NativeKind::Run { .. }) {
            importer.report.mapped(node.at, draft.what("tty"), "tty = true");
            section.set("tty", Toml::Bool(true));
        } else {
            importer.report.dropped(node.at, draft.what("tty"), "logs need no terminal");
        }
    }
}

fn restart(importer: &mut Importer<'_>, draft: &Draft, deploy: Option<&YamlNode>, section: &mut Section) {
    let mut policy = None;
    if let Some(node) = draft.get("restart") {
        let text = match node.truth() {
            Some(false) => "no".to_owned(),
            _ => node.scalar().unwrap_or_default(),
        };
        let text = importer.values.fill(&text).unwrap_or_else(|| "unless-stopped".to_owned());
        let known = matches!(text.as_str(), "no" | "always" | "unless-stopped" | "on-failure")
            || text.strip_prefix("on-failure:").is_some_and(|n| n.parse::<u32>().is_ok());
        if known {
            policy = Some((text, node.at, "restart"));
        } else {
            importer.report.not_mapped(
                node.at,
                draft.what("restart"),
                format!("unknown policy {text:?}: use no, on-failure[:n], always or unless-stopped"),
            );
        }
    }
    // As in compose, it says the last word.
    if let Some(node) = deploy.and_then(|node| node.get("restart_policy")) {
        let attempts = node.get("max_attempts").and_then(YamlNode::scalar).filter(|text| text.parse::<u32>().is_ok());
        let word = match node.get("condition").and_then(YamlNode::scalar).as_deref() {
            Some("none" | "no") => "no".to_owned(),
            Some("unless-stopped") => "unless-stopped".to_owned(),
            Some("on-failure") => attempts.map_or_else(|| "on-failure".to_owned(), |n| format!("on-failure:{n}")),
            _ => "always".to_owned(),
        };
        policy = Some((word, node.at, "deploy.restart_policy"));
    }
    let Some((policy, at, key)) = policy else { return };
    if draft.task {
        importer.report.dropped(at, draft.what(key), "a task runs to its end");
    } else {
        importer.report.mapped(at, draft.what(key), format!("restart = \"{policy}\""));
        if policy != "no" {
            section.set("restart", Toml::text(policy));
        }
    }
}

fn replicas(importer: &mut Importer<'_>, draft: &Draft, deploy: Option<&YamlNode>, section: &mut Section) {
    let scale = draft.get("scale").map(|node| (node, draft.what("scale")));
    let found = scale.or_else(|| Some((deploy?.get("replicas")?, draft.what("deploy.replicas"))));
    let Some((node, what)) = found else { return };
    let number = node.scalar().and_then(|text| importer.values.fill(&text)).and_then(|text| text.trim().parse::<i64>().ok());
    match number {
        Some(number) if number > 1 && (draft.task || section.has("data") || matches!(draft.kind, NativeKind::Recipe { .. })) => {
            importer.report.not_mapped(node.at, what, "what keeps data, and a task, runs once");
        }
        Some(number) if number > 1 => {
            importer.report.mapped(
                node.at,
                what,
                format!("replicas = {number}; each has its own port, behind one shared address"),
            );
            section.set("replicas", Toml::Integer(number));
        }
        Some(0) => {
            importer.report.mapped(node.at, what, "0: the profile `off`");
            section.set("profiles", Toml::texts(["off"]));
        }
        Some(_) => importer.report.mapped(node.at, what, "1"),
        None => importer.report.not_mapped(node.at, what, "not a number"),
    }
}

fn amounts(
    importer: &mut Importer<'_>,
    draft: &Draft,
    node: Option<&YamlNode>,
    of: &str,
    old: (&str, &str),
) -> Vec<(String, Toml)> {
    let mut table = Vec::new();
    // The newer key wins, and each is called by its own name.
    let found = |new: &str, old: &str| {
        let newer = node.and_then(|node| node.get(new)).map(|node| (node, draft.what(&format!("deploy.resources.{of}.{new}"))));
        newer.or_else(|| draft.get(old).map(|node| (node, draft.what(old))))
    };
    if let Some((node, what)) = found("cpus", old.0) {
        match node.scalar().and_then(|text| importer.values.fill(&text)).and_then(|text| text.trim().parse::<f64>().ok()) {
            Some(0.0) => importer.report.dropped(node.at, what, "0 means no limit"),
            Some(number) if number > 0.0 && number.is_finite() => {
                importer.report.mapped(node.at, what, number.to_string());
                table.push(("cpu".to_owned(), Toml::Float(number)));
            }
            _ => importer.report.not_mapped(node.at, what, "not a number of cores"),
        }
    }
    if let Some((node, what)) = found("memory", old.1) {
        let filled = node.scalar().and_then(|text| importer.values.fill(&text));
        let none =
            filled.as_deref().and_then(|text| devrun_model::ByteSize::parse(text.trim()).ok()).is_some_and(|size| size.0 == 0);
        match node.scalar().and_then(|text| syntax::size(&importer.text(&text, node.at, true))) {
            _ if none => importer.report.dropped(node.at, what, "0 means no limit"),
            Some(size) => {
                importer.report.mapped(node.at, what, size.clone());
                table.push(("memory".to_owned(), Toml::text(size)));
            }
            None => importer.report.not_mapped(node.at, what, "invalid size: write \"512M\""),
        }
    }
    for (new, old) in [("cpus", old.0), ("memory", old.1)] {
        if let Some(other) = draft.get(old).filter(|_| node.is_some_and(|node| node.get(new).is_some())) {
            importer.report.dropped(other.at, draft.what(old), format!("deploy.resources.{of}.{new} says it"));
        }
    }
    for (name, _, at) in node.and_then(YamlNode::map).into_iter().flat_map(syntax::each) {
        let what = draft.what(&format!("deploy.resources.{of}.{name}"));
        match name {
            "cpus" | "memory" => {}
            "pids" if of == "limits" => {}
            "devices" | "generic_resources" => importer.report.dropped(at, what, "the machine's devices are there"),
            _ => importer.report.not_mapped(at, what, "unknown key"),
        }
    }
    table
}

/// `pids_limit`, or `pids` of the limits, which is the newer key.
fn processes(importer: &mut Importer<'_>, draft: &Draft, limits: Option<&YamlNode>) -> Option<i64> {
    let newer = limits.and_then(|node| node.get("pids")).map(|node| (node, draft.what("deploy.resources.limits.pids")));
    let older = draft.get("pids_limit").map(|node| (node, draft.what("pids_limit")));
    let (node, what) = match (newer, older) {
        (Some(newer), Some((node, what))) => {
            importer.report.dropped(node.at, what, "deploy.resources.limits.pids says it");
            newer
        }
        (newer, older) => newer.or(older)?,
    };
    let number = node.scalar().and_then(|text| importer.values.fill(&text)).and_then(|text| text.trim().parse::<i64>().ok());
    match number {
        Some(number @ 1..) if u32::try_from(number).is_ok() => {
            importer.report.mapped(node.at, what, "limits.pids");
            return Some(number);
        }
        Some(..=0) => importer.report.dropped(node.at, what, "0 and -1 mean no limit"),
        _ => importer.report.not_mapped(node.at, what, "not a number of processes"),
    }
    None
}

fn stop(importer: &mut Importer<'_>, draft: &Draft, section: &mut Section) {
    let mut table = Vec::new();
    if let Some(node) = draft.get("stop_signal")
        && let Some(signal) = node.scalar()
    {
        let signal = signal.trim_start_matches("SIG").to_owned();
        importer.report.mapped(node.at, draft.what("stop_signal"), signal.clone());
        table.push(("signal".to_owned(), Toml::text(signal)));
    }
    if let Some(node) = draft.get("stop_grace_period") {
        match node.scalar().and_then(|text| syntax::duration(&text)) {
            Some(grace) => {
                let grace = importer.text(&grace, node.at, true);
                importer.report.mapped(node.at, draft.what("stop_grace_period"), format!("stop.grace = {grace}"));
                table.push(("grace".to_owned(), Toml::text(grace)));
            }
            None => importer.report.not_mapped(node.at, draft.what("stop_grace_period"), "invalid duration: write \"10s\""),
        }
    }
    if !table.is_empty() {
        section.set("stop", Toml::Table(table));
    }
}

fn log(importer: &mut Importer<'_>, draft: &Draft, section: &mut Section) {
    let Some(node) = draft.get("logging") else { return };
    let options = node.get("options");
    let option = |name: &str| options.and_then(|node| node.get(name)).and_then(YamlNode::scalar);
    let mut table = Vec::new();
    if let Some(size) = option("max-size").and_then(|text| syntax::size(&text)).filter(|size| !size.contains('$')) {
        table.push(("max_size".to_owned(), Toml::text(size)));
    }
    if let Some(number) = option("max-file").and_then(|text| text.parse::<i64>().ok()).filter(|number| *number > 0) {
        table.push(("max_files".to_owned(), Toml::Integer(number)));
    }
    if table.is_empty() {
        importer.report.dropped(node.at, draft.what("logging"), "devrun keeps the logs: `log` says how much");
    } else {
        importer.report.mapped(node.at, draft.what("logging"), Toml::Table(table.clone()).line());
        for (name, _, at) in options.and_then(YamlNode::map).into_iter().flat_map(syntax::each) {
            if !matches!(name, "max-size" | "max-file") {
                importer.report.dropped(at, draft.what(&format!("logging.options.{name}")), "devrun keeps the logs");
            }
        }
        section.set("log", Toml::Table(table));
    }
}

/// Everything that is left: a line each.
pub(super) fn others(importer: &mut Importer<'_>, draft: &Draft, section: &mut Section) {
    for (name, node, at) in syntax::each(draft.map()) {
        let what = draft.what(name);
        if name.starts_with("x-") || matches!(node.value, YamlValue::Null) && name != "image" {
            continue;
        }
        match name {
            "image" if draft.get("build").is_some() || matches!(draft.kind, NativeKind::Run { dockerfile: Some(_), .. }) => {
                importer.report.dropped(at, what, "not used: the service is built from local files");
            }
            "secrets" if matches!(draft.kind, NativeKind::Run { .. } | NativeKind::Recipe { .. }) => {
                secrets(importer, draft, node)
            }
            "tmpfs" => tmpfs(importer, draft, node, at, section),
            "build" => build(importer, draft, node, at, section),
            "develop" => watch(importer, draft, node, section),
            "extra_hosts" => hosts(importer, draft, node),
            "labels" => labels::labels(importer, draft, node),
            "configs" => config_files::configs(importer, draft, node, section),
            "deploy" => deploy(importer, draft, node),
            "ulimits" => {
                for (limit, _, at) in node.map().into_iter().flat_map(syntax::each) {
                    if limit != "nofile" {
                        importer.report.dropped(at, draft.what(&format!("ulimits.{limit}")), "your own limit holds");
                    }
                }
            }
            "volumes_from" | "external_links" | "credential_spec" | "provider" | "models" => {
                importer.report.not_mapped(
                    at,
                    what,
                    "no native counterpart: set the directories, addresses or programs yourself",
                );
            }
            "pre_start" => importer.report.not_mapped(at, what, "write what it runs as pre_start = \"COMMAND\""),
            "post_start" => importer.report.not_mapped(at, what, "write a task that depends on this service"),
            "pre_stop" => importer.report.not_mapped(at, what, "write what it runs as stop = { command = \"COMMAND\" }"),
            name if MAPPED.contains(&name) => {}
            name => match DROPPED.iter().find(|(known, _)| *known == name) {
                Some((_, reason)) => importer.report.dropped(at, what, *reason),
                None => importer.report.not_mapped(at, what, "unknown key"),
            },
        }
    }
}

/// Directories in memory: one of them may hold the data of a server.
fn tmpfs(importer: &mut Importer<'_>, draft: &Draft, node: &YamlNode, at: At, section: &mut Section) {
    let paths = node.list().map_or_else(|| vec![node], |items| items.iter().collect());
    let mut others = false;
    for path in paths.into_iter().filter_map(YamlNode::scalar) {
        let path = path.split(':').next().unwrap_or_default();
        others |= !importer.data_in_memory(draft, path, "tmpfs", at, section);
    }
    if others {
        importer.report.dropped(at, draft.what("tmpfs"), "the machine's own temporary directory is used");
    }
}

/// What becomes of a secret is said where it is declared and where it is read; here only which one it is.
fn secrets(importer: &mut Importer<'_>, draft: &Draft, node: &YamlNode) {
    for item in node.list().unwrap_or_default() {
        let name = item.scalar().or_else(|| item.get("source").and_then(YamlNode::scalar)).unwrap_or_default();
        let target = item.get("target").and_then(YamlNode::scalar).unwrap_or_else(|| name.clone());
        let target = if target.starts_with('/') { target } else { format!("/run/secrets/{target}") };
        let others = draft.map().iter().filter(|(key, _)| key.name != "secrets");
        let mut texts: Vec<String> = others.flat_map(|(_, node)| relations::texts(node)).collect();
        texts.extend(importer.texts_of_files(draft));
        let is_named = texts.iter().any(|text| text.contains(&target));
        if is_named || matches!(draft.kind, NativeKind::Recipe { .. }) {
            let text = format!("{name}: a file that the program finds by the path in its environment or command");
            importer.report.mapped(item.at, draft.what("secrets"), text);
            continue;
        }
        let source = get(&importer.tree, "secrets").and_then(|all| all.get(&name)).cloned();
        let text_of = |key: &str| source.as_ref().and_then(|node| node.get(key)).and_then(YamlNode::scalar);
        let here = match (text_of("file"), text_of("environment")) {
            (Some(file), _) => format!("it is {} here", importer.path(&file, source.as_ref().map_or(item.at, |node| node.at))),
            (None, Some(variable)) => format!("its value is the variable {variable}"),
            (None, None) => "its value is not in this file".to_owned(),
        };
        let text = format!("{name}: no variable and no command names {target}, which the program reads by itself: {here}");
        importer.report.not_mapped(item.at, draft.what("secrets"), text);
    }
}

/// Names of this machine became addresses where they stand; those of others nobody resolves here.
fn hosts(importer: &mut Importer<'_>, draft: &Draft, node: &YamlNode) {
    for (name, address, at) in addresses::extra_hosts(node) {
        let address = importer.values.fill(&address).unwrap_or(address);
        if addresses::is_this_machine(&address) {
            importer.report.mapped(
                at,
                draft.what("extra_hosts"),
                format!("{name} is this machine: 127.0.0.1 in the command and in env"),
            );
        } else {
            let text =
                format!("{name} → {address}: put it into the machine's hosts file, or write {address} where the name stands");
            importer.report.not_mapped(at, draft.what("extra_hosts"), text);
        }
    }
}

fn build(importer: &mut Importer<'_>, draft: &Draft, node: &YamlNode, at: At, section: &mut Section) {
    build_steps::build(importer, draft, at, section);
    if let Some(args) = node.get("args") {
        let what = draft.what("build.args");
        let file = match &draft.kind {
            NativeKind::Run { dockerfile, .. } => dockerfile.as_ref(),
            NativeKind::Recipe { from, .. } => from.as_ref(),
            _ => None,
        };
        let names = match &args.value {
            YamlValue::Map(map) => map.iter().map(|(key, _)| key.name.clone()).collect::<Vec<_>>(),
            _ => args.texts().iter().map(|(text, _)| text.split('=').next().unwrap_or_default().trim().to_owned()).collect(),
        };
        let is_read = |name: &String| file.is_some_and(|file| file.has_arg(name));
        let (read, left): (Vec<String>, Vec<String>) = names.into_iter().partition(is_read);
        if !read.is_empty() {
            let text = format!("{}: filled in where its Dockerfile uses it", read.join(", "));
            importer.report.mapped(args.at, what.clone(), text);
        }
        if !left.is_empty() {
            let text =
                format!("{}: arguments of the image's build: those that the program needs belong into `env`", left.join(", "));
            importer.report.not_mapped(args.at, what, text);
        }
    }
}

fn deploy(importer: &mut Importer<'_>, draft: &Draft, node: &YamlNode) {
    for (name, _, at) in node.map().into_iter().flat_map(syntax::each) {
        let what = draft.what(&format!("deploy.{name}"));
        match name {
            "replicas" | "resources" | "restart_policy" => {}
            "labels" | "placement" | "mode" | "endpoint_mode" | "update_config" | "rollback_config" => {
                importer.report.dropped(at, what, "of a swarm");
            }
            _ => importer.report.not_mapped(at, what, "unknown key"),
        }
    }
}

fn watch(importer: &mut Importer<'_>, draft: &Draft, node: &YamlNode, section: &mut Section) {
    let mut globs = Vec::new();
    for rule in node.get("watch").and_then(YamlNode::list).unwrap_or_default() {
        let Some(path) = rule.get("path").and_then(YamlNode::scalar) else { continue };
        let Some(absolute) = importer.absolute(&path, rule.at) else { continue };
        let shown = importer.shown(&absolute);
        let action = rule.get("action").and_then(YamlNode::scalar).unwrap_or_default();
        let glob = match (importer.is_folder(&absolute), shown.as_str()) {
            (true, ".") => "**".to_owned(),
            (true, folder) => format!("{folder}/**"),
            (false, file) => file.to_owned(),
        };
        importer.report.mapped(rule.at, draft.what("develop.watch"), format!("{action}: watch \"{glob}\", a change restarts it"));
        if let Some(ignored) = rule.get("ignore") {
            importer.report.not_mapped(
                ignored.at,
                draft.what("develop.watch.ignore"),
                "name what is to be watched in finer globs",
            );
        }
        globs.push(glob);
    }
    if globs.is_empty() {
        return;
    }
    if draft.task || !matches!(draft.kind, NativeKind::Run { .. }) {
        importer.report.dropped(node.at, draft.what("develop.watch"), "only programs of yours are restarted on a change");
    } else {
        section.set("watch", Toml::texts(globs));
    }
}
