//! A server of Java that reads one file of settings: everything in `set` with a dot in its name is a line of it.

use super::context::RecipeContext;
use super::generic;
use crate::exec_request::ExecRequest;
use devrun_model::{Failure, FailureKind};

/// The file, and which settings are not lines of it.
pub(super) struct PropertiesFile {
    /// Its name in the run directory.
    pub name: &'static str,
    /// Settings that the recipe has a placeholder for.
    pub own: &'static [&'static str],
    /// Settings that a key of the procfile stands for, and that key.
    pub taken: &'static [(&'static str, &'static str)],
    /// The help line for a setting that it cannot have.
    pub example: &'static str,
    /// A line of it from a name and a value.
    pub line: fn(&str, &str) -> String,
}

/// `name=value`.
pub(super) fn java_line(name: &str, value: &str) -> String {
    format!("{name}={}\n", value.replace('\\', "\\\\"))
}

/// `name: value`, quoted unless it is a bare word or number.
pub(super) fn yaml_line(name: &str, value: &str) -> String {
    let is_bare = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._%-".contains(&byte));
    let value = if is_bare { value.to_owned() } else { serde_json::Value::String(value.to_owned()).to_string() };
    format!("{name}: {value}\n")
}

/// What to exec, with the settings at the end of the file.
///
/// # Errors
/// As `generic::prepare`; `Config` for a setting that belongs to a key of the procfile, or that is not a name of one.
pub(super) fn prepare(context: &RecipeContext<'_>, file: &PropertiesFile) -> Result<ExecRequest, Failure> {
    let lines = lines(context, file)?;
    // The generic check knows only the placeholders of the data file.
    let mut recipe = context.recipe.clone();
    recipe.settings.retain(|name, _| file.own.contains(&name.as_str()));
    let context = RecipeContext { recipe: &recipe, ..*context };
    let mut request = generic::prepare(&context)?;
    let path = context.places.service_run(&context.spec.id).join(file.name);
    // A configuration of the user's own, given by `render` or `files`, stands as it is.
    if !context.spec.render.contains_key(file.name)
        && let Some((_, text)) = request.files.iter_mut().find(|(known, _)| *known == path)
    {
        text.push_str(&lines);
    }
    Ok(request)
}

/// Everything in `set` that is a setting of the server's own; a later line wins over an earlier one.
fn lines(context: &RecipeContext<'_>, file: &PropertiesFile) -> Result<String, Failure> {
    let mut lines = String::new();
    for (name, value) in context.recipe.settings.iter().filter(|(name, _)| !file.own.contains(&name.as_str())) {
        if let Some((_, key)) = file.taken.iter().find(|(taken, _)| taken == name) {
            return Err(Failure::new(FailureKind::Config, format!("set.{name:?} belongs to {key}"))
                .help(format!("use `render` for a {} of your own", file.name)));
        }
        let plain = name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !plain || value.contains(['\n', '\r']) {
            return Err(Failure::new(FailureKind::Config, format!("unknown {} setting {name:?}", context.recipe.recipe.name))
                .help(file.example));
        }
        lines.push_str(&(file.line)(name, value));
    }
    Ok(lines)
}
