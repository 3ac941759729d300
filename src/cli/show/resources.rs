//! `devrun resources`: what the services may use and want set aside, all together, and what of it is enforced here.

use serde::Serialize;

use crate::cli::table_args::TableArgs;
use crate::ui::table;
use crate::ui::term::{Term, safe};
use devrun_keeper::cgroup;
use devrun_model::{ByteSize, Failure, Plan};
use devrun_runtime::stats;

use crate::app::load::{self, Wanted};
use crate::app::readonly;
use crate::globals::Globals;

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ServiceResources {
    name: String,
    service: String,
    replica: u32,
    limit_cpu: Option<f64>,
    limit_memory_bytes: Option<u64>,
    limit_nofile: Option<u64>,
    limit_pids: Option<u64>,
    reserve_cpu: Option<f64>,
    reserve_memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize)]
struct Totals {
    limit_cpu: f64,
    limit_memory_bytes: u64,
    reserve_cpu: f64,
    reserve_memory_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Machine {
    cpu: Option<usize>,
    memory_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Enforcement {
    limit: &'static str,
    enforced: bool,
    how: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Resources {
    services: Vec<ServiceResources>,
    total: Totals,
    machine: Machine,
    enforcement: Vec<Enforcement>,
}

/// Runs it.
///
/// # Errors
/// `Config` for a procfile with errors.
pub fn run(globals: &Globals, args: &TableArgs, _term: Term) -> Result<i32, Failure> {
    let project = load::project(globals)?;
    let plan = load::plan(globals, &project, &Wanted::look())?;
    let machine = Machine {
        cpu: std::thread::available_parallelism().ok().map(std::num::NonZero::get),
        memory_bytes: stats::memory_total(),
        memory_available_bytes: stats::memory_available(),
    };
    let services = services(&plan);
    let found = Resources {
        total: totals(&services),
        services,
        machine,
        enforcement: enforcement(project.env.contains_key("DEVRUN_NO_CGROUP")),
    };
    if args.json { readonly::json(&found) } else { Ok(readonly::text(&text(&found))) }
}

fn services(plan: &Plan) -> Vec<ServiceResources> {
    let one = |spec: &std::sync::Arc<devrun_model::ServiceSpec>| ServiceResources {
        name: spec.id.to_string(),
        service: spec.service.to_string(),
        replica: spec.replica,
        limit_cpu: spec.limits.cpu,
        limit_memory_bytes: spec.limits.memory.map(|size| size.0),
        limit_nofile: spec.limits.nofile,
        limit_pids: spec.limits.pids,
        reserve_cpu: spec.reserve.cpu,
        reserve_memory_bytes: spec.reserve.memory.map(|size| size.0),
    };
    plan.services.values().map(one).collect()
}

fn totals(services: &[ServiceResources]) -> Totals {
    Totals {
        limit_cpu: services.iter().filter_map(|one| one.limit_cpu).sum(),
        limit_memory_bytes: services.iter().filter_map(|one| one.limit_memory_bytes).sum(),
        reserve_cpu: services.iter().filter_map(|one| one.reserve_cpu).sum(),
        reserve_memory_bytes: services.iter().filter_map(|one| one.reserve_memory_bytes).sum(),
    }
}

fn enforcement(switched_off: bool) -> Vec<Enforcement> {
    let controller = |limit: &'static str| {
        let missing = if switched_off { Some("DEVRUN_NO_CGROUP is set".to_owned()) } else { cgroup::missing_controller(limit) };
        Enforcement { limit, enforced: missing.is_none(), how: missing.unwrap_or_else(|| "cgroup version 2".to_owned()) }
    };
    vec![
        controller("cpu"),
        controller("memory"),
        controller("pids"),
        Enforcement { limit: "nofile", enforced: true, how: "setrlimit".to_owned() },
        Enforcement { limit: "reserve", enforced: false, how: "compared with the machine at a start, with a warning".to_owned() },
    ]
}

fn text(found: &Resources) -> String {
    let size = |bytes: Option<u64>| bytes.map(|bytes| ByteSize(bytes).to_string()).unwrap_or_default();
    let count = |count: Option<u64>| count.map(|count| count.to_string()).unwrap_or_default();
    let cores = |cores: Option<f64>| cores.map(|cores| cores.to_string()).unwrap_or_default();
    let stated = |one: &&ServiceResources| {
        one.limit_cpu.is_some()
            || one.limit_memory_bytes.is_some()
            || one.limit_nofile.is_some()
            || one.limit_pids.is_some()
            || one.reserve_cpu.is_some()
            || one.reserve_memory_bytes.is_some()
    };
    let mut rows: Vec<Vec<String>> = found
        .services
        .iter()
        .filter(stated)
        .map(|one| {
            vec![
                one.name.clone(),
                cores(one.limit_cpu),
                size(one.limit_memory_bytes),
                count(one.limit_nofile),
                count(one.limit_pids),
                cores(one.reserve_cpu),
                size(one.reserve_memory_bytes),
            ]
        })
        .collect();
    let total = &found.total;
    let some = |bytes: u64| size((bytes > 0).then_some(bytes));
    let some_cores = |count: f64| cores((count > 0.0).then_some(count));
    rows.push(vec![
        "total".to_owned(),
        some_cores(total.limit_cpu),
        some(total.limit_memory_bytes),
        String::new(),
        String::new(),
        some_cores(total.reserve_cpu),
        some(total.reserve_memory_bytes),
    ]);
    rows.push(vec![
        "machine".to_owned(),
        found.machine.cpu.map(|count| count.to_string()).unwrap_or_default(),
        size(found.machine.memory_bytes),
        String::new(),
        String::new(),
        String::new(),
        found.machine.memory_available_bytes.map(|bytes| format!("{} free", ByteSize(bytes))).unwrap_or_default(),
    ]);
    let mut out =
        table::render(&["NAME", "LIMIT CPU", "LIMIT MEMORY", "OPEN FILES", "PROCESSES", "RESERVE CPU", "RESERVE MEMORY"], &rows);
    out.push('\n');
    for one in &found.enforcement {
        let how = if one.enforced { "enforced" } else { "not enforced" };
        out.push_str(&format!("{}: {how} ({})\n", one.limit, safe(&one.how)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, memory: Option<u64>, cpu: Option<f64>, reserve: Option<u64>) -> ServiceResources {
        ServiceResources {
            name: name.to_owned(),
            service: name.to_owned(),
            replica: 1,
            limit_cpu: cpu,
            limit_memory_bytes: memory,
            limit_nofile: None,
            limit_pids: None,
            reserve_cpu: None,
            reserve_memory_bytes: reserve,
        }
    }

    #[test]
    fn sums_and_what_is_enforced() {
        let services = vec![
            one("api", Some(256 << 20), Some(0.5), None),
            one("db", Some(1 << 30), Some(1.5), Some(512 << 20)),
            one("x", None, None, None),
        ];
        let found = Resources {
            total: totals(&services),
            services,
            machine: Machine { cpu: Some(4), memory_bytes: Some(8 << 30), memory_available_bytes: Some(2 << 30) },
            enforcement: vec![
                Enforcement { limit: "cpu", enforced: true, how: "cgroup version 2".to_owned() },
                Enforcement { limit: "memory", enforced: false, how: "no controller".to_owned() },
            ],
        };
        assert_eq!((found.total.limit_cpu, found.total.limit_memory_bytes), (2.0, (256 << 20) + (1 << 30)));
        insta::assert_snapshot!("resources", text(&found));
    }
}
