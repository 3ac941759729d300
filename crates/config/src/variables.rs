//! Which value a variable has: the service's own `env`, its ports, the shell, env files, what else the service is given.

use std::path::PathBuf;

use indexmap::IndexMap;

use super::declared_service::DeclaredService;
use super::diagnostic::Diagnostic;
use super::interpolate::{Reported, Resolved, Resolver, Scope, ScopeKey};
use super::source_map::Span;
use super::toml_node::{TomlNode, get};
use super::value_limits::{LARGEST_SUM, MOST_VARIABLES};
use super::variable_names::port_variable;

/// Names of variables and their values with the place they come from.
pub(crate) type Declared = IndexMap<String, (String, Span)>;

impl Resolver<'_> {
    /// The value of a variable as this scope sees it.
    pub(super) fn variable(&self, name: &str, at: Span, scope: Scope<'_>) -> Resolved<Option<String>> {
        let defining = scope.defining == Some(name);
        if let Some((service_name, replica)) = scope.service
            && let Some(service) = self.services.get(service_name)
            && !scope.global
        {
            if !defining && let Some(value) = self.own(service, replica, name, at)? {
                return Ok(Some(value));
            }
            if !scope.port
                && let Some(value) = self.ours(service, replica, name, at)?
            {
                return Ok(Some(value));
            }
        }
        if let Some(value) = self.outer(name) {
            return Ok(Some(value.0));
        }
        match scope.service {
            Some((service, replica)) if !scope.global => match self.services.get(service) {
                Some(service) => self.given(service, replica, name, at, 0),
                None => Ok(None),
            },
            _ if defining => Ok(None),
            _ => self.global(scope.service, name, at),
        }
    }

    /// The calling shell, `--env-file`, the project's files.
    pub(crate) fn outer(&self, name: &str) -> Option<(String, Option<Span>)> {
        if let Some(value) = self.facts.shell.get(name) {
            return Some((value.clone(), None));
        }
        self.order.iter().find_map(|path| self.files.get(path)?.get(name)).map(|found| (found.value.clone(), Some(found.span)))
    }

    /// The service's own `env`.
    fn own(&self, service: &DeclaredService, replica: u32, name: &str, at: Span) -> Resolved<Option<String>> {
        let Some(node) = service.get("env").and_then(TomlNode::table).and_then(|env| get(env, name)) else { return Ok(None) };
        self.once(ScopeKey::Own(service.name.clone(), replica, name.to_owned()), at, || {
            let scope = Scope { service: Some((&service.name, replica)), defining: Some(name), ..Scope::default() };
            self.text(node, scope).map(Some)
        })
    }

    /// `[env]`.
    fn global(&self, service: Option<(&str, u32)>, name: &str, at: Span) -> Resolved<Option<String>> {
        let Some(node) = get(&self.document.tree, "env").and_then(TomlNode::table).and_then(|env| get(env, name)) else {
            return Ok(None);
        };
        let key = ScopeKey::Global(service.map(|(service, replica)| (service.to_owned(), replica)), name.to_owned());
        self.once(key, at, || self.text(node, Scope { service, global: true, defining: Some(name), port: false }).map(Some))
    }

    /// What else the service is given: its files, another service's variables, `[env]`.
    fn given(&self, service: &DeclaredService, replica: u32, name: &str, at: Span, depth: u32) -> Resolved<Option<String>> {
        for file in self.service_files(service).into_iter().rev() {
            if let Some(found) = self.files.get(&file).and_then(|file| file.get(name)) {
                return Ok(Some(found.value.clone()));
            }
        }
        // `cross_check` has refused circles; the bound only keeps a broken file from going round.
        if depth < 32
            && let Some(other) = service.get("env_from").and_then(TomlNode::text).and_then(|other| self.services.get(other))
        {
            if let Some(value) = self.own(other, 1, name, at)? {
                return Ok(Some(value));
            }
            return self.given(other, 1, name, at, depth + 1);
        }
        self.global(Some((&service.name, replica)), name, at)
    }

    /// The absolute paths of a service's env files.
    pub(crate) fn service_files(&self, service: &DeclaredService) -> Vec<PathBuf> {
        service
            .get("env_file")
            .map(|node| self.document.env_files_of(node).into_iter().map(|file| file.path).collect())
            .unwrap_or_default()
    }

    /// Whether an env file was read.
    pub(crate) fn has_file(&self, path: &PathBuf) -> bool {
        self.files.contains_key(path)
    }

    /// Variables that every child gets.
    fn ours(&self, service: &DeclaredService, replica: u32, name: &str, at: Span) -> Resolved<Option<String>> {
        Ok(match name {
            "PORT" => self.port(service, replica, "main", at)?.map(|port| port.to_string()),
            "DEVRUN_PROJECT" => Some(self.document.project.to_string()),
            "DEVRUN_SERVICE" => Some(service.name.clone()),
            "DEVRUN_REPLICA" => Some(replica.to_string()),
            "DEVRUN_INSTANCE" => Some(self.document.options.instance.clone()),
            _ => match name.strip_prefix("PORT_") {
                Some(suffix) => {
                    let named = self.port_names(service).into_iter().find(|port| port != "main" && port_variable(port) == suffix);
                    match named {
                        Some(port) => self.port(service, replica, &port, at)?.map(|port| port.to_string()),
                        None => None,
                    }
                }
                None => None,
            },
        })
    }

    /// Counts the variables of one copy towards those of all.
    pub(crate) fn count_variables(&self, service: &DeclaredService, declared: &Declared) -> Resolved<()> {
        let (count, bytes) = self.variables.get();
        let more: usize = declared.iter().map(|(name, (value, _))| name.len() + value.len()).sum();
        let (count, bytes) = (count.saturating_add(declared.len()), bytes.saturating_add(more));
        self.variables.set((count, bytes));
        let message = if count > MOST_VARIABLES {
            format!("the services have more than {MOST_VARIABLES} environment variables together")
        } else if bytes > LARGEST_SUM {
            format!("the environment variables of all services are larger than {} MiB together", LARGEST_SUM >> 20)
        } else {
            return Ok(());
        };
        let at = declared.values().next().map_or(service.key, |(_, span)| *span);
        Err(self.report(
            Diagnostic::error(at, message).help("give variables only to the services that need them: [services.NAME.env]"),
        ))
    }

    /// What the procfile gives a service: `[env]`, `env_from`, its `env_file`, its `env`. `None`: taken out by `false`.
    pub(crate) fn declared(&self, service: &DeclaredService, replica: u32, depth: u32) -> Resolved<(Declared, Vec<String>)> {
        let (count, bytes) = self.variables.get();
        if count > MOST_VARIABLES || bytes > LARGEST_SUM {
            // Reported when the limit was passed.
            return Err(Reported);
        }
        let mut out = Declared::new();
        let mut removed = Vec::new();
        let mut failed = false;
        if let Some(table) = get(&self.document.tree, "env").and_then(TomlNode::table) {
            for (name, node) in table {
                if node.is_false() {
                    removed.push(name.clone());
                    continue;
                }
                match self.global(Some((&service.name, replica)), name, node.span) {
                    Ok(Some(value)) => {
                        out.insert(name.clone(), (value, node.span));
                    }
                    Ok(None) => {}
                    Err(Reported) => failed = true,
                }
            }
        }
        if depth < 32
            && let Some(other) = service.get("env_from").and_then(TomlNode::text).and_then(|other| self.services.get(other))
        {
            match self.declared(other, 1, depth + 1) {
                Ok((theirs, _)) => out.extend(theirs),
                Err(Reported) => failed = true,
            }
        }
        for path in self.service_files(service) {
            for (name, found) in self.files.get(&path).into_iter().flatten() {
                out.insert(name.clone(), (found.value.clone(), found.span));
            }
        }
        if let Some(table) = service.tree.get("env").and_then(TomlNode::table) {
            // Each on its own would move all that follow it.
            out.retain(|name, _| !table.get(name).is_some_and(TomlNode::is_false));
            removed.retain(|name| table.get(name).is_none_or(TomlNode::is_false));
            for (name, node) in table {
                if node.is_false() {
                    removed.push(name.clone());
                    continue;
                }
                match self.own(service, replica, name, node.span) {
                    Ok(Some(value)) => {
                        out.insert(name.clone(), (value, node.span));
                    }
                    Ok(None) => {}
                    Err(Reported) => failed = true,
                }
            }
        }
        if failed { Err(Reported) } else { Ok((out, removed)) }
    }
}
