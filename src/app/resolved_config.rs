//! The resolved configuration as a procfile again: every default written out, every placeholder replaced, secrets masked.

use toml::{Table, Value};

use devrun_model::RouteTarget;
use devrun_model::mask::Masker;
use devrun_model::service::{Limits, OnUnhealthy};
use devrun_model::{
    Check, CommandLine, Failure, FailureKind, Launch, OnChange, Plan, ReadySpec, ServiceId, ServiceSpec, StopTo, VolumeClass,
    Work, duration,
};

use crate::app::load::Read;

/// The resolved configuration as a procfile; of these services, or of all.
///
/// # Errors
/// `Internal` when it cannot be written as TOML.
pub fn resolved(read: &Read, ids: &[ServiceId], reveal: bool) -> Result<String, Failure> {
    let mut value = tables(read, ids, reveal)?;
    // What is printed can be read as a procfile: a dollar that is one must not begin a placeholder there.
    texts(&mut value, &|text| text.replace('$', "$$"));
    toml::to_string_pretty(&value)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("no TOML can be made of it: {error}")))
}

pub fn tables(read: &Read, ids: &[ServiceId], reveal: bool) -> Result<Value, Failure> {
    let masker = Masker::new(&read.plan, reveal);
    let mut file = if ids.is_empty() { project_table(&read.plan) } else { Table::new() };
    for spec in read.plan.services.values() {
        // Copies differ in ports alone; the first one stands for all.
        if spec.replica > 1 || !(ids.is_empty() || ids.iter().any(|id| read.plan.ids_of(&spec.service).any(|own| own == id))) {
            continue;
        }
        let section = if spec.task.is_some() { "tasks" } else { "services" };
        let table = file.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Some(table) = table.as_table_mut() {
            table.insert(spec.service.to_string(), Value::Table(service(spec, read, &masker)?));
        }
    }
    let mut value = Value::Table(file);
    texts(&mut value, &|text| masker.text(text));
    Ok(value)
}

/// Every text in a value, keys left alone.
fn texts(value: &mut Value, change: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(list) => list.iter_mut().for_each(|value| texts(value, change)),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| texts(value, change)),
        _ => {}
    }
}

fn time(value: std::time::Duration) -> Value {
    Value::String(duration::format(value))
}

fn number(value: impl Into<u64>) -> Value {
    Value::Integer(i64::try_from(value.into()).unwrap_or(i64::MAX))
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Value {
    Value::Array(items.into_iter().map(|item| Value::String(item.to_string())).collect())
}

fn paths<'a>(items: impl IntoIterator<Item = &'a std::path::PathBuf>) -> Value {
    list(items.into_iter().map(|path| path.display()))
}

fn map<'a>(items: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    Value::Table(items.into_iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect())
}

fn project_table(plan: &Plan) -> Table {
    let mut project = Table::new();
    project.insert("name".to_owned(), Value::String(plan.project.to_string()));
    project.insert("timeout".to_owned(), time(plan.timeout));
    if !plan.tier_pause.is_zero() {
        project.insert("tier_pause".to_owned(), time(plan.tier_pause));
    }
    let mut file = Table::new();
    file.insert("project".to_owned(), Value::Table(project));
    if !plan.tiers.is_empty() {
        let tiers = plan.tiers.iter().map(|(number, label)| (number.to_string(), Value::String(label.clone()))).collect();
        file.insert("tiers".to_owned(), Value::Table(tiers));
    }
    let mut volumes = Table::new();
    for volume in plan.volumes.values() {
        let class = match volume.class {
            VolumeClass::Persistent => "persistent",
            VolumeClass::Cache => "cache",
            VolumeClass::Source => "source",
            VolumeClass::Scratch => "scratch",
        };
        let mut table = Table::new();
        table.insert("class".to_owned(), Value::String(class.to_owned()));
        table.insert("path".to_owned(), Value::String(volume.path.display().to_string()));
        volumes.insert(volume.name.to_string(), Value::Table(table));
    }
    if !volumes.is_empty() {
        file.insert("volumes".to_owned(), Value::Table(volumes));
    }
    if !plan.queries.is_empty() {
        file.insert("queries".to_owned(), map(&plan.queries));
    }
    file
}

/// A route as a procfile has it.
fn route(route: &devrun_model::Route) -> Value {
    let mut table = Table::new();
    let mut put = |key: &str, value: String| drop(table.insert(key.to_owned(), Value::String(value)));
    match &route.target {
        target @ RouteTarget::Service { strip, .. } => {
            put("to", target.to_string());
            strip.iter().for_each(|strip| put("strip", strip.clone()));
            route.max_body.iter().for_each(|size| put("max_body", size.0.to_string()));
        }
        RouteTarget::Files { path, fallback } => {
            put("files", path.display().to_string());
            fallback.iter().for_each(|name| put("fallback", name.clone()));
        }
        RouteTarget::Redirect { to } => put("redirect", to.clone()),
        RouteTarget::Reply { status } => drop(table.insert("reply".to_owned(), number(*status))),
    }
    Value::Table(table)
}

fn service(spec: &ServiceSpec, read: &Read, masker: &Masker) -> Result<Table, Failure> {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
    // Ours are set again by whoever reads this; `PORT` follows from `port`.
    let ours = |name: &str| name.starts_with("DEVRUN_") || name == "PORT" || name.starts_with("PORT_");
    let mut env = read.declared(spec)?;
    env.retain(|name, _| !ours(name) && name != "PYTHONUNBUFFERED");
    if !spec.render.is_empty() {
        put("files", map(&spec.render));
    }
    match &spec.launch {
        Launch::Run(command) => {
            put("run", list(masker.words(&command.argv)));
            env.extend(command.env.clone());
        }
        Launch::Recipe(recipe) => {
            let version = recipe.version.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
            put("use", Value::String(format!("{}{version}", recipe.recipe.name)));
            if !recipe.settings.is_empty() {
                put("set", map(&masker.variables(&recipe.settings)));
            }
            if !recipe.init.is_empty() {
                put("init", paths(&recipe.init));
            }
            if !recipe.extensions.is_empty() {
                put("extensions", list(&recipe.extensions));
            }
            for (key, value) in [("locale", &recipe.locale), ("encoding", &recipe.encoding)] {
                if let Some(value) = value {
                    put(key, Value::String(value.clone()));
                }
            }
            if let Some(migrations) = &recipe.migrations {
                put("migrations", Value::String(migrations.display().to_string()));
            }
            if let Some(gateway) = &recipe.gateway {
                put(
                    "routes",
                    Value::Table(gateway.routes.iter().map(|route| (route.path.to_string(), self::route(route))).collect()),
                );
                // An empty value is what `false` became: the header is removed.
                let header = |value: &String| if value.is_empty() { Value::Boolean(false) } else { Value::String(value.clone()) };
                if !gateway.headers.is_empty() {
                    put(
                        "headers",
                        Value::Table(gateway.headers.iter().map(|(name, value)| (name.clone(), header(value))).collect()),
                    );
                }
                if gateway.names.is_empty() {
                    put("names", Value::Boolean(false));
                }
                if gateway.tls.is_some() {
                    put("tls", Value::Boolean(true));
                }
            }
            for key in ["user", "password", "database"] {
                if let Some(value) = spec.attributes.get(key).filter(|value| !value.is_empty()) {
                    put(key, Value::String(masker.variable(key, value)));
                }
            }
        }
        Launch::External { url } => put("external", Value::String(url.clone())),
        Launch::Work => {}
    }
    if spec.kind == devrun_model::Kind::Service {
        if let Some(port) = spec.port() {
            put("port", number(port));
        }
        let named: Table =
            spec.ports.iter().filter(|(name, _)| *name != "main").map(|(name, port)| (name.clone(), number(*port))).collect();
        if !named.is_empty() {
            put("ports", Value::Table(named));
        }
        put("bind", Value::String(spec.bind.clone()));
        if spec.listen && matches!(spec.launch, Launch::Run(_)) {
            put("listen", Value::Boolean(true));
        }
        put("restart", Value::String(spec.restart.to_string()));
        put("on_unhealthy", Value::String(on_unhealthy(spec.on_unhealthy).to_owned()));
        if spec.update != devrun_model::UpdateSpec::default() {
            let mut update = toml::Table::new();
            let order = match spec.update.order {
                devrun_model::UpdateOrder::StopFirst => "stop-first",
                devrun_model::UpdateOrder::StartFirst => "start-first",
            };
            update.insert("order".to_owned(), Value::String(order.to_owned()));
            update.insert("parallel".to_owned(), number(spec.update.parallel));
            update.insert("pause".to_owned(), Value::String(devrun_model::duration::format(spec.update.pause)));
            put("update", Value::Table(update));
        }
        if spec.replicas > 1 {
            put("replicas", number(spec.replicas));
        }
        if let Some(data) = &spec.data {
            put("data", Value::String(data.to_string()));
        }
        if !spec.links.is_empty() {
            put("links", map(&spec.links));
        }
    }
    if !env.is_empty() {
        put("env", map(&masker.variables(&env)));
    }
    put("dir", Value::String(spec.dir.display().to_string()));
    for (key, command) in [("pre_start", &spec.pre_start), ("build", &spec.build)] {
        if let Some(command) = command {
            put(key, list(masker.words(&command.argv)));
        }
    }
    if let Some(tier) = spec.tier {
        put("tier", number(tier));
    }
    let edges = edges(spec, &read.plan);
    if !edges.is_empty() {
        put("depends_on", Value::Table(edges));
    }
    if let Some(spec) = &spec.ready {
        put("ready", Value::Table(ready(spec, masker)));
    }
    if let Some(spec) = &spec.alive {
        put("alive", Value::Table(ready(spec, masker)));
    }
    put("stop", Value::Table(stop(spec, masker)));
    for (key, limits) in [("limits", &spec.limits), ("reserve", &spec.reserve)] {
        let limits = self::limits(limits);
        if !limits.is_empty() {
            put(key, Value::Table(limits));
        }
    }
    if !spec.volumes.is_empty() {
        put("volumes", list(&spec.volumes));
    }
    for (key, on) in [("optional", spec.optional), ("tty", spec.tty)] {
        if on {
            put(key, Value::Boolean(true));
        }
    }
    for (key, text) in [("user_id", &spec.user_id), ("description", &spec.description)] {
        if let Some(text) = text {
            put(key, Value::String(text.clone()));
        }
    }
    if !spec.watch.is_empty() {
        put("watch", list(&spec.watch));
    }
    if let Some(task) = &spec.task {
        work(task.work.as_ref(), &mut put);
        if let Some(on) = &task.on {
            put("on", Value::String(on.to_string()));
        }
        if let Some(once) = &task.once {
            put("once", Value::String(format!("{}/{}", once.volume, once.name)));
        }
        if !task.input_globs.is_empty() {
            put("inputs", list(&task.input_globs));
        }
        put("idempotent", Value::Boolean(task.idempotent));
        let on_change = match task.on_change {
            OnChange::Warn => "warn",
            OnChange::Rerun => "rerun",
            OnChange::Fail => "fail",
        };
        put("on_change", Value::String(on_change.to_owned()));
        put("timeout", time(task.timeout));
    }
    Ok(table)
}

fn on_unhealthy(what: OnUnhealthy) -> &'static str {
    match what {
        OnUnhealthy::Ignore => "ignore",
        OnUnhealthy::Restart => "restart",
        OnUnhealthy::Stop => "stop",
    }
}

fn edges(spec: &ServiceSpec, plan: &Plan) -> Table {
    let mut edges = Table::new();
    for edge in &spec.depends_on {
        let Some(target) = plan.services.get(&edge.on) else { continue };
        let mut table = Table::new();
        table.insert("condition".to_owned(), Value::String(edge.condition.as_str().to_owned()));
        if !edge.required {
            table.insert("required".to_owned(), Value::Boolean(false));
        }
        if edge.restart {
            table.insert("restart".to_owned(), Value::Boolean(true));
        }
        edges.insert(target.service.to_string(), Value::Table(table));
    }
    edges
}

fn limits(limits: &Limits) -> Table {
    let mut table = Table::new();
    if let Some(cpu) = limits.cpu {
        table.insert("cpu".to_owned(), Value::Float(cpu));
    }
    if let Some(memory) = limits.memory {
        table.insert("memory".to_owned(), Value::String(memory.to_string()));
    }
    if let Some(nofile) = limits.nofile {
        table.insert("nofile".to_owned(), number(nofile));
    }
    if let Some(pids) = limits.pids {
        table.insert("pids".to_owned(), number(pids));
    }
    table
}

fn stop(spec: &ServiceSpec, masker: &Masker) -> Table {
    let name = |signal: devrun_model::Signal| Value::String(signal.to_string().trim_start_matches("SIG").to_owned());
    let mut table = Table::new();
    table.insert("signal".to_owned(), name(spec.stop.signal));
    table.insert("grace".to_owned(), time(spec.stop.grace));
    if let Some(then) = spec.stop.then {
        table.insert("then".to_owned(), name(then));
    }
    if let Some(CommandLine { argv, .. }) = &spec.stop.command {
        table.insert("command".to_owned(), list(masker.words(argv)));
    }
    if spec.stop.to == StopTo::All {
        table.insert("to".to_owned(), Value::String("all".to_owned()));
    }
    if !spec.stop.spare.is_empty() {
        table.insert("spare".to_owned(), list(&spec.stop.spare));
    }
    table
}

fn ready(ready: &ReadySpec, masker: &Masker) -> Table {
    let mut table = Table::new();
    let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
    for check in &ready.checks {
        match check {
            Check::Http { at, tls, path, status, headers, body } => {
                put("http", Value::String(format!("{}://{at}{path}", if *tls { "https" } else { "http" })));
                if !status.is_empty() {
                    put("status", Value::Array(status.iter().map(|code| number(*code)).collect()));
                }
                if !headers.is_empty() {
                    put("headers", map(&masker.variables(headers)));
                }
                if let Some(body) = body {
                    put("body", Value::String(body.clone()));
                }
            }
            Check::Tcp { at } => put("tcp", Value::String(at.to_string())),
            Check::Unix { path } => put("unix", Value::String(path.display().to_string())),
            Check::Pg { .. } => put("pg", Value::Boolean(true)),
            Check::Sql { query, .. } => put("sql", Value::String(query.clone())),
            Check::Redis { roundtrip, .. } => {
                put("redis", Value::String(if *roundtrip { "roundtrip" } else { "PING" }.to_owned()));
            }
            Check::Bolt { .. } => put("bolt", Value::Boolean(true)),
            Check::Grpc { service, .. } if service.is_empty() => put("grpc", Value::Boolean(true)),
            Check::Grpc { service, .. } => put("grpc", Value::String(service.clone())),
            Check::S3 { .. } => put("s3", Value::Boolean(true)),
            Check::Cmd { command } => put("cmd", list(masker.words(&command.argv))),
            Check::Log { pattern } => put("log", Value::String(pattern.clone())),
            Check::File { path, max_age } => {
                put("file", Value::String(path.display().to_string()));
                if let Some(age) = max_age {
                    put("max_age", time(*age));
                }
            }
            Check::Notify => put("notify", Value::Boolean(true)),
            Check::Uptime { least } => put("uptime", time(*least)),
        }
    }
    if ready.any {
        put("any", Value::Boolean(true));
    }
    if !ready.owner {
        put("owner", Value::Boolean(false));
    }
    for (key, value) in [
        ("interval", ready.interval),
        ("timeout", ready.timeout),
        ("start_period", ready.start_period),
        ("start_interval", ready.start_interval),
        ("within", ready.within),
    ] {
        put(key, time(value));
    }
    put("retries", number(ready.retries));
    table
}

fn work(work: Option<&Work>, put: &mut impl FnMut(&str, Value)) {
    match work {
        None => {}
        Some(Work::Sql { text: Some(text), .. }) => put("sql", Value::String(text.clone())),
        Some(Work::Sql { files, .. }) => put("sql", paths(files)),
        Some(Work::Cypher { files }) => put("cypher", paths(files)),
        Some(Work::Buckets { buckets }) => {
            let tables = buckets.iter().map(|(name, policy)| {
                let text = |value: &String| Value::String(value.clone());
                Value::Table(Table::from_iter([("name".to_owned(), text(name)), ("anonymous".to_owned(), text(policy))]))
            });
            put("buckets", Value::Array(tables.collect()));
        }
        Some(Work::Collections { collections }) => put("collections", list(collections.iter().map(|(name, _)| name))),
        Some(Work::Models { models }) => {
            let one = |(name, from): &(String, Option<std::path::PathBuf>)| match from {
                None => Value::String(name.clone()),
                Some(from) => Value::Table(Table::from_iter([
                    ("name".to_owned(), Value::String(name.clone())),
                    ("from".to_owned(), Value::String(from.display().to_string())),
                ])),
            };
            put("models", Value::Array(models.iter().map(one).collect()));
        }
        Some(Work::Indexes { indexes }) => put("indexes", list(indexes.iter().map(|(uid, _)| uid))),
    }
}
