//! What a container image's entrypoint knew: argv, first boot, stop, and the work against a running server.
//!
//! A recipe is data (`data/*.toml`, see `model::RecipeData`); `generic` turns it into words, variables and files. Code
//! stands beside it only where data is not enough: `redis` writes its configuration with the settings of `set`,
//! `postgres` and `mariadb` make a cluster and its first database in a stage, `neo4j` builds the line of Java. `sql`,
//! `cypher`, `s3`, `json_api` and `ollama` do the work of tasks against servers that run. Owns no policy: when anything here is called, and what a failure leads to, is the engine's business.

mod adopt;
mod bolt;
mod context;
mod cypher;
mod data_dir;
mod dispatch;
mod ferretdb;
mod first_boot;
mod gateway;
mod generic;
mod json_api;
mod kafka;
mod kafka_connect;
mod lost_data;
mod mariadb;
mod migrate;
mod neo4j;
mod nginx;
mod not_running;
mod ollama;
mod opensearch;
mod output_tail;
mod password_rotation;
mod postgres;
mod private_dir;
mod properties;
mod rabbitmq;
mod recipe;
mod recipes_with_code;
mod redis;
mod registry;
mod run_as;
mod s3;
mod secret_check;
#[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "without a driver no script is run"))]
mod sql;
mod sql_connection;
pub mod sql_split;
mod task_work;
mod telemetry;
mod template;

pub use adopt::adopt;
pub use context::RecipeContext;
pub use cypher::{CypherRows, query as query_cypher};
pub use data_dir::engine_dir;
pub use dispatch::{
    busy_with, cannot_save, end_without_saving, first_boot, password_rotation, prepare, renew, temporary_settings,
};
pub use first_boot::{FirstBoot, FirstBootOutcome};
pub(crate) use first_boot::{INIT_SCRIPT_BEGINS, INIT_SCRIPT_FAILED};
pub use migrate::Migration;
pub use neo4j::{Neo4jTool, neo4j_admin};
pub use not_running::refuse_stopped;
pub use ollama::ProgressReporter;
pub use password_rotation::PasswordRotation;
pub use postgres::socket_folder as postgres_socket_folder;
pub use registry::RecipeRegistry;
pub use secret_check::check_secrets;
pub use sql::{SqlColumnKind, SqlError, SqlTable, ask as ask_sql, migrate, migrations, query as query_sql, unseen_migrations};
pub use sql_connection::SqlConnection;
pub use task_work::work;
pub use template::{TemplateValues, fill_template};
