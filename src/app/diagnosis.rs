//! What stands in the way of a start, each finding with its fix.

use serde::Serialize;

use devrun_keeper::cgroup;
use devrun_model::exit;
use devrun_model::{ByteSize, Failure, FailureKind, Launch};
use devrun_runtime::directory_answers;

use crate::app::git_exposure::GitExposure;
use crate::app::load::{self, Project, Read, Wanted};
use crate::app::port_conflicts;
use crate::globals::Globals;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// It works, with less.
    Warn,
    /// A start would fail.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What.
    pub check: String,
    /// How bad.
    pub status: Grade,
    /// What was found.
    pub detail: String,
    /// What to do.
    pub fix: Option<String>,
    /// The exit code it would lead to.
    #[serde(skip)]
    pub code: i32,
}

/// Looks at everything.
///
/// # Errors
/// `Config` when there is no project.
pub fn examine(globals: &Globals) -> Result<Vec<Finding>, Failure> {
    let project = load::project(globals)?;
    let mut out = Vec::new();
    let read = match load::read(globals, &project, &Wanted::look()) {
        Ok(read) => {
            let file = project.files.first().map(|file| file.display().to_string()).unwrap_or_default();
            push(&mut out, "procfile", Grade::Ok, format!("{file} has no errors"), None);
            Some(read)
        }
        Err(failure) => {
            fail(&mut out, "procfile", &failure);
            None
        }
    };
    if let Some(read) = &read {
        binaries(&project, read, &mut out)?;
        listeners(&project, read, &mut out)?;
        in_git(&project, read, &mut out);
    }
    machine(&project, &mut out);
    Ok(out)
}

fn push(out: &mut Vec<Finding>, check: &str, status: Grade, detail: String, fix: Option<&str>) {
    out.push(Finding { check: check.to_owned(), status, detail, fix: fix.map(str::to_owned), code: exit::SERVICE });
}

fn fail(out: &mut Vec<Finding>, check: &str, failure: &Failure) {
    out.push(Finding {
        check: check.to_owned(),
        status: Grade::Fail,
        detail: failure.reason.clone(),
        fix: failure.help.clone(),
        code: exit::of(failure.kind),
    });
}

fn binaries(project: &Project, read: &Read, out: &mut Vec<Finding>) -> Result<(), Failure> {
    let runtime = crate::app::runtime::runtime()?;
    let options = load::fetch_options(project, true, None, std::sync::Arc::new(devrun_store::NoDownloadProgress));
    let mut seen = std::collections::BTreeSet::new();
    for spec in read.plan.services.values().filter(|spec| spec.replica == 1) {
        match &spec.launch {
            Launch::Recipe(recipe) => {
                let label = recipe.version.as_ref().map_or(recipe.recipe.name.clone(), |v| format!("{}@{v}", recipe.recipe.name));
                if !seen.insert(label.clone()) {
                    continue;
                }
                match runtime.block_on(devrun_store::which(recipe, &options)) {
                    Ok(found) => {
                        push(out, &label, Grade::Ok, format!("{} ({}): {}", found.version, found.origin, found.why), None);
                    }
                    Err(failure) => {
                        let grade = if spec.optional { Grade::Warn } else { Grade::Fail };
                        fail(out, &label, &failure);
                        if let Some(last) = out.last_mut() {
                            last.status = grade;
                        }
                    }
                }
            }
            Launch::Run(command) => {
                let Some(first) = command.argv.first() else { continue };
                let answers = directory_answers::check(&spec.dir);
                if let Err(failure) = answers.and_then(|()| devrun_store::find_command(first, &spec.env, &spec.dir)) {
                    fail(out, spec.service.as_str(), &failure);
                    if spec.optional
                        && let Some(last) = out.last_mut()
                    {
                        last.status = Grade::Warn;
                    }
                }
            }
            Launch::External { .. } | Launch::Work => {}
        }
    }
    Ok(())
}

fn listeners(project: &Project, read: &Read, out: &mut Vec<Finding>) -> Result<(), Failure> {
    if load::is_running(&project.places)? {
        push(out, "ports", Grade::Ok, "the stack is up and holds its own".to_owned(), None);
        return Ok(());
    }
    let conflicts = crate::app::runtime::runtime()?.block_on(port_conflicts::each(&read.plan));
    for (id, failure) in &conflicts {
        fail(out, id.as_str(), failure);
    }
    if conflicts.is_empty() {
        push(out, "ports", Grade::Ok, "all are free".to_owned(), None);
    }
    Ok(())
}

/// Secrets that git hands to others, or would with the next `git add`.
fn in_git(project: &Project, read: &Read, out: &mut Vec<Finding>) {
    let Some(exposure) = GitExposure::find(project, read) else { return };
    if !exposure.tracked.is_empty() {
        let fix = format!("git rm --cached {} && add them to .gitignore", exposure.tracked.join(" "));
        push(out, "secrets", Grade::Warn, format!("git tracks {}", exposure.tracked.join(", ")), Some(&fix));
    }
    if !exposure.not_ignored.is_empty() {
        let fix = format!("add to .gitignore: {}", exposure.to_ignore(read, project).join(" "));
        push(out, "secrets", Grade::Warn, format!("git does not ignore {}", exposure.not_ignored.join(", ")), Some(&fix));
    }
    if exposure == GitExposure::default() {
        push(out, "secrets", Grade::Ok, "git tracks none and ignores all".to_owned(), None);
    }
}

/// Locale and time zone, as services inherit them.
fn language(out: &mut Vec<Finding>) {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    // In this order, as setlocale(3) takes them.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| Some((name, variable(name)?)));
    match locale {
        Some((name, value)) if value.to_ascii_lowercase().replace('-', "").contains("utf8") => {
            push(out, "locale", Grade::Ok, format!("{name}={value}"), None);
        }
        Some((name, value)) => {
            let fix = Some("export LC_ALL=C.UTF-8");
            push(
                out,
                "locale",
                Grade::Warn,
                format!("{name}={value} is not UTF-8: programs may refuse other than ASCII text"),
                fix,
            );
        }
        None => push(out, "locale", Grade::Ok, "none is set: programs take C, or UTF-8 by themselves".to_owned(), None),
    }
    if let Ok(zone) = jiff::tz::TimeZone::try_system() {
        return push(out, "time zone", Grade::Ok, zone.iana_name().unwrap_or("one without a name").to_owned(), None);
    }
    let wanted = variable("TZ").map_or_else(|| "it is unknown here".to_owned(), |zone| format!("TZ={zone} is unknown here"));
    push(
        out,
        "time zone",
        Grade::Warn,
        format!("{wanted}: times are UTC"),
        Some("install tzdata, or set TZ to a zone that is there, such as Europe/Berlin"),
    );
}

fn machine(project: &Project, out: &mut Vec<Finding>) {
    let free = rustix::fs::statvfs(&project.root).map(|fs| fs.f_bavail * fs.f_frsize);
    match free {
        Ok(bytes) if bytes < 1 << 30 => {
            push(out, "disk", Grade::Warn, format!("{} left", ByteSize(bytes)), Some("make room: devrun df shows what is ours"));
        }
        Ok(bytes) => push(out, "disk", Grade::Ok, format!("{} left", ByteSize(bytes)), None),
        Err(error) => push(out, "disk", Grade::Warn, format!("cannot be asked: {error}"), None),
    }
    if let Ok(text) = std::fs::read_to_string("/proc/meminfo")
        && let Some(kilobytes) = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))
        && let Some(kilobytes) = kilobytes.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok())
    {
        let grade = if kilobytes < 512 * 1024 { Grade::Warn } else { Grade::Ok };
        push(out, "memory", grade, format!("{} available", ByteSize(kilobytes * 1024)), None);
    }
    if let Ok((soft, hard)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        let grade = if hard < 4096 { Grade::Warn } else { Grade::Ok };
        let fix = (hard < 4096).then_some("raise it: ulimit -Hn, or /etc/security/limits.conf");
        push(out, "open files", grade, format!("{soft} (at most {hard})"), fix);
    }
    language(out);
    if cfg!(target_os = "linux") {
        // Where a keeper would make its folder: on a hybrid system version 2 is mounted beside the old hierarchies.
        let folder = cgroup::parent().ok();
        let writable =
            folder.as_ref().is_some_and(|folder| nix::unistd::access(folder.as_path(), nix::unistd::AccessFlags::W_OK).is_ok());
        match (folder.is_some(), writable) {
            (true, true) => push(out, "cgroups", Grade::Ok, "version 2, can be used".to_owned(), None),
            (true, false) => push(
                out,
                "cgroups",
                Grade::Warn,
                "version 2, not writable: processes are identified by session, lock and marks".to_owned(),
                Some("optional: run under systemd with Delegate=yes"),
            ),
            (false, _) => {
                push(
                    out,
                    "cgroups",
                    Grade::Warn,
                    "no version 2: processes are identified by session, lock and marks".to_owned(),
                    None,
                );
            }
        }
    }
    for folder in [&project.root, &project.places.state] {
        if folder.exists()
            && let Err(error) = nix::unistd::access(folder.as_path(), nix::unistd::AccessFlags::W_OK)
        {
            let failure = Failure::new(FailureKind::Config, format!("{} cannot be written to: {error}", folder.display()))
                .help("chown it, or choose another place with --state-dir DIR");
            fail(out, "permissions", &failure);
        }
    }
    if nix::unistd::geteuid().is_root() {
        let fix = "run devrun as an ordinary user where you can";
        push(out, "user", Grade::Warn, "root: services run as root too, unless user_id says otherwise".to_owned(), Some(fix));
    }
}
