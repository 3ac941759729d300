//! Health checks of compose → `ready`.

use super::super::toml_writer::Toml;
use super::super::yaml::{YamlNode, YamlValue};

/// What a test does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    /// `NONE`, or `disable: true`.
    Off,
    /// A URL is asked for.
    Http(String),
    /// A port takes connections.
    Tcp(String, String),
    Pg,
    Redis,
    /// A program of an image, of no use outside it.
    Cmd(Vec<String>),
    /// A line for a shell.
    Shell(String),
}

/// Reads the test.
pub(crate) fn test(node: &YamlNode) -> Option<Test> {
    if node.get("disable").and_then(YamlNode::truth) == Some(true) {
        return Some(Test::Off);
    }
    let test = node.get("test")?;
    match &test.value {
        YamlValue::List(list) => {
            let words: Vec<String> = list.iter().filter_map(YamlNode::scalar).collect();
            match words.split_first()? {
                (first, _) if first == "NONE" => Some(Test::Off),
                (first, rest) if first == "CMD-SHELL" => Some(shell(&rest.join(" "))),
                (first, rest) if first == "CMD" => Some(command(rest)),
                _ => Some(command(&words)),
            }
        }
        _ => match test.scalar()?.trim() {
            "NONE" => Some(Test::Off),
            line => Some(shell(line)),
        },
    }
}

fn command(words: &[String]) -> Test {
    match words {
        [sh, flag, line]
            if matches!(sh.rsplit('/').next(), Some("sh" | "bash" | "ash")) && flag.starts_with('-') && flag.ends_with('c') =>
        {
            match shell(line) {
                // What bash understands, `sh` may not.
                Test::Shell(_) if sh.ends_with("bash") => Test::Cmd(words.to_vec()),
                test => test,
            }
        }
        words => recognised(words).unwrap_or_else(|| Test::Cmd(words.to_vec())),
    }
}

fn shell(line: &str) -> Test {
    let line = line.trim();
    let mut plain = line;
    // `|| exit 1` says what is so anyway.
    for tail in [
        "|| exit 1",
        "|| exit 1;",
        "|| exit 0",
        "|| (exit 1)",
        "|| false",
        "|| bash -c 'kill -s 15 -1 && (sleep 10; kill -s 9 -1)'",
    ] {
        plain = plain.strip_suffix(tail).unwrap_or(plain).trim_end();
    }
    for tail in ["> /dev/null 2>&1", ">/dev/null 2>&1", "&> /dev/null", "> /dev/null", ">/dev/null", "2>&1"] {
        plain = plain.strip_suffix(tail).unwrap_or(plain).trim_end();
    }
    let pong = plain.split_once('|').filter(|(left, right)| left.trim().starts_with("redis-cli") && right.contains("PONG"));
    let plain = pong.map_or(plain, |(left, _)| left.trim());
    let one = |line: &str| {
        let simple = !line.contains(['|', '&', ';', '<', '>', '`', '\n']) && !line.contains("$(");
        recognised(&shell_words::split(line).ok().filter(|_| simple)?)
    };
    // `wget … || curl …`: the same question by whichever program there is.
    let mut ways = plain.split(" || ").map(one);
    if let Some(Some(first)) = ways.next()
        && ways.all(|way| way.as_ref() == Some(&first))
    {
        return first;
    }
    match dev_tcp(line) {
        Some(Some((host, port))) => Test::Tcp(host, port),
        // Of the shells only bash has these files.
        Some(None) => Test::Cmd(vec!["bash".to_owned(), "-c".to_owned(), line.to_owned()]),
        None => Test::Shell(line.to_owned()),
    }
}

/// `/dev/tcp/HOST/PORT` of bash: the host and the port where the line only opens it, nothing inside where it says something there.
fn dev_tcp(line: &str) -> Option<Option<(String, String)>> {
    let (before, rest) = line.split_once("/dev/tcp/")?;
    let talks = ["exec", "GET", "printf", "HEAD"].iter().any(|word| line.contains(word)) || rest.contains("/dev/tcp/");
    let end = rest.find([' ', '"', '\'', ';', ')', '|', '&', '\n']).unwrap_or(rest.len());
    let place = rest[..end].split_once('/').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let opens = before.trim_end().ends_with(['>', '<']);
    Some(place.filter(|_| opens && !talks).map(|(host, port)| (host.to_owned(), port.to_owned())))
}

fn recognised(words: &[String]) -> Option<Test> {
    let program = words.first()?.rsplit('/').next()?;
    let rest = &words[1..];
    match program {
        "pg_isready" => Some(Test::Pg),
        "redis-cli" | "valkey-cli" if rest.iter().any(|word| word.eq_ignore_ascii_case("ping")) => Some(Test::Redis),
        "redis-cli" | "valkey-cli" if rest.iter().any(|word| word == "incr") => Some(Test::Redis),
        "curl" | "wget" => {
            let url = rest.iter().find(|word| word.starts_with("http://") || word.starts_with("https://"));
            let bare = || rest.iter().find(|word| word.starts_with("localhost") || word.starts_with("127.0.0.1"));
            let asks = !rest.iter().any(|word| matches!(word.as_str(), "-X" | "-d" | "--data" | "-H" | "--header"));
            let url = url.cloned().or_else(|| bare().map(|word| format!("http://{word}")))?;
            asks.then_some(Test::Http(url))
        }
        "nc" | "ncat" | "netcat" if rest.iter().any(|word| word.starts_with('-') && word.contains('z')) => {
            let plain: Vec<&String> = rest.iter().filter(|word| !word.starts_with('-')).collect();
            match plain.as_slice() {
                [.., host, port] if port.parse::<u16>().is_ok() => Some(Test::Tcp((*host).clone(), (*port).clone())),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `http://localhost:8000/health` → `8000`, `/health`; `None` where it is another machine or has no plain port.
pub(crate) fn local(url: &str) -> Option<(u16, String)> {
    let (rest, usual) = match url.split_once("://")? {
        ("http", rest) => (rest, 80),
        _ => return None,
    };
    let slash = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, usual),
    };
    if !matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0" | "[::1]" | "[::") {
        return None;
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some((port, path))
}

/// The timings; those that cannot be read are handed out.
pub(crate) fn timings(node: &YamlNode, bad: &mut Vec<(YamlNode, String)>) -> Vec<(String, Toml)> {
    let mut found = Vec::new();
    for key in ["interval", "timeout", "start_period", "start_interval"] {
        if let Some(value) = node.get(key) {
            match value.scalar().and_then(|text| super::syntax::duration(&text)) {
                Some(text) => found.push((key.to_owned(), Toml::text(text))),
                None => bad.push((value.clone(), key.to_owned())),
            }
        }
    }
    if let Some(value) = node.get("retries") {
        match value.scalar().and_then(|text| text.parse::<i64>().ok()) {
            Some(0) => {}
            Some(number) => found.push(("retries".to_owned(), Toml::Integer(number))),
            None => bad.push((value.clone(), "retries".to_owned())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_recognised() {
        let http = |url: &str| Test::Http(url.to_owned());
        let table = [
            ("test: [NONE]", Test::Off),
            ("disable: true", Test::Off),
            ("test: [CMD-SHELL, 'pg_isready -U $${POSTGRES_USER} || exit 1']", Test::Pg),
            ("test: pg_isready", Test::Pg),
            ("test: [CMD, redis-cli, -a, x, ping]", Test::Redis),
            ("test: 'redis-cli ping | grep PONG'", Test::Redis),
            ("test: [CMD, curl, -f, 'http://localhost:8000/health']", http("http://localhost:8000/health")),
            ("test: curl -fsS localhost:80 > /dev/null || exit 1", http("http://localhost:80")),
            ("test: [CMD-SHELL, 'wget -q --spider http://127.0.0.1/ || exit 1']", http("http://127.0.0.1/")),
            ("test: [CMD, sh, -c, 'nc -z localhost 5000']", Test::Tcp("localhost".into(), "5000".into())),
            ("test: [CMD, my, check]", Test::Cmd(vec!["my".into(), "check".into()])),
            ("test: 'a && b'", Test::Shell("a && b".into())),
            ("test: [CMD, bash, -c, 'echo > /dev/tcp/localhost/3000']", Test::Tcp("localhost".into(), "3000".into())),
            ("test: \"timeout 5s bash -c ':> /dev/tcp/127.0.0.1/9200' || exit 1\"", Test::Tcp("127.0.0.1".into(), "9200".into())),
            (
                "test: 'exec 3<>/dev/tcp/localhost/80; echo GET >&3'",
                Test::Cmd(vec!["bash".into(), "-c".into(), "exec 3<>/dev/tcp/localhost/80; echo GET >&3".into()]),
            ),
            ("test: [CMD, bash, -c, '[[ a ]]']", Test::Cmd(vec!["bash".into(), "-c".into(), "[[ a ]]".into()])),
        ];
        for (text, expected) in table {
            let node = super::super::super::yaml::parse(text, 0).unwrap();
            assert_eq!(test(&node), Some(expected), "{text}");
        }
    }

    #[test]
    fn local_urls() {
        assert_eq!(local("http://localhost:8000/h?x=1"), Some((8000, "/h?x=1".to_owned())));
        assert_eq!(local("http://127.0.0.1"), Some((80, "/".to_owned())));
        assert_eq!(local("http://api:80/"), None);
        assert_eq!(local("https://localhost/"), None);
        assert_eq!(local("http://localhost:${PORT}/"), None);
    }
}
