//! `/metrics`, in the text format that Prometheus reads.

use std::fmt::Write;

use devrun_model::route_usage::{BOUNDS_US, RouteUsage};
use devrun_model::{Health, ServiceStatus, State};

/// What is measured of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceMetrics {
    /// Its state.
    pub status: ServiceStatus,
    /// How long its last probe took.
    pub probe_seconds: Option<f64>,
    /// Bytes of its log files.
    pub log_bytes: u64,
    /// CPU time of its process tree.
    pub cpu_seconds: Option<f64>,
    /// Memory of its process tree.
    pub memory_bytes: Option<u64>,
    /// How its routes are used, of a gateway.
    pub routes: Vec<RouteUsage>,
}

/// The whole answer.
#[must_use]
pub fn text(is_up: bool, services: &[ServiceMetrics]) -> String {
    let mut out = String::new();
    family(&mut out, "devrun_up", "gauge", "Whether a supervisor runs.");
    sample(&mut out, "devrun_up", None, f64::from(u8::from(is_up)));
    let mut metric = |name: &str, kind: &str, help: &str, value: &dyn Fn(&ServiceMetrics) -> Option<f64>| {
        let values: Vec<_> = services.iter().filter_map(|one| Some((one, value(one)?))).collect();
        if values.is_empty() {
            return;
        }
        family(&mut out, name, kind, help);
        for (one, value) in values {
            sample(&mut out, name, Some(&one.status), value);
        }
    };
    let flag = |on: bool| Some(f64::from(u8::from(on)));
    metric("devrun_service_up", "gauge", "Whether the service runs, or the task is done.", &|one| {
        flag(is_up && matches!(one.status.state, State::Running | State::Completed))
    });
    metric("devrun_service_healthy", "gauge", "Whether the last probes passed; absent without a probe.", &|one| {
        (one.status.health != Health::None).then(|| f64::from(u8::from(one.status.health == Health::Healthy)))
    });
    metric("devrun_service_restarts_total", "counter", "Restarts by policy since the service was last asked to start.", &|one| {
        Some(f64::from(one.status.restarts))
    });
    metric("devrun_service_ready_seconds", "gauge", "Time from the spawn to ready.", &|one| {
        one.status.ready_ms.map(|ms| ms as f64 / 1000.0)
    });
    metric("devrun_service_probe_seconds", "gauge", "Time that the last probe took.", &|one| one.probe_seconds);
    metric("devrun_service_log_bytes", "gauge", "Size of the log files that are kept.", &|one| Some(one.log_bytes as f64));
    metric("devrun_service_cpu_seconds_total", "counter", "CPU time of the process tree.", &|one| one.cpu_seconds);
    metric("devrun_service_memory_bytes", "gauge", "Memory of the process tree.", &|one| {
        one.memory_bytes.map(|bytes| bytes as f64)
    });
    routes(&mut out, services);
    out
}

/// Of gateways: a histogram of times, and responses by status.
fn routes(out: &mut String, services: &[ServiceMetrics]) {
    let all: Vec<_> = services.iter().flat_map(|one| one.routes.iter().map(move |route| (&one.status, route))).collect();
    if all.is_empty() {
        return;
    }
    let name = "devrun_gateway_request_duration_seconds";
    family(out, name, "histogram", "Time from a request to the end of its response, by route.");
    for (service, route) in &all {
        let labels = format!("{},route=\"{}\"", labels(service), quoted(&route.route));
        let mut count = 0;
        for (at, times) in route.times.iter().enumerate() {
            count += times;
            let bound = BOUNDS_US.get(at).map_or_else(|| "+Inf".to_owned(), |most| (*most as f64 / 1e6).to_string());
            let _written = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _written = writeln!(out, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {count}", route.sum_us as f64 / 1e6);
    }
    let name = "devrun_gateway_responses_total";
    family(out, name, "counter", "Responses by route and class of status.");
    for (service, route) in &all {
        for (at, count) in route.statuses.iter().enumerate().filter(|(_, count)| **count > 0) {
            let labels = format!("{},route=\"{}\",status=\"{}xx\"", labels(service), quoted(&route.route), at + 1);
            let _written = writeln!(out, "{name}{{{labels}}} {count}");
        }
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn labels(service: &ServiceStatus) -> String {
    format!("service=\"{}\",replica=\"{}\"", quoted(&service.service), service.replica)
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a string cannot fail.
    let _written = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn sample(out: &mut String, name: &str, service: Option<&ServiceStatus>, value: f64) {
    let labels = service.map_or(String::new(), |service| format!("{{{}}}", labels(service)));
    let _written = writeln!(out, "{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn families_stand_together_and_absent_values_are_left_out() {
        let status = |name: &str, state, health, ready_ms| ServiceStatus {
            name: name.to_owned(),
            service: name.to_owned(),
            replica: 1,
            kind: devrun_model::Kind::Service,
            tier: 1,
            state,
            health,
            pid: None,
            exit_code: None,
            signal: None,
            restarts: 2,
            started_at: None,
            ready_at: None,
            uptime_ms: None,
            ready_ms,
            ports: BTreeMap::new(),
            url: None,
            binary: None,
            version: None,
            reason: None,
        };
        let one = |status, probe_seconds| ServiceMetrics {
            status,
            probe_seconds,
            log_bytes: 10,
            cpu_seconds: None,
            memory_bytes: Some(4096),
            routes: Vec::new(),
        };
        let found = text(
            true,
            &[
                one(status("api", State::Running, Health::Healthy, Some(250)), Some(0.0015)),
                one(status("db", State::Failed, Health::None, None), None),
            ],
        );
        let expected = "# HELP devrun_up Whether a supervisor runs.\n# TYPE devrun_up gauge\ndevrun_up 1\n\
            # HELP devrun_service_up Whether the service runs, or the task is done.\n# TYPE devrun_service_up gauge\n\
            devrun_service_up{service=\"api\",replica=\"1\"} 1\ndevrun_service_up{service=\"db\",replica=\"1\"} 0\n";
        assert!(found.starts_with(expected), "{found}");
        assert!(found.contains("devrun_service_ready_seconds{service=\"api\",replica=\"1\"} 0.25\n"));
        assert!(found.contains("devrun_service_probe_seconds{service=\"api\",replica=\"1\"} 0.0015\n"));
        assert!(!found.contains("cpu_seconds") && !found.contains("healthy{service=\"db\""));
    }
}
