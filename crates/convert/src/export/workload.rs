//! Services of the procfile → workloads of a container stack.

use std::collections::BTreeSet;

use devrun_model::service::OnUnhealthy;
use devrun_model::{Condition, Kind, Launch, RestartPolicy, ServiceSpec, StopSpec};
use toml::{Table, Value};

use super::edges::edges;
use super::health::health;
use super::procfile_values::{relative, texts};
use super::references::{ExportSource, PlaceholderScope, References};
use super::stack::{ContainerMount, MountSource, Origin, Port, Publish, Stack, Workload};
use super::template::{self, ExportText, TextPart};
use super::{caddyfile, environment, first_boot, task_work};

/// Keys that no container runtime has a word for.
const UNKNOWN: &[(&str, &str)] = &[
    ("backoff", "the waits between restarts are the engine's own"),
    ("migrations", "run them from the application, or as a task"),
    ("watch", "no restart on change"),
    ("log_files", "only standard output is kept"),
    ("listen", "no socket is passed; the program must bind its port itself"),
    ("idle", "a container is not stopped when idle"),
    ("scope", "the server belongs to this stack alone"),
];

/// A setting of the recipe `mariadb` that its server does not have.
const ROOT_PASSWORD: &str = "root_password";

/// Makes the whole stack.
pub(crate) fn stack(source: &ExportSource<'_>, is_strict: bool) -> Stack {
    let references = References::new(source, is_strict);
    let mut stack = Stack { project: source.plan.project.to_string(), ..Stack::default() };
    for group in ["services", "tasks"] {
        for name in source.merged.get(group).and_then(Value::as_table).into_iter().flat_map(Table::keys) {
            if let Some(spec) = references.spec(name) {
                workload(&references, name, spec, &mut stack);
            }
        }
    }
    let names: BTreeSet<String> = stack.workloads.iter().map(|workload| workload.name.clone()).collect();
    let probed: BTreeSet<String> =
        stack.workloads.iter().filter(|workload| workload.ready.is_some()).map(|workload| workload.name.clone()).collect();
    for workload in &mut stack.workloads {
        let path = references.path(&workload.name);
        workload.edges.retain(|edge| {
            let is_there = names.contains(&edge.on);
            if !is_there {
                references.lose(format!("{path}.depends_on"), format!("`{}` is not part of the export", edge.on));
            }
            is_there
        });
        for edge in &mut workload.edges {
            if edge.condition == Condition::Healthy && !probed.contains(&edge.on) {
                let reason = format!("`{}` is waited for until it has started: nothing asks there whether it is ready", edge.on);
                references.lose(format!("{path}.depends_on"), reason);
                edge.condition = Condition::Started;
            }
        }
    }
    project_keys(&references);
    let used: BTreeSet<String> = stack.workloads.iter().flat_map(secrets_of).collect();
    stack.secrets = used.into_iter().map(|name| (name.clone(), source.secret_file(&name))).collect();
    let mounted = stack.workloads.iter().flat_map(|workload| &workload.mounts).filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(name.clone()),
        MountSource::Path(_) => None,
    });
    stack.volumes = mounted.collect();
    stack.losses = references.losses.take();
    stack
}

fn secrets_of(workload: &Workload) -> Vec<String> {
    let texts = workload.command.iter().chain(&workload.entrypoint).chain(workload.env.iter().map(|(_, text)| text));
    texts.chain(workload.files.iter().map(|(_, text)| text)).flat_map(ExportText::secrets).map(str::to_owned).collect()
}

fn project_keys(references: &References<'_>) {
    let project = references.source.merged.get("project").and_then(Value::as_table);
    for (key, reason) in [
        ("timeout", "give the limit to the command that starts the stack"),
        ("tier_pause", "a pause is not possible; readiness decides"),
        ("requires", "what the machine must have is not checked"),
        ("branch_data", "data does not follow a branch"),
    ] {
        if project.is_some_and(|project| project.contains_key(key)) {
            references.lose(format!("project.{key}"), reason);
        }
    }
    for (key, reason) in [
        ("queries", "named queries are not possible"),
        ("config", "the generated env file stays devrun's; its variables are written into the services that read it"),
    ] {
        if references.source.merged.contains_key(key) {
            references.lose(key, reason);
        }
    }
}

fn workload(references: &References<'_>, name: &str, spec: &ServiceSpec, stack: &mut Stack) {
    let path = references.path(name);
    if matches!(spec.launch, Launch::External { .. }) {
        // References hold its address; nothing is lost.
        return;
    }
    let is_task = spec.kind == Kind::Task;
    let is_gateway = references.is_gateway(name);
    let image = references.image_reference(name);
    let own_image = references.table(name).and_then(|table| table.get("image"));
    let scope = PlaceholderScope { service: name, key: &path };
    let mut workload = Workload {
        name: name.to_owned(),
        is_task,
        is_gateway,
        is_recipe: image.is_some(),
        program: image.as_ref().map_or(&[], |(image, _)| image.program),
        origin: Origin::Build(".".to_owned()),
        entrypoint: Vec::new(),
        command: Vec::new(),
        env: Vec::new(),
        reads_files: Vec::new(),
        secret_paths: Vec::new(),
        env_files: Vec::new(),
        mounts: Vec::new(),
        files: Vec::new(),
        ports: Vec::new(),
        ready: None,
        alive: None,
        restarts_unhealthy: spec.on_unhealthy == OnUnhealthy::Restart,
        edges: edges(references.source.plan, spec),
        restart: spec.restart,
        asks_restart: references.key(name, "restart").is_some(),
        signal: None,
        grace: None,
        replicas: spec.replicas,
        limits: spec.limits,
        reserve: spec.reserve,
        profiles: texts(references.key(name, "profiles")),
        log: None,
        user: spec.user_id.clone(),
        tty: spec.tty,
        start_first: None,
        description: spec.description.clone(),
        links: spec.links.clone(),
        once: spec.task.as_ref().and_then(|task| task.once.as_ref()).map(|once| (once.volume.to_string(), once.name.clone())),
        timeout: spec.task_timeout(),
        reaches_host: false,
        routes: Vec::new(),
    };
    let work = spec.task.as_ref().and_then(|task| task.work.as_ref());
    let done = if let Some(work) = work {
        task_work::fill(references, name, spec, work, &mut workload)
    } else if is_gateway {
        caddyfile::fill(references, name, spec, &mut workload);
        true
    } else if let Some((image, reference)) = &image {
        workload.origin = Origin::ContainerImage(
            own_image.map_or_else(|| ExportText::literal(reference), |text| references.value(text, scope)),
        );
        recipe(references, name, spec, image, reference, &mut workload);
        true
    } else {
        own(references, name, spec, own_image, &mut workload)
    };
    if !done {
        return;
    }
    ports(references, name, spec, &mut workload);
    environment::fill(references, name, spec, &mut workload);
    if let Some(ready) = &spec.ready
        && !is_task
    {
        workload.ready = health(references, name, "ready", ready);
    }
    if let Some(alive) = &spec.alive {
        workload.alive = health(references, name, "alive", alive);
    }
    policies(references, name, spec, &mut workload);
    volumes(references, name, spec, &mut workload);
    for (key, reason) in UNKNOWN {
        if references.table(name).is_some_and(|table| table.contains_key(*key)) {
            references.lose(format!("{path}.{key}"), *reason);
        }
    }
    if spec.on_unhealthy == OnUnhealthy::Stop {
        references.lose(format!("{path}.on_unhealthy"), "an unhealthy container is not stopped");
    }
    if references.key(name, "start").and_then(Value::as_str) == Some("on-demand") {
        references.lose(format!("{path}.start"), "it is started with the stack");
    }
    for (_, text) in &workload.env {
        workload.reaches_host |= format!("{text:?}").contains("host.docker.internal");
    }
    stack.workloads.push(workload);
}

/// A server of a recipe: its image, with what the procfile says of it in the image's own words.
fn recipe(
    references: &References<'_>,
    name: &str,
    spec: &ServiceSpec,
    image: &super::images::ContainerImage,
    reference: &str,
    workload: &mut Workload,
) {
    let path = references.path(name);
    // The image refuses `root` as the name of a further user.
    let is_root =
        image.recipe == "mariadb" && references.login(name, "user").is_some_and(|user| user.as_literal() == Some("root"));
    for (key, variable) in ["user", "password", "database"].iter().zip(image.login) {
        let Some(value) = references.login(name, key) else { continue };
        let variable = match *key {
            "user" if is_root => continue,
            "password" if is_root => "MARIADB_ROOT_PASSWORD",
            _ => variable,
        };
        let is_written = references.table(name).is_some_and(|table| table.contains_key(*key));
        match (image.recipe, *key) {
            ("neo4j", "password") => {
                workload.env.push(("NEO4J_AUTH".to_owned(), ExportText::join([ExportText::literal("neo4j/"), value])));
            }
            ("neo4j", _) => {}
            ("redis" | "valkey", "password") => {
                workload.env.push((format!("{}_PASSWORD", image.recipe.to_ascii_uppercase()), value));
            }
            _ if !variable.is_empty() => {
                if image.reads_files && value.as_secret().is_some() {
                    workload.reads_files.push(variable.to_owned());
                }
                workload.env.push((variable.to_owned(), value));
            }
            _ if is_written => {
                references.lose(format!("{path}.{key}"), format!("the image {} takes it from its own configuration", image.name));
            }
            _ => {}
        }
    }
    if image.recipe == "mariadb" {
        let one = || ExportText::literal("1");
        let root = match (is_root, references.login(name, "password"), root_password(references, name)) {
            (false, _, Some(password)) => Some(("MARIADB_ROOT_PASSWORD", password)),
            (false, _, None) => Some(("MARIADB_RANDOM_ROOT_PASSWORD", one())),
            (true, None, _) => Some(("MARIADB_ALLOW_EMPTY_ROOT_PASSWORD", one())),
            (true, Some(_), _) => None,
        };
        if let Some((variable, value)) = root {
            if value.as_secret().is_some() {
                workload.reads_files.push(variable.to_owned());
            }
            workload.env.push((variable.to_owned(), value));
        }
    }
    let data = image.data_of(reference);
    if let Some(volume) = spec.data.as_ref().filter(|_| !data.is_empty()) {
        workload.mounts.push(ContainerMount {
            source: MountSource::Volume(volume.to_string()),
            target: data.to_owned(),
            read_only: false,
        });
    }
    if let Launch::Recipe(used) = &spec.launch {
        first_boot::fill(references, name, used, image.recipe, workload);
    }
    let fixed = image.environment.iter().map(|(name, value)| ((*name).to_owned(), *value));
    workload.env.extend(fixed.map(|(variable, value)| (variable, ExportText::literal(value.replace("{name}", name)))));
    if image.recipe == "ferretdb" && references.login(name, "password").is_some() {
        workload.env.push(("FERRETDB_TEST_ENABLE_NEW_AUTH".to_owned(), ExportText::literal("true")));
        workload.env.push(("FERRETDB_SETUP_DATABASE".to_owned(), ExportText::literal("admin")));
    }
    arguments(references, name, image, workload);
    render(references, name, image, workload);
}

/// `set.root_password` of MariaDB, which its first boot gives to root; no option of the server.
fn root_password(references: &References<'_>, name: &str) -> Option<ExportText> {
    let value = references.table(name)?.get("set")?.get(ROOT_PASSWORD)?;
    let key = format!("{}.set.{ROOT_PASSWORD}", references.path(name));
    let text = references.value(value, PlaceholderScope { service: name, key: &key });
    (text.as_literal() != Some("")).then_some(text)
}

/// `set` as arguments.
fn arguments(references: &References<'_>, name: &str, image: &super::images::ContainerImage, workload: &mut Workload) {
    let path = references.path(name);
    let scope = PlaceholderScope { service: name, key: &path };
    let set = references.table(name).and_then(|table| table.get("set")).and_then(Value::as_table);
    let mut words: Vec<ExportText> = Vec::new();
    let settings = || set.into_iter().flatten().map(|(key, value)| (key, references.value(value, scope)));
    match image.recipe {
        "postgres" if set.is_some() => {
            words.push(ExportText::literal("postgres"));
            for (key, value) in settings() {
                words.extend([ExportText::literal("-c"), ExportText::join([ExportText::literal(format!("{key}=")), value])]);
            }
        }
        "redis" | "valkey" if set.is_some() || references.login(name, "password").is_some() => {
            words.push(ExportText::literal(format!("{}-server", image.recipe)));
            if let Some(password) = references.login(name, "password") {
                words.extend([ExportText::literal("--requirepass"), password]);
            }
            for (key, value) in settings() {
                words.push(ExportText::literal(format!("--{key}")));
                match value.as_literal() {
                    // `save 900 1` is three words.
                    Some(text) if !text.is_empty() => words.extend(text.split_whitespace().map(ExportText::literal)),
                    _ => words.push(value),
                }
            }
        }
        "mariadb" => {
            let options = settings().filter(|(key, _)| *key != ROOT_PASSWORD);
            words.extend(options.map(|(key, value)| ExportText::join([ExportText::literal(format!("--{key}=")), value])));
        }
        "neo4j" => {
            for (key, value) in settings() {
                match key.as_str() {
                    "heap" => {
                        workload.env.push(("NEO4J_server_memory_heap_initial__size".to_owned(), value.clone()));
                        workload.env.push(("NEO4J_server_memory_heap_max__size".to_owned(), value));
                    }
                    "pagecache" => workload.env.push(("NEO4J_server_memory_pagecache_size".to_owned(), value)),
                    _ => references.lose(format!("{path}.set.{key}"), "the image takes it from its own configuration"),
                }
            }
        }
        _ => {
            for (key, value) in settings() {
                if let Some((variable, before)) = super::image_settings::variable(image.recipe, key) {
                    // A setting wins over what the image needs in general.
                    workload.env.retain(|(known, _)| *known != variable);
                    let parts = before.iter().flat_map(|before| [ExportText::literal(*before), value.clone()]);
                    workload.env.push((variable, ExportText::join(parts)));
                    continue;
                }
                references
                    .lose(format!("{path}.set.{key}"), format!("the image {} takes it from its own configuration", image.name));
            }
        }
    }
    if words.is_empty() {
        words.extend(image.arguments.iter().map(|word| ExportText::literal(*word)));
    }
    workload.command = words;
}

/// Rendered files lie where the image reads its configuration.
fn render(references: &References<'_>, name: &str, image: &super::images::ContainerImage, workload: &mut Workload) {
    let path = references.path(name);
    for (from, to) in references.table(name).and_then(|table| table.get("render")).and_then(Value::as_table).into_iter().flatten()
    {
        let Some(to) = to.as_str() else { continue };
        let Some((_, target)) = image.config.iter().find(|(known, _)| *known == to) else {
            references.lose(format!("{path}.render.{from}"), format!("the image {} reads no file {to}", image.name));
            continue;
        };
        match (references.source.read)(&references.source.plan.root.join(from)) {
            Some(text) => {
                let key = format!("{path}.render.{from}");
                workload
                    .files
                    .push(((*target).to_owned(), references.text(&text, PlaceholderScope { service: name, key: &key })));
            }
            None => references.lose(format!("{path}.render.{from}"), "the file cannot be read"),
        }
    }
    for (file, text) in
        references.table(name).and_then(|table| table.get("files")).and_then(Value::as_table).into_iter().flatten()
    {
        let key = format!("{path}.files.{file}");
        match image.config.iter().find(|(known, _)| known == file) {
            Some((_, target)) => {
                workload
                    .files
                    .push(((*target).to_owned(), references.value(text, PlaceholderScope { service: name, key: &key })));
            }
            None => references.lose(key, format!("the image {} reads no file {file}", image.name)),
        }
    }
}

/// A program of the user's: its image or its Dockerfile, and its command.
fn own(references: &References<'_>, name: &str, spec: &ServiceSpec, image: Option<&Value>, workload: &mut Workload) -> bool {
    let path = references.path(name);
    let scope = PlaceholderScope { service: name, key: &path };
    let run = references.key(name, "run");
    match image {
        Some(image) => workload.origin = Origin::ContainerImage(references.value(image, scope)),
        None => {
            let dir = relative(references, &spec.dir).unwrap_or_else(|| spec.dir.display().to_string());
            if (references.source.read)(&spec.dir.join("Dockerfile")).is_none() {
                if run.is_none() {
                    references.lose(path, "its recipe has no image that is known; give it `image`");
                    return false;
                }
                if !references.is_strict {
                    references.lose(path.clone(), format!("needs a Dockerfile in {dir}, or `image`"));
                }
            }
            workload.origin = Origin::Build(dir);
        }
    }
    if let (Launch::Run(command), Some(run)) = (&spec.launch, run) {
        let key = format!("{path}.run");
        workload.command = words(references, run, &command.argv, PlaceholderScope { service: name, key: &key }, workload);
        if spec.kind == Kind::Service {
            environment::listen_on_all(references, &key, &mut workload.command);
        }
    }
    if let (Some(before), Some(raw)) = (&spec.pre_start, references.key(name, "pre_start")) {
        let key = format!("{path}.pre_start");
        let first = words(references, raw, &before.argv, PlaceholderScope { service: name, key: &key }, workload);
        let script = ExportText::join([script_of(first), ExportText::literal(" && exec \"$@\"")]);
        let command = std::mem::take(&mut workload.command);
        workload.command = [ExportText::literal("sh"), ExportText::literal("-c"), script, ExportText::literal("--")]
            .into_iter()
            .chain(command)
            .collect();
    }
    if references.table(name).is_some_and(|table| table.contains_key("render")) {
        references.lose(format!("{path}.render"), "its files are not in the container");
    }
    true
}

/// Words for a shell, as one script.
fn script_of(words: Vec<ExportText>) -> ExportText {
    match words.as_slice() {
        [sh, flag, script] if sh.as_literal() == Some("sh") && flag.as_literal() == Some("-c") => {
            ExportText::join([ExportText::literal("( "), script.clone(), ExportText::literal(" )")])
        }
        _ => ExportText::join(words.into_iter().enumerate().flat_map(|(at, word)| {
            let word = match word.as_literal() {
                Some(text) => ExportText::literal(super::health::shell_quote(text)),
                None => ExportText::join([ExportText::literal("\""), word, ExportText::literal("\"")]),
            };
            [ExportText::literal(if at == 0 { "" } else { " " }), word]
        })),
    }
}

/// A command's words. `argv` is what the plan made of it: it says whether a shell is used.
pub(crate) fn words(
    references: &References<'_>,
    raw: &Value,
    argv: &[String],
    scope: PlaceholderScope<'_>,
    workload: &mut Workload,
) -> Vec<ExportText> {
    let Some(text) = raw.as_str() else {
        return raw.as_array().into_iter().flatten().map(|word| references.value(word, scope)).collect();
    };
    let split = template::words(text);
    let is_script = argv.first().is_some_and(|word| word == "sh")
        && argv.last().is_some_and(|script| script.contains("DEVRUN_ARG_") || script.contains(char::is_whitespace))
        && split.as_ref().and_then(|words| words.first()).is_none_or(|word| *word != [TextPart::Literal("sh".to_owned())]);
    if !is_script {
        return split.unwrap_or_default().iter().map(|word| references.fill(word, scope)).collect();
    }
    // The values travel as variables, as they do in the plan: the holes stand in the same order.
    let mut index = 0;
    for part in template::parts(text, true) {
        if let TextPart::ExportPlaceholder(hole) = part {
            index += 1;
            let variable = format!("DEVRUN_ARG_{index}");
            if argv.last().is_some_and(|script| script.contains(&variable)) {
                workload.env.push((variable, references.hole(&hole, scope)));
            }
        }
    }
    argv.iter().map(ExportText::literal).collect()
}

fn ports(references: &References<'_>, name: &str, spec: &ServiceSpec, workload: &mut Workload) {
    let scope = PlaceholderScope { service: name, key: "port" };
    let host = match spec.bind.as_str() {
        "0.0.0.0" | "" | "*" => String::new(),
        "localhost" => "127.0.0.1".to_owned(),
        bind => bind.to_owned(),
    };
    let named = references.key(name, "ports").and_then(Value::as_table);
    let names = std::iter::once("main").chain(named.into_iter().flat_map(Table::keys).map(String::as_str));
    let mut lost = false;
    for port in names {
        let Some(inside) = references.port(name, port) else {
            if port != "main" {
                references.lose(format!("{}.ports.{port}", references.path(name)), "the image has no port of that name");
            }
            continue;
        };
        let raw = if port == "main" { references.key(name, "port") } else { named.and_then(|named| named.get(port)) };
        let publish = match raw {
            Some(Value::Boolean(false)) => continue,
            Some(Value::String(text)) if text == "private" => Publish::No,
            Some(Value::String(text)) if text == "auto" => Publish::Any { host: host.clone() },
            Some(value) => Publish::At { host: host.clone(), port: references.value(value, scope) },
            // Nothing was asked for; the others of the stack reach it anyway.
            None => Publish::No,
        };
        let publish = if spec.replicas > 1 && publish != Publish::No {
            lost = true;
            Publish::No
        } else {
            publish
        };
        workload.ports.push(Port { name: port.to_owned(), inside, publish });
    }
    if lost && !references.is_gateway(name) {
        let reason = "one port of the host cannot lead to several copies; publish them through a gateway";
        references.lose(format!("{}.port", references.path(name)), reason);
    }
}

fn policies(references: &References<'_>, name: &str, spec: &ServiceSpec, workload: &mut Workload) {
    if spec.kind == Kind::Task {
        workload.restart = RestartPolicy::No;
    }
    let path = references.path(name);
    if let Some(stop) = references.key(name, "stop").and_then(Value::as_table) {
        if stop.contains_key("signal") {
            workload.signal = Some(spec.stop.signal);
        }
        if stop.contains_key("grace") {
            workload.grace = Some(spec.stop.grace);
        }
        for (key, reason) in [
            ("command", "it gets the signal alone"),
            ("check", "it is not asked before it is stopped"),
            ("to", "the first process gets the signal"),
            ("spare", "nothing outlives a container"),
        ] {
            if stop.get(key).is_some_and(|value| value.as_bool() != Some(false)) {
                references.lose(format!("{path}.stop.{key}"), reason);
            }
        }
    } else if spec.stop.grace != StopSpec::default().grace {
        // The images have their own signal; the grace is that of the recipe.
        workload.grace = Some(spec.stop.grace);
    }
    if let Some(log) = references.key(name, "log").and_then(Value::as_table)
        && (log.contains_key("max_size") || log.contains_key("max_files"))
    {
        workload.log = Some((spec.log.max_size.0, spec.log.max_files));
    }
    if let Some(update) = references.key(name, "update").and_then(Value::as_table) {
        workload.start_first = update.get("order").and_then(Value::as_str).map(|order| order == "start-first");
    }
}

fn volumes(references: &References<'_>, name: &str, spec: &ServiceSpec, workload: &mut Workload) {
    let path = references.path(name);
    if !workload.is_recipe && !workload.is_gateway && spec.data.is_some() {
        references.lose(format!("{path}.data"), "where the program keeps it in its container is not known; mount it there");
    }
    for volume in &spec.volumes {
        if workload.is_gateway {
            continue;
        }
        references
            .lose(format!("{path}.volumes"), format!("where `{volume}` lies in the container is not known; mount it there"));
    }
}
