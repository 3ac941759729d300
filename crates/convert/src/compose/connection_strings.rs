//! Connection strings of keys and values: `Host=db;Port=5432;Database=shop` of .NET, `host=db port=5432 dbname=shop` of libpq.
//!
//! A host stands behind a key there, so that a service's name is known for one without a port beside it.

use super::hostnames::{HostMatch, Target};

/// Keys that hold a host, in lower case.
const HOSTS: &[&str] = &["host", "server", "data source", "datasource", "hostname", "address", "addr", "endpoint"];

/// Replaces the host of a connection string, and its port; `None` where it is none or names no service.
pub(crate) fn rewrite(text: &str, targets: &[Target], found: &mut HostMatch) -> Option<String> {
    if text.contains("://") {
        return None;
    }
    let (separator, database): (char, &[&str]) =
        if text.contains(';') { (';', &["database", "initial catalog"]) } else { (' ', &["dbname"]) };
    let mut parts: Vec<String> = text.split(separator).map(str::to_owned).collect();
    let pair = |part: &str| part.split_once('=').map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().to_owned()));
    let pairs = parts.iter().filter(|part| !part.trim().is_empty());
    // Of words separated by blanks all must be pairs, or it is the line of a command.
    if pairs.clone().count() < 2 || separator == ' ' && pairs.clone().any(|part| pair(part).is_none()) {
        return None;
    }
    let place = parts.iter().position(|part| pair(part).is_some_and(|(key, _)| HOSTS.contains(&key.as_str())))?;
    let (_, whole) = pair(&parts[place])?;
    let plain = whole.trim_matches(['"', '\'']);
    let plain = plain.strip_prefix("tcp:").unwrap_or(plain);
    // SQL Server writes the port behind a comma.
    let (host, number) = plain.split_once([',', ':']).map_or((plain, None), |(host, port)| (host, Some(port)));
    let target = targets.iter().find(|target| target.hosts.iter().any(|name| name == host))?;
    let usable = target.present && target.has_port;
    let here = if usable { format!("${{{}.host}}", target.name) } else { "127.0.0.1".to_owned() };
    let port = number.map(|port| {
        let number = port.trim().parse::<u16>().ok();
        number.and_then(|number| target.port(number)).unwrap_or_else(|| port.to_owned())
    });
    let sign = if plain.contains(',') { ',' } else { ':' };
    let ours = port.map_or_else(|| here.clone(), |port| format!("{here}{sign}{port}"));
    found.push((target.name.clone(), number.and_then(|port| port.trim().parse().ok())));
    parts[place] = parts[place].replacen(plain, &ours, 1);
    let is_port = |part: &String| pair(part).is_some_and(|(key, _)| key == "port");
    match parts.iter().position(is_port) {
        Some(at) => {
            if let Some((_, digits)) = pair(&parts[at])
                && let Some(port) = digits.parse().ok().and_then(|number| target.port(number))
            {
                parts[at] = parts[at].replacen(&digits, &port, 1);
            }
        }
        // The usual port is meant, and the server may have another one here.
        None => {
            let is_database = parts.iter().any(|part| pair(part).is_some_and(|(key, _)| database.contains(&key.as_str())));
            if let Some(port) = target.main.and_then(|main| target.port(main)).filter(|_| is_database && number.is_none()) {
                let key = if separator == ';' { "Port" } else { "port" };
                parts.insert(place + 1, format!("{key}={port}"));
            }
        }
    }
    Some(parts.join(&separator.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_of_connection_strings_are_replaced() {
        let target = |name: &str, main, present| Target {
            name: name.into(),
            hosts: vec![name.into()],
            main: Some(main),
            present,
            has_port: present,
            ..Target::default()
        };
        let targets = [target("db", 5432, true), target("sql", 1433, false), target("cache", 6379, true)];
        let table = [
            (
                "Host=db;Port=5432;Database=shop;Username=u;Password=p",
                Some("Host=${db.host};Port=${db.port};Database=shop;Username=u;Password=p"),
            ),
            (
                "Server=db;Database=shop;User Id=u;Password=db;",
                Some("Server=${db.host};Port=${db.port};Database=shop;User Id=u;Password=db;"),
            ),
            (
                "host=db user=u password=p dbname=shop port=5432",
                Some("host=${db.host} user=u password=p dbname=shop port=${db.port}"),
            ),
            (
                "host=db user=u dbname=shop sslmode=disable",
                Some("host=${db.host} port=${db.port} user=u dbname=shop sslmode=disable"),
            ),
            ("Server=sql,1433;Initial Catalog=x;User Id=sa", Some("Server=127.0.0.1,1433;Initial Catalog=x;User Id=sa")),
            ("Data Source=tcp:sql;Initial Catalog=x", Some("Data Source=tcp:127.0.0.1;Initial Catalog=x")),
            ("host=cache;username=guest", Some("host=${cache.host};username=guest")),
            ("Host=other;Port=5432", None),
            ("psql host=db dbname=x", None),
            ("Host=db", None),
            ("postgres://db;Host=db;x=y", None),
            ("a=b;c=d", None),
        ];
        for (text, expected) in table {
            assert_eq!(rewrite(text, &targets, &mut HostMatch::new()).as_deref(), expected, "{text}");
        }
    }
}
