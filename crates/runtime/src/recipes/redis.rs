//! Redis and Valkey: everything goes into a configuration file of mode 0600, so that no password stands on a command line.

use std::path::Path;

use super::recipe::{Recipe, RecipeFuture, contains};
use std::path::PathBuf;

use super::context::{RecipeContext, tool};
use super::data_dir::engine_dir;
use super::generic::{files, text_of, values};
use super::lost_data;
use super::password_rotation::RotationRequest;
use super::run_as;
use super::template::redis_word;
use crate::exec_request::ExecRequest;
use crate::{probe, runtime_dir, user};
use devrun_model::ready::Endpoint;
use devrun_model::{Failure, FailureKind, Launch, Paths, RecipeUse, ServiceSpec, VolumeSpec};

/// Redis and Valkey: the configuration is written with the settings of `set`.
pub(super) struct Redis;

impl Recipe for Redis {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        prepare(context)
    }
    fn rotate_password<'a>(&'a self, request: RotationRequest<'a>) -> RecipeFuture<'a, bool> {
        Box::pin(async move { rotate_password(request).await.map(|()| true) })
    }
    fn cannot_save(&self, pid: i32, folder: &Path) -> bool {
        lost_data::is_gone(pid, folder)
    }
    fn end_without_saving<'a>(&'a self, spec: &'a ServiceSpec) -> RecipeFuture<'a, ()> {
        Box::pin(end_without_saving(spec))
    }
    fn is_data(&self, _name: &str, folder: &Path) -> bool {
        contains(folder, |name| name == "appendonlydir" || name.ends_with(".rdb") || name.ends_with(".aof"))
    }
}

const FILE: &str = "redis.conf";

/// Directives that belong to keys of the procfile, and the key.
const TAKEN: &[(&str, &str)] = &[
    ("port", "port"),
    ("bind", "bind"),
    ("dir", "data"),
    ("requirepass", "password"),
    ("daemonize", "nothing: it must stay in the foreground"),
    ("supervised", "nothing: it must stay in the foreground"),
];

/// What to exec.
///
/// # Errors
/// `Config` for a setting that is not to be set, `Binary` when the server is missing.
fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    let name = context.recipe.recipe.bin.first().map_or("redis-server", String::as_str);
    let program = tool(context, name)?.to_owned();
    let run = context.places.service_run(&context.spec.id);
    let file = run.join(FILE);
    let mut files = files(context, &values(context)?)?;
    // A configuration of the user's own, given by `render`, stands as it is.
    if !files.iter().any(|(path, _)| *path == file) {
        files.push((file.clone(), configuration(context.spec, context.recipe, context.volume, context.places)?));
    }
    let run_as = user::of(context.spec)?;
    run_as::check_passable(&run_as, context.places, &[&program])?;
    let dir: PathBuf = match context.volume {
        Some(volume) => run_as::own_data(&run_as, context.places, engine_dir(volume, &context.recipe.recipe.name))?,
        None => run,
    };
    Ok(context.request(program, vec![name.to_owned(), text_of(&file)?], dir, run_as, files))
}

/// TERM makes a server with save points write a snapshot first, and one that cannot write it stays up
/// (<https://redis.io/docs/latest/operate/oss_and_stack/reference/signals/>).
///
/// # Errors
/// `Task` when it does not take the command.
async fn end_without_saving(spec: &ServiceSpec) -> Result<(), Failure> {
    let port = spec.port().ok_or_else(|| Failure::new(FailureKind::Task, "it has no port"))?;
    let at = Endpoint { host: spec.bind.clone(), port };
    let (user, password) = (spec.attribute("user"), spec.attribute("password"));
    // It closes the connection in the place of an answer; whether it has ended is seen by its process.
    probe::redis_ask(&at, user.as_deref(), password.as_deref(), &["SHUTDOWN", "NOSAVE"])
        .await
        .map(drop)
        .or_else(|error| if error.answer.contains("closed without an answer") { Ok(()) } else { Err(error) })
        .map_err(|error| Failure::new(FailureKind::Task, error.answer))
}

/// Gives a running server its new password, and writes its configuration file anew, so that the two agree.
///
/// # Errors
/// `Task` when it does not take it.
async fn rotate_password(RotationRequest { old, new, places, volume }: RotationRequest<'_>) -> Result<(), Failure> {
    let Launch::Recipe(recipe) = &new.launch else {
        return Err(Failure::new(FailureKind::Internal, "a redis without a recipe"));
    };
    let port = old.port().ok_or_else(|| Failure::new(FailureKind::Task, "it has no port"))?;
    let (user, before) = (old.attribute("user"), old.attribute("password"));
    let after = new.attribute("password").ok_or_else(|| Failure::new(FailureKind::Config, "the new password is empty"))?;
    let text = configuration(new, recipe, volume, places)?;
    let at = Endpoint { host: old.bind.clone(), port };
    probe::redis_renew(&at, user.as_deref(), before.as_deref(), &after)
        .await
        .map_err(|miss| Failure::new(FailureKind::Task, miss.answer))?;
    let file = places.service_run(&new.id).join(FILE);
    runtime_dir::write_private(&file, text.as_bytes())
        .map_err(|error| Failure::new(FailureKind::Task, format!("{} cannot be written: {error}", file.display())))
}

fn configuration(spec: &ServiceSpec, recipe: &RecipeUse, volume: Option<&VolumeSpec>, places: &Paths) -> Result<String, Failure> {
    let mut lines = vec!["# Written by devrun before each start.".to_owned()];
    let mut line = |name: &str, words: &[&str]| {
        let words: Vec<_> = words.iter().map(|word| redis_word(word)).collect();
        lines.push(format!("{name} {}", words.join(" ")));
    };
    line("bind", &[&spec.bind]);
    line("port", &[&spec.port().unwrap_or(6379).to_string()]);
    line("daemonize", &["no"]);
    match volume {
        Some(volume) => line("dir", &[&text_of(&engine_dir(volume, &recipe.recipe.name))?]),
        None => {
            // Without a volume there is nowhere to save to.
            line("dir", &[&text_of(&places.service_run(&spec.id))?]);
            line("save", &[""]);
        }
    }
    if let Some(password) = spec.attribute("password") {
        if password.contains('\0') {
            return Err(Failure::new(FailureKind::Config, "the password holds a NUL byte"));
        }
        line("requirepass", &[&password]);
        if let Some(user) = spec.attribute("user").filter(|user| user != "default") {
            line("user", &[&user, "on", &format!(">{password}"), "~*", "&*", "+@all"]);
        }
    }
    for (name, value) in &recipe.settings {
        if let Some((_, key)) = TAKEN.iter().find(|(taken, _)| taken.eq_ignore_ascii_case(name)) {
            return Err(Failure::new(FailureKind::Config, format!("set.{name} belongs to {key}")));
        }
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Err(Failure::new(FailureKind::Config, format!("unknown redis directive {name:?}")));
        }
        let words: Vec<&str> = value.split_whitespace().collect();
        line(name, if words.is_empty() { &[""] } else { &words });
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}
