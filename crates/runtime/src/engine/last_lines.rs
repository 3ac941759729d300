//! What a start of a service said last, for reports of its failure.

use std::path::Path;

use devrun_logs::{LogQuery, last_texts};
use devrun_model::ServiceId;

/// The last lines of one start that are not blank, as people see them. None of an earlier one: a service that was never spawned has said nothing.
/// What cannot be read is not shown.
pub(super) fn last_lines(folder: &Path, id: &ServiceId, generation: Option<u32>, count: usize) -> Vec<String> {
    let Some(generation) = generation else { return Vec::new() };
    let query = LogQuery { generation: Some(generation), ..LogQuery::default() };
    let texts = last_texts(folder, id, &query, count).unwrap_or_default();
    texts.iter().map(|text| shortened(text)).collect()
}

/// An outcome travels whole: the first 4000 characters of a line.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(4000) {
        Some((at, _)) => format!("{} … [line cut: {} more bytes]", &text[..at], text.len() - at),
        None => text.to_owned(),
    }
}
