//! A container stack → Kubernetes objects in the layout of Kustomize: a base, a component per profile, an overlay per mode.
//!
//! A secret's value is written nowhere: pods refer to one Secret, and the command that makes it from devrun's files is among what is
//! needed. A Job is its own sentinel: it runs once for as long as it exists.

use std::collections::{BTreeMap, BTreeSet};

use super::kubernetes_pod::{PodSource, pod};
use super::losses::Losses;
use super::references::{ExportSource, strict_name};
use super::stack::{MountSource, Stack, Workload};
use super::yaml::Yaml;
use super::{Exported, workload};

/// A volume whose size no one has said.
const VOLUME_SIZE: &str = "8Gi";

/// One object: its kind and name, and all of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    pub kind: &'static str,
    pub name: String,
    pub yaml: Yaml,
    /// The profiles that bring it; empty: it is always there.
    pub profiles: Vec<String>,
}

/// Makes the files. `modes` are the other modes of the procfile, each as the same project read with that mode.
#[must_use]
pub fn kubernetes(source: &ExportSource<'_>, modes: &[(String, ExportSource<'_>)]) -> Exported {
    let mut needs = BTreeSet::new();
    let (base, mut losses) = objects(source, &mut needs);
    let mut files: Vec<(String, String)> = Vec::new();
    let always: Vec<&Object> = base.iter().filter(|object| object.profiles.is_empty()).collect();
    directory("base", "Kustomization", &always, Vec::new(), &mut files);
    let profiles: BTreeSet<&String> = base.iter().flat_map(|object| &object.profiles).collect();
    for profile in profiles {
        let own: Vec<&Object> = base.iter().filter(|object| object.profiles.contains(profile)).collect();
        directory(&format!("components/{}", strict_name(profile)), "Component", &own, Vec::new(), &mut files);
    }
    for (mode, source) in modes {
        let (there, more) = objects(source, &mut needs);
        for loss in more {
            if !losses.contains(&loss) {
                losses.push(loss);
            }
        }
        let there: Vec<Object> = there.into_iter().filter(|object| object.profiles.is_empty()).collect();
        overlay(mode, &always, &there, &mut files);
    }
    Exported { files, losses, needs: needs.into_iter().collect() }
}

fn objects(source: &ExportSource<'_>, needs: &mut BTreeSet<String>) -> (Vec<Object>, Vec<super::Loss>) {
    let stack = workload::stack(source, true);
    let mut losses = Losses::default();
    let project = strict_name(&stack.project);
    let mut out = Vec::new();
    let pods = PodSource::new(source, &stack, &project);
    let mut waits_for_jobs = false;
    for workload in &stack.workloads {
        let labels = labels(&project, &workload.name);
        let made = pod(&pods, workload, &mut losses);
        waits_for_jobs |= made.waits_for_jobs;
        let mut push = |kind: &'static str, name: String, version: &str, rest: Vec<(&str, Yaml)>| {
            let mut metadata = vec![("name", Yaml::text(&name)), ("labels", labels.clone())];
            if let Some(description) = workload.description.as_ref().filter(|_| kind != "ConfigMap") {
                metadata.push(("annotations", Yaml::map([("devrun/description", Yaml::text(description))])));
            }
            let head = [("apiVersion", Yaml::text(version)), ("kind", Yaml::text(kind)), ("metadata", Yaml::map(metadata))];
            out.push(Object { kind, name, yaml: Yaml::map(head.into_iter().chain(rest)), profiles: workload.profiles.clone() });
        };
        let name = strict_name(&workload.name);
        if !made.files.is_empty() {
            let data = made.files.iter().map(|(key, text)| (key.clone(), Yaml::text(text)));
            push("ConfigMap", format!("{name}-files"), "v1", vec![("data", Yaml::map(data))]);
        }
        controller(workload, made.template, &labels, &mut push);
        let ports: Vec<Yaml> = made
            .ports
            .iter()
            .map(|(port, number)| {
                Yaml::map([
                    ("name", Yaml::text(port)),
                    ("port", Yaml::Integer(i64::from(*number))),
                    ("targetPort", Yaml::Integer(i64::from(*number))),
                ])
            })
            .collect();
        if !ports.is_empty() && !workload.is_task {
            let spec = Yaml::map([("selector", labels.clone()), ("ports", Yaml::List(ports))]);
            push("Service", name.clone(), "v1", vec![("spec", spec)]);
        }
        if workload.is_gateway {
            push("Ingress", name.clone(), "networking.k8s.io/v1", vec![("spec", ingress(&name))]);
        }
        policy_losses(workload, &mut losses);
    }
    shared(&stack, &project, waits_for_jobs, &mut out);
    let keys = pods.secret_keys();
    if !keys.is_empty() {
        let from: Vec<String> =
            keys.iter().map(|(key, from)| format!("--from-{from}", from = from.replace("KEY", key))).collect();
        needs.insert(format!("the secret: kubectl create secret generic {project}-secrets {}", from.join(" ")));
    }
    let mut all = stack.losses.into_vec();
    for loss in losses.into_vec() {
        if !all.contains(&loss) {
            all.push(loss);
        }
    }
    (out, all)
}

fn labels(project: &str, name: &str) -> Yaml {
    Yaml::map([
        ("app.kubernetes.io/name", Yaml::text(strict_name(name))),
        ("app.kubernetes.io/part-of", Yaml::text(project)),
        ("app.kubernetes.io/managed-by", Yaml::text("devrun")),
    ])
}

/// Takes an object: its kind, name, API version, and the parts below its metadata.
type PushObject<'a> = &'a mut dyn FnMut(&'static str, String, &str, Vec<(&str, Yaml)>);

fn controller(workload: &Workload, template: Yaml, labels: &Yaml, push: PushObject<'_>) {
    let name = strict_name(&workload.name);
    let selector = Yaml::map([("matchLabels", labels.clone())]);
    let template = ("template", Yaml::map([("metadata", Yaml::map([("labels", labels.clone())])), ("spec", template)]));
    if workload.is_task {
        let mut spec = vec![("backoffLimit", Yaml::Integer(4))];
        if let Some(timeout) = workload.timeout {
            spec.push(("activeDeadlineSeconds", Yaml::Integer(i64::try_from(timeout.as_secs().max(1)).unwrap_or(i64::MAX))));
        }
        spec.push(template);
        return push("Job", name, "batch/v1", vec![("spec", Yaml::map(spec))]);
    }
    let keeps_data = workload.mounts.iter().any(|mount| matches!(mount.source, MountSource::Volume(_)));
    let mut spec = vec![("replicas", Yaml::Integer(i64::from(workload.replicas))), ("selector", selector)];
    if keeps_data {
        spec.push(("serviceName", Yaml::text(&name)));
        spec.push(template);
        return push("StatefulSet", name, "apps/v1", vec![("spec", Yaml::map(spec))]);
    }
    if let Some(start_first) = workload.start_first {
        let (surge, unavailable) = if start_first { (1, 0) } else { (0, 1) };
        let update = Yaml::map([("maxSurge", Yaml::Integer(surge)), ("maxUnavailable", Yaml::Integer(unavailable))]);
        spec.push(("strategy", Yaml::map([("type", Yaml::text("RollingUpdate")), ("rollingUpdate", update)])));
    }
    spec.push(template);
    push("Deployment", name, "apps/v1", vec![("spec", Yaml::map(spec))]);
}

/// Everything that comes in goes to the gateway, which has the routes.
fn ingress(name: &str) -> Yaml {
    let port = Yaml::map([("name", Yaml::text("main"))]);
    let backend = Yaml::map([("service", Yaml::map([("name", Yaml::text(name)), ("port", port)]))]);
    let path = Yaml::map([("path", Yaml::text("/")), ("pathType", Yaml::text("Prefix")), ("backend", backend)]);
    Yaml::map([("rules", Yaml::List(vec![Yaml::map([("http", Yaml::map([("paths", Yaml::List(vec![path]))]))])]))])
}

fn policy_losses(workload: &Workload, losses: &mut Losses) {
    let path = format!("{}.{}", if workload.is_task { "tasks" } else { "services" }, workload.name);
    if !workload.is_task
        && workload.asks_restart
        && !matches!(workload.restart, devrun_model::RestartPolicy::Always | devrun_model::RestartPolicy::UnlessStopped)
    {
        losses.add(format!("{path}.restart"), "a Deployment always restarts its containers");
    }
    if workload.signal.is_some() {
        losses.add(format!("{path}.stop.signal"), "the image's own stop signal is sent");
    }
    if workload.log.is_some() {
        losses.add(format!("{path}.log"), "how logs are kept is the cluster's");
    }
    if workload.limits.nofile.is_some() {
        losses.add(format!("{path}.limits.nofile"), "open files have no limit of their own");
    }
    if workload.limits.pids.is_some() {
        losses.add(format!("{path}.limits.pids"), "the kubelet limits the processes of a pod (podPidsLimit)");
    }
}

/// Claims for volumes, and the right to look at Jobs for what waits for one.
fn shared(stack: &Stack, project: &str, waits_for_jobs: bool, out: &mut Vec<Object>) {
    let labels = || {
        Yaml::map([("app.kubernetes.io/part-of", Yaml::text(project)), ("app.kubernetes.io/managed-by", Yaml::text("devrun"))])
    };
    let mut push = |kind: &'static str, name: &str, version: &str, profiles: Vec<String>, rest: Vec<(&str, Yaml)>| {
        let metadata = Yaml::map([("name", Yaml::text(name)), ("labels", labels())]);
        let head = [("apiVersion", Yaml::text(version)), ("kind", Yaml::text(kind)), ("metadata", metadata)];
        out.push(Object { kind, name: name.to_owned(), yaml: Yaml::map(head.into_iter().chain(rest)), profiles });
    };
    for volume in &stack.volumes {
        let uses = |workload: &&Workload| workload.mounts.iter().any(|mount| mount.source == MountSource::Volume(volume.clone()));
        let users: Vec<&Workload> = stack.workloads.iter().filter(uses).collect();
        let is_always = users.iter().any(|workload| workload.profiles.is_empty());
        let mut profiles: Vec<String> = users.iter().flat_map(|workload| workload.profiles.clone()).collect();
        profiles.sort();
        profiles.dedup();
        let size = Yaml::map([("requests", Yaml::map([("storage", Yaml::text(VOLUME_SIZE))]))]);
        let spec = Yaml::map([("accessModes", Yaml::texts(["ReadWriteOnce"])), ("resources", size)]);
        let profiles = if is_always { Vec::new() } else { profiles };
        push("PersistentVolumeClaim", &strict_name(volume), "v1", profiles, vec![("spec", spec)]);
    }
    if waits_for_jobs {
        let name = format!("{project}-waits");
        push("ServiceAccount", &name, "v1", Vec::new(), Vec::new());
        let rule = Yaml::map([
            ("apiGroups", Yaml::texts(["batch"])),
            ("resources", Yaml::texts(["jobs"])),
            ("verbs", Yaml::texts(["get", "list", "watch"])),
        ]);
        push("Role", &name, "rbac.authorization.k8s.io/v1", Vec::new(), vec![("rules", Yaml::List(vec![rule]))]);
        let subject = Yaml::map([("kind", Yaml::text("ServiceAccount")), ("name", Yaml::text(&name))]);
        let role = Yaml::map([
            ("apiGroup", Yaml::text("rbac.authorization.k8s.io")),
            ("kind", Yaml::text("Role")),
            ("name", Yaml::text(&name)),
        ]);
        let rest = vec![("subjects", Yaml::List(vec![subject])), ("roleRef", role)];
        push("RoleBinding", &name, "rbac.authorization.k8s.io/v1", Vec::new(), rest);
    }
}

/// A directory of Kustomize: an object a file, and the list of them.
fn directory(path: &str, kind: &str, objects: &[&Object], more: Vec<(&str, Yaml)>, files: &mut Vec<(String, String)>) {
    let mut resources = Vec::new();
    for object in objects {
        let name = format!("{}-{}.yaml", object.kind.to_ascii_lowercase(), object.name);
        files.push((format!("{path}/{name}"), object.yaml.document()));
        resources.push(name);
    }
    resources.sort();
    files.push((format!("{path}/kustomization.yaml"), kustomization(kind, resources, more)));
}

fn kustomization(kind: &str, resources: Vec<String>, more: Vec<(&str, Yaml)>) -> String {
    let version = if kind == "Component" { "kustomize.config.k8s.io/v1alpha1" } else { "kustomize.config.k8s.io/v1beta1" };
    let head = [("apiVersion", Yaml::text(version)), ("kind", Yaml::text(kind)), ("resources", Yaml::texts(resources))];
    let filled = head.into_iter().chain(more).filter(|(_, value)| !value.is_empty());
    format!("# Written by `devrun export kubernetes`.\n{}", Yaml::map(filled).document())
}

/// What a mode changes in the base: objects that come, go, or have another body.
fn overlay(mode: &str, base: &[&Object], there: &[Object], files: &mut Vec<(String, String)>) {
    let path = format!("overlays/{}", strict_name(mode));
    let key = |object: &Object| (object.kind, object.name.clone());
    let known: BTreeMap<_, &Object> = base.iter().map(|object| (key(object), *object)).collect();
    let kept: BTreeSet<_> = there.iter().map(key).collect();
    let mut resources = vec!["../../base".to_owned()];
    let mut patches = Vec::new();
    for object in there {
        match known.get(&key(object)) {
            Some(before) if before.yaml == object.yaml => {}
            Some(before) => patches.push(replacement(before, object)),
            None => {
                let name = format!("{}-{}.yaml", object.kind.to_ascii_lowercase(), object.name);
                files.push((format!("{path}/{name}"), object.yaml.document()));
                resources.push(name);
            }
        }
    }
    for object in base.iter().filter(|object| !kept.contains(&key(object))) {
        let Yaml::Map(entries) = &object.yaml else { continue };
        let version = entries.iter().find(|(key, _)| key == "apiVersion").map(|(_, value)| value.clone());
        let delete = Yaml::map([
            ("apiVersion", version.unwrap_or(Yaml::text("v1"))),
            ("kind", Yaml::text(object.kind)),
            ("metadata", Yaml::map([("name", Yaml::text(&object.name))])),
            ("$patch", Yaml::text("delete")),
        ]);
        patches.push(Yaml::map([("patch", Yaml::text(delete.document()))]));
    }
    files.push((
        format!("{path}/kustomization.yaml"),
        kustomization("Kustomization", resources, vec![("patches", Yaml::List(patches))]),
    ));
}

/// Every part of an object that differs is replaced as a whole, so that nothing of a list is left over.
fn replacement(before: &Object, after: &Object) -> Yaml {
    let (Yaml::Map(old), Yaml::Map(new)) = (&before.yaml, &after.yaml) else { return Yaml::Map(Vec::new()) };
    let differs = new.iter().filter(|(key, value)| !old.iter().any(|(known, other)| known == key && other == value));
    let operations = differs.map(|(key, value)| {
        Yaml::map([("op", Yaml::text("replace")), ("path", Yaml::text(format!("/{key}"))), ("value", value.clone())])
    });
    let patch = Yaml::List(operations.collect()).document();
    let target = Yaml::map([("kind", Yaml::text(after.kind)), ("name", Yaml::text(&after.name))]);
    Yaml::map([("target", target), ("patch", Yaml::text(patch))])
}
