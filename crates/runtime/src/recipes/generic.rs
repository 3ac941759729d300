//! Recipes that are data and nothing else: words, variables and files filled in, and a first boot that makes a folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::context::{RecipeContext, tool};
use super::data_dir::engine_dir;
use super::first_boot::{FirstBoot, FirstBootOutcome};
use super::run_as;
use super::template::{TemplateValues, fill_template};
use crate::exec_request::{ExecRequest, rendered};
use crate::init::{self, Sentinel, Staging, VolumeState};
use crate::user;
use devrun_model::{Failure, FailureKind, VolumeSpec};

/// What a recipe's text may name.
pub(super) fn values(context: &RecipeContext<'_>) -> Result<TemplateValues, Failure> {
    let spec = context.spec;
    let recipe = &context.recipe.recipe;
    let mut values = TemplateValues::new();
    values.extend(spec.attributes.iter().map(|(name, value)| (name.clone(), value.clone())));
    values.insert("host".to_owned(), spec.bind.clone());
    if let Some(port) = spec.port() {
        values.insert("port".to_owned(), port.to_string());
        let addr = if spec.bind.contains(':') { format!("[{}]:{port}", spec.bind) } else { format!("{}:{port}", spec.bind) };
        values.insert("addr".to_owned(), addr);
    }
    for (name, port) in &spec.ports {
        values.insert(format!("ports.{name}"), port.to_string());
    }
    for (name, path) in &context.located.tools {
        values.insert(format!("bin.{name}"), text_of(path)?);
    }
    if let Some(server) = recipe.bin.first().and_then(|name| context.located.tools.get(name)) {
        // Servers that bring a tree of files along look for it beside the folder of their binaries.
        let folder = server.parent().unwrap_or(Path::new("/"));
        let home = if folder.ends_with("bin") { folder.parent().unwrap_or(folder) } else { folder };
        values.insert("dir.home".to_owned(), text_of(home)?);
    }
    values.insert("dir.run".to_owned(), text_of(&context.places.service_run(&spec.id))?);
    values.insert("dir.logs".to_owned(), text_of(&context.places.logs())?);
    if let Some(volume) = context.volume {
        values.insert("dir.data".to_owned(), text_of(&engine_dir(volume, &recipe.name))?);
    }
    for (name, value) in &context.recipe.settings {
        values.insert(format!("set.{name}"), value.clone());
    }
    Ok(values)
}

/// Paths stand in argv and in files, so they must be text.
pub(super) fn text_of(path: &Path) -> Result<String, Failure> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(FailureKind::Config, format!("{} is not UTF-8, and a recipe cannot name it", path.display())))
}

fn bad(context: &RecipeContext<'_>, what: &str, why: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("recipe {}, {what}: {why}", context.recipe.recipe.name))
}

/// The recipe's files by path in the service's runtime folder; the user's own `render` replaces and adds.
pub(super) fn files(context: &RecipeContext<'_>, values: &TemplateValues) -> Result<Vec<(PathBuf, String)>, Failure> {
    let run = context.places.service_run(&context.spec.id);
    let mut files = Vec::new();
    for (name, text) in &context.recipe.recipe.render {
        if !context.spec.render.contains_key(name) {
            files.push((run.join(name), fill_template(text, values).map_err(|why| bad(context, name, &why))?));
        }
    }
    files.extend(rendered(context.spec, context.places));
    Ok(files)
}

/// A setting that nothing in the recipe reads would be swallowed in silence.
pub(super) fn check_settings(context: &RecipeContext<'_>) -> Result<(), Failure> {
    let recipe = &context.recipe.recipe;
    let texts: Vec<&String> = recipe.argv.iter().chain(recipe.environment.values()).chain(recipe.render.values()).collect();
    for name in context.recipe.settings.keys() {
        let read = texts.iter().any(|text| ["}", ":-", "|"].iter().any(|end| text.contains(&format!("${{set.{name}{end}"))));
        if !read {
            return Err(
                bad(context, "set", &format!("it has no setting {name:?}")).help("use `render` for a configuration of your own")
            );
        }
    }
    Ok(())
}

/// What to exec, from data alone.
///
/// # Errors
/// `Config` when a placeholder means nothing, `Binary` when an executable is missing.
pub(super) fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    let recipe = &context.recipe.recipe;
    let Some(server) = recipe.bin.first() else {
        return Err(bad(context, "bin", "it names no executable").help("bin = [\"server\"]"));
    };
    check_settings(context)?;
    let values = values(context)?;
    let program = tool(context, server)?.to_owned();
    let mut argv = Vec::with_capacity(recipe.argv.len());
    for word in &recipe.argv {
        argv.push(fill_template(word, &values).map_err(|why| bad(context, "argv", &why))?);
    }
    if argv.is_empty() {
        argv.push(server.clone());
    }
    let mut env = Vec::new();
    for (name, text) in &recipe.environment {
        let value = fill_template(text, &values).map_err(|why| bad(context, name, &why))?;
        // An empty key or token would switch something on that nobody asked for.
        if !value.is_empty() {
            env.push((name.clone(), value));
        }
    }
    let run_as = if recipe.refuses_root { run_as::choose(context.spec, &["nobody"])? } else { user::of(context.spec)? };
    run_as::check_passable(&run_as, context.places, &[program.as_path()])?;
    let own = match context.volume {
        Some(volume) => run_as::own_data(&run_as, context.places, engine_dir(volume, &recipe.name))?,
        None => {
            // Nobody else makes it where no file is rendered.
            let run = context.places.service_run(&context.spec.id);
            super::private_dir::make_private(&run)?;
            run
        }
    };
    // Relative paths in a configuration of the procfile's are meant from the directory of the service. Another user may not pass there.
    let is_configured_here = !context.spec.render.is_empty() && !recipe.refuses_root;
    let dir = if is_configured_here { context.spec.dir.clone() } else { own };
    let mut request = context.request(program, argv, dir, run_as, files(context, &values)?);
    request.env.extend(env);
    Ok(request)
}

/// How long another process that initialises the same volume is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// Takes the volume, waiting for whoever else is initialising it.
///
/// # Errors
/// As `init::open_volume`; `Elsewhere` when the other one does not end.
pub(super) async fn open(volume: &VolumeSpec, recipe: &str) -> Result<Result<Staging, Box<Sentinel>>, Failure> {
    let began = Instant::now();
    loop {
        match init::open_volume(volume, recipe)? {
            VolumeState::Done(sentinel) => return Ok(Err(sentinel)),
            VolumeState::Fresh(stage) => return Ok(Ok(stage)),
            VolumeState::Busy if began.elapsed() > PATIENCE => {
                return Err(Failure::new(
                    FailureKind::Elsewhere,
                    format!("volume {} is being initialised by another process", volume.name),
                )
                .help("devrun ls"));
            }
            VolumeState::Busy => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Commits away from the loop: syncing takes as long as the disk does.
pub(super) async fn commit(stage: Staging, sentinel: Sentinel) -> Result<(), Failure> {
    tokio::task::spawn_blocking(move || stage.commit(&sentinel))
        .await
        .unwrap_or_else(|error| Err(Failure::new(FailureKind::Internal, format!("the commit of a first boot: {error}"))))
}

/// A first boot that makes the engine's empty folder, so that a volume never holds anything without its sentinel.
///
/// # Errors
/// `Task` when the volume is foreign or cannot be written.
pub(super) async fn first_boot(context: &RecipeContext<'_>) -> Result<FirstBoot, Failure> {
    let Some(volume) = context.volume else {
        return Ok(FirstBoot { outcome: FirstBootOutcome::NotNeeded, warnings: Vec::new() });
    };
    let name = &context.recipe.recipe.name;
    let began = Instant::now();
    let stage = match open(volume, name).await? {
        Ok(stage) => stage,
        Err(sentinel) => {
            return Ok(FirstBoot { outcome: FirstBootOutcome::Done { at: sentinel.finished }, warnings: Vec::new() });
        }
    };
    let warnings = stage.warnings.clone();
    let data = stage.path().join("data");
    use std::os::unix::fs::DirBuilderExt as _;
    if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&data) {
        let failure = Failure::new(FailureKind::Task, format!("cannot make {}: {error}", data.display()));
        stage.rollback()?;
        return Err(failure);
    }
    let sentinel = Sentinel::new(&format!("{name}/first-boot"), String::new(), &context.located.version, began.elapsed())?;
    commit(stage, sentinel).await?;
    let took = began.elapsed();
    Ok(FirstBoot { outcome: FirstBootOutcome::Made { took, steps: vec![("commit", took)] }, warnings })
}
