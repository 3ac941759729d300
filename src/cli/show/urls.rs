//! `devrun urls` and `devrun ports`: addresses, and who holds them.

use crate::cli::table_args::TableArgs;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::ui::table;
use crate::ui::term::{Term, safe, say};
use devrun_model::{Failure, Kind, Launch, State};
use devrun_runtime::ports::{self, PortHolder};

use crate::app::port_conflicts;
use crate::app::readonly::{self, Seen};
use crate::globals::Globals;

#[derive(Serialize)]
struct Address {
    name: String,
    service: String,
    url: String,
    state: State,
    description: Option<String>,
    links: BTreeMap<String, String>,
}

/// `devrun urls`.
///
/// # Errors
/// `Config` for a procfile with errors.
pub fn urls(globals: &Globals, args: &TableArgs, _term: Term) -> Result<i32, Failure> {
    let seen = Seen::new(globals, &[])?;
    let addresses: Vec<Address> = seen
        .plan
        .services
        .values()
        .filter(|spec| spec.kind == Kind::Service && !seen.is_private(spec, "main"))
        .filter_map(|spec| {
            let status = seen.status(spec);
            let live = status.filter(|_| seen.running()).and_then(|status| status.url.clone());
            let own =
                (!spec.ports.is_empty() || matches!(spec.launch, Launch::External { .. })).then(|| readonly::public_url(spec));
            let url = live.or(own.flatten())?;
            let base = url.trim_end_matches('/');
            let full = |link: &String| if link.starts_with('/') { format!("{base}{link}") } else { link.clone() };
            Some(Address {
                name: spec.id.to_string(),
                service: spec.service.to_string(),
                state: status.map_or(State::Stopped, |status| status.state),
                description: spec.description.clone(),
                links: spec.links.iter().map(|(label, link)| (label.clone(), full(link))).collect(),
                url,
            })
        })
        .collect();
    if args.json {
        return readonly::json(&addresses);
    }
    if addresses.is_empty() {
        say("no service has an address");
    }
    let mut rows = Vec::new();
    for address in &addresses {
        let description = safe(address.description.as_deref().unwrap_or_default());
        rows.push(vec![address.name.clone(), address.state.to_string(), safe(&address.url), description]);
        for (label, link) in &address.links {
            rows.push(vec![String::new(), String::new(), safe(link), safe(label)]);
        }
    }
    Ok(readonly::text(&if rows.is_empty() {
        String::new()
    } else {
        table::render(&["NAME", "STATE", "URL", "DESCRIPTION"], &rows)
    }))
}

#[derive(Serialize)]
struct PortRow {
    name: String,
    service: String,
    port_name: String,
    port: u16,
    addr: String,
    state: State,
    /// Who listens there now, whoever it is.
    pid: Option<i32>,
    command: Option<String>,
}

/// `devrun ports`.
///
/// # Errors
/// `Config` for a procfile with errors.
pub fn ports(globals: &Globals, args: &TableArgs, _term: Term) -> Result<i32, Failure> {
    let seen = Seen::new(globals, &[])?;
    let mut found = Vec::new();
    let mut holders = Vec::new();
    for spec in seen.plan.services.values().filter(|spec| !matches!(spec.launch, Launch::External { .. })) {
        for (name, port) in seen.ports(spec).iter().filter(|(name, _)| !seen.is_private(spec, name)) {
            let mut holder = ports::check_free(&spec.bind, *port).err();
            let leader = seen.status(spec).and_then(|status| status.pid);
            if let Some(holder) = holder.as_mut().filter(|holder| holder.pid.is_some() && holder.pid == leader) {
                // Servers that write over their environment, such as Redis, carry no mark.
                holder.project.get_or_insert_with(|| seen.plan.project.to_string());
            }
            found.push(PortRow {
                name: spec.id.to_string(),
                service: spec.service.to_string(),
                port_name: name.clone(),
                port: *port,
                addr: format!("{}:{port}", spec.bind),
                state: seen.status(spec).map_or(State::Stopped, |status| status.state),
                pid: holder.as_ref().and_then(|holder| holder.pid),
                command: holder.as_ref().and_then(|holder| holder.command.clone()),
            });
            holders.push((*port, holder.unwrap_or_default()));
        }
    }
    if args.json {
        return readonly::json(&found);
    }
    if found.is_empty() {
        say("no service has a port");
        return Ok(devrun_model::exit::DONE);
    }
    crate::app::runtime::runtime()?.block_on(port_conflicts::name_projects(&mut holders));
    let rows: Vec<Vec<String>> = found
        .iter()
        .zip(holders)
        .map(|(port, (_, holder))| {
            let holder = if holder == PortHolder::default() { String::new() } else { holder.to_string() };
            let (name, number) = (port.port_name.clone(), port.port.to_string());
            vec![port.name.clone(), name, number, port.addr.clone(), port.state.to_string(), safe(&holder)]
        })
        .collect();
    Ok(readonly::text(&table::render(&["NAME", "PORT NAME", "PORT", "ADDRESS", "STATE", "HELD BY"], &rows)))
}
