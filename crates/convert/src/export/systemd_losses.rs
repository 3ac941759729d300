//! What a unit cannot express of a service, key by key.

use devrun_model::policy::Backoff;
use devrun_model::service::{LogSpec, OnUnhealthy};
use devrun_model::{Check, Kind, ServiceSpec};

use super::losses::Losses;
use super::systemd_source::SystemdSource;

/// A line for each key. `has_socket`: systemd holds the service's socket.
pub(crate) fn report_losses(spec: &ServiceSpec, has_socket: bool, source: &SystemdSource, losses: &mut Losses) {
    let table = if spec.kind == Kind::Task { "tasks" } else { "services" };
    let log = LogSpec { files: Vec::new(), ..spec.log.clone() };
    let checks = spec.ready.as_ref().map(|ready| ready.checks.as_slice()).unwrap_or_default();
    let lost = [
        ("port", spec.listen && !has_socket, "a socket unit needs a number; the service must bind its port itself"),
        ("start", spec.on_demand.is_some(), "it is started with the stack, and not stopped when idle"),
        ("alive", spec.alive.is_some(), "systemd asks once, at the start; a program can use WatchdogSec= itself"),
        ("on_unhealthy", spec.on_unhealthy != OnUnhealthy::Ignore, "systemd asks once, at the start"),
        ("ready.log", checks.iter().any(|check| matches!(check, Check::Log { .. })), "nothing reads the output there"),
        ("backoff", spec.backoff != Backoff::default(), "each wait is `initial`, one second at least"),
        ("stop.check", spec.stop.check, "a stop is not put off"),
        ("stop.spare", !spec.stop.spare.is_empty(), "what is left of the unit is killed"),
        ("log", log != LogSpec::default(), "the journal keeps its output"),
        ("log_files", !spec.log.files.is_empty(), "the journal has its output alone"),
        ("watch", !spec.watch.is_empty(), "nothing watches files there"),
        ("tty", spec.tty, "a unit has no terminal that one could attach to"),
        ("reserve.cpu", spec.reserve.cpu.is_some(), "systemd has weights for that; CPUWeight= in a drop-in"),
        ("reserve.nofile", spec.reserve.nofile.is_some(), "open files have a limit alone"),
    ];
    for (key, is_lost, reason) in lost {
        if is_lost {
            losses.add(format!("{table}.{}.{key}", spec.service), reason);
        }
    }
    if spec.user_id.is_some() {
        let user = if source.is_system { "the stack's own user" } else { "the user of the manager" };
        losses.add(format!("{table}.{}.user_id", spec.service), format!("all units run as {user}"));
    }
}
