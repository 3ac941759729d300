//! A stack as units of systemd, one for each service and task, and a target for all of them: systemd orders, restarts, limits
//! and stops.
//!
//! What systemd cannot know is done by helpers of devrun (`devrun __unit`): `devrun-NAME.service` reads the procfile and keeps the
//! result in the runtime directory, with mode 0600; the services' units prepare (first boot, `pre_start`), execute, probe and run
//! what is done once from that. So no unit holds a secret, and all units of one start agree on ports.
//!
//! A required dependency is `Wants=` with a check that it is active, not `Requires=`: systemd restarts what requires a unit
//! whenever that unit is restarted, also after a crash, which a procfile asks for with `restart = true` alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use devrun_model::{Check, Condition, Kind, Launch, Plan, RestartPolicy, ServiceSpec, StopTo};

use super::edges::edges;
use super::losses::Losses;
use super::systemd_install::commands;
use super::systemd_losses::report_losses;
use super::systemd_sandbox as sandbox;
use super::systemd_source::{SystemdSource, secret_losses};
use super::systemd_syntax::{command_line, setting, specifiers, time};
use super::{Exported, stack::ContainerEdge};

/// `backoff.initial` is short as devrun's waits grow; those of systemd do not.
const SHORTEST_RESTART: Duration = Duration::from_secs(1);
/// One copy behind a shared address, or the address itself, ends with its connections.
const ADDRESS_GRACE: &str = "10s";

/// Makes the units.
#[must_use]
pub fn systemd_units(source: &SystemdSource, plan: &Plan) -> Exported {
    let units = Units { source, plan };
    let mut losses = Losses::default();
    for loss in secret_losses(source) {
        losses.add(loss.key, loss.reason);
    }
    let mut files = BTreeMap::new();
    let mut members = Vec::new();
    // The copies of a service are one template: what differs between them is filled in by the helpers.
    let mut seen = std::collections::BTreeSet::new();
    for spec in plan.services.values().filter(|spec| seen.insert(spec.service.clone())) {
        let name = spec.service.to_string();
        members.extend(units.instances(&name));
        files.insert(units.file(spec), units.service(spec, &mut losses));
        if has_socket(spec) {
            members.push(units.name(&name, ".socket"));
            files.insert(units.name(&name, ".socket"), units.socket(spec));
        }
        if spec.shared.is_some() {
            members.push(units.name(&name, ".address.service"));
            files.insert(units.name(&name, ".address.service"), units.address(spec));
        }
        report_losses(spec, has_socket(spec), source, &mut losses);
    }
    files.insert(units.stack(".service"), units.definition());
    files.insert(units.stack(".target"), units.target(&members));
    if source.is_system {
        files.insert(sandbox::account_file(source), sandbox::account(source));
    }
    let mut needs = sandbox::needs(source);
    needs.extend(plan.services.values().filter(|spec| spec.build.is_some()).map(|spec| {
        let line = command_line(source.command.iter().map(String::as_str).chain(["build", spec.service.as_str()]));
        format!("what the build of {} makes: {line}", spec.service)
    }));
    needs.dedup();
    Exported { files: files.into_iter().collect(), losses: losses.into_vec(), needs }
}

struct Units<'a> {
    source: &'a SystemdSource,
    plan: &'a Plan,
}

/// A unit file that is being written.
#[derive(Default)]
struct UnitText(String);

impl UnitText {
    fn line(&mut self, text: impl std::fmt::Display) {
        let _infallible = writeln!(self.0, "{text}");
    }
    fn set(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(format_args!("{key}={value}"));
    }
    /// A key with a list of units, absent where there is none.
    fn list(&mut self, key: &str, units: &[String]) {
        if !units.is_empty() {
            self.set(key, units.join(" "));
        }
    }
}

impl Units<'_> {
    fn stack(&self, suffix: &str) -> String {
        format!("devrun-{}{suffix}", self.source.project)
    }
    fn name(&self, service: &str, suffix: &str) -> String {
        // A dot is in no name of a project or service, so units of two projects never share a name.
        format!("devrun-{}.{service}{suffix}", self.source.project)
    }
    /// The unit's file: a template where there are several copies.
    fn file(&self, spec: &ServiceSpec) -> String {
        let suffix = if spec.replicas > 1 { "@.service" } else { ".service" };
        self.name(spec.service.as_str(), suffix)
    }
    /// The units of all copies.
    fn instances(&self, service: &str) -> Vec<String> {
        let copies: Vec<&std::sync::Arc<ServiceSpec>> =
            self.plan.services.values().filter(|spec| spec.service.as_str() == service).collect();
        match copies.as_slice() {
            [one] if one.replicas <= 1 => vec![self.name(service, ".service")],
            several => several.iter().map(|spec| self.name(service, &format!("@{}.service", spec.replica))).collect(),
        }
    }
    fn helper(&self, words: &[&str]) -> String {
        command_line(self.source.command.iter().map(String::as_str).chain(["__unit"]).chain(words.iter().copied()))
    }
    fn head(&self, out: &mut UnitText, what: &str) {
        out.line("# Written by `devrun export systemd`.");
        out.line("");
        out.line("[Unit]");
        out.set("Description", specifiers(&format!("{}: {what}", self.source.project)));
    }
    /// What every unit of the stack has: it stops with the target, and begins after the procfile was read.
    fn membership(&self, out: &mut UnitText) {
        out.set("PartOf", self.stack(".target"));
        out.set("Requires", self.stack(".service"));
        out.set("After", self.stack(".service"));
        sandbox::joins(self.source, &self.stack(".service")).iter().for_each(|line| out.line(line));
    }
    /// `ports`: those that it opens itself.
    fn process(&self, out: &mut UnitText, ports: impl IntoIterator<Item = u16>) {
        out.set("WorkingDirectory", specifiers(&self.source.root.display().to_string()));
        if self.source.is_system {
            sandbox::lines(self.source, ports, false).iter().for_each(|line| out.line(line));
        }
    }

    fn target(&self, members: &[String]) -> String {
        let target = self.stack(".target");
        let mut out = UnitText::default();
        out.line("# Written by `devrun export systemd`.");
        commands(self.source, &target, false).header().iter().for_each(|line| out.line(line));
        out.line("");
        out.line("[Unit]");
        out.set("Description", format!("{} (devrun)", specifiers(&self.source.project)));
        out.list("Wants", members);
        out.line("");
        out.line("[Install]");
        out.set("WantedBy", if self.source.is_system { "multi-user.target" } else { "default.target" });
        out.0
    }

    /// Reads the procfile, so that all units of one start have the same ports, secrets and environment.
    fn definition(&self) -> String {
        let mut out = UnitText::default();
        self.head(&mut out, "procfile");
        out.set("PartOf", self.stack(".target"));
        if self.source.is_system {
            out.set("Wants", "network-online.target");
            out.set("After", "network-online.target");
        }
        out.line("");
        out.line("[Service]");
        out.set("Type", "oneshot");
        out.set("RemainAfterExit", "yes");
        out.set("ExecStart", self.helper(&["plan"]));
        out.set("ExecStop", self.helper(&["forget"]));
        for (name, value) in &self.source.environment {
            out.set("Environment", setting(&format!("{name}={value}")));
        }
        out.set("TimeoutStartSec", time(self.source.start));
        out.set("WorkingDirectory", specifiers(&self.source.root.display().to_string()));
        if self.source.is_system {
            // Whether a port can be opened is looked at here.
            let ports = self.plan.services.values().flat_map(|spec| spec.ports.values().copied());
            sandbox::lines(self.source, ports, true).iter().for_each(|line| out.line(line));
        }
        out.0
    }

    fn socket(&self, spec: &ServiceSpec) -> String {
        let mut out = UnitText::default();
        self.head(&mut out, &format!("the socket of {}", spec.service));
        // Not after the procfile's unit: sockets come before all services (systemd.socket(5), default dependencies).
        out.set("PartOf", self.stack(".target"));
        out.line("");
        out.line("[Socket]");
        let port = spec.port().unwrap_or_default();
        let address = match spec.bind.as_str() {
            "" | "*" | "0.0.0.0" => port.to_string(),
            bind if bind.contains(':') && !bind.starts_with('[') => format!("[{bind}]:{port}"),
            "localhost" => format!("127.0.0.1:{port}"),
            bind => format!("{bind}:{port}"),
        };
        out.set("ListenStream", address);
        out.set("FileDescriptorName", "main");
        if let Some(unit) = self.instances(spec.service.as_str()).first() {
            out.set("Service", unit);
        }
        out.0
    }

    /// The process behind an address that several copies share.
    fn address(&self, spec: &ServiceSpec) -> String {
        let mut out = UnitText::default();
        self.head(&mut out, &format!("the shared address of {}", spec.service));
        self.membership(&mut out);
        out.line("");
        out.line("[Service]");
        out.set("Type", "exec");
        out.set("ExecStart", self.helper(&["address", spec.service.as_str()]));
        out.set("Restart", "always");
        out.set("RestartSec", time(SHORTEST_RESTART));
        out.set("TimeoutStopSec", ADDRESS_GRACE);
        self.process(&mut out, spec.shared.as_ref().map(|address| address.port));
        out.0
    }

    fn service(&self, spec: &ServiceSpec, losses: &mut Losses) -> String {
        let mut out = UnitText::default();
        let is_task = spec.kind == Kind::Task;
        let is_external = matches!(spec.launch, Launch::External { .. });
        let about = spec.description.as_ref().map(|text| format!(" ({})", text.replace('\n', " "))).unwrap_or_default();
        let copy = if spec.replicas > 1 { ".%i" } else { "" };
        out.line("# Written by `devrun export systemd`.");
        out.line("");
        out.line("[Unit]");
        out.set("Description", format!("{}{copy}", specifiers(&format!("{}: {}{about}", self.source.project, spec.service))));
        self.membership(&mut out);
        let edges = edges(self.plan, spec);
        self.order(&mut out, spec, &edges, losses);
        let (burst, interval) = match spec.restart {
            RestartPolicy::OnFailure { max: Some(max) } => (max.saturating_add(1), spec.backoff.reset * max.saturating_add(1)),
            _ => (0, Duration::ZERO),
        };
        out.set("StartLimitIntervalSec", time(interval));
        if burst > 0 {
            out.set("StartLimitBurst", burst);
        }
        out.line("");
        out.line("[Service]");
        let id = if spec.replicas > 1 { format!("{}.%i", spec.service) } else { spec.service.to_string() };
        // The specifier must stay one.
        let helper = |action: &str| format!("{} {id}", self.helper(&[action]));
        let checks = spec.ready.as_ref().map(|ready| ready.checks.as_slice()).unwrap_or_default();
        let notifies = checks.contains(&Check::Notify);
        match (is_task || is_external, notifies) {
            (true, _) => {
                out.set("Type", "oneshot");
                out.set("RemainAfterExit", "yes");
            }
            (false, true) => {
                out.set("Type", "notify");
                out.set("NotifyAccess", "all");
            }
            (false, false) => out.set("Type", "exec"),
        }
        // A condition, not a failure: what cannot start is not tried again every second, and `systemctl --failed` names the cause.
        let required = edges.iter().filter(|edge| edge.required && !edge.restart);
        let required: Vec<String> = required.flat_map(|edge| self.instances(&edge.on)).collect();
        if !required.is_empty() {
            out.set("ExecCondition", self.condition(&required));
        }
        if spec.optional && matches!(spec.launch, Launch::Recipe(_)) {
            out.set("ExecCondition", helper("present"));
        }
        let is_prepared = matches!(spec.launch, Launch::Recipe(_)) || spec.pre_start.is_some();
        if is_prepared {
            out.set("ExecStartPre", helper("prepare"));
        }
        out.set(
            "ExecStart",
            helper(if is_external {
                "ready"
            } else if is_task {
                "task"
            } else {
                "exec"
            }),
        );
        let is_probed = checks.iter().any(|check| !matches!(check, Check::Notify | Check::Log { .. }));
        if is_probed && !is_external {
            out.set("ExecStartPost", helper("ready"));
        }
        if spec.stop.command.is_some() {
            out.set("ExecStop", helper("stop"));
        }
        self.policies(&mut out, spec);
        if has_socket(spec) {
            out.set("Sockets", self.name(spec.service.as_str(), ".socket"));
        }
        // systemd opens the socket itself.
        let ports: Vec<u16> = if has_socket(spec) { Vec::new() } else { spec.ports.values().copied().collect() };
        self.process(&mut out, ports);
        out.0
    }

    /// Whether all of these are active; what is about to be started again after a crash is waited for.
    fn condition(&self, units: &[String]) -> String {
        // As root, and without the sandbox: the stack's user cannot ask the system's manager where no message bus runs.
        let (prefix, systemctl) = if self.source.is_system { ("+", "systemctl") } else { ("", "systemctl --user") };
        let script = format!(
            "for unit; do while :; do case $({systemctl} is-active \"$unit\") in active) break;; \
             activating|deactivating|reloading) sleep 1;; *) echo \"$unit is not active\" >&2; exit 1;; esac; done; done"
        );
        format!("{prefix}{}", command_line(["sh", "-c", &script, "sh"].into_iter().chain(units.iter().map(String::as_str))))
    }

    /// What comes before, and what must be active then.
    fn order(&self, out: &mut UnitText, spec: &ServiceSpec, edges: &[ContainerEdge], losses: &mut Losses) {
        let table = if spec.kind == Kind::Task { "tasks" } else { "services" };
        let (mut wants, mut requires) = (Vec::new(), Vec::new());
        for edge in edges {
            let units = self.instances(&edge.on);
            if edge.restart {
                requires.extend(units)
            } else {
                wants.extend(units)
            }
            let is_probed = self
                .plan
                .services
                .values()
                .any(|other| other.service.as_str() == edge.on && (other.ready.is_some() || other.kind == Kind::Task));
            if edge.condition == Condition::Started && is_probed {
                let reason = format!("systemd starts it when {} is ready, which is later than its start", edge.on);
                losses.add(format!("{table}.{}.depends_on", spec.service), reason);
            }
        }
        if has_socket(spec) {
            requires.push(self.name(spec.service.as_str(), ".socket"));
        }
        let after: Vec<String> = wants.iter().chain(&requires).cloned().collect();
        out.list("Wants", &wants);
        out.list("Requires", &requires);
        out.list("After", &after);
    }

    fn policies(&self, out: &mut UnitText, spec: &ServiceSpec) {
        let is_oneshot = spec.kind == Kind::Task || matches!(spec.launch, Launch::External { .. });
        let restart = match spec.restart {
            RestartPolicy::No => "no",
            RestartPolicy::OnFailure { .. } => "on-failure",
            // A oneshot has no other way to be restarted (systemd.service(5)).
            RestartPolicy::Always | RestartPolicy::UnlessStopped if is_oneshot => "on-failure",
            RestartPolicy::Always | RestartPolicy::UnlessStopped => "always",
        };
        out.set("Restart", restart);
        if spec.restart != RestartPolicy::No {
            out.set("RestartSec", time(spec.backoff.initial.max(SHORTEST_RESTART)));
        }
        out.set("TimeoutStartSec", time(spec.task_timeout().unwrap_or(self.source.start)));
        out.set("TimeoutStopSec", time(spec.stop.grace));
        out.set("KillSignal", stop_signal(spec));
        // A program that exits after its stop signal, and says so by its code, has not failed.
        let signal = stop_signal(spec);
        let named = if signal.starts_with("SIG") { format!(" {signal}") } else { String::new() };
        out.set("SuccessExitStatus", format!("143{named}"));
        out.set("KillMode", if spec.stop.to == StopTo::Leader && !is_oneshot { "mixed" } else { "control-group" });
        if let Some(nofile) = spec.limits.nofile {
            out.set("LimitNOFILE", nofile);
        }
        if let Some(cpu) = spec.limits.cpu {
            out.set("CPUQuota", format!("{:.0}%", (cpu * 100.0).max(1.0)));
        }
        if let Some(memory) = spec.limits.memory {
            out.set("MemoryMax", memory.0);
        }
        if let Some(pids) = spec.limits.pids {
            out.set("TasksMax", pids);
        }
        if let Some(memory) = spec.reserve.memory {
            out.set("MemoryLow", memory.0);
        }
    }
}

/// Whether systemd holds its socket. The number of a port that is chosen at the start is not known here.
fn has_socket(spec: &ServiceSpec) -> bool {
    spec.listen && spec.port().is_some_and(|port| port > 0)
}

/// `SIGTERM`, or a number where the signal has no name.
fn stop_signal(spec: &ServiceSpec) -> String {
    let name = spec.stop.signal.to_string();
    name.strip_prefix("signal ").map_or(name.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::systemd_source::tests::source;
    use super::*;
    use devrun_model::ready::Endpoint;
    use devrun_model::{ByteSize, CommandLine, Dependency, ProjectName, ReadySpec, ServiceId, ServiceName, Signal};
    use std::sync::Arc;

    fn spec(name: &str) -> ServiceSpec {
        ServiceSpec::bare(ServiceName::new(name).unwrap(), "/srv".into(), vec!["x".to_owned()])
    }

    fn on(name: &str, required: bool, restart: bool) -> Dependency {
        Dependency { on: ServiceId::parse(name).unwrap(), condition: Condition::Healthy, required, restart }
    }

    fn exported(specs: Vec<ServiceSpec>, is_system: bool) -> Exported {
        let plan = Plan {
            project: ProjectName::new("shop").unwrap(),
            root: "/srv".into(),
            instance: String::new(),
            mode: None,
            timeout: Duration::from_secs(600),
            tier_pause: Duration::ZERO,
            tiers: BTreeMap::new(),
            services: specs.into_iter().map(|spec| (spec.id.clone(), Arc::new(spec))).collect(),
            inactive: BTreeMap::new(),
            volumes: BTreeMap::new(),
            queries: BTreeMap::new(),
            masks: Default::default(),
            derived: Default::default(),
            seed: 0,
        };
        systemd_units(&source(is_system), &plan)
    }

    fn text<'a>(made: &'a Exported, file: &str) -> &'a str {
        &made.files.iter().find(|(name, _)| name == file).unwrap_or_else(|| panic!("{file}: {:?}", made.files)).1
    }

    #[track_caller]
    fn has(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|known| known == *line), "{line}\n{text}");
        }
    }

    #[test]
    fn policies_have_their_directives() {
        let mut api = spec("api");
        api.depends_on = vec![on("db", true, false), on("cache", false, false), on("config", true, true)];
        api.ready = Some(ReadySpec::new(vec![Check::Tcp { at: Endpoint { host: "127.0.0.1".to_owned(), port: 1 } }]));
        api.restart = RestartPolicy::OnFailure { max: Some(5) };
        api.stop.signal = Signal::INT;
        api.stop.grace = Duration::from_millis(2500);
        api.stop.command = Some(CommandLine { argv: vec!["x".to_owned()], env: BTreeMap::new() });
        api.limits.nofile = Some(4096);
        api.limits.cpu = Some(1.5);
        api.limits.memory = Some(ByteSize(512 << 20));
        api.limits.pids = Some(64);
        let made = exported(vec![api, spec("db"), spec("cache"), spec("config")], false);
        let unit = text(&made, "devrun-shop.api.service");
        has(
            unit,
            &[
                "PartOf=devrun-shop.target",
                "Wants=devrun-shop.cache.service devrun-shop.db.service",
                "Requires=devrun-shop.config.service",
                "After=devrun-shop.cache.service devrun-shop.db.service devrun-shop.config.service",
                "ExecStart=/usr/bin/devrun -C \"/srv/my shop\" __unit exec api",
                "ExecStartPost=/usr/bin/devrun -C \"/srv/my shop\" __unit ready api",
                "ExecStop=/usr/bin/devrun -C \"/srv/my shop\" __unit stop api",
                "Restart=on-failure",
                "StartLimitBurst=6",
                "StartLimitIntervalSec=60s",
                "KillSignal=SIGINT",
                "TimeoutStopSec=2500ms",
                "KillMode=mixed",
                "LimitNOFILE=4096",
                "CPUQuota=150%",
                "MemoryMax=536870912",
                "TasksMax=64",
            ],
        );
        let condition = unit.lines().find(|line| line.starts_with("ExecCondition=sh -c ")).unwrap_or_default();
        assert!(condition.ends_with(" sh devrun-shop.db.service"), "{unit}");
        assert!(made.losses.is_empty(), "{:?}", made.losses);
        has(text(&made, "devrun-shop.target"), &["WantedBy=default.target"]);
    }

    #[test]
    fn copies_are_a_template_and_a_task_is_a_oneshot() {
        let name = ServiceName::new("worker").unwrap();
        let copies = (1..=2).map(|replica| ServiceSpec {
            id: ServiceId::replica(&name, replica, 2),
            replica,
            replicas: 2,
            ..spec("worker")
        });
        let mut seed = spec("seed");
        seed.kind = Kind::Task;
        seed.depends_on = vec![on("worker.1", true, false), on("worker.2", true, false)];
        let made = exported(copies.chain([seed]).collect(), false);
        has(text(&made, "devrun-shop.worker@.service"), &["ExecStart=/usr/bin/devrun -C \"/srv/my shop\" __unit exec worker.%i"]);
        has(
            text(&made, "devrun-shop.seed.service"),
            &[
                "Type=oneshot",
                "RemainAfterExit=yes",
                "After=devrun-shop.worker@1.service devrun-shop.worker@2.service",
                "ExecStart=/usr/bin/devrun -C \"/srv/my shop\" __unit task seed",
                "KillMode=control-group",
            ],
        );
        has(
            text(&made, "devrun-shop.target"),
            &["Wants=devrun-shop.seed.service devrun-shop.worker@1.service devrun-shop.worker@2.service"],
        );
    }

    #[test]
    fn a_service_that_notifies_is_not_asked_and_one_that_is_given_its_socket_has_a_unit_for_it() {
        let mut api = spec("api");
        api.ready = Some(ReadySpec::new(vec![Check::Notify]));
        api.listen = true;
        api.ports.insert("main".to_owned(), 8000);
        api.tty = true;
        let made = exported(vec![api], true);
        let unit = text(&made, "devrun-shop.api.service");
        has(
            unit,
            &[
                "Type=notify",
                "Sockets=devrun-shop.api.socket",
                "User=devrun-shop",
                "NoNewPrivileges=yes",
                "ProtectSystem=strict",
                "ReadWritePaths=\"-/srv/my shop\" %t/devrun-shop",
                "JoinsNamespaceOf=devrun-shop.service",
                "CapabilityBoundingSet=",
            ],
        );
        has(text(&made, "devrun-shop.sysusers"), &["u devrun-shop - \"devrun stack shop\" /var/lib/devrun-shop"]);
        assert!(!unit.contains("ExecStartPost"), "{unit}");
        has(
            text(&made, "devrun-shop.api.socket"),
            &["ListenStream=127.0.0.1:8000", "FileDescriptorName=main", "Service=devrun-shop.api.service"],
        );
        has(
            text(&made, "devrun-shop.service"),
            &["RuntimeDirectory=devrun-shop", "ExecStop=/usr/bin/devrun -C \"/srv/my shop\" __unit forget"],
        );
        let keys: Vec<&str> = made.losses.iter().map(|loss| loss.key.as_str()).collect();
        assert_eq!(keys, ["services.api.tty"]);
    }
}
