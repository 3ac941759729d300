//! Configuration files of servers: mounts and `configs` that a recipe can use.

use super::super::yaml::Node;
use super::Importer;
use super::classify::Draft;

pub(super) fn configs(importer: &mut Importer<'_>, draft: &Draft, node: &Node) {
    importer.report.not_mapped(node.at, draft.what("configs"), "a file of the container: the program must read it where it lies here");
}
