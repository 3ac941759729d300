//! Kafka Connect: everything in `set` with a dot in its name is a line of its worker's file.

use super::context::RecipeContext;
use super::properties::{self, PropertiesFile};
use super::recipe::Recipe;
use crate::exec_request::ExecRequest;
use devrun_model::Failure;

/// Kafka Connect: one worker, with any of its settings.
pub(super) struct KafkaConnect;

const FILE: PropertiesFile = PropertiesFile {
    name: "connect-distributed.properties",
    own: &["heap", "bootstrap_servers", "plugin_path"],
    taken: &[
        ("bootstrap.servers", "set.bootstrap_servers"),
        ("plugin.path", "set.plugin_path"),
        ("listeners", "`port` and `bind`"),
        ("rest.port", "`port`"),
        ("rest.advertised.host.name", "`bind`"),
        ("rest.advertised.port", "`port`"),
    ],
    example: "set = { bootstrap_servers = \"${kafka.addr}\", \"offset.flush.interval.ms\" = \"1000\" }",
    line: properties::java_line,
};

impl Recipe for KafkaConnect {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        properties::prepare(context, &FILE)
    }
}
