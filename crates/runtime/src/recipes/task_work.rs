//! The work of tasks against servers that run.

use super::ollama::ProgressReporter;
use super::{cypher, json_api, ollama, s3, sql};
use devrun_model::{Failure, ServiceSpec, Work};

/// A task's work against the running server `on`. What takes long says how far it is.
///
/// # Errors
/// `Task`, or `Credentials`.
pub async fn work(work: &Work, on: &ServiceSpec, say: &ProgressReporter<'_>) -> Result<(), Failure> {
    match work {
        Work::Sql { files, text } => sql::work(on, files, text.as_deref()).await,
        Work::Buckets { buckets } => s3::work(on, buckets).await,
        Work::Cypher { files } => cypher::work(on, files).await,
        Work::Collections { collections } => json_api::collections(on, collections).await,
        Work::Models { models } => ollama::work(on, models, say).await,
        Work::Indexes { indexes } => json_api::indexes(on, indexes).await,
    }
}
