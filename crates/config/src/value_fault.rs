//! Faults of values that only the machine can show, such as the name of a file that is missing: who finds one gives the key, and
//! gets a report with the place, as for every other error of a procfile.

use super::diagnostic::{Diagnostic, Report, Severity, place};
use super::document::Document;
use super::source_map::Span;
use super::toml_node::{TomlNode, TomlValue, get};

/// A step from a table or list to one of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStep {
    /// The value of this key.
    Key(&'static str),
    /// The value at this position, from 0; a value that is not a list is its only element.
    Nth(usize),
}

/// A fault of a value of a service or task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueFault {
    /// Its table in the procfile.
    pub service: String,
    /// From its table to the value. Where a step leads nowhere, the last value before it is the place.
    pub steps: Vec<KeyStep>,
    /// What is wrong.
    pub message: String,
    /// What may be done.
    pub help: String,
    /// Nothing is started for it; else it is a warning.
    pub is_error: bool,
}

impl Document {
    /// The faults with their places.
    #[must_use]
    pub fn report(&self, faults: &[ValueFault]) -> Report {
        let diagnostics = faults.iter().map(|fault| {
            let severity = if fault.is_error { Severity::Error } else { Severity::Warning };
            let span = self.value_span(&fault.service, &fault.steps);
            Diagnostic { severity, span, ..Diagnostic::nowhere(fault.message.clone()).help(fault.help.clone()) }
        });
        Report::new(diagnostics.collect(), self.sources.clone())
    }

    /// Where a service or task says this, as `FILE:LINE:COLUMN`; `None` where no file does.
    #[must_use]
    pub fn value_place(&self, service: &str, steps: &[KeyStep]) -> Option<String> {
        let span = self.value_span(service, steps)?;
        Some(place(self.sources.get(span.file).filter(|text| !text.layer)?, span))
    }

    fn value_span(&self, service: &str, steps: &[KeyStep]) -> Option<Span> {
        let mut tables = ["services", "tasks"].into_iter().filter_map(|section| get(&self.tree, section)?.table());
        let mut node = tables.find_map(|table| get(table, service))?;
        for step in steps {
            let next = match (step, &node.value) {
                (KeyStep::Key(key), TomlValue::Table(table)) => get(table, key),
                (KeyStep::Nth(at), TomlValue::Table(table)) => table.get_index(*at).map(|(_, node)| node),
                (KeyStep::Nth(at), _) => node.elements().get(*at),
                (KeyStep::Key(_), _) => None,
            };
            let Some(next) = next else { break };
            node = next;
        }
        Some(place_of(node))
    }
}

/// The value; the name of a table, as its value goes over many lines.
fn place_of(node: &TomlNode) -> Span {
    if node.table().is_some() { node.key } else { node.span }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Source, examine};

    #[derive(Debug)]
    struct NoRecipes;
    impl devrun_model::RecipeBook for NoRecipes {
        fn find(&self, _: &str) -> Option<&devrun_model::RecipeData> {
            None
        }
        fn names(&self) -> Vec<&str> {
            Vec::new()
        }
    }

    #[test]
    fn the_value_is_the_place_as_far_as_there_is_one() {
        let text = "[services.db]\nexternal = \"tcp://127.0.0.1:1\"\n[tasks.seed]\nsql = [\"a.sql\", \"b.sql\"]\non = \"db\"\n[tasks.one]\nsql = \"c.sql\"\non = \"db\"\n";
        let source = Source { name: "procfile.toml".to_owned(), path: "/p/procfile.toml".into(), text: text.to_owned() };
        let (document, report) = examine(&[source], &Options::default(), &NoRecipes);
        let document = document.unwrap_or_else(|| panic!("{}", report.render(false)));
        use KeyStep::{Key, Nth};
        for (service, steps, place) in [
            ("seed", &[Key("sql"), Nth(1)][..], "procfile.toml:4:17: x"),
            ("one", &[Key("sql"), Nth(0)], "procfile.toml:7:7: x"),
            ("one", &[Key("sql"), Nth(7)], "procfile.toml:7:7: x"),
            ("db", &[Key("init"), Nth(0)], "procfile.toml:1:11: x"),
            ("missing", &[], "x"),
        ] {
            let fault = ValueFault {
                service: service.to_owned(),
                steps: steps.to_vec(),
                message: "x".to_owned(),
                help: "y".to_owned(),
                is_error: true,
            };
            assert_eq!(document.report(&[fault]).first_error().as_deref(), Some(place), "{service} {steps:?}");
        }
    }
}
