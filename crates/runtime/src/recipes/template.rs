//! Placeholders of a recipe's own text: argv, environment and rendered files. These are not the procfile's: what may
//! stand in them is known beforehand, a value is never looked at a second time, and a name that means nothing is an error
//! in the recipe. `${name}`, `${name:-default}` and `${name|filter}` are understood, `$$` before a brace is a dollar, and
//! a dollar that begins no placeholder stays, so that files of nginx and the like need no escapes.

use std::collections::BTreeMap;

/// Values by name: `port`, `bin.redis-server`, `dir.data`, `ports.http`, …
pub type TemplateValues = BTreeMap<String, String>;

/// Fills the placeholders of `text`.
///
/// # Errors
/// A lowercase fragment that names the placeholder.
pub fn fill_template(text: &str, values: &TemplateValues) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, tail) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = &tail[2..];
            continue;
        }
        out.push_str(before);
        let Some(end) = tail.find('}') else { return Err("a placeholder is never closed with }".to_owned()) };
        out.push_str(&value(&tail[2..end], values)?);
        rest = &tail[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn value(inside: &str, values: &TemplateValues) -> Result<String, String> {
    let (inside, filter) = match inside.rsplit_once('|') {
        Some((inside, filter)) => (inside, Some(filter)),
        None => (inside, None),
    };
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let value = match (values.get(name).filter(|value| !value.is_empty()), default) {
        (Some(value), _) => value.as_str(),
        (None, Some(default)) => default,
        (None, None) if values.contains_key(name) => "",
        (None, None) => return Err(format!("${{{name}}} means nothing here; there are {}", known(values))),
    };
    match filter {
        None => Ok(value.to_owned()),
        Some("json") => serde_json::to_string(value).map_err(|error| error.to_string()),
        Some("redis") => Ok(redis_word(value)),
        // For a server that takes blanks off its words: what it would keep is not what everybody else is told.
        Some("trimmed") if value.trim() == value => Ok(value.to_owned()),
        Some("trimmed") => Err(format!("{name} begins or ends with a blank, which the server takes off: choose one without")),
        Some(other) => Err(format!("unknown filter {other:?}; use json, redis or trimmed")),
    }
}

fn known(values: &TemplateValues) -> String {
    values.keys().map(|name| format!("${{{name}}}")).collect::<Vec<_>>().join(" ")
}

/// A word of redis.conf: in double quotes, with every byte that its reader could take for something else in hex.
#[must_use]
pub(crate) fn redis_word(value: &str) -> String {
    let mut word = String::with_capacity(value.len() + 2);
    word.push('"');
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => {
                word.push('\\');
                word.push(char::from(byte));
            }
            0x20..=0x7e => word.push(char::from(byte)),
            _ => word.push_str(&format!("\\x{byte:02x}")),
        }
    }
    word.push('"');
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> TemplateValues {
        [("port", "6379"), ("password", "a\"b${port}"), ("ports.http", "8025"), ("user", ""), ("padded", "a ")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn placeholders() {
        for (text, expected) in [
            ("port ${port}", "port 6379"),
            ("${port}${ports.http}", "63798025"),
            ("$host ${port}$", "$host 6379$"),
            ("$${port} ${port}", "${port} 6379"),
            ("${password}", "a\"b${port}"),
            ("${password|json}", "\"a\\\"b${port}\""),
            ("${password|trimmed}", "a\"b${port}"),
            ("[${user}]", "[]"),
            ("${user:-nobody}", "nobody"),
            ("${absent:-x y}", "x y"),
            ("${absent:-}", ""),
            ("${absent:-a b|json}", "\"a b\""),
            ("ä${port}ö", "ä6379ö"),
        ] {
            assert_eq!(fill_template(text, &values()).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["${absent}", "${port", "${}", "${port|nope}", "${padded|trimmed}"] {
            assert!(fill_template(bad, &values()).is_err(), "{bad}");
        }
        assert!(fill_template("${bind}", &values()).unwrap_err().contains("${port}"));
    }

    #[test]
    fn words_of_redis_conf() {
        for (value, word) in [
            ("#ThawZin2k77!", "\"#ThawZin2k77!\""),
            ("a b", "\"a b\""),
            ("q\"q", "\"q\\\"q\""),
            ("b\\n", "\"b\\\\n\""),
            ("it's", "\"it's\""),
            ("ä", "\"\\xc3\\xa4\""),
            ("line\nbreak", "\"line\\x0abreak\""),
        ] {
            assert_eq!(redis_word(value), word);
        }
    }
}
