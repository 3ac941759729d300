//! Images of finished applications and of what stands in front of servers: workflows, publishing, pools, proxies of tests. `images`
//! asks here last.

use super::super::toml_writer::{Section, Toml};
use super::draft::Draft;
use super::importer::Importer;
use super::known_image::Becomes::{Nothing, Password, Set, SetHost, SetHostAndPort, User};
use super::known_image::{KnownImage, plain};
use super::syntax::{self, Image};

const PGBOUNCER: KnownImage = KnownImage {
    env: &[
        ("DB_HOST", SetHostAndPort("host", "port")),
        ("DB_PORT", Set("port")),
        ("DB_NAME", Set("dbname")),
        ("DB_USER", User),
        ("DB_PASSWORD", Password),
        ("POSTGRESQL_HOST", SetHostAndPort("host", "port")),
        ("POSTGRESQL_PORT", Set("port")),
        ("POSTGRESQL_USERNAME", User),
        ("POSTGRESQL_PASSWORD", Password),
        ("AUTH_TYPE", Set("auth_type")),
        ("POOL_MODE", Set("pool_mode")),
        ("MAX_CLIENT_CONN", Set("max_client_conn")),
        ("DEFAULT_POOL_SIZE", Set("default_pool_size")),
        ("IGNORE_STARTUP_PARAMETERS", Set("ignore_startup_parameters")),
        ("LISTEN_PORT", Nothing("`port` says it")),
        ("ADMIN_USERS", Nothing("`user` may ask the pool itself")),
    ],
    config: &[("/etc/pgbouncer/pgbouncer.ini", "pgbouncer.ini"), ("/etc/pgbouncer/userlist.txt", "userlist.txt")],
    program: &["pgbouncer"],
    ..plain("pgbouncer", &[5432, 6432], &[])
};
const TOXIPROXY: KnownImage = plain("toxiproxy", &[8474], &[]);
const INFLUXDB: KnownImage = KnownImage {
    named: &[(8088, "backup")],
    env: &[
        ("INFLUXDB_ADMIN_USER", Nothing("the recipe asks for no login on this machine")),
        ("INFLUXDB_ADMIN_PASSWORD", Nothing("the recipe asks for no login on this machine")),
        ("INFLUXDB_HTTP_BIND_ADDRESS", Nothing("`port` says it")),
    ],
    config: &[("/etc/influxdb/influxdb.conf", "influxdb.conf")],
    program: &["influxd"],
    ..plain("influxdb", &[8086], &["/var/lib/influxdb"])
};
const N8N: KnownImage = KnownImage {
    named: &[(5679, "broker")],
    env: &[
        ("N8N_PORT", Nothing("`port` says it")),
        ("N8N_RUNNERS_MODE", Nothing("n8n starts its runner itself")),
        ("N8N_RUNNERS_AUTH_TOKEN", Nothing("n8n starts its runner itself")),
        ("N8N_RUNNERS_BROKER_LISTEN_ADDRESS", Nothing("`bind` says it")),
        ("QUEUE_HEALTH_CHECK_ACTIVE", Nothing("the recipe asks a worker whether it is ready")),
        ("QUEUE_HEALTH_CHECK_PORT", Nothing("`port` says it")),
    ],
    program: &["start", "worker", "webhook"],
    ..plain("n8n", &[5678], &["/home/node/.n8n"])
};
const GHOST: KnownImage = KnownImage {
    env: &[("url", Nothing("links lead to the recipe's own address: write `url` into `env` for another"))],
    ..plain("ghost", &[2368], &["/var/lib/ghost/content"])
};
const CHANGEDETECTION: KnownImage =
    KnownImage { env: &[("PORT", Nothing("`port` says it"))], ..plain("changedetection", &[5000], &["/config", "/datastore"]) };
const MOTO: KnownImage = plain("moto", &[4566, 5000, 8000], &["/home/dynamodblocal/data"]);
const KIWIX: KnownImage = KnownImage {
    env: &[("PORT", Nothing("`port` says it"))],
    program: &["kiwix-serve", "*.zim"],
    ..plain("kiwix", &[8080, 80], &["/data"])
};
const ARCHIVEBOX: KnownImage = KnownImage { program: &["server"], ..plain("archivebox", &[8000], &["/data"]) };
const WORDPRESS: KnownImage = KnownImage {
    env: &[
        ("WORDPRESS_DB_HOST", SetHost("db_host")),
        ("WORDPRESS_DB_USER", Set("db_user")),
        ("WORDPRESS_DB_PASSWORD", Set("db_password")),
        ("WORDPRESS_DB_NAME", Set("db_name")),
    ],
    program: &["apache2-foreground", "docker-entrypoint.sh"],
    ..plain("wordpress", &[80], &["/var/www/html"])
};

/// The recipe for an image, and what is different about it.
pub(super) fn known(name: &str) -> Option<(KnownImage, Option<&'static str>)> {
    Some(match name {
        "edoburu/pgbouncer" | "bitnami/pgbouncer" | "pgbouncer/pgbouncer" => (PGBOUNCER, None),
        "shopify/toxiproxy" => (TOXIPROXY, None),
        "influxdb" => (INFLUXDB, None),
        "n8nio/n8n" => (N8N, Some("the runner for Python of `n8nio/runners` does not come along")),
        "ghost" => (GHOST, None),
        "linuxserver/changedetection.io" | "dgtlmoon/changedetection.io" => (CHANGEDETECTION, None),
        "motoserver/moto" => (MOTO, None),
        "kiwix/kiwix-serve" => (KIWIX, None),
        "archivebox/archivebox" => (
            ARCHIVEBOX,
            Some("ArchiveBox 0.7: what copies pages beyond Python (Chromium, SingleFile, Readability) comes from PATH"),
        ),
        "wordpress" => (WORDPRESS, Some("WordPress 6.1 with PHP's own web server in the place of Apache")),
        "amazon/dynamodb-local" => (MOTO, Some("Moto takes its place: DynamoDB's interface, in memory")),
        _ => return None,
    })
}

/// An image that is made of others, whose tag says which of them it is: `typeorm/docker:postgres-17.9-postgis-3.6.2-pgvector-0.8.2`.
pub(super) fn by_tag(mut image: Image) -> Image {
    if image.name == "typeorm/docker"
        && let Some(version) = image.tag.as_deref().and_then(|tag| tag.strip_prefix("postgres-"))
    {
        image.tag = version.split('-').next().map(str::to_owned);
        image.name.push_str(":postgres");
    }
    image
}

/// Whether an image of this name and tag is another product than the recipe's, under one name.
pub(super) fn is_other_product(name: &str, tag: Option<&str>) -> bool {
    let major = |tag: &str| tag.split(['.', '-']).next().and_then(|major| major.parse::<u32>().ok());
    // InfluxDB 2 and 3 have another interface and other data; "latest" is one of them.
    name == "influxdb" && tag.and_then(major) != Some(1)
}

impl Importer<'_> {
    /// One image is n8n's pages, a worker or a receiver of webhooks: which of them its command says.
    pub(super) fn n8n_mode(&mut self, draft: &Draft, section: &mut Section) {
        let words = draft.get("command").and_then(syntax::words).unwrap_or_default();
        if let Some(mode) = words.iter().find(|word| matches!(word.as_str(), "worker" | "webhook")) {
            self.report.mapped(draft.key.at, draft.what("command"), format!("set.mode = {mode:?}"));
            section.set("set", Toml::Table(vec![("mode".to_owned(), Toml::text(mode))]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_say_which_product_it_is() {
        let table = [("influxdb", Some("1.12"), false), ("influxdb", Some("1.8-alpine"), false), ("influxdb", Some("2.7"), true)];
        for (name, tag, expected) in table {
            assert_eq!(is_other_product(name, tag), expected, "{tag:?}");
        }
        assert!(is_other_product("influxdb", None) && !is_other_product("redis", None));
        let image = by_tag(syntax::image("ghcr.io/typeorm/docker:postgres-17.9-postgis-3.6.2"));
        assert_eq!((image.name.as_str(), image.tag.as_deref()), ("typeorm/docker:postgres", Some("17.9")));
    }
}
