//! The environment that a command gets which runs beside the stack or in the place of a service.

use std::collections::BTreeMap;

use devrun_model::{Failure, FailureKind, Launch, Plan, ServiceSpec};
use devrun_runtime::recipes::{TemplateValues, fill_template};

use crate::app::load::Read;

/// The usual variables of one recipe.
///
/// # Errors
/// `Config` where the recipe's own text is wrong.
pub fn exports(spec: &ServiceSpec) -> Result<BTreeMap<String, String>, Failure> {
    let Launch::Recipe(recipe) = &spec.launch else { return Ok(BTreeMap::new()) };
    let values: TemplateValues = spec.attributes.clone();
    let mut env = BTreeMap::new();
    for (name, text) in &recipe.recipe.exports {
        let value = fill_template(text, &values).map_err(|error| {
            Failure::new(FailureKind::Config, format!("recipe {}: exports.{name}: {error}", recipe.recipe.name))
        })?;
        env.insert(name.clone(), value);
    }
    Ok(env)
}

/// What a program that talks to the stack wants: the usual variables of each recipe, and `[env]`.
///
/// # Errors
/// `Config` where a recipe's own text is wrong.
pub fn client(read: &Read) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = all_exports(&read.plan)?;
    env.extend(read.project_env()?);
    Ok(env)
}

/// The usual variables of all recipes. Where two services would give one, the first in order has it.
pub fn all_exports(plan: &Plan) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    for spec in plan.services.values() {
        for (name, value) in exports(spec)? {
            env.entry(name).or_insert(value);
        }
    }
    Ok(env)
}
