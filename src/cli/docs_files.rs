//! The files of `docs/` that are made from the tables of this program.

use devrun_model::{Failure, FailureKind, exit};

use crate::app::procfile_schema::schema_text;
use crate::cli::args::DocsArgs;
use crate::cli::machine_docs;
use crate::cli::reference::{cli_reference, procfile_reference};

/// Each file and its text.
fn files() -> [(&'static str, String); 4] {
    [
        ("procfile.schema.json", schema_text()),
        ("reference-cli.md", cli_reference()),
        ("reference-procfile.md", procfile_reference()),
        ("llms.txt", machine_docs::llms()),
    ]
}

/// `devrun __docs DIR`: everything in `docs/` that is made.
///
/// # Errors
/// `Config` when the directory cannot be written to.
pub fn write(args: &DocsArgs) -> Result<i32, Failure> {
    for (name, text) in files() {
        let path = args.dir.join(name);
        std::fs::write(&path, text).map_err(|error| {
            Failure::new(FailureKind::Config, format!("{} cannot be written: {error}", path.display()))
                .help("choose another directory")
        })?;
    }
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cargo run -- __docs docs` brings them up to date.
    #[test]
    fn what_is_made_in_docs_is_that_of_this_program() {
        for (name, text) in files() {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(kept == text, "docs/{name} is out of date: cargo run -- __docs docs");
        }
    }
}
