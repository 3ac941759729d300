//! What is masked: the values of secrets, in what is said of a procfile and in what its services write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::environment::Masks;
use super::interpolate::Resolver;
use super::requirements::is_placeholder;
use devrun_model::{Launch, ServiceId, ServiceSpec, VolumeName, VolumeSpec};

/// The values of the secrets that a value may have been made from.
fn source_secrets(resolver: &Resolver<'_>) -> Masks {
    let facts = resolver.facts;
    let mut masks = Masks::default();
    facts.secrets.values().for_each(|value| masks.add(value));
    facts.keys.values().for_each(|value| masks.add(value.trim_end_matches(['\n', '\r'])));
    // Placeholders may have taken them from here into variables of any name.
    masks.add_env(&facts.shell);
    resolver.file_variables().for_each(|env| masks.add_env(&env));
    resolver.taken_secrets().iter().for_each(|value| masks.add(value));
    masks
}

/// What is named anyway, and so need not be hidden.
fn public_names<'a>(resolver: &'a Resolver<'_>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::from([resolver.document.project.as_str()]);
    names.extend(resolver.services.keys().map(String::as_str));
    names.extend(["USER", "LOGNAME"].iter().filter_map(|name| resolver.facts.shell.get(*name)).map(String::as_str));
    names
}

/// Takes what was reported. Messages quote values, and a value may be that of a secret: it is masked.
pub(crate) fn take_problems(resolver: &Resolver<'_>) -> Vec<Diagnostic> {
    let problems = resolver.problems.take();
    if problems.is_empty() {
        return problems;
    }
    let mut secrets: Vec<String> = source_secrets(resolver).finish(&public_names(resolver)).into_iter().collect();
    // A sample's text in its place is what has to be named.
    secrets.retain(|value| !is_placeholder(value));
    // One that begins another one must leave no tail of it.
    secrets.sort_by_key(|value| std::cmp::Reverse(value.len()));
    problems.into_iter().map(|problem| problem.masked(&secrets)).collect()
}

/// The values that are masked wherever they stand.
pub(crate) fn masks(
    resolver: &Resolver<'_>,
    services: &BTreeMap<ServiceId, Arc<ServiceSpec>>,
    volumes: &BTreeMap<VolumeName, VolumeSpec>,
) -> BTreeSet<String> {
    let mut masks = source_secrets(resolver);
    let mut names = public_names(resolver);
    names.extend(volumes.keys().map(VolumeName::as_str));
    for spec in services.values() {
        masks.add_env(&spec.env);
        if let Launch::Recipe(recipe) = &spec.launch {
            masks.add_env(&recipe.settings);
        }
        if let Some(password) = spec.attributes.get("password") {
            masks.add(password);
        }
        names.extend(["user", "database", "host"].iter().filter_map(|key| spec.attributes.get(*key)).map(String::as_str));
    }
    masks.finish(&names)
}
