//! What differs between two definitions of one service, in words.

use std::collections::{BTreeMap, BTreeSet};

use devrun_model::{Launch, RecipeUse, ServiceSpec};

/// In what a running service would have to differ; empty when nothing that it was started with does.
pub(super) fn differences(old: &ServiceSpec, new: &ServiceSpec) -> String {
    // Every field is named, so that a new one is decided on here.
    let ServiceSpec {
        kind,
        launch,
        dir,
        pre_start,
        bind,
        ports,
        listen,
        on_demand,
        shared,
        ready,
        alive,
        on_unhealthy,
        restart,
        backoff,
        stop,
        data,
        volumes,
        volume_paths,
        limits,
        reserve,
        user_id,
        tty,
        log,
        watch,
        render,
        task,
        missing,
        // Parts of these count, by functions below.
        env: _,
        inherited: _,
        attributes: _,
        // Its identity.
        id: _,
        service: _,
        replica: _,
        // They act on later starts and stops, and are taken over as they are.
        update: _,
        replicas: _,
        tier: _,
        depth: _,
        build: _,
        depends_on: _,
        optional: _,
        // For people.
        description: _,
        links: _,
    } = old;
    let mut parts: Vec<String> = Vec::new();
    match (launch, &new.launch) {
        (Launch::Recipe(a), Launch::Recipe(b)) if a.recipe.name == b.recipe.name => {
            let mut push = |same: bool, name: &str| {
                if !same {
                    parts.push(name.to_owned());
                }
            };
            push(a.version == b.version, "version");
            push(a.recipe == b.recipe, "recipe");
            push(a.settings == b.settings, "set");
            push(a.init == b.init, "init");
            push(a.extensions == b.extensions, "extensions");
            push(a.migrations == b.migrations, "migrations");
            push(a.locale == b.locale, "locale");
            push(a.encoding == b.encoding, "encoding");
            push(a.source == b.source, "source");
            let tls = |of: &RecipeUse| of.gateway.as_ref().and_then(|gateway| gateway.tls.clone());
            push(tls(a) == tls(b), "tls");
            push(a.gateway == b.gateway || tls(a) != tls(b), "routes");
        }
        (a, b) if a == b => {}
        (Launch::Run(_), Launch::Run(_)) => parts.push("run".to_owned()),
        (Launch::External { .. }, Launch::External { .. }) => parts.push("external".to_owned()),
        _ => parts.push("what it runs".to_owned()),
    }
    port_differences(ports, &new.ports, &mut parts);
    keys("env", &own_env(old), &own_env(new), &mut parts);
    keys("render", render, &new.render, &mut parts);
    // Attributes repeat what ports and environment say, but a password may reach the server by them alone.
    let attributes = |spec: &ServiceSpec| {
        let own = ["user", "password", "database"];
        spec.attributes.iter().filter(|(key, _)| own.contains(&key.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    keys("attribute", &attributes(old), &attributes(new), &mut parts);
    for (same, name) in [
        (*kind == new.kind, "kind"),
        (*dir == new.dir, "dir"),
        (*bind == new.bind, "bind"),
        (*listen == new.listen, "listen"),
        (*on_demand == new.on_demand, "start, idle"),
        (*shared == new.shared, "shared address"),
        (*pre_start == new.pre_start, "pre_start"),
        (*ready == new.ready, "ready"),
        (*alive == new.alive, "alive"),
        (*on_unhealthy == new.on_unhealthy, "on_unhealthy"),
        (*restart == new.restart, "restart"),
        (*backoff == new.backoff, "backoff"),
        (*stop == new.stop, "stop"),
        (*data == new.data, "data"),
        // The same volume lies elsewhere: the data of another mode.
        (*data != new.data || old.attributes.get("data") == new.attributes.get("data"), "data directory"),
        (*volumes == new.volumes, "volumes"),
        (*volume_paths == new.volume_paths || *volumes != new.volumes, "directory of a volume"),
        (*limits == new.limits, "limits"),
        (*reserve == new.reserve, "reserve"),
        (*user_id == new.user_id, "user_id"),
        (*tty == new.tty, "tty"),
        (*log == new.log, "log"),
        (*watch == new.watch, "watch"),
        (*task == new.task, "task"),
        (*missing == new.missing, "missing keys"),
    ] {
        if !same {
            parts.push(name.to_owned());
        }
    }
    parts.join(", ")
}

/// Whether two definitions differ in nothing but the login: in the password, and in how a probe logs in. A server that
/// was given its new password while it ran is what the new one describes.
#[must_use]
pub fn only_login_differs(old: &ServiceSpec, new: &ServiceSpec) -> bool {
    let mut old = old.clone();
    if let Some(password) = new.attributes.get("password") {
        old.attributes.insert("password".to_owned(), password.clone());
    }
    old.ready.clone_from(&new.ready);
    old.alive.clone_from(&new.alive);
    differences(&old, new).is_empty()
}

/// The environment without what only came along from a shell: a second `up` from another terminal changes nothing.
fn own_env(spec: &ServiceSpec) -> BTreeMap<String, String> {
    spec.env.iter().filter(|(name, _)| !spec.inherited.contains(*name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn port_differences(old: &BTreeMap<String, u16>, new: &BTreeMap<String, u16>, parts: &mut Vec<String>) {
    for name in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let label = if name == "main" { "port".to_owned() } else { format!("port {name}") };
        match (old.get(name), new.get(name)) {
            (Some(a), Some(b)) if a != b => parts.push(format!("{label} {a} → {b}")),
            (Some(a), None) => parts.push(format!("{label} {a} → none")),
            (None, Some(b)) => parts.push(format!("{label} none → {b}")),
            _ => {}
        }
    }
}

/// Names the keys of a table whose values differ.
fn keys(table: &str, old: &BTreeMap<String, String>, new: &BTreeMap<String, String>, parts: &mut Vec<String>) {
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let names: Vec<&str> = all.into_iter().filter(|key| old.get(*key) != new.get(*key)).map(String::as_str).collect();
    if !names.is_empty() {
        parts.push(format!("{table} {}", names.join(" ")));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use devrun_model::{Condition, Dependency, ServiceId, ServiceName};

    fn spec() -> ServiceSpec {
        let mut spec = ServiceSpec::bare(ServiceName::new("api").unwrap(), "/".into(), vec!["api".to_owned()]);
        spec.env.insert("DB_PASSWORD".to_owned(), "old-secret".to_owned());
        spec.ports.insert("main".to_owned(), 8000);
        spec
    }

    #[test]
    fn keys_are_named_and_values_are_not() {
        let mut new = spec();
        new.env.insert("DB_PASSWORD".to_owned(), "new-secret".to_owned());
        new.env.insert("LOG_LEVEL".to_owned(), "debug".to_owned());
        new.ports.insert("main".to_owned(), 8001);
        new.ports.insert("metrics".to_owned(), 9100);
        new.stop.grace = Duration::from_secs(1);
        new.launch = Launch::Run(devrun_model::CommandLine { argv: vec!["other".to_owned()], env: BTreeMap::new() });
        let text = differences(&spec(), &new);
        assert_eq!(text, "run, port 8000 → 8001, port metrics none → 9100, env DB_PASSWORD LOG_LEVEL, stop");
        assert!(!text.contains("secret"));
    }

    #[test]
    fn a_login_that_was_renewed_is_told_from_everything_else() {
        let with = |password: &str, variable: &str| {
            let mut spec = spec();
            spec.attributes.insert("password".to_owned(), password.to_owned());
            spec.env.insert("DB_PASSWORD".to_owned(), variable.to_owned());
            spec
        };
        assert!(only_login_differs(&with("old", "x"), &with("new", "x")));
        assert!(only_login_differs(&with("old", "x"), &with("old", "x")));
        assert!(!only_login_differs(&with("old", "x"), &with("new", "y")), "the process has the old one in its environment");
    }

    #[test]
    fn data_of_another_mode_needs_a_restart() {
        let with = |volume: &str, path: &str| {
            let mut spec = spec();
            spec.data = Some(devrun_model::VolumeName::new(volume).unwrap());
            spec.attributes.insert("data".to_owned(), path.to_owned());
            spec
        };
        assert_eq!(differences(&with("db", "/p/data/db"), &with("db", "/p/data/db")), "");
        assert_eq!(differences(&with("db", "/p/data/db"), &with("db", "/p/data/prod/db")), "data directory");
        assert_eq!(differences(&with("db", "/p/data/db"), &with("other", "/p/data/other")), "data");
    }

    #[test]
    fn what_the_process_does_not_see_needs_no_restart() {
        let mut new = spec();
        new.depth = 4;
        new.tier = Some(2);
        new.description = Some("the API".to_owned());
        new.links.insert("docs".to_owned(), "/docs".to_owned());
        new.depends_on.push(Dependency {
            on: ServiceId::parse("db").unwrap(),
            condition: Condition::Started,
            required: true,
            restart: false,
        });
        assert_eq!(differences(&spec(), &new), "");
    }
}
