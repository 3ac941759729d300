//! Services that only talk to a server of the stack and then end: a MinIO client that makes buckets, an Ollama that pulls
//! models. They become tasks.

/// What a script of the MinIO client opens beyond whole buckets: a part of one, or for uploads.
pub(super) fn partly_open(script: &str) -> Vec<String> {
    let words: Vec<&str> = words_of(script);
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if !matches!(*word, "anonymous" | "policy") {
            continue;
        }
        let (mode, path) = match words.get(at + 1..) {
            Some(["set", mode, path, ..]) => (*mode, *path),
            Some(["set-json", _, path, ..]) => ("set-json", *path),
            _ => continue,
        };
        let is_part = path.split_once('/').is_some_and(|(_, path)| path.trim_end_matches('/').contains('/'));
        if matches!(mode, "upload" | "set-json") || matches!(mode, "download" | "public") && is_part {
            found.push(format!("{word} {mode} {path}"));
        }
    }
    found
}

fn words_of(script: &str) -> Vec<&str> {
    let words = script.split(|char: char| char.is_whitespace() || matches!(char, ';' | '&' | '"' | '\''));
    words.filter(|word| !word.is_empty()).collect()
}

/// The buckets that a script of the MinIO client makes, and those it opens to all.
pub(super) fn buckets(script: &str) -> (Vec<String>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let words = words_of(script);
    let bucket = |word: &str| {
        word.split_once('/')
            .map(|(_, name)| name.trim_end_matches('/').to_owned())
            .filter(|name| !name.is_empty() && !name.contains('/'))
    };
    for (at, word) in words.iter().enumerate() {
        if *word == "mb" {
            let arguments = words[at + 1..].iter().take_while(|word| **word != "mc" && !word.ends_with("/mc"));
            for name in arguments.filter_map(|word| bucket(word)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        if matches!(*word, "anonymous" | "policy")
            && words.get(at + 1) == Some(&"set")
            && words.get(at + 2).is_some_and(|mode| matches!(*mode, "download" | "public"))
        {
            open.extend(words.get(at + 3).and_then(|word| bucket(word)));
        }
    }
    (names, open)
}

/// The models that a script pulls; a script that starts the server itself may do so as well.
pub(super) fn models(script: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let words: Vec<&str> = script
        .split(|char: char| char.is_whitespace() || matches!(char, ';' | '&' | '|' | '"' | '\'' | '(' | ')'))
        .filter(|word| !word.is_empty())
        .collect();
    for (at, word) in words.iter().enumerate() {
        let program = at.checked_sub(1).and_then(|before| words.get(before)).and_then(|word| word.rsplit('/').next());
        let pulls = matches!(*word, "pull" | "run") && program == Some("ollama");
        let name = words.get(at + 1).filter(|name| pulls && !name.starts_with('-'));
        // A loop's variable is no name.
        if let Some(name) = name.filter(|name| !name.starts_with('$') || name.starts_with("${"))
            && !names.iter().any(|known| known == name)
        {
            names.push((*name).to_owned());
        }
    }
    names
}

/// Whether a script starts the Ollama server.
pub(super) fn serves(script: &str) -> bool {
    script.split([' ', '\n', ';', '&', '"', '\'']).filter(|word| !word.is_empty()).any(|word| word == "serve")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_in_part_is_named() {
        let script = "mc mb s/up s/pub; mc anonymous set download s/pub; mc anonymous set download s/up/img; mc policy set upload s/up/; mc anonymous set-json p.json s/up";
        assert_eq!(buckets(script), (vec!["up".to_owned(), "pub".to_owned()], vec!["pub".to_owned()]));
        let expected = ["anonymous download s/up/img", "policy upload s/up/", "anonymous set-json s/up"];
        assert_eq!(partly_open(script), expected);
    }

    #[test]
    fn models_are_found_in_scripts() {
        let table: [(&str, &[&str]); 5] = [
            ("-c sleep 3; ollama pull llama3.2", &["llama3.2"]),
            ("sh -c \"ollama serve & sleep 5 && ollama pull a:1b && ollama pull b && wait\"", &["a:1b", "b"]),
            ("/bin/ollama run mistral", &["mistral"]),
            ("git pull x", &[]),
            ("ollama pull ${MODEL:-phi3}", &["${MODEL:-phi3}"]),
        ];
        for (script, expected) in table {
            assert_eq!(models(script), expected, "{script}");
        }
        assert!(serves("ollama serve & ollama pull x") && !serves("ollama pull server"));
    }
}
