//! The merged tree → [`Plan`]: every placeholder filled in, every name looked up, every default applied.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::claimed_ports::ClaimedPorts;
use super::declared_service::{DeclaredService, tier};
use super::diagnostic::Diagnostic;
use super::environment;
use super::interpolate::{Reported, Resolved, Resolver, Scope};
use super::reader::Reader;
use super::toml_node::{Table, TomlNode, get};
use super::{
    bind_address, command, gateway, listen, masked_values, on_demand, policy, ready, requirements, run_files, task, update,
};
use devrun_model::recipe::SourceSpec;
use devrun_model::service::OnUnhealthy;
use devrun_model::{
    Condition, Dependency, Kind, Launch, Plan, RecipeUse, ServiceName, ServiceSpec, VolumeClass, VolumeName, VolumeSpec, graph,
};

/// Lowers everything; problems are in the resolver.
pub(crate) fn plan(resolver: &Resolver<'_>) -> Resolved<Plan> {
    let document = resolver.document;
    let empty = Table::new();
    let section = |key: &str| get(&document.tree, key).and_then(TomlNode::table).unwrap_or(&empty);
    let project = Reader { resolver, table: section("project"), scope: Scope::default() };
    let mut failed = requirements::required(resolver).is_err();
    let timeout = project.duration("timeout").map(|value| value.unwrap_or(Duration::from_secs(600)));
    let tier_pause = project.duration("tier_pause").map(Option::unwrap_or_default);
    let depths = depths(resolver);
    let mut services = BTreeMap::new();
    let mut inactive = BTreeMap::new();
    let mut claimed = ClaimedPorts::default();
    for service in resolver.services.values() {
        let Ok(name) = ServiceName::new(service.name.clone()) else { continue };
        if !service.active {
            inactive.insert(name, service.profiles.clone());
            continue;
        }
        check_service(resolver, service);
        let of = resolver.replicas(service);
        for replica in 1..=of {
            let depth = depths.get(&service.name).copied().unwrap_or(1);
            // Before the rest: two services on one port are a fault whatever else is wrong with one of them.
            if let Ok(ports) = ports(resolver, service, replica) {
                claimed.add(resolver, service, replica, &ports);
            }
            match lower_service(resolver, service, &name, replica, of, depth) {
                Ok(spec) => {
                    services.insert(spec.id.clone(), Arc::new(spec));
                }
                Err(Reported) => {
                    failed = true;
                    // The other copies have the same faults.
                    break;
                }
            }
        }
    }
    let volumes = volumes(resolver);
    let queries = Reader { resolver, table: &document.tree, scope: Scope::default() }.map("queries");
    let tiers = section("tiers")
        .iter()
        .filter_map(|(number, node)| Some((number.parse().ok()?, node.text()?.to_owned())))
        .collect::<BTreeMap<u32, String>>();
    if failed || resolver.problems.borrow().iter().any(|d| d.severity == super::diagnostic::Severity::Error) {
        return Err(Reported);
    }
    let volumes = volumes?;
    let masks = masked_values::masks(resolver, &services, &volumes);
    Ok(Plan {
        project: document.project.clone(),
        root: resolver.facts.places.root.clone(),
        instance: document.options.instance.clone(),
        mode: document.mode.clone(),
        timeout: timeout?,
        tier_pause: tier_pause?,
        tiers,
        services,
        inactive,
        volumes,
        queries: queries?,
        masks,
        derived: environment::derived(resolver),
        seed: resolver.facts.seed,
    })
}

fn depths(resolver: &Resolver<'_>) -> BTreeMap<String, u32> {
    let active = |name: &str| resolver.services.get(name).is_some_and(|service| service.active);
    let edges: BTreeMap<String, Vec<String>> = resolver
        .services
        .values()
        .filter(|service| service.active)
        .map(|service| {
            let targets = service.edges.iter().map(|edge| edge.on.clone()).filter(|on| active(on));
            (service.name.clone(), targets.collect())
        })
        .collect();
    graph::depths(&edges)
}

/// What can be wrong with one service's numbers and names.
fn check_service(resolver: &Resolver<'_>, service: &DeclaredService) {
    let keys = Reader { resolver, table: &service.tree, scope: Scope::default() };
    let replicas = keys.integer("replicas", 1);
    let of = resolver.replicas(service);
    if let Ok(Some(number)) = replicas
        && number > 1000
        && let Some(node) = service.get("replicas")
    {
        keys.bad(node, format!("{number} copies are more than the 1000 that are allowed"), "replicas = 2");
    }
    let span = service.get("replicas").map_or(service.key, |node| node.span);
    if of > 1 && service.data().is_some() {
        let needs_it = service.recipe.as_ref().is_some_and(|used| used.data.needs_data());
        let help = if needs_it { "replicas = 1" } else { "replicas = 1, or data = false where the copies need none" };
        resolver.report(
            Diagnostic::error(span, format!("`{}` keeps data, so it cannot have {of} copies", service.name))
                .note(service.get("data").map_or(service.key, |node| node.span), "its data")
                .help(help),
        );
    }
    for table in
        [service.tree.get("env").and_then(TomlNode::table), get(&resolver.document.tree, "env").and_then(TomlNode::table)]
    {
        for (name, node) in table.into_iter().flatten() {
            if name.is_empty() || name.contains(['=', '\0']) {
                resolver.report(
                    Diagnostic::error(node.key, format!("{name:?} cannot be a variable's name")).help("write NAME = \"value\""),
                );
            }
        }
    }
    bind_address::check(resolver, service);
    if let Some(table) = service.get("ports").and_then(TomlNode::table) {
        for (name, node) in table {
            let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            if name == "main" {
                resolver.report(Diagnostic::error(node.key, "the main port stands in `port`").help("write port = 8000"));
            } else if !good {
                resolver.report(
                    Diagnostic::error(node.key, format!("{name:?} cannot be a port's name")).help("letters, digits, `_` and `-`"),
                );
            }
        }
    }
    if let Some(node) = service.get("env_file") {
        for file in resolver.document.env_files_of(node) {
            // The next `up` makes it.
            let is_made = resolver.document.env_sample().is_some_and(|sample| sample.to == file.path);
            if !resolver.has_file(&file.path) && !is_made && (file.required || !resolver.document.plain) {
                let message = format!("cannot find env file {}", file.text);
                resolver.report(if file.required {
                    Diagnostic::error(file.span, message).help("make it, or take `required` out")
                } else {
                    Diagnostic::warning(file.span, message).help("paths are relative to the procfile's directory")
                });
            }
        }
    }
}

fn lower_service(
    resolver: &Resolver<'_>,
    service: &DeclaredService,
    name: &ServiceName,
    replica: u32,
    of: u32,
    depth: u32,
) -> Resolved<ServiceSpec> {
    let scope = Scope::of(&service.name, replica);
    let keys = Reader { resolver, table: &service.tree, scope };
    // Everything is tried before the first fault counts, so that all of them are reported.
    let ports = ports(resolver, service, replica);
    let env = ports.and_then(|ports| environment::of(resolver, service, replica, &ports).map(|env| (ports, env)));
    let launch = launch(resolver, service, &keys);
    let task = if service.task { task::lower(resolver, service).map(Some) } else { Ok(None) };
    let attributes = attributes(resolver, service, replica);
    let ready = ready::lower(resolver, service, "ready", replica);
    let alive = ready::lower(resolver, service, "alive", replica);
    let pre_start = command::optional(resolver, service, "pre_start", scope);
    let build = command::optional(resolver, service, "build", scope);
    let dir = keys.path("dir").map(|dir| dir.unwrap_or_else(|| resolver.facts.places.root.clone()));
    let bind = resolver.bind(service);
    let depends_on = dependencies(resolver, service);
    let on_unhealthy = keys.choice(
        "on_unhealthy",
        &[("ignore", OnUnhealthy::Ignore), ("restart", OnUnhealthy::Restart), ("stop", OnUnhealthy::Stop)],
    );
    let restart = policy::restart(&keys);
    let backoff = policy::backoff(&keys);
    let stop = policy::stop(resolver, service, &keys);
    let update = update::lower(service, &keys);
    let on_demand = if service.task { Ok(None) } else { on_demand::lower(service, &keys, of) };
    let allowed = policy::limits(&keys, "limits");
    let reserve = policy::limits(&keys, "reserve");
    let optional = keys.flag("optional", false);
    let user_id = user_id(resolver, service, &keys);
    let tty = keys.flag("tty", false);
    let log = policy::log(&keys);
    let watch = keys.texts("watch");
    let render = run_files::lower(resolver, &keys);
    let description = keys.text("description");
    let links = keys.map("links");
    let volumes = keys.texts("volumes");
    let (ports, env) = env?;
    let inherited = environment::undeclared(resolver, service, replica, &env)?;
    let missing = requirements::missing(resolver, &env, &inherited);
    if replica == 1 {
        requirements::check_urls(resolver, service)?;
    }
    let data = service.data().and_then(|data| VolumeName::new(data).ok());
    let volumes: Vec<VolumeName> = volumes?.into_iter().filter_map(|volume| VolumeName::new(volume).ok()).collect();
    let volume_paths = volumes.iter().map(|name| (name.clone(), resolver.volume_path(name.as_str()).0)).collect();
    let mut ready = ready?;
    if service.task {
        ready = None;
    }
    let spec = ServiceSpec {
        id: resolver.copy_id(service, replica).ok_or(Reported)?,
        service: name.clone(),
        replica,
        replicas: of,
        kind: if service.task { Kind::Task } else { Kind::Service },
        tier: tier(service).map(|(tier, _)| tier),
        depth,
        launch: launch?,
        dir: dir?,
        env,
        inherited,
        pre_start: pre_start?,
        build: build?,
        bind: bind?,
        ports,
        listen: !service.task && listen::is_set(service),
        on_demand: on_demand?,
        shared: resolver.shared_address(service),
        attributes: attributes?,
        depends_on: depends_on?,
        ready,
        alive: alive?,
        on_unhealthy: on_unhealthy?.unwrap_or_default(),
        restart: restart?,
        backoff: backoff?,
        stop: stop?,
        update: update?,
        data,
        volumes,
        volume_paths,
        limits: allowed?,
        reserve: reserve?,
        optional: optional?,
        user_id: user_id?,
        tty: tty?,
        log: log?,
        watch: watch?,
        render: render?,
        description: description?,
        links: links?,
        task: task?,
        missing,
    };
    if spec.stop.check
        && spec.stop_asks().is_none()
        && let Some(node) = service.get("stop").and_then(TomlNode::table).and_then(|table| get(table, "check"))
    {
        let message = format!("`stop.check` asks Postgres or Redis, and {} is known as neither", service.label());
        resolver.report(
            Diagnostic::warning(node.span, message)
                .help("a probe says what it is: ready = { pg = true } or { redis = \"PING\" }"),
        );
    }
    Ok(spec)
}

fn ports(resolver: &Resolver<'_>, service: &DeclaredService, replica: u32) -> Resolved<BTreeMap<String, u16>> {
    let mut out = BTreeMap::new();
    for name in resolver.port_names(service) {
        let span = resolver.port_node(service, &name).map_or(service.key, |node| node.span);
        if let Some(port) = resolver.port(service, replica, &name, span)? {
            out.insert(name, port);
        }
    }
    Ok(out)
}

fn attributes(resolver: &Resolver<'_>, service: &DeclaredService, replica: u32) -> Resolved<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    if service.task {
        return Ok(out);
    }
    let mut names: Vec<String> = super::schema::ATTRIBUTES.iter().map(|name| (*name).to_owned()).collect();
    names.extend(resolver.port_names(service).into_iter().filter(|name| name != "main").map(|name| format!("ports.{name}")));
    let mut failed = false;
    for name in names {
        match resolver.attribute(&service.name, &name, service.key) {
            Ok(Some(value)) => {
                out.insert(name, value);
            }
            Ok(None) => {}
            Err(Reported) => failed = true,
        }
    }
    if failed {
        return Err(Reported);
    }
    // A further copy differs in its ports only.
    if replica > 1 {
        let host = out.get("host").cloned().unwrap_or_default();
        for name in resolver.port_names(service) {
            let Some(port) = resolver.port(service, replica, &name, service.key)? else { continue };
            if name == "main" && resolver.has_shared_address(service) {
                continue;
            }
            if name == "main" {
                let first = out.insert("port".to_owned(), port.to_string()).unwrap_or_default();
                let addr = super::service_url::addr(&host, port);
                let old = super::service_url::addr(&host, first.parse().unwrap_or_default());
                if let Some(url) = out.get_mut("url") {
                    *url = url.replacen(&old, &addr, 1);
                }
                out.insert("addr".to_owned(), addr);
            } else {
                out.insert(format!("ports.{name}"), port.to_string());
            }
        }
    }
    Ok(out)
}

/// `USER[:GROUP]`, where a process is started that can run as that user.
fn user_id(resolver: &Resolver<'_>, service: &DeclaredService, keys: &Reader<'_, '_, '_>) -> Resolved<Option<String>> {
    let Some(text) = keys.text("user_id")? else { return Ok(None) };
    let at = service.get("user_id").map_or(service.key, |node| node.span);
    // The largest number is none: system calls take it for "leave as it is".
    let number = |word: &str| word.parse::<u32>().is_ok_and(|number| number < u32::MAX);
    let word = |word: &str| {
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        !word.is_empty()
            && !word.starts_with('-')
            && !word.contains(|char: char| char.is_whitespace() || char == ':')
            && (!digits || number(word))
    };
    let valid = match text.split_once(':') {
        Some((user, group)) => word(user) && word(group),
        None => word(&text),
    };
    if !valid {
        let message = format!("invalid user_id `{text}`");
        return Err(resolver.report(Diagnostic::error(at, message).help("user_id = \"USER\", \"UID\" or \"UID:GID\"")));
    }
    let unfit = match &service.recipe {
        _ if service.get("external").is_some() => Some("an external service, which devrun does not start".to_owned()),
        _ if service.get("run").is_some() => None,
        _ if service.task => Some("a task that runs no command".to_owned()),
        Some(used) if used.data.refuses_user_id => Some(format!("recipe {}", used.data.name)),
        _ => None,
    };
    match unfit {
        Some(what) => {
            let message = format!("`user_id` is not supported for {what}");
            let help = "remove it, and run devrun as that user";
            Err(resolver.report(Diagnostic::error(at, message).help(help)))
        }
        None => Ok(Some(text)),
    }
}

fn launch(resolver: &Resolver<'_>, service: &DeclaredService, keys: &Reader<'_, '_, '_>) -> Resolved<Launch> {
    if service.get("external").is_some() {
        let url = keys.text("external")?.unwrap_or_default();
        resolver.external(service, service.key)?;
        return Ok(Launch::External { url });
    }
    if let Some(node) = service.get("run") {
        return command::lower(resolver, service, node, keys.scope).map(Launch::Run);
    }
    if service.task {
        return Ok(Launch::Work);
    }
    let Some(used) = &service.recipe else { return Err(Reported) };
    Ok(Launch::Recipe(Box::new(RecipeUse {
        recipe: used.data.clone(),
        version: used.version.clone(),
        settings: keys.map("set")?,
        init: keys.paths("init")?,
        extensions: keys.texts("extensions")?,
        locale: keys.text("locale")?,
        encoding: keys.text("encoding")?,
        migrations: keys.path("migrations")?,
        source: source(resolver, &used.data.name)?,
        init_cache: resolver.document.options.init_cache,
        gateway: gateway::lower(resolver, service)?,
    })))
}

fn source(resolver: &Resolver<'_>, recipe: &str) -> Resolved<Option<SourceSpec>> {
    let table = get(&resolver.document.tree, "sources")
        .and_then(TomlNode::table)
        .and_then(|table| get(table, recipe))
        .and_then(TomlNode::table);
    let Some(table) = table else { return Ok(None) };
    let keys = Reader { resolver, table, scope: Scope::default() };
    Ok(Some(SourceSpec {
        version: keys.text("version")?,
        url: keys.text("url")?,
        sha256: keys.text("sha256")?,
        path: keys.path("path")?,
        npm: keys.text("npm")?,
        pypi: keys.text("pypi")?,
        build: keys.texts("build")?,
        module: keys.text("module")?,
    }))
}

fn dependencies(resolver: &Resolver<'_>, service: &DeclaredService) -> Resolved<Vec<Dependency>> {
    let mut out = Vec::new();
    let mut edges: Vec<(String, Option<Condition>, bool, bool)> =
        service.edges.iter().map(|edge| (edge.on.clone(), edge.condition, edge.required, edge.restart)).collect();
    // Work against a server needs that server, whether or not it is named a second time.
    if service.task
        && let Some(on) = task::server(resolver, service)?
        && !edges.iter().any(|(name, ..)| *name == on)
    {
        edges.push((on, None, true, false));
    }
    for (on, condition, required, restart) in edges {
        let Some(target) = resolver.services.get(&on).filter(|target| target.active) else { continue };
        let condition = condition.unwrap_or(if target.task {
            Condition::Completed
        } else if target.probed() {
            Condition::Healthy
        } else {
            Condition::Started
        });
        let of = resolver.replicas(target);
        for replica in 1..=of {
            let Some(on) = resolver.copy_id(target, replica) else { continue };
            out.push(Dependency { on, condition, required, restart });
        }
    }
    Ok(out)
}

/// A volume is copied, put back and deleted as a whole.
fn check_place(
    resolver: &Resolver<'_>,
    others: &BTreeMap<VolumeName, VolumeSpec>,
    node: &TomlNode,
    (name, path): (&str, &Path),
) -> Resolved<()> {
    let (root, state) = (&resolver.facts.places.root, &resolver.facts.places.state);
    let in_state = path.starts_with(state) && !path.parent().is_some_and(|parent| parent.starts_with(state.join("data")));
    let same = others.values().find(|other| other.path == path && other.class != VolumeClass::Source);
    let fault = if root.starts_with(path) {
        format!("volume `{name}` holds the project itself")
    } else if state.starts_with(path) || in_state {
        format!("volume `{name}` holds what devrun keeps of the project ({})", state.display())
    } else if let Some(other) = same {
        format!("`{name}` and `{}` are one directory", other.name)
    } else {
        return Ok(());
    };
    let help = "a volume is copied and deleted as a whole: give it a directory of its own, path = \"data/";
    Err(resolver.report(
        Diagnostic::error(node.span, fault).help(format!("{help}{name}\"; files that are used in place: class = \"source\"")),
    ))
}

fn volumes(resolver: &Resolver<'_>) -> Resolved<BTreeMap<VolumeName, VolumeSpec>> {
    let mut out = BTreeMap::new();
    let declared = get(&resolver.document.tree, "volumes").and_then(TomlNode::table);
    let used: BTreeSet<String> =
        resolver.services.values().filter(|service| service.active).filter_map(DeclaredService::data).collect();
    for name in resolver.volumes() {
        let node = declared.and_then(|table| get(table, &name));
        if node.is_none() && !used.contains(&name) {
            continue;
        }
        let Ok(volume) = VolumeName::new(name.clone()) else { continue };
        let mut class = VolumeClass::Persistent;
        if let Some(table) = node.and_then(TomlNode::table) {
            let keys = Reader { resolver, table, scope: Scope::default() };
            class = keys
                .choice(
                    "class",
                    &[
                        ("persistent", VolumeClass::Persistent),
                        ("cache", VolumeClass::Cache),
                        ("source", VolumeClass::Source),
                        ("scratch", VolumeClass::Scratch),
                    ],
                )?
                .unwrap_or_default();
        }
        let (path, placed) = resolver.volume_path(&name);
        if placed
            && class != VolumeClass::Source
            && let Some(node) = node.and_then(TomlNode::table).and_then(|table| get(table, "path"))
        {
            check_place(resolver, &out, node, (&name, &path))?;
        }
        out.insert(volume.clone(), VolumeSpec { name: volume, class, path, placed });
    }
    Ok(out)
}
