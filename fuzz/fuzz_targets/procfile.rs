//! A procfile of any text: diagnostics or a plan, never a panic and never a hang.
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
    let source = Source { name: "procfile.toml".to_owned(), path: PathBuf::from("/p/procfile.toml"), text: text.to_owned() };
    let options = Options { profiles: vec!["*".to_owned()], ..Options::default() };
    let (document, report) = devrun_config::examine(&[source], &options, &*BOOK);
    let Some(document) = document else {
        let _ = report.render(true);
        return;
    };
    let mut facts = Facts {
        shell: BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]),
        ..Facts::of_places(Paths { root: "/p".into(), state: "/p/.devrun".into(), run: "/r".into() })
    };
    if report.has_errors() {
        let _ = document.faults(&facts, &report).render(true);
        return;
    }
    let Ok(wants) = document.required_values(&facts) else { return };
    for want in &wants.secrets {
        facts.secrets.insert(want.name.clone(), "secret".to_owned());
    }
    for (index, want) in wants.ports.iter().enumerate() {
        facts.ports.insert((want.service.clone(), want.name.clone()), 20_000 + u16::try_from(index % 40_000).unwrap_or(0));
    }
    match document.lower(&facts) {
        Ok((plan, report)) => {
            let _ = report.render(true);
            let text = serde_json::to_string(&plan).expect("a plan is JSON");
            let _: devrun_model::Plan = serde_json::from_str(&text).expect("what the supervisor is told it understands");
        }
        Err(report) => drop(report.render(true)),
    }
});
