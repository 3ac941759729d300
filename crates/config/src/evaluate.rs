//! A [`Document`] with everything that values come from: what to choose and make, the plan, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Diagnostic, Report, Severity};
use super::document::{Document, SECRET_LENGTH};
use super::examine::line_of;
use super::interpolate::{Resolver, Scope};
use super::reader::Reader;
use super::toml_node::{Table, TomlNode, get};
use super::{Facts, RequiredSecret, RequiredValues, cross_check, lower, masked_values, services};
use devrun_model::Plan;

/// Past this many faults a file is junk, and not worth a look at its values.
const MANY: usize = 200;

impl Document {
    /// How many copies the procfile says, by service, whatever was set next to it.
    #[must_use]
    pub fn declared_replicas(&self, facts: &Facts) -> BTreeMap<String, u32> {
        // What is wrong with it has been reported.
        let Ok(resolver) = self.resolver(facts) else { return BTreeMap::new() };
        resolver.services.values().map(|service| (service.name.clone(), resolver.declared_replicas(service))).collect()
    }

    /// What to choose and make; ports that are placeholders are resolved with `facts`.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn required_values(&self, facts: &Facts) -> Result<RequiredValues, Report> {
        let resolver = self.resolver(facts)?;
        let mut wants = RequiredValues { secrets_dir: self.secrets_dir(), ..RequiredValues::default() };
        wants.secrets = self.generated_secrets().into_iter().map(|(name, length)| RequiredSecret { name, length }).collect();
        for service in resolver.services.values().filter(|service| service.active) {
            if let Some(name) = resolver.generated_password(service)
                && !wants.secrets.iter().any(|want| want.name == name)
            {
                wants.secrets.push(RequiredSecret { name, length: SECRET_LENGTH });
            }
            if service.get("external").is_some() {
                continue;
            }
            wants.add_ports(&resolver, service);
        }
        let empty = Table::new();
        let project = get(&self.tree, "project").and_then(TomlNode::table).unwrap_or(&empty);
        let project = Reader { resolver: &resolver, table: project, scope: Scope::default() };
        if let Some(inner) = project.inner("requires") {
            // What is not a size is among the problems.
            wants.memory = inner.size("memory").ok().flatten().map(|size| size.0);
            wants.disk = inner.size("disk").ok().flatten().map(|size| size.0);
        }
        let problems = masked_values::take_problems(&resolver);
        if problems.iter().any(|d| d.severity == Severity::Error) {
            return Err(Report::new(problems, resolver.sources.into_inner()));
        }
        Ok(wants)
    }

    /// The plan, and warnings.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn lower(&self, facts: &Facts) -> Result<(Plan, Report), Report> {
        let resolver = self.resolver(facts)?;
        let plan = lower::plan(&resolver);
        let mut problems = masked_values::take_problems(&resolver);
        problems.extend(self.warnings.iter().cloned());
        let report = Report::new(problems, resolver.sources.into_inner());
        match plan {
            Ok(plan) if !report.has_errors() => Ok((plan, report)),
            _ => Err(report),
        }
    }

    /// Everything that is wrong: what [`examine`](super::examine) found, and what is wrong with the values of a file whose shape or edges
    /// are wrong already. What only follows from a fault that is named is left out.
    #[must_use]
    pub fn faults(&self, facts: &Facts, first: &Report) -> Report {
        let mut sources = self.sources.clone();
        let own = |d: &&Diagnostic| d.span.is_none_or(|span| self.sources.get(span.file).is_some());
        let mut problems: Vec<Diagnostic> = first.diagnostics().iter().filter(own).cloned().collect();
        if problems.len() > MANY {
            return first.clone();
        }
        let services = services::assemble(self, Some(facts), &mut sources, &mut problems);
        cross_check::services(self, &services, &mut problems);
        self.check_required_files(facts, &mut problems);
        let error = |d: &&Diagnostic| d.severity == Severity::Error;
        let lines: BTreeSet<(u32, usize)> = problems.iter().filter(error).filter_map(|d| line_of(&sources, d)).collect();
        // Whoever refers to a service that could not be understood is not at fault.
        let unknown: Vec<String> = ["services", "tasks"]
            .iter()
            .filter_map(|section| get(&self.tree, section)?.table())
            .flat_map(|table| table.keys())
            .filter(|name| match services.get(*name) {
                Some(service) => service.get("use").is_some() && service.recipe.is_none(),
                None => true,
            })
            .map(|name| format!("${{{name}."))
            .collect();
        let resolver = Resolver::new(self, facts, services, sources);
        // Its problems are what is asked for.
        let _plan = lower::plan(&resolver);
        let mut found = masked_values::take_problems(&resolver);
        let sources = resolver.sources.into_inner();
        found.retain(|d| {
            let Some((file, line)) = line_of(&sources, d) else { return true };
            let text = sources.get(file).map_or("", |text| text.line(line).0);
            !lines.contains(&(file, line)) && !unknown.iter().any(|reference| text.contains(reference))
        });
        problems.append(&mut found);
        Report::new(problems, sources)
    }

    /// Services with their layers and everything that values come from.
    pub(super) fn resolver<'a>(&'a self, facts: &'a Facts) -> Result<Resolver<'a>, Report> {
        let mut sources = self.sources.clone();
        let mut problems = Vec::new();
        let services = services::assemble(self, Some(facts), &mut sources, &mut problems);
        cross_check::services(self, &services, &mut problems);
        self.check_required_files(facts, &mut problems);
        if problems.iter().any(|d| d.severity == Severity::Error) {
            return Err(Report::new(problems, sources));
        }
        let resolver = Resolver::new(self, facts, services, sources);
        resolver.problems.borrow_mut().append(&mut problems);
        Ok(resolver)
    }
}
