//! What a Dockerfile says about the program: command, folder, ports, variables, the image below.

use std::path::Path;

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
}

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Words {
    /// `["a", "b"]`.
    List(Vec<String>),
    /// Given to a shell.
    Shell(String),
}

/// Reads it; with `target` up to that stage.
pub(crate) fn parse(text: &str, target: Option<&str>) -> Dockerfile {
    let mut stages: Vec<(String, Dockerfile)> = Vec::new();
    for line in logical_lines(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
        let rest = rest.trim();
        if word.eq_ignore_ascii_case("from") {
            if stages.last().is_some_and(|(name, _)| target.is_some_and(|target| target == name)) {
                break;
            }
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
        let Some((_, stage)) = stages.last_mut() else { continue };
        match word.to_ascii_uppercase().as_str() {
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
            "ENV" => stage.env.extend(variables(rest)),
            "COPY" | "ADD" => {
                let words: Vec<&str> = rest.split_whitespace().collect();
                if !words.iter().any(|word| word.starts_with("--from")) {
                    let words: Vec<&str> = words.into_iter().filter(|word| !word.starts_with("--")).collect();
                    if let [sources @ .., to] = words.as_slice() {
                        stage.copies.extend(sources.iter().map(|from| ((*from).to_owned(), (*to).to_owned())));
                    }
                }
            }
            _ => {}
        }
    }
    stages.pop().map(|(_, stage)| stage).unwrap_or_default()
}

/// Lines with their continuations; comments and blank lines are gone.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
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
                lines.push(std::mem::take(&mut open));
            }
        }
    }
    if !open.is_empty() {
        lines.push(open);
    }
    lines
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
        let file = parse(text, None);
        assert_eq!(file.from, "python:3.12-slim");
        assert_eq!(file.workdir.as_deref(), Some("/app"));
        assert_eq!(file.entrypoint, Some(Words::List(vec!["python".into()])));
        assert_eq!(file.command, Some(Words::List(vec!["-m".into(), "app".into()])));
        assert_eq!(file.expose, [8000]);
        let env: Vec<_> = file.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(env, ["A=1", "B=two words", "C=three"]);
        assert_eq!(file.copies, [(".".to_owned(), ".".to_owned())]);
        assert_eq!(parse(text, Some("build")).command, Some(Words::List(vec!["no".into()])));
        assert_eq!(parse("FROM x\nCMD npm start && echo", None).command, Some(Words::Shell("npm start && echo".into())));
        assert_eq!(parse("", None), Dockerfile::default());
    }
}
