//! Any text as a value that is filled in (`${…}`), as a command that is split into words, and as a task's SQL file name:
//! diagnostics or a plan, never a panic and never a hang.
#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use devrun_config::{Facts, Options, Source};
use devrun_model::Paths;
use devrun_runtime::recipes::RecipeRegistry;
use libfuzzer_sys::fuzz_target;

static BOOK: LazyLock<RecipeRegistry> = LazyLock::new(RecipeRegistry::new);

fuzz_target!(|text: &str| {
    // What JSON escapes TOML reads alike.
    let quoted = serde_json::to_string(text).expect("it is JSON");
    let procfile = format!(
        "[env]\nTOP = {quoted}\n[secrets]\ngenerate = [\"key\"]\n[services.a]\nrun = {quoted}\nport = 20001\nenv = {{ X = {quoted}, Y = \"${{TOP}}\" }}\nready = {{ http = {quoted} }}\n[services.b]\nrun = \"b\"\ndepends_on = [\"a\"]\nenv = {{ Z = {quoted} }}\nlinks = {{ L = {quoted} }}\n"
    );
    let source = Source { name: "procfile.toml".to_owned(), path: PathBuf::from("/p/procfile.toml"), text: procfile };
    let (document, report) = devrun_config::examine(&[source], &Options::default(), &*BOOK);
    let Some(document) = document else { return drop(report.render(true)) };
    let mut facts = Facts {
        shell: BTreeMap::from([("HOME".to_owned(), "/h".to_owned()), ("EMPTY".to_owned(), String::new())]),
        ..Facts::of_places(Paths { root: "/p".into(), state: "/p/.devrun".into(), run: "/r".into() })
    };
    let Ok(wants) = document.required_values(&facts) else { return };
    for want in &wants.secrets {
        facts.secrets.insert(want.name.clone(), "s3cret".to_owned());
    }
    for (index, want) in wants.ports.iter().enumerate() {
        facts.ports.insert((want.service.clone(), want.name.clone()), 20_000 + u16::try_from(index % 40_000).unwrap_or(0));
    }
    match document.lower(&facts) {
        Ok((plan, report)) => {
            drop(report.render(true));
            let text = serde_json::to_string(&plan).expect("a plan is JSON");
            let _: devrun_model::Plan = serde_json::from_str(&text).expect("what the supervisor is told it understands");
        }
        Err(report) => drop(report.render(true)),
    }
});
