//! Which variables of the caller would lead a client elsewhere, or keep it from its login, although devrun has filled in the
//! address of a server of this stack.
//!
//! Clients read far more than the variables that devrun sets: a service file of libpq wins over `PGHOST`, `PGHOSTADDR` wins
//! over every name, `PGSSLMODE=require` is refused by a server without TLS. So what merely came along from the caller's
//! shell is taken out wherever devrun sets the address; what the procfile sets stays. The one table of them is here.

use std::collections::{BTreeMap, BTreeSet};

/// One kind of client.
struct Family {
    /// Variables that hold the server's address.
    address: &'static [&'static str],
    /// Schemes of URLs that do.
    schemes: &'static [&'static str],
    /// What is taken out; `*` at the end is any rest of the name. User, password and database are not among them: a
    /// procfile may leave them to the shell on purpose.
    overrides: &'static [&'static str],
}

const FAMILIES: &[Family] = &[
    // Chapter "Environment Variables" of libpq's manual, less those that change neither server nor login.
    Family {
        address: &["PGHOST", "PGPORT"],
        schemes: &["postgres", "postgresql"],
        overrides: &[
            "PGHOSTADDR",
            "PGSERVICE",
            "PGSERVICEFILE",
            "PGSYSCONFDIR",
            "PGOPTIONS",
            "PGPASSFILE",
            "PGTARGETSESSIONATTRS",
            "PGLOADBALANCEHOSTS",
            "PGCHANNELBINDING",
            "PGREQUIREAUTH",
            "PGREQUIREPEER",
            "PGREQUIRESSL",
            "PGSSL*",
            "PGGSS*",
            "PGOAUTH*",
            "PGKRBSRVNAME",
            "PGREALM",
            "PGMINPROTOCOLVERSION",
            "PGMAXPROTOCOLVERSION",
        ],
    },
    // valkey-cli reads both; a server without a password refuses to be given one.
    Family {
        address: &["REDIS_URL", "REDIS_HOST", "REDIS_PORT"],
        schemes: &["redis", "rediss", "valkey"],
        overrides: &["REDISCLI_AUTH", "VALKEYCLI_AUTH"],
    },
    // "Environment Variables" in the manuals of MySQL and MariaDB.
    Family {
        address: &["MYSQL_HOST", "MYSQL_PORT", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT"],
        schemes: &["mysql", "mysql2", "mariadb"],
        overrides: &[
            "MYSQL_HOST",
            "MYSQL_TCP_PORT",
            "MYSQL_UNIX_PORT",
            "MYSQL_PWD",
            "MYSQL_HOME",
            "MYSQL_GROUP_SUFFIX",
            "MYSQL_TEST_LOGIN_FILE",
            "MARIADB_HOST",
            "MARIADB_TCP_PORT",
            "MARIADB_UNIX_PORT",
            "MARIADB_HOME",
            "MARIADB_GROUP_SUFFIX",
        ],
    },
    // "Environment variables" and "Service-specific endpoints" of the AWS SDKs and Tools reference guide.
    Family {
        address: &["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "S3_ENDPOINT"],
        schemes: &["s3"],
        overrides: &[
            "AWS_ENDPOINT_URL_S3",
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
            "AWS_PROFILE",
            "AWS_DEFAULT_PROFILE",
            "AWS_SESSION_TOKEN",
            "AWS_SECURITY_TOKEN",
            "AWS_CREDENTIAL_EXPIRATION",
            "AWS_DEFAULT_REGION",
            "AWS_ROLE_ARN",
            "AWS_ROLE_SESSION_NAME",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_*",
            "AWS_USE_FIPS_ENDPOINT",
            "AWS_USE_DUALSTACK_ENDPOINT",
            "AWS_S3_*",
        ],
    },
    Family {
        address: &["NEO4J_URI"],
        schemes: &["bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc"],
        overrides: &["NEO4J_ADDRESS", "NEO4J_USERNAME", "NEO4J_DATABASE", "NEO4J_AUTH"],
    },
    Family {
        address: &["NATS_URL"],
        schemes: &["nats"],
        overrides: &[
            "NATS_CONTEXT",
            "NATS_CREDS",
            "NATS_NKEY",
            "NATS_USER",
            "NATS_PASSWORD",
            "NATS_TOKEN",
            "NATS_CERT",
            "NATS_KEY",
            "NATS_CA",
            "NATS_SOCKS_PROXY",
        ],
    },
];

/// The servers whose addresses devrun fills in for one command.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Addressed(BTreeSet<usize>);

impl Addressed {
    /// Notes a variable that is set for the command.
    pub fn variable(&mut self, name: &str, value: &str) {
        self.named(name);
        self.text(value);
    }
    /// Notes the name of a variable in which the address of a server usually is.
    pub fn named(&mut self, name: &str) {
        self.0.extend((0..FAMILIES.len()).filter(|index| FAMILIES[*index].address.contains(&name)));
    }
    /// Notes a text that may hold a URL.
    pub fn text(&mut self, text: &str) {
        for (before, _) in text.match_indices("://").map(|(at, _)| text.split_at(at)) {
            let begin = before.rfind(|char: char| !(char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.')));
            let scheme = before.get(begin.map_or(0, |at| at + 1)..).unwrap_or_default().to_ascii_lowercase();
            // `postgresql+psycopg://` is Postgres too.
            let base = scheme.split('+').next().unwrap_or_default();
            let speaks = |family: &Family| family.schemes.iter().any(|known| *known == scheme || *known == base);
            self.0.extend((0..FAMILIES.len()).filter(|index| speaks(&FAMILIES[*index])));
        }
    }
    /// Whether a variable of the caller would override what devrun fills in.
    #[must_use]
    pub fn is_overridden_by(&self, name: &str) -> bool {
        let matches = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        };
        self.0.iter().filter_map(|index| FAMILIES.get(*index)).any(|family| family.overrides.iter().any(&matches))
    }
}

/// The environment of a command: `caller`'s, without what would override `ours`, and `ours`.
#[must_use]
pub fn merge(
    mut caller: BTreeMap<String, String>,
    mut addressed: Addressed,
    ours: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    ours.iter().for_each(|(name, value)| addressed.variable(name, value));
    caller.retain(|name, _| !addressed.is_overridden_by(name));
    caller.extend(ours);
    caller
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_overrides_an_address_is_taken_out_and_nothing_else() {
        for (ours, taken, stays) in [
            (
                &[("PGHOST", "127.0.0.1")][..],
                &["PGSERVICE", "PGHOSTADDR", "PGSSLROOTCERT", "PGGSSENCMODE"][..],
                &["PGAPPNAME", "PGTZ", "MYSQL_PWD"][..],
            ),
            (
                &[("DATABASE_URL", "postgresql+psycopg://a@b/c")],
                &["PGOPTIONS", "PGSSLMODE"],
                &["PGUSER", "PGPASSWORD", "AWS_PROFILE"],
            ),
            (&[("X", "redis://127.0.0.1:1")], &["REDISCLI_AUTH"], &["PGSERVICE"]),
            (&[("MYSQL_HOST", "h")], &["MYSQL_TCP_PORT", "MYSQL_UNIX_PORT", "MYSQL_PWD"], &["MYSQL_PS1"]),
            (
                &[("AWS_ENDPOINT_URL", "http://h")],
                &["AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN"],
                &["AWS_ENDPOINT_URL_SQS"],
            ),
            (&[("A", "see neo4j+s://h, or http://i")], &["NEO4J_USERNAME"], &["NATS_CREDS"]),
            (&[("A", "://"), ("B", "http://x"), ("C", "xpostgres://")], &[], &["PGSERVICE", "REDISCLI_AUTH", "AWS_PROFILE"]),
        ] {
            let mut caller: BTreeMap<String, String> = variables(&[("PATH", "/bin")]);
            caller.extend(taken.iter().chain(stays).map(|name| ((*name).to_owned(), "caller".to_owned())));
            let merged = merge(caller, Addressed::default(), variables(ours));
            for name in taken {
                assert!(!merged.contains_key(*name), "{ours:?} {name}");
            }
            for name in stays.iter().chain(&["PATH"]) {
                assert!(merged.contains_key(*name), "{ours:?} {name}");
            }
        }
    }

    #[test]
    fn what_is_set_by_name_stays() {
        let ours = variables(&[("PGHOST", "h"), ("PGSSLMODE", "disable")]);
        let merged = merge(variables(&[("PGSSLMODE", "require"), ("PGSERVICE", "x")]), Addressed::default(), ours);
        assert_eq!(merged, variables(&[("PGHOST", "h"), ("PGSSLMODE", "disable")]));
    }
}
