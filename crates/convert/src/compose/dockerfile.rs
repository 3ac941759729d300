//! What a Dockerfile says about the program: command, folder, ports, variables, the image below.

use std::path::Path;

use super::super::replacement::replace;

/// What is of use natively.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Dockerfile {
    /// The image below the last stage.
    pub from: String,
    pub entrypoint: Option<Words>,
    pub command: Option<Words>,
    pub workdir: Option<String>,
    pub expose: Vec<u16>,
    pub env: Vec<(String, String)>,
    /// `COPY` into the image: source, target.
    pub copies: Vec<(String, String)>,
    /// `COPY --from=STAGE`: stage, source in it, target.
    pub carried: Vec<(String, String, String)>,
    /// `RUN` lines, and the folder that each runs in.
    pub steps: Vec<(String, String)>,
    /// `ARG` names and their values.
    pub args: Vec<(String, String)>,
    /// Those above the first `FROM`.
    pub global_args: Vec<(String, String)>,
    /// What stands behind `HEALTHCHECK`.
    pub health: Option<String>,
    /// The last `USER`.
    pub user: Option<String>,
    /// Earlier stages by name and number.
    pub stages: Vec<(String, Dockerfile)>,
}

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Words {
    /// `["a", "b"]`.
    List(Vec<String>),
    /// Given to a shell.
    Shell(String),
}

/// Reads it; with `target` up to that stage. `given` are the build's arguments, which win over the defaults of `ARG`.
pub(crate) fn parse(text: &str, target: Option<&str>, given: &[(String, String)]) -> Dockerfile {
    let mut stages: Vec<(String, Dockerfile)> = Vec::new();
    let mut args: Vec<(String, String)> = Vec::new();
    for line in logical_lines(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let rest = rest.trim();
        if word.eq_ignore_ascii_case("from") {
            if stages.last().is_some_and(|(name, _)| target.is_some_and(|target| target.eq_ignore_ascii_case(name))) {
                break;
            }
            let image = fill_args(rest, &args, true);
            let rest = image.as_str();
            let words: Vec<&str> = rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
            let image = words.first().copied().unwrap_or_default();
            let name = match words.as_slice() {
                [_, like, name, ..] if like.eq_ignore_ascii_case("as") => (*name).to_owned(),
                _ => String::new(),
            };
            // A stage on an earlier stage goes on where that one ended.
            let base = stages.iter().find(|(name, _)| !name.is_empty() && name == image).map(|(_, stage)| stage.clone());
            stages.push((name, base.unwrap_or_else(|| Dockerfile { from: image.to_owned(), ..Dockerfile::default() })));
            continue;
        }
        if word.eq_ignore_ascii_case("arg") {
            let pairs = if rest.contains('=') { variables(rest) } else { Vec::new() };
            let bare = rest.split_whitespace().filter(|word| !word.contains('=') && pairs.is_empty());
            let bare = bare.map(|name| (name.to_owned(), String::new()));
            for (name, default) in bare.chain(pairs.clone()).collect::<Vec<_>>() {
                let value = given.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
                match stages.last_mut() {
                    Some((_, stage)) => {
                        // One without a default takes that from above the first `FROM`.
                        let above = args.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
                        let value = value.or_else(|| above.filter(|_| default.is_empty()));
                        let value = value.unwrap_or_else(|| fill_args(&default, &stage.values(), false));
                        stage.args.push((name, value));
                    }
                    None => args.push((name, value.unwrap_or_else(|| fill_args(&default, &args, false)))),
                }
            }
            continue;
        }
        let Some((_, stage)) = stages.last_mut() else { continue };
        let instruction = word.to_ascii_uppercase();
        // The build fills these in; a command's dollars are those of the shell that runs it.
        let filled = match instruction.as_str() {
            "WORKDIR" | "EXPOSE" | "ENV" | "COPY" | "ADD" | "USER" => fill_args(rest, &stage.values(), false),
            "RUN" => fill_args(rest, &stage.args, false),
            _ => rest.to_owned(),
        };
        let rest = filled.as_str();
        match instruction.as_str() {
            "CMD" => stage.command = words(rest),
            "ENTRYPOINT" => {
                stage.entrypoint = words(rest);
                stage.command = None;
            }
            "WORKDIR" => {
                let folder = rest.trim_matches('"');
                let base = stage.workdir.clone().unwrap_or_else(|| "/".to_owned());
                stage.workdir = Some(Path::new(&base).join(folder).display().to_string());
            }
            "EXPOSE" => stage.expose.extend(
                rest.split_whitespace().filter_map(|port| port.split('/').next().and_then(|port| port.parse::<u16>().ok())),
            ),
            "RUN" => {
                let dir = stage.workdir.clone().unwrap_or_else(|| "/".to_owned());
                let line = rest.split_whitespace().skip_while(|word| word.starts_with("--")).collect::<Vec<_>>().join(" ");
                let line = match words(&line) {
                    Some(Words::List(list)) => shell_words::join(list),
                    _ => line,
                };
                stage.steps.push((dir, line));
            }
            "HEALTHCHECK" => stage.health = Some(rest.to_owned()),
            "USER" => stage.user = Some(rest.to_owned()),
            "ENV" => stage.env.extend(variables(rest)),
            "COPY" | "ADD" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                let from = words.iter().find_map(|word| word.strip_prefix("--from="));
                if let Some(from) = from {
                    let words: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with("--")).collect();
                    if let [sources @ .., to] = words.as_slice() {
                        let to = absolute(stage.workdir.as_deref(), to);
                        stage.carried.extend(sources.iter().map(|one| (from.to_owned(), (*one).to_owned(), to.clone())));
                    }
                } else {
                    let words: Vec<&str> = words.into_iter().filter(|word| !word.starts_with("--")).collect();
                    if let [sources @ .., to] = words.as_slice() {
                        let to = absolute(stage.workdir.as_deref(), to);
                        stage.copies.extend(sources.iter().map(|from| ((*from).to_owned(), to.clone())));
                    }
                }
            }
            _ => {}
        }
    }
    // `--from=0` names a stage by its number.
    let Some((_, mut last)) = stages.pop() else { return Dockerfile::default() };
    last.global_args = args;
    for (number, (name, stage)) in stages.into_iter().enumerate() {
        last.stages.push((number.to_string(), stage.clone()));
        if !name.is_empty() {
            last.stages.push((name, stage));
        }
    }
    last
}

/// A target in the image; one that is a folder ends with a slash.
fn absolute(workdir: Option<&str>, to: &str) -> String {
    let to = to.trim_matches('"');
    let joined = super::load::join(Path::new(workdir.unwrap_or("/")), to).display().to_string();
    let folder = to.ends_with('/') || to == "." || to.ends_with("/.");
    if folder && !joined.ends_with('/') { format!("{joined}/") } else { joined }
}

impl Dockerfile {
    /// Whether it or one of its stages takes this argument.
    pub(crate) fn has_arg(&self, name: &str) -> bool {
        let own = self.args.iter().chain(&self.global_args).any(|(known, _)| known == name);
        own || self.stages.iter().any(|(_, stage)| stage.args.iter().any(|(known, _)| known == name))
    }
    /// The value that a variable of `ENV` has in the end.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    /// What `$NAME` stands for from here on: variables win over arguments.
    fn values(&self) -> Vec<(String, String)> {
        self.args.iter().chain(&self.env).cloned().collect()
    }
}

/// `${VERSION:-3}` and `$VERSION` with the values that are known. `defaults` are taken where a value is not.
fn fill_args(text: &str, args: &[(String, String)], defaults: bool) -> String {
    replace(text, "$", |_, rest| {
        let (hole, after) = super::syntax::placeholder(rest)?;
        let value =
            args.iter().rev().find(|(name, value)| name == hole.name && !value.is_empty()).map(|(_, value)| value.as_str());
        let default = hole.operator.ends_with('-') && (defaults || args.iter().any(|(name, _)| name == hole.name));
        Some((value.unwrap_or(if default { hole.word } else { hole.whole }).to_owned(), after))
    })
}

/// Lines with their continuations; comments and blank lines are gone.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    let mut rest = text.lines();
    while let Some(line) = rest.next() {
        let line = line.trim();
        if line.starts_with('#') || (line.is_empty() && open.is_empty()) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(line) => {
                open.push_str(line);
                open.push(' ');
            }
            None => {
                open.push_str(line);
                let whole = std::mem::take(&mut open);
                // The body of a heredoc belongs to its instruction; only a RUN's says anything about the program.
                let marks = heredocs(&whole);
                let runs = whole.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("run "));
                let mut body = Vec::new();
                for mark in &marks {
                    for line in rest.by_ref() {
                        if line.trim() == mark {
                            break;
                        }
                        body.push(line.trim());
                    }
                }
                body.retain(|line| !line.is_empty() && !line.starts_with('#'));
                lines.push(if runs && !body.is_empty() { format!("RUN {}", body.join(" && ")) } else { whole });
            }
        }
    }
    if !open.is_empty() {
        lines.push(open);
    }
    lines
}

/// The words that end the heredocs of an instruction: `<<EOT`, `<<-'EOT'`.
fn heredocs(line: &str) -> Vec<String> {
    let instruction = line.split_whitespace().next().unwrap_or_default();
    if !["RUN", "COPY", "ADD"].iter().any(|known| instruction.eq_ignore_ascii_case(known)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for part in line.split("<<").skip(1) {
        let part = part.strip_prefix('-').unwrap_or(part).trim_start_matches(['"', '\'']);
        let end = part.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_')).unwrap_or(part.len());
        if end > 0 && part.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_') {
            found.push(part[..end].to_owned());
        }
    }
    found
}

fn words(text: &str) -> Option<Words> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    if text.starts_with('[')
        && let Ok(list) = serde_json::from_str::<Vec<String>>(text)
    {
        return (!list.is_empty()).then_some(Words::List(list));
    }
    Some(Words::Shell(text.to_owned()))
}

fn variables(text: &str) -> Vec<(String, String)> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        return text
            .split_once(char::is_whitespace)
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .into_iter()
            .collect();
    }
    shell_words::split(text)
        .unwrap_or_default()
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_speaks() {
        let text = "# syntax\nFROM node:20 AS build\nCMD [\"no\"]\nFROM python:3.12-slim as base\nWORKDIR /app\nENV A=1 B=\"two words\"\nFROM base\nENV C three\nCOPY --chown=a . .\nCOPY --from=build /x /y\nEXPOSE 8000/tcp\nENTRYPOINT [\"python\"]\nCMD [\"-m\", \\\n  \"app\"]\n";
        let file = parse(text, None, &[]);
        assert_eq!(file.from, "python:3.12-slim");
        assert_eq!(file.workdir.as_deref(), Some("/app"));
        assert_eq!(file.entrypoint, Some(Words::List(vec!["python".into()])));
        assert_eq!(file.command, Some(Words::List(vec!["-m".into(), "app".into()])));
        assert_eq!(file.expose, [8000]);
        let env: Vec<_> = file.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["A=1", "B=two words", "C=three"]);
        assert_eq!(file.copies, [(".".to_owned(), "/app/".to_owned())]);
        assert_eq!(file.carried, [("build".to_owned(), "/x".to_owned(), "/y".to_owned())]);
        let text = "ARG V=3\nFROM python:${V}\nRUN <<EOT bash\nCMD no\nENV NO=1\nEOT\nCOPY <<-'A' /x\nENV NO=2\nA\nHEALTHCHECK CMD x\nUSER me\nENV YES=1\n";
        let file = parse(text, None, &[]);
        assert_eq!((file.from.as_str(), file.command, file.env), ("python:3", None, vec![("YES".to_owned(), "1".to_owned())]));
        assert_eq!((file.health.as_deref(), file.user.as_deref()), (Some("CMD x"), Some("me")));
        let text = "FROM node AS build\nCMD [\"no\"]\nFROM x\n";
        assert_eq!(parse(text, Some("build"), &[]).command, Some(Words::List(vec!["no".into()])));
        assert_eq!(parse("FROM x\nCMD npm start && echo", None, &[]).command, Some(Words::Shell("npm start && echo".into())));
        assert_eq!(parse("", None, &[]), Dockerfile::default());
    }

    #[test]
    fn arguments_of_the_build_are_filled_in() {
        let text = "ARG V=3 W=slim\nFROM golang:${V}-${W} AS b\nARG SERVICE\nARG PORT=80\nENV PORT=$PORT MODE=${MODE:-x} HOME_DIR=$HOME\nWORKDIR /src/$SERVICE\nRUN go build -o /bin/app ./cmd/${SERVICE} && echo $PATH\nEXPOSE $PORT/tcp\nCMD app $SERVICE\n";
        let file = parse(text, None, &[("SERVICE".to_owned(), "order".to_owned()), ("PORT".to_owned(), "8080".to_owned())]);
        assert_eq!(file.from, "golang:3-slim");
        assert_eq!(file.workdir.as_deref(), Some("/src/order"));
        assert_eq!(file.expose, [8080]);
        assert_eq!(file.steps[0].1, "go build -o /bin/app ./cmd/order && echo $PATH");
        let env: Vec<_> = file.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["PORT=8080", "MODE=${MODE:-x}", "HOME_DIR=$HOME"]);
        assert_eq!(file.command, Some(Words::Shell("app $SERVICE".into())));
        // One that has no value stays what it was.
        assert_eq!(parse("FROM x\nARG A\nRUN go build $A\n", None, &[]).steps[0].1, "go build $A");
        assert_eq!(parse("ARG A=1\nFROM x\nARG A\nARG B=$A-2\nENV C=$B\n", None, &[]).env, [("C".to_owned(), "1-2".to_owned())]);
    }
}
