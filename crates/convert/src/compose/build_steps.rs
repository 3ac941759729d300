//! The `RUN` lines of a Dockerfile that make the program → a proposed `build`.
//!
//! What installs packages of a distribution or makes users belongs to the image and is left out. A file that another stage
//! makes lies where its build put it: below the build's folder.

use std::path::{Path, PathBuf};

use super::super::report::{At, PROPOSED, shorten};
use super::super::toml_writer::{Section, Toml};
use super::dockerfile::Dockerfile;
use super::draft::{Draft, NativeKind};
use super::importer::{Importer, relative};
use super::load;

/// The first words of commands that make a program out of the files of a project.
const BUILDERS: &[&str] = &[
    "pip", "pip3", "uv", "poetry", "pipenv", "npm", "pnpm", "yarn", "bun", "npx", "bundle", "go", "cargo", "mvn", "mvnw",
    "gradle", "gradlew", "dotnet", "composer", "mix", "make", "sbt", "tsc", "rake", "rails", "deno",
];

/// Directories that every image has.
const SYSTEM_DIRECTORIES: &[&str] = &[
    "/usr/local/bin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/bin",
    "/sbin",
    "/etc",
    "/opt",
    "/srv",
    "/tmp",
    "/root",
    "/home",
];

/// Says what the image's build did, and proposes what does it here.
pub(super) fn build(importer: &mut Importer<'_>, draft: &Draft, at: At, section: &mut Section) {
    let what = draft.what("build");
    // A server has no directory of its own: what it serves is built from the procfile's.
    let (file, dir) = match &draft.kind {
        NativeKind::Run { dockerfile: Some(file), .. } => (file, draft.dir.clone()),
        NativeKind::Recipe { from: Some(file), .. } => (file, importer.root.to_path_buf()),
        _ => {
            importer.report.dropped(at, what, "images are not built; `build` takes a command that `devrun build` runs");
            return;
        }
    };
    if let Some(user) = &file.user {
        importer.report.dropped(
            at,
            draft.what("build.user"),
            format!("USER {user}: programs run as you; as root, `user_id` takes a user of this machine"),
        );
    }
    let context = draft.context.clone().unwrap_or_else(|| draft.dir.clone());
    let mut lines = Vec::new();
    for (stage, _) in used_stages(file) {
        collect(stage, &context, &dir, &mut lines);
    }
    collect(file, &context, &dir, &mut lines);
    // A pattern names no one file: it is given the name that the image gave it.
    for (_, from, to) in file.carried.iter().filter(|(_, from, _)| from.contains('*')) {
        let name = to.rsplit('/').next().unwrap_or(to);
        if !name.is_empty() && name.contains('.') && !lines.is_empty() {
            lines.push(format!(
                "cp {} {name}",
                from.trim_start_matches('/').split_once('/').map_or(from.as_str(), |(_, tail)| tail)
            ));
        }
    }
    let mut source = "the RUN lines of its Dockerfile";
    let mut seen = Vec::new();
    lines.retain(|line| {
        let new = !seen.contains(line);
        seen.push(line.clone());
        new
    });
    if lines.is_empty()
        && matches!(draft.kind, NativeKind::Run { .. })
        && let Some(command) = super::jar_images::build(file, &context, importer.read)
    {
        let here = relative(&dir, &context);
        lines.push(if here == "." || here.is_empty() { command } else { format!("(cd {here} && {command})") });
        source = "the jar that its Dockerfile copies";
    }
    if matches!(draft.kind, NativeKind::Recipe { .. }) {
        let left: Vec<String> = file.steps.iter().filter_map(|(_, line)| left_of(line)).collect();
        if !left.is_empty() {
            let text = format!("its Dockerfile runs `{}`: what that adds to the server is not here", shorten(&left.join(" && ")));
            importer.report.not_mapped(at, what.clone(), text);
        }
    }
    if lines.is_empty() {
        importer.report.dropped(at, what, "images are not built; `build` takes a command that `devrun build` runs");
        return;
    }
    let command = lines.join(" && ");
    let text =
        format!("{PROPOSED}{source}: build = {}; look at it, then `devrun build` runs it", shorten(&Toml::text(&command).line()));
    importer.report.mapped(at, what, text);
    section.set("build", Toml::text(command.replace('$', "$$")));
}

/// What a `RUN` line of a server's image does beyond tidying up; nothing where that is all.
fn left_of(line: &str) -> Option<String> {
    const TIDY: &[&str] = &[
        "rm",
        "mkdir",
        "chmod",
        "chown",
        "ln",
        "touch",
        "set",
        "echo",
        "true",
        "cd",
        "update-ca-certificates",
        "sed",
        "cp",
        "mv",
    ];
    let updates = |part: &str| part.contains("apt-get update") || part.contains("apt-get clean") || part.contains("apk update");
    let left: Vec<String> = parts(line)
        .into_iter()
        .filter(|part| {
            let first = part.split_whitespace().next().unwrap_or_default();
            !TIDY.contains(&first.rsplit('/').next().unwrap_or(first)) && !updates(part)
        })
        // Those are proposed as `build`.
        .filter(|part| !BUILDERS.iter().any(|builder| part.split_whitespace().next() == Some(builder)))
        .collect();
    (!left.is_empty()).then(|| left.join(" && "))
}

/// The stages that the last one takes files from, and those that these take files from, in their order.
fn used_stages(file: &Dockerfile) -> Vec<(&Dockerfile, String)> {
    let mut wanted: Vec<&str> = file.carried.iter().map(|(stage, ..)| stage.as_str()).collect();
    let mut at = 0;
    while let Some(name) = wanted.get(at).copied() {
        if let Some((_, stage)) = file.stages.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            for (more, ..) in &stage.carried {
                if !wanted.contains(&more.as_str()) {
                    wanted.push(more);
                }
            }
        }
        at += 1;
    }
    let used = |name: &str| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
    file.stages.iter().filter(|(name, _)| used(name)).map(|(name, stage)| (stage, name.clone())).collect()
}

/// Where a folder of a stage is here.
pub(super) fn folder_of(stage: &Dockerfile, inside: &str, context: &Path) -> PathBuf {
    let inside = inside.trim_end_matches('/');
    let mut best: Option<(usize, PathBuf)> = None;
    for (from, to) in &stage.copies {
        let to = to.trim_end_matches('/');
        if from.contains(['*', '$', ':']) || is_file(from) {
            continue;
        }
        if let Some(rest) = inside.strip_prefix(to).filter(|rest| rest.is_empty() || rest.starts_with('/'))
            && best.as_ref().is_none_or(|(length, _)| to.len() > *length)
        {
            let source = load::join(context, from.trim_start_matches('/'));
            best = Some((to.len(), load::join(&source, rest.trim_start_matches('/'))));
        }
    }
    let workdir = stage.workdir.as_deref().unwrap_or("/").trim_end_matches('/');
    best.map(|(_, path)| path).unwrap_or_else(|| {
        let rest = inside.strip_prefix(workdir).unwrap_or_default();
        load::join(context, rest.trim_start_matches('/'))
    })
}

/// Whether a path of a Dockerfile names a file: by its ending, or by a name that is one without an ending.
pub(super) fn is_file(path: &str) -> bool {
    let Some(name) = path.rsplit('/').next() else { return false };
    let known = matches!(name, "gradlew" | "mvnw" | "artisan" | "LICENSE" | "README" | "VERSION")
        // Gemfile, Pipfile, Makefile, Rakefile, Procfile, …
        || name.ends_with("file") && name.starts_with(|char: char| char.is_ascii_uppercase());
    known || name.contains('.') && !matches!(name, "." | "..")
}

/// The steps of one stage that build something.
fn collect(stage: &Dockerfile, context: &Path, dir: &Path, out: &mut Vec<String>) {
    for (workdir, line) in &stage.steps {
        let mut folder = workdir.clone();
        for part in parts(line) {
            let words = shell_words::split(&part).unwrap_or_else(|_| part.split_whitespace().map(str::to_owned).collect());
            if let [cd, to] = words.as_slice()
                && cd == "cd"
            {
                folder = Path::new(&folder).join(to).display().to_string();
                continue;
            }
            let Some(command) = step(stage, &part, &words) else { continue };
            let here = relative(dir, &folder_of(stage, &folder, context));
            out.push(if here == "." || here.is_empty() { command } else { format!("(cd {here} && {command})") });
        }
    }
}

/// The commands of a line.
fn parts(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match (quote, char) {
            (None, '"' | '\'') => quote = Some(char),
            (Some(open), _) if open == char => quote = None,
            (None, '&') if chars.peek() == Some(&'&') => {
                let _second = chars.next();
                parts.push(String::new());
                continue;
            }
            (None, ';') => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(char);
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// One command, as it does the same here; nothing where it belongs to the image.
fn step(stage: &Dockerfile, part: &str, words: &[String]) -> Option<String> {
    if part.contains(['|', '`', '<', '>', '(', ')']) {
        return None;
    }
    let assigned = words
        .iter()
        .take_while(|word| {
            word.split_once('=').is_some_and(|(name, _)| name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_'))
        })
        .count();
    let (variables, rest) = words.split_at(assigned);
    let first = rest.first()?;
    let program = first.rsplit('/').next().unwrap_or(first);
    let python = matches!(program, "python" | "python3");
    let module = python
        && rest.get(1).is_some_and(|word| word == "-m")
        && rest.get(2).is_some_and(|word| matches!(word.as_str(), "pip" | "uv" | "poetry"));
    let manage = python && rest.iter().any(|word| word == "manage.py");
    if !(BUILDERS.contains(&program) || module || manage) {
        return None;
    }
    let rest: Vec<String> = rest.iter().skip(if module { 2 } else { 0 }).cloned().collect();
    let program = if module { rest.first()?.as_str() } else { program };
    let has = |word: &str| rest.iter().any(|known| known == word);
    let global = has("-g") || has("--global");
    match program {
        "npm" | "pnpm" | "yarn" if global || has("config") || has("cache") => return None,
        "pip" | "pip3" => return pip(stage, &rest),
        "npm" | "go" | "cargo" if rest.len() == 1 => return None,
        "go" if has("env") || has("clean") => return None,
        _ => {}
    }
    let mut out: Vec<String> = variables
        .iter()
        // The machine's own system is the one to build for.
        .filter(|pair| !pair.starts_with("GOOS=") && !pair.starts_with("GOARCH=") && !pair.starts_with("DEBIAN_FRONTEND="))
        .cloned()
        .collect();
    let mut before = "";
    for word in &rest {
        out.push(local_word(stage, word, before));
        before = word;
    }
    let assigned = out.iter().take_while(|word| variables.contains(word)).count();
    let (variables, words) = out.split_at(assigned);
    // A variable in quotes would be a program's name.
    let variables = variables.iter().map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        format!("{name}={} ", shell_words::quote(value))
    });
    Some(format!("{}{}", variables.collect::<String>(), shell_words::join(words)))
}

/// `pip install`, into the environment that comes first on the PATH of a service.
fn pip(stage: &Dockerfile, rest: &[String]) -> Option<String> {
    if rest.get(1).map(String::as_str) != Some("install") {
        return None;
    }
    let mut out = Vec::new();
    let mut before = "";
    let mut skip = false;
    for word in &rest[2..] {
        let after = std::mem::take(&mut skip);
        match word.as_str() {
            _ if after => {}
            "--no-cache-dir"
            | "--no-cache"
            | "--user"
            | "-U"
            | "--upgrade"
            | "--break-system-packages"
            | "--root-user-action=ignore"
            | "-q"
            | "--quiet"
            | "--disable-pip-version-check" => {}
            // Where an image collects packages for another stage.
            "--prefix" | "--target" | "-t" | "--root" => skip = true,
            word if word.starts_with("--prefix=") || word.starts_with("--target=") => {}
            "pip" | "setuptools" | "wheel" => {}
            word => out.push(local_word(stage, word, before)),
        }
        before = word;
    }
    (!out.is_empty()).then(|| format!("python3 -m venv --clear .venv && .venv/bin/pip install {}", shell_words::join(out)))
}

/// A word of a step: paths of the image become those of the build's folder.
fn local_word(stage: &Dockerfile, word: &str, before: &str) -> String {
    let (head, path) = match word.split_once('=') {
        Some((head, path)) if head.starts_with('-') && path.starts_with('/') => (format!("{head}="), path),
        _ => (String::new(), word),
    };
    if !path.starts_with('/') {
        return word.to_owned();
    }
    // What was copied there lies where it was copied from.
    for (from, to) in &stage.copies {
        let target = if to.ends_with('/') && is_file(from) {
            format!("{to}{}", from.rsplit('/').next().unwrap_or(from))
        } else {
            to.clone()
        };
        if target == path {
            return format!("{head}{}", from.trim_start_matches('/'));
        }
    }
    let workdir = stage.workdir.as_deref().unwrap_or("/").trim_end_matches('/');
    if let Some(inside) = path
        .strip_prefix(workdir)
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|inside| !workdir.is_empty() && !inside.is_empty())
    {
        return format!("{head}{inside}");
    }
    let output = matches!(before, "-o" | "--output" | "--outdir" | "--target-dir" | "--root")
        || head.starts_with("-o")
        || head.starts_with("--out");
    if output { format!("{head}{}", path.trim_start_matches('/')) } else { word.to_owned() }
}

/// Files and folders of the image by what they are here: what was copied, and what other stages made.
pub(super) fn files_of_image(file: &Dockerfile, context: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let plain = |path: &str| !path.contains(['*', '$', '?', '[']) && !path.contains("://");
    // What other files are put below, and what is worked in, is a directory, with a slash at its end or without one.
    let others: Vec<&str> =
        file.copies.iter().map(|(_, to)| to).chain(file.carried.iter().map(|(.., to)| to)).map(String::as_str).collect();
    let is_directory = |to: &str| {
        to.ends_with('/')
            || SYSTEM_DIRECTORIES.contains(&to)
            || file.workdir.as_deref().map(|workdir| workdir.trim_end_matches('/')) == Some(to)
            || !is_file(to) && others.iter().filter(|other| **other == to).count() > 1
            || others.iter().any(|other| other.strip_prefix(to).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/')))
    };
    let target = |from: &str, to: &str| {
        if is_directory(to) && is_file(from) {
            format!("{}/{}", to.trim_end_matches('/'), from.rsplit('/').next().unwrap_or(from))
        } else {
            to.trim_end_matches('/').to_owned()
        }
    };
    for (from, to) in file.copies.iter().filter(|(from, _)| plain(from)) {
        found.push((target(from, to), load::join(context, from.trim_start_matches('/'))));
    }
    for (stage, from, to) in file.carried.iter().filter(|(_, from, _)| plain(from)) {
        let Some((_, stage)) = file.stages.iter().find(|(name, _)| name.eq_ignore_ascii_case(stage)) else { continue };
        let workdir = stage.workdir.as_deref().unwrap_or("/").trim_end_matches('/');
        let absolute = if from.starts_with('/') { from.clone() } else { format!("{workdir}/{from}") };
        let inside = !workdir.is_empty() && absolute.strip_prefix(workdir).is_some_and(|rest| rest.starts_with('/'));
        let name = from.rsplit('/').next().unwrap_or(from);
        let to = if to.ends_with('/') { format!("{to}{name}") } else { to.clone() };
        let here =
            if inside { folder_of(stage, &absolute, context) } else { load::join(context, absolute.trim_start_matches('/')) };
        // Packages of an interpreter come along by the build itself.
        if !(to.contains("site-packages")
            || to == "/usr/local"
            || to.contains("node_modules")
            || to.contains("/.local")
            || to.contains("venv")
            || to.contains("/bundle"))
        {
            found.push((to, here));
        }
    }
    found.retain(|(to, _)| !to.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::dockerfile::parse;

    fn lines(text: &str) -> Vec<String> {
        let file = parse(text, None, &[]);
        let (mut out, context) = (Vec::new(), Path::new("/p"));
        for (stage, _) in used_stages(&file) {
            collect(stage, context, context, &mut out);
        }
        collect(&file, context, context, &mut out);
        out
    }

    #[test]
    fn steps_that_build_are_kept_and_those_of_the_image_are_not() {
        let venv = "python3 -m venv --clear .venv && .venv/bin/pip install -r requirements.txt".to_owned();
        let table = [
            (
                "RUN apt-get update && apt-get install -y gcc\nRUN pip install --no-cache-dir -r requirements.txt",
                vec![venv.clone()],
            ),
            (
                "COPY requirements.txt /tmp/requirements.txt\nRUN python -m pip install --upgrade pip && pip3 install -r /tmp/requirements.txt",
                vec![venv.clone()],
            ),
            (
                "RUN npm install -g pnpm && pnpm install --frozen-lockfile && pnpm run build",
                vec!["pnpm install --frozen-lockfile".into(), "pnpm run build".into()],
            ),
            ("RUN CGO_ENABLED=0 GOOS=linux go build -o /bin/x ./cmd/x", vec!["CGO_ENABLED=0 go build -o bin/x ./cmd/x".into()]),
            (
                "RUN bundle install && bundle exec rake assets:precompile",
                vec!["bundle install".into(), "bundle exec rake assets:precompile".into()],
            ),
            ("RUN --mount=type=cache,target=/root/.npm npm ci", vec!["npm ci".into()]),
            ("RUN cd web && yarn install; rm -rf /tmp/x", vec!["(cd web && yarn install)".into()]),
            ("RUN [\"mvn\", \"package\"]", vec!["mvn package".into()]),
            ("RUN ./gradlew build --no-daemon", vec!["./gradlew build --no-daemon".into()]),
            ("RUN <<EOT\nnpm ci\nmkdir x\nEOT", vec!["npm ci".into()]),
            ("RUN curl -sSL https://x | sh && chmod +x /y", vec![]),
            ("RUN cargo build --release", vec!["cargo build --release".into()]),
        ];
        for (steps, expected) in table {
            assert_eq!(lines(&format!("FROM x\nWORKDIR /app\n{steps}\n")), expected, "{steps}");
        }
    }

    #[test]
    fn what_other_stages_make_lies_below_the_build() {
        let text = "FROM golang AS b\nWORKDIR /src\nCOPY . .\nRUN go build -o /bin/s ./c && go build -o out/t ./d\nFROM alpine\nWORKDIR /app\nCOPY --from=b /bin/s /s\nCOPY --from=b /src/out/t .\nCOPY conf /etc/conf\n";
        let found = files_of_image(&parse(text, None, &[]), Path::new("/p"));
        let expected = [("/etc/conf", "/p/conf"), ("/s", "/p/bin/s"), ("/app/t", "/p/out/t")];
        assert_eq!(found, expected.map(|(to, here)| (to.to_owned(), PathBuf::from(here))));
        assert_eq!(lines(text), ["go build -o bin/s ./c", "go build -o out/t ./d"]);
    }

    #[test]
    fn a_file_that_is_copied_to_a_directory_lies_in_it() {
        let text = "FROM maven AS b\nFROM x\nWORKDIR /app\nCOPY run.sh /opt/agg\nCOPY --from=b /t/x.jar /opt/agg/lib/x.jar\nCOPY a.sh /usr/local/bin\nCOPY b.sh /app\nCOPY c.sh d.sh /d\nCOPY e.sh /entrypoint\n";
        let found = files_of_image(&parse(text, None, &[]), Path::new("/p"));
        let found: Vec<String> = found.iter().map(|(to, here)| format!("{to} {}", here.display())).collect();
        let copied = [
            "/opt/agg/run.sh /p/run.sh",
            "/usr/local/bin/a.sh /p/a.sh",
            "/app/b.sh /p/b.sh",
            "/d/c.sh /p/c.sh",
            "/d/d.sh /p/d.sh",
            "/entrypoint /p/e.sh",
        ];
        assert_eq!(found[..6], copied.map(str::to_owned));
    }
}
