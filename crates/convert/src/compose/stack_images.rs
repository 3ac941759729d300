//! Images of servers that stand in example stacks: stream processing, schemas, documents. `images` asks here for what
//! is not itself a database.

use super::super::toml_writer::{Section, Toml};
use super::app_images;
use super::draft::{Draft, NativeKind};
use super::hostnames::{self, HostMatch, Target};
use super::importer::Importer;
use super::known_image::Becomes::{Nothing, Set};
use super::known_image::{KnownImage, plain};

const FLINK: KnownImage = KnownImage {
    named: &[(6123, "rpc"), (6124, "blob")],
    env: &[
        ("JOB_MANAGER_RPC_ADDRESS", Nothing("it is the JobManager")),
        ("FLINK_PROPERTIES", Nothing("addresses and ports are the recipe's; its slots are read")),
    ],
    program: &["jobmanager"],
    ..plain("flink", &[8081, 9081], &[])
};
const FLINK_TASKMANAGER: KnownImage = KnownImage {
    named: &[(6125, "data")],
    env: &[
        ("JOB_MANAGER_RPC_ADDRESS", Nothing("the JobManager of this file says it")),
        ("FLINK_PROPERTIES", Nothing("addresses and ports are the recipe's; its slots are read")),
        ("TASK_MANAGER_NUMBER_OF_TASK_SLOTS", Set("slots")),
    ],
    program: &["taskmanager"],
    ..plain("flink_taskmanager", &[6122], &[])
};
const APICURIO: KnownImage = KnownImage {
    env: &[
        ("QUARKUS_PROFILE", Nothing("the recipe runs the server as in production")),
        ("QUARKUS_HTTP_PORT", Nothing("`port` says it")),
    ],
    ..plain("apicurio", &[8080], &[])
};
const DEBEZIUM_SERVER: KnownImage = KnownImage {
    env: &[("QUARKUS_HTTP_PORT", Nothing("`port` says it")), ("JAVA_OPTS", Nothing("`set.heap` is its memory"))],
    ..plain("debezium_server", &[8080], &["/debezium/data"])
};
const TIKA: KnownImage = plain("tika", &[9998], &[]);
const MOCKSERVER: KnownImage = KnownImage {
    env: &[("MOCKSERVER_SERVER_PORT", Nothing("`port` says it")), ("SERVER_PORT", Nothing("`port` says it"))],
    ..plain("mockserver", &[1080], &[])
};
const QUESTDB: KnownImage = KnownImage {
    named: &[(8812, "pg"), (9009, "line"), (9003, "health")],
    env: &[("QDB_HTTP_BIND_TO", Nothing("`port` says it"))],
    ..plain("questdb", &[9000], &["/var/lib/questdb", "/root/.questdb"])
};
/// The recipe for an image, and what is different about it.
pub(super) fn known(name: &str) -> Option<(KnownImage, Option<&'static str>)> {
    Some(match name {
        "flink" | "apache/flink" | "bitnami/flink" => (FLINK, None),
        "cnfldemos/flink-kafka" => {
            (FLINK, Some("Flink 2 itself: the connectors for Kafka that the image adds do not come along"))
        }
        "apicurio/apicurio-registry" | "apicurio/apicurio-registry-mem" => (APICURIO, None),
        "apicurio/apicurio-registry-kafkasql" | "apicurio/apicurio-registry-sql" => {
            (APICURIO, Some("the recipe keeps schemas in its memory: they are gone with a restart"))
        }
        "confluentinc/cp-schema-registry" | "bitnami/schema-registry" => (
            KnownImage {
                env: &[
                    ("SCHEMA_REGISTRY_HOST_NAME", Nothing("`bind` says it")),
                    ("SCHEMA_REGISTRY_LISTENERS", Nothing("`port` says it")),
                    ("SCHEMA_REGISTRY_KAFKASTORE_BOOTSTRAP_SERVERS", Nothing("it keeps schemas in its memory")),
                    ("SCHEMA_REGISTRY_KAFKASTORE_CONNECTION_URL", Nothing("it keeps schemas in its memory")),
                ],
                program: &["run"],
                ..plain("apicurio", &[8081], &[])
            },
            Some(
                "Apicurio Registry takes its place, with Confluent's interface below /apis/ccompat/v7, which is added to the addresses \
                 in this file; schemas are kept in memory",
            ),
        ),
        "debezium/server" => (
            DEBEZIUM_SERVER,
            Some(
                "Debezium Server 2.7: what the image holds beyond that, or another version names otherwise, does not come along",
            ),
        ),
        "mockserver/mockserver" | "jamesdbloom/mockserver" => (MOCKSERVER, None),
        "questdb/questdb" => (QUESTDB, None),
        "apache/tika" | "logicalspark/docker-tikaserver" => (TIKA, None),
        _ => return app_images::known(name),
    })
}

/// One image may run several servers: which one its command says.
pub(super) fn by_command(known: KnownImage, words: &[String]) -> KnownImage {
    if known.recipe == "flink" && words.iter().any(|word| word == "taskmanager") { FLINK_TASKMANAGER } else { known }
}

/// The path below which a server that takes another's place has the other's interface.
pub(super) fn path(draft: &Draft) -> Option<&'static str> {
    let NativeKind::Recipe { known, .. } = &draft.kind else { return None };
    (known.recipe == "apicurio" && known.main == [8081]).then_some("/apis/ccompat/v7")
}

/// Whether its files are properties, whose keys say which values are hosts and ports.
pub(super) fn reads_properties(draft: &Draft) -> bool {
    matches!(&draft.kind, NativeKind::Recipe { known, .. } if known.recipe == "debezium_server")
}

/// Properties with the addresses of this machine: `…hostname=NAME`, its port, and addresses.
pub(super) fn properties(text: &str, targets: &[Target], found: &mut HostMatch) -> String {
    let pairs: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.trim(), value.trim())).collect();
    let host_beside = |key: &str| {
        let stem = key.strip_suffix(".port")?;
        let (_, host) =
            pairs.iter().find(|(other, _)| [".hostname", ".host"].iter().any(|end| other.strip_suffix(end) == Some(stem)))?;
        targets.iter().find(|target| target.hosts.iter().any(|name| name == host))
    };
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let written = line.split_once('=').filter(|_| !line.trim_start().starts_with('#')).map(|(key, value)| {
            let trimmed = value.trim();
            let port = host_beside(key.trim()).and_then(|target| target.port(trimmed.parse().ok()?));
            let value = port.unwrap_or_else(|| hostnames::rewrite(trimmed, true, targets, found));
            format!("{key}={value}")
        });
        out.push_str(written.as_deref().unwrap_or(line));
        out.push('\n');
    }
    out
}

impl Importer<'_> {
    /// A TaskManager finds the JobManager of the file; its slots stand among the lines of a variable.
    pub(super) fn flink_taskmanager(&mut self, draft: &Draft, section: &mut Section) {
        let mut set = Vec::new();
        if let Some(target) = self.targets.iter().find(|target| target.recipe == Some("flink")) {
            let name = target.name.clone();
            self.report.mapped(draft.key.at, draft.what("image"), format!("set.jobmanager: `{name}`"));
            set.push(("jobmanager".to_owned(), Toml::text(format!("${{{name}.host}}"))));
            set.push(("jobmanager_port".to_owned(), Toml::text(format!("${{{name}.ports.rpc}}"))));
        }
        if let Some(slots) = draft.variable("FLINK_PROPERTIES").as_deref().and_then(flink_slots) {
            self.report.mapped(draft.key.at, draft.what("environment"), format!("set.slots = {slots}"));
            set.push(("slots".to_owned(), Toml::text(slots)));
        }
        if !set.is_empty() {
            section.set("set", Toml::Table(set));
        }
    }
}

/// The slots of a Flink's TaskManager, out of the lines of its properties.
fn flink_slots(lines: &str) -> Option<String> {
    let slots = lines.lines().find_map(|line| line.trim().strip_prefix("taskmanager.numberOfTaskSlots:"))?.trim();
    slots.parse::<u16>().ok().map(|slots| slots.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_name_hosts_and_the_ports_beside_them() {
        let target = Target {
            name: "db".to_owned(),
            hosts: vec!["mysql".to_owned()],
            main: Some(3306),
            present: true,
            has_port: true,
            ..Target::default()
        };
        let text = "# mysql\na.database.hostname=mysql\na.database.port=3306\nb.port=3306\nc.url=jdbc:mysql://mysql:3306/x\nd=mysql:3306\n";
        let expected = "# mysql\na.database.hostname=${db.host}\na.database.port=${db.port}\nb.port=3306\nc.url=jdbc:mysql://${db.addr}/x\nd=${db.addr}\n";
        assert_eq!(properties(text, &[target], &mut HostMatch::new()), expected);
    }

    #[test]
    fn a_command_says_which_of_flinks_servers_it_is() {
        let table = [(&["taskmanager"][..], "flink_taskmanager"), (&["jobmanager"], "flink"), (&[], "flink")];
        for (words, recipe) in table {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(by_command(FLINK, &words).recipe, recipe, "{words:?}");
        }
    }
}
