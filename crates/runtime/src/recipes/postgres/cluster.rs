//! The empty cluster: made by `initdb`, or copied from an earlier one of the same binary.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::context::{RecipeContext, tool};
use super::super::generic::text_of;
use super::super::output_tail::last_lines;
use super::super::run_as;
use super::boot_progress::{StepTimes, say};
use super::invoke::major;
use crate::init;
use devrun_keeper::{CommandRequest, CommandResult};
use devrun_model::keeper::{Role, RunAs};
use devrun_model::{Failure, FailureKind, RecipeUse};

/// `initdb` takes a second; a busy machine with a slow disk takes some.
const LONGEST: Duration = Duration::from_secs(300);

/// The environment of init steps: nothing of the user's locale, as an unknown one ends `initdb`.
pub(super) fn environment(context: &RecipeContext<'_>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = ["PATH", "HOME", "TMPDIR"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), context.spec.env.get(*name)?.clone())))
        .collect();
    env.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    env.insert("LC_ALL".to_owned(), "C".to_owned());
    env.insert("TZ".to_owned(), "UTC".to_owned());
    env.extend(context.located.env.clone());
    env
}

/// Which characters `upper`, `ILIKE` and regular expressions know (LC_CTYPE). Sorting is by bytes in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CharacterSet {
    /// All of Unicode: `C.UTF-8`.
    Unicode,
    /// ASCII alone: where the system has no locale `C.UTF-8` and the server no built-in one.
    Ascii,
}

/// `initdb`'s arguments but for its folder and its password file.
pub(super) fn arguments(version: &str, recipe: &RecipeUse, characters: CharacterSet) -> Vec<String> {
    let number: u32 = major(version).split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let encoding = recipe.encoding.as_deref().unwrap_or("UTF8");
    let mut words: Vec<String> =
        ["-U", "postgres", "--auth-host=scram-sha-256", "--auth-local=trust", "-E", encoding].map(str::to_owned).to_vec();
    let is_unicode = ["utf8", "utf-8", "unicode"].iter().any(|name| encoding.eq_ignore_ascii_case(name));
    match &recipe.locale {
        Some(locale) => {
            words.push(format!("--locale={locale}"));
            // The provider that knows the locales of the system, whatever a build prefers.
            if number >= 15 {
                words.push("--locale-provider=libc".to_owned());
            }
        }
        None if !is_unicode || (number < 17 && characters == CharacterSet::Ascii) => words.push("--no-locale".to_owned()),
        None if number >= 17 => {
            words.extend(["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"].map(str::to_owned));
        }
        None => words.extend(["--locale=C", "--lc-ctype=C.UTF-8"].map(str::to_owned)),
    }
    words.push("--no-sync".to_owned());
    if number >= 14 {
        words.push("--no-instructions".to_owned());
    }
    words
}

/// Makes `<stage>/data`. Its superuser has a throw-away password, which the private server replaces. Returns the copy
/// into the cache that is still being made durable, if any.
pub(super) async fn make(
    context: &RecipeContext<'_>,
    stage: &Path,
    run_as: &RunAs,
    steps: &mut StepTimes,
) -> Result<Option<tokio::task::JoinHandle<()>>, Failure> {
    let data = stage.join("data");
    let key = if context.recipe.init_cache { key(context, run_as).await } else { None };
    let cache = init::cache_folder(&context.spec.env).zip(key);
    steps.done("key of the warm cache");
    if let Some((folder, key)) = &cache
        && let Some(entry) = init::find_cached(folder, key)
    {
        let (from, to) = (entry.join("data"), data.clone());
        let copied = tokio::task::spawn_blocking(move || init::copy_tree(&from, &to)).await;
        if matches!(copied, Ok(Ok(()))) {
            run_as::hand_over(run_as, &data)?;
            steps.done("copy of the warm cache");
            return Ok(None);
        }
        // A cache that cannot be read is no reason to fail; what it left is in the way of initdb.
        if data.exists() {
            std::fs::remove_dir_all(&data).map_err(|error| failed("remove", &data, &error))?;
        }
    }
    std::fs::DirBuilder::new().mode(0o700).create(&data).map_err(|error| failed("make", &data, &error))?;
    let password = stage.join("password");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&password)
        .map_err(|error| failed("write", &password, &error))?;
    let throw_away = format!("{}{}", init::nonce()?, init::nonce()?);
    file.write_all(throw_away.as_bytes()).map_err(|error| failed("write", &password, &error))?;
    drop(file);
    run_as::hand_over(run_as, &data)?;
    run_as::hand_over(run_as, &password)?;
    initdb(context, &data, &password, run_as).await?;
    std::fs::remove_file(&password).map_err(|error| failed("remove", &password, &error))?;
    steps.done("initdb");
    let Some((folder, key)) = cache else { return Ok(None) };
    let copied = tokio::task::spawn_blocking(move || {
        let draft = init::create_draft(&folder, &key).ok()?;
        match init::copy_tree(&data, &draft.path().join("data")) {
            Ok(()) => Some(draft),
            Err(_) => {
                draft.discard();
                None
            }
        }
    })
    .await;
    steps.done("copy into the warm cache");
    // Durable while the private server works; a cache that cannot be published is no failure.
    Ok(match copied {
        Ok(Some(draft)) => Some(tokio::task::spawn_blocking(move || {
            let _ = draft.publish();
        })),
        _ => None,
    })
}

/// Runs `initdb`, once more without `C.UTF-8` where the system does not have that locale. It removes what it made when it fails.
async fn initdb(context: &RecipeContext<'_>, data: &Path, password: &Path, run_as: &RunAs) -> Result<(), Failure> {
    let mut finished = run_initdb(context, data, password, run_as, CharacterSet::Unicode).await?;
    let is_unknown = |finished: &CommandResult| {
        let tail = String::from_utf8_lossy(&finished.tail);
        !finished.status.success() && ["invalid locale", "locale name"].iter().any(|words| tail.contains(words))
    };
    if let Some(encoding) = &context.recipe.encoding
        && !finished.status.success()
        && let Some(failure) = refused_encoding(encoding, &String::from_utf8_lossy(&finished.tail))
    {
        return Err(failure);
    }
    if let Some(locale) = context.recipe.locale.as_ref().filter(|_| is_unknown(&finished)) {
        return Err(Failure::new(
            FailureKind::Config,
            format!("this system has no locale {locale}: {}", last_lines(&finished.tail)),
        )
        .help("`locale -a` lists those that are there; locale-gen (Debian) or localedef makes others"));
    }
    if is_unknown(&finished) {
        say(context, "this system has no locale C.UTF-8: upper(), lower() and ILIKE know ASCII letters only");
        finished = run_initdb(context, data, password, run_as, CharacterSet::Ascii).await?;
    }
    if finished.status.success() && !finished.timed_out {
        return Ok(());
    }
    let how =
        if finished.timed_out { format!("still running after {}s", LONGEST.as_secs()) } else { finished.status.to_string() };
    Err(Failure::new(FailureKind::Task, format!("initdb: {how}: {}", last_lines(&finished.tail)))
        .help(format!("devrun logs {}", context.spec.service)))
}

/// What `initdb` says of an encoding that it does not know, or that is none of a server's (`BIG5` is for clients).
fn refused_encoding(encoding: &str, tail: &str) -> Option<Failure> {
    // `"X" is not a valid server encoding name`, of PostgreSQL 10 to 18.
    tail.contains("is not a valid server encoding name").then(|| {
        Failure::new(FailureKind::Config, format!("invalid encoding {encoding}: not an encoding of a PostgreSQL server"))
            .help("UTF8, LATIN1, or another one of https://www.postgresql.org/docs/current/multibyte.html")
    })
}

async fn run_initdb(
    context: &RecipeContext<'_>,
    data: &Path,
    password: &Path,
    run_as: &RunAs,
    characters: CharacterSet,
) -> Result<CommandResult, Failure> {
    let program = tool(context, "initdb")?.to_owned();
    let mut argv = vec![text_of(&program)?, "-D".to_owned(), text_of(data)?, format!("--pwfile={}", text_of(password)?)];
    argv.extend(arguments(&context.located.version, context.recipe, characters));
    context
        .runner
        .run(CommandRequest {
            role: Role::Init,
            program,
            argv,
            env: environment(context),
            dir: data.to_owned(),
            run_as: run_as.clone(),
            timeout: LONGEST,
        })
        .await
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Task, format!("cannot {what} {}: {error}", path.display()))
}

/// What a cached cluster must have been made by, and with.
async fn key(context: &RecipeContext<'_>, run_as: &RunAs) -> Option<String> {
    let binaries: Vec<PathBuf> =
        ["postgres", "initdb"].iter().filter_map(|name| context.located.tools.get(*name).cloned()).collect();
    let mut words = arguments(&context.located.version, context.recipe, CharacterSet::Unicode);
    words.push(context.located.version.clone());
    words.push(std::env::consts::ARCH.to_owned());
    words.push(format!("{run_as:?}"));
    let hash = tokio::task::spawn_blocking(move || init::hash_inputs(&words, &binaries)).await.ok()?;
    Some(format!("postgres-{}-{}", major(&context.located.version), hash.get(..32)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::RecipeBook as _;

    #[test]
    fn an_encoding_that_the_server_does_not_know_is_named() {
        let tail = "initdb: error: \"nonsense\" is not a valid server encoding name\n";
        let failure = refused_encoding("nonsense", tail).unwrap();
        assert_eq!(failure.kind, FailureKind::Config);
        assert_eq!(failure.reason, "invalid encoding nonsense: not an encoding of a PostgreSQL server");
        assert_eq!(refused_encoding("UTF8", "initdb: error: could not create directory"), None);
    }

    #[test]
    fn arguments_follow_the_version_and_the_keys() {
        let recipe = |locale: Option<&str>, encoding: Option<&str>| RecipeUse {
            recipe: super::super::super::RecipeRegistry::new().find("postgres").unwrap().clone(),
            version: None,
            settings: BTreeMap::new(),
            init: Vec::new(),
            extensions: Vec::new(),
            locale: locale.map(str::to_owned),
            encoding: encoding.map(str::to_owned),
            migrations: None,
            source: None,
            init_cache: true,
            gateway: None,
        };
        let text =
            |version: &str, locale, encoding, characters| arguments(version, &recipe(locale, encoding), characters).join(" ");
        let usual = |version: &str, characters| text(version, None, None, characters);
        insta::assert_snapshot!(usual("18.4", CharacterSet::Unicode), @"-U postgres --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 --no-sync --no-instructions");
        insta::assert_snapshot!(usual("15.20", CharacterSet::Unicode), @"-U postgres --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --locale=C --lc-ctype=C.UTF-8 --no-sync --no-instructions");
        insta::assert_snapshot!(usual("15.20", CharacterSet::Ascii), @"-U postgres --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --no-locale --no-sync --no-instructions");
        insta::assert_snapshot!(text("18.4", Some("de_DE.UTF-8"), None, CharacterSet::Unicode), @"-U postgres --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --locale=de_DE.UTF-8 --locale-provider=libc --no-sync --no-instructions");
        insta::assert_snapshot!(text("14.9", Some("C"), Some("LATIN1"), CharacterSet::Unicode), @"-U postgres --auth-host=scram-sha-256 --auth-local=trust -E LATIN1 --locale=C --no-sync --no-instructions");
        insta::assert_snapshot!(text("18.4", None, Some("LATIN1"), CharacterSet::Unicode), @"-U postgres --auth-host=scram-sha-256 --auth-local=trust -E LATIN1 --no-locale --no-sync --no-instructions");
    }
}
