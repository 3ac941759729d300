//! Services that only talk to a server of the stack and then end: a MinIO client that makes buckets, an Ollama that pulls
//! models. They become tasks.

/// The buckets that a script of the MinIO client makes, and those it opens to all.
pub(super) fn buckets(script: &str) -> (Vec<String>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let words: Vec<&str> = script
        .split(|char: char| char.is_whitespace() || matches!(char, ';' | '&' | '"' | '\''))
        .filter(|word| !word.is_empty())
        .collect();
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
