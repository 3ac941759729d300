//! Any text as a compose file and as a process-compose file: a reason, or a procfile that is TOML; never a panic and never a
//! hang.
#![no_main]

use std::path::{Path, PathBuf};

use devrun_config::{Options, Source};
use devrun_convert::ForeignFormat;
use devrun_runtime::recipes::RecipeRegistry;
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static BOOK: LazyLock<RecipeRegistry> = LazyLock::new(RecipeRegistry::new);

fuzz_target!(|text: &str| {
    for (format, name) in [(ForeignFormat::Compose, "/p/compose.yml"), (ForeignFormat::ProcessCompose, "/p/process-compose.yaml")] {
        // `include` and `env_file` find nothing but the file itself.
        let read = |path: &Path| (path == Path::new(name)).then(|| text.to_owned());
        let Ok(converted) = devrun_convert::import(format, &[PathBuf::from(name)], Path::new("/p"), &read) else { continue };
        let source = Source { name: "procfile.toml".to_owned(), path: PathBuf::from("/p/procfile.toml"), text: converted.text };
        let (document, report) = devrun_config::examine(&[source], &Options::default(), &*BOOK);
        assert!(document.is_some(), "what we write we can read: {}", report.render(false));
    }
});
