//! `--debug`, `DEBUG=1`: what was decided before anything is done, and why, on stderr. Names and places only: values may be
//! secrets.

use crate::ui::term::say;
use devrun_config::Facts;
use devrun_model::{Launch, Plan};

use crate::app::project::Project;
use crate::globals::Globals;

/// Whether it was asked for. `DEBUG` is a word of many programs (`DEBUG=express:*`), so only a plain yes counts.
pub fn is_requested(globals: &Globals) -> bool {
    globals.debug || std::env::var("DEBUG").is_ok_and(|value| value == "1" || value == "true")
}

/// Where everything lies.
pub fn project(globals: &Globals, project: &Project) {
    if !is_requested(globals) {
        return;
    }
    for file in &project.files {
        let why = if globals.file.is_empty() { "found from the working directory upward" } else { "named" };
        say(format!("debug: procfile {} ({why})", file.display()));
    }
    let places = &project.places;
    say(format!("debug: state in {}, sockets and short-lived files in {}", places.state.display(), places.run.display()));
    if !project.instance.is_empty() {
        say(format!("debug: instance {}", project.instance));
    }
}

/// What the procfile came to.
pub fn plan(globals: &Globals, facts: &Facts, plan: &Plan) {
    if !is_requested(globals) {
        return;
    }
    let mode = plan.mode.as_ref().map_or_else(|| "no mode".to_owned(), |mode| format!("mode {mode}"));
    say(format!("debug: project {}, {mode}", plan.project));
    for (path, text) in &facts.env_files {
        let there = if text.is_some() { "read" } else { "not there" };
        say(format!("debug: env file {}: {there}", path.display()));
    }
    for ((service, name), port) in &facts.ports {
        say(format!("debug: port {port} was chosen for {service}/{name}"));
    }
    for (name, profiles) in &plan.inactive {
        say(format!("debug: {name} is left out: only in the profiles {}", profiles.join(", ")));
    }
    for spec in plan.services.values() {
        let what = match &spec.launch {
            Launch::Run(command) => format!("runs {:?}", command.argv.first().map_or("", String::as_str)),
            Launch::Recipe(used) => format!("recipe {}", used.recipe.name),
            Launch::External { .. } => "external: probed, never spawned".to_owned(),
            Launch::Work => "a built-in task".to_owned(),
        };
        let waits: Vec<String> =
            spec.depends_on.iter().map(|edge| format!("{} ({})", edge.on, edge.condition.as_str())).collect();
        let waits = if waits.is_empty() { "no dependencies".to_owned() } else { format!("waits for {}", waits.join(", ")) };
        say(format!("debug: {}: {what}, in {}, {waits}", spec.id, spec.dir.display()));
    }
}
