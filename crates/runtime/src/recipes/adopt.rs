//! Data that something else has made: how an engine's folder looks, and what is looked at before it is taken over.

use std::path::Path;

use super::postgres;
use crate::init::{self, Adoption};
use devrun_model::{Failure, FailureKind, RecipeUse, VolumeSpec};

/// Takes over the data in a volume for a service of this recipe; `version` is that of the binaries it will run with.
///
/// # Errors
/// `Task` where there is no such data, `Binary` for another major version, `Elsewhere` while something uses it.
pub fn adopt(volume: &VolumeSpec, recipe: &RecipeUse, version: &str) -> Result<Adoption, Failure> {
    let name = recipe.recipe.name.as_str();
    let secrets: &[&str] = if name == "postgres" { &["password"] } else { &[] };
    init::adopt(volume, name, secrets, |folder| is_data(name, folder), |folder| check(name, folder, version))
}

fn is_data(recipe: &str, folder: &Path) -> bool {
    let any = |wanted: &dyn Fn(&str) -> bool| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).any(|name| wanted(&name))
    };
    match recipe {
        "postgres" => folder.join("PG_VERSION").is_file() && folder.join("global/pg_control").is_file(),
        "redis" | "valkey" => any(&|name| name == "appendonlydir" || name.ends_with(".rdb") || name.ends_with(".aof")),
        // Of the others no more is known than that there is something of nobody's.
        _ => any(&|name| !name.starts_with('.') && name != recipe && name != "lost+found"),
    }
}

/// The version that made the data.
fn check(recipe: &str, folder: &Path, version: &str) -> Result<String, Failure> {
    if recipe != "postgres" {
        return Ok(version.to_owned());
    }
    let file = folder.join("PG_VERSION");
    let made = std::fs::read_to_string(&file)
        .map_err(|error| Failure::new(FailureKind::Task, format!("{} cannot be read: {error}", file.display())))?;
    let (made, ours) = (made.trim().to_owned(), postgres::major(version));
    if made != ours {
        return Err(Failure::new(
            FailureKind::Binary,
            format!("the data in {} was made by postgres {made}, and postgres {version} cannot read it", folder.display()),
        )
        .help(format!("use = \"postgres@{made}\"")));
    }
    let holder = std::fs::read_to_string(folder.join("postmaster.pid")).unwrap_or_default();
    let pid = holder.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).filter(|pid| *pid > 1);
    if let Some(pid) = pid
        && Path::new(&format!("/proc/{pid}")).exists()
    {
        return Err(Failure::new(
            FailureKind::Elsewhere,
            format!("the data in {} is in use by pid {pid}, as its postmaster.pid says", folder.display()),
        )
        .help("stop that server first; where it is none, remove the file postmaster.pid"));
    }
    Ok(made)
}
