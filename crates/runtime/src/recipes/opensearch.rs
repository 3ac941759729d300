//! OpenSearch: everything in `set` with a dot in its name is a line of `opensearch.yml`.

use super::context::RecipeContext;
use super::properties::{self, PropertiesFile};
use super::recipe::Recipe;
use crate::exec_request::ExecRequest;
use devrun_model::Failure;

/// OpenSearch: one node, with any of its settings.
pub(super) struct OpenSearch;

const FILE: PropertiesFile = PropertiesFile {
    name: "opensearch.yml",
    own: &["heap", "cluster_name", "disk_threshold"],
    taken: &[
        ("path.data", "`data`"),
        ("path.logs", "the recipe, which writes its log to stdout"),
        ("network.host", "`bind`"),
        ("http.port", "`port`"),
        ("transport.port", "`ports.transport`"),
        ("discovery.type", "the recipe, which runs one node"),
        ("cluster.name", "set.cluster_name"),
        ("node.name", "the recipe, which runs one node"),
        ("cluster.routing.allocation.disk.threshold_enabled", "set.disk_threshold"),
    ],
    example: "set = { heap = \"1g\", \"http.max_content_length\" = \"200mb\" }",
    line: properties::yaml_line,
};

impl Recipe for OpenSearch {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        properties::prepare(context, &FILE)
    }
}
