//! What the commands about saved data have in common: which volumes are meant, how the stack is held still meanwhile, and how
//! data come back.
//!
//! Two ways to hold still. `save` and `backup` stop the servers inside the running supervisor and start them again, which is
//! the shortest pause; that nothing was started meanwhile is checked before the copy counts. `restore` replaces data, so it
//! takes the whole stack down and holds its lock: nothing can start in the middle.

pub mod backup;
pub mod backup_stage;
pub mod branch;
pub mod branch_name;
pub mod bucket_dump;
pub mod counts;
pub mod dump_program;
pub mod fork;
pub mod interruptible_work;
pub mod mariadb_dump;
pub mod neo4j_dump;
pub mod pause;
pub mod postgres_dump;
pub mod private_server;
pub mod recovery;
pub mod reload;
pub mod replace;
pub mod selection;
