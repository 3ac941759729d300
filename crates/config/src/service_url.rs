//! URLs of services: made from attributes with everything encoded that could be read as syntax, and taken apart where
//! `external` gives one.

use devrun_model::percent::{decode, encode};

/// What a URL holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    pub scheme: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    pub database: Option<String>,
}

/// `host:port`, with brackets where the host is an IPv6 address.
pub(crate) fn addr(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether clients of this scheme take user, password and database out of the URL.
pub(crate) fn carries_login(scheme: &str) -> bool {
    !matches!(scheme, "http" | "https" | "bolt" | "neo4j" | "grpc" | "tcp" | "s3" | "ws" | "wss" | "smtp" | "memcached")
}

/// Puts a URL together.
pub(crate) fn build(
    scheme: &str,
    user: Option<&str>,
    password: Option<&str>,
    host: &str,
    port: u16,
    database: Option<&str>,
) -> String {
    let mut out = format!("{scheme}://");
    if user.is_some() || password.is_some() {
        out.push_str(&encode(user.unwrap_or_default()));
        if let Some(password) = password {
            out.push(':');
            out.push_str(&encode(password));
        }
        out.push('@');
    }
    out.push_str(&addr(host, port));
    if let Some(database) = database {
        out.push('/');
        out.push_str(&encode(database));
    }
    out
}

/// The usual port of a scheme.
fn usual(scheme: &str) -> Option<u16> {
    Some(match scheme.split('+').next().unwrap_or(scheme) {
        "postgres" | "postgresql" => 5432,
        "redis" | "valkey" => 6379,
        "http" => 80,
        "https" => 443,
        "mysql" | "mariadb" => 3306,
        "amqp" => 5672,
        "bolt" | "neo4j" => 7687,
        "nats" => 4222,
        "mongodb" => 27017,
        _ => return None,
    })
}

/// Takes a URL apart.
///
/// # Errors
/// What is missing, as a lowercase fragment.
pub(crate) fn parse(text: &str) -> Result<Parts, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("{text:?} has no `scheme://`"));
    };
    if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
        return Err(format!("invalid URL scheme {scheme:?}"));
    }
    let (authority, path) = match rest.find(['/', '?', '#']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let (user, password) = match login {
        None => (None, None),
        Some(login) => match login.split_once(':') {
            Some((user, password)) => (Some(decode(user)), Some(decode(password))),
            None => (Some(decode(login)), None),
        },
    };
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, tail)) => (host, tail.strip_prefix(':')),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() {
        return Err("the URL names no host".to_owned());
    }
    let port = match port {
        Some(port) => Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| format!("invalid port {port:?}"))?),
        None => usual(scheme),
    };
    let database =
        path.strip_prefix('/').map(|path| path.split(['?', '#']).next().unwrap_or(path)).filter(|path| !path.is_empty());
    Ok(Parts {
        scheme: scheme.to_owned(),
        user: user.filter(|user| !user.is_empty()),
        password,
        host: host.to_owned(),
        port,
        database: database.map(decode),
    })
}

/// The password of a URL, decoded.
pub(crate) fn password(text: &str) -> Option<String> {
    parse(text).ok()?.password.filter(|password| !password.is_empty())
}

/// Looks at a text that is meant for a URL: only what begins like one and is none is refused, with the faulty stretch and
/// the reason, neither of which is the password.
pub(crate) fn check(text: &str) -> Result<(), (&str, String)> {
    let scheme = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))).unwrap_or(text.len());
    let (name, rest) = text.split_at(scheme);
    if name.is_empty() || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Ok(());
    }
    if rest.starts_with("//") {
        return Err((&text[..scheme + 2], format!("missing `:` between `{name}` and `//`")));
    }
    let Some(rest) = rest.strip_prefix("://") else { return Ok(()) };
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let host = authority.rsplit('@').next().unwrap_or(authority);
    // Several hosts, and an address in brackets, have colons of their own.
    if host.contains([',', '[', '$', '{']) {
        return Ok(());
    }
    match host.split_once(':') {
        Some((_, port)) if port.is_empty() || port.parse::<u16>().is_ok() => Ok(()),
        Some((_, port)) => Err((port, "the port is not a number from 0 to 65535".to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_login_can_be_read_as_syntax() {
        assert_eq!(
            build("postgres", Some("a@b"), Some("#ThawZin2k77! :/"), "127.0.0.1", 5432, Some("d/b")),
            "postgres://a%40b:%23ThawZin2k77%21%20%3A%2F@127.0.0.1:5432/d%2Fb"
        );
        assert_eq!(build("redis", None, Some("x"), "127.0.0.1", 6379, None), "redis://:x@127.0.0.1:6379");
        assert_eq!(build("http", None, None, "::1", 80, None), "http://[::1]:80");
    }

    #[test]
    fn what_is_built_is_read_back() {
        let parts = parse(&build("postgres", Some("u"), Some("p@:#/"), "db.example", 5433, Some("x y"))).unwrap();
        assert_eq!((parts.user.as_deref(), parts.password.as_deref()), (Some("u"), Some("p@:#/")));
        assert_eq!((parts.host.as_str(), parts.port, parts.database.as_deref()), ("db.example", Some(5433), Some("x y")));
        assert_eq!(parse("postgres://h").unwrap().port, Some(5432));
        for bad in ["postgres//x", "", "://h", "http://:80", "http://h:0", "http://h:x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_password_survives(user in "\\PC{1,12}", password in "\\PC{0,20}") {
            let parts = parse(&build("postgres", Some(&user), Some(&password), "h", 1, None)).unwrap();
            proptest::prop_assert_eq!(parts.user, Some(user));
            proptest::prop_assert_eq!(parts.password, Some(password));
        }
    }

    #[test]
    fn what_begins_like_a_url_must_be_one() {
        for good in [
            "",
            "/path",
            "//host/x",
            "x",
            "localhost:8000",
            "postgres://u:p@h:5432/d",
            "postgres://u:p:q@h/d",
            "sqlite:///x.db",
            "jdbc:postgresql://h/d",
            "mongodb://a:1,b:2/d",
            "http://[::1]:80/",
            "http://h:/",
            "file:/x",
            "http://h:${PORT}/",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, fault) in [("postgres//x", "postgres//"), ("http://h:80a/x", "80a"), ("redis://:pw@h:99999/0", "99999")] {
            assert_eq!(check(bad).map_err(|(fault, _)| fault), Err(fault), "{bad}");
        }
    }
}
