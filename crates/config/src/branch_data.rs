//! `[project].branch_data`, which has to be known before the places of volumes are.

use super::document::Document;
use super::toml_node::{TomlNode, TomlValue, get};

impl Document {
    /// Whether data follow the git branch.
    #[must_use]
    pub fn branch_data(&self) -> bool {
        let project = get(&self.tree, "project").and_then(TomlNode::table);
        project.and_then(|project| get(project, "branch_data")).is_some_and(|node| matches!(node.value, TomlValue::Bool(true)))
    }
}
