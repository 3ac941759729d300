//! `devrun up`.

mod args;
mod attached;
mod detached;
mod hints;
mod log_output;
mod plan;

pub use args::UpArgs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::ui::ci;
use crate::ui::copies_summary;
use crate::ui::download;
use crate::ui::logview::{LogView, Style};
use crate::ui::progress::ProgressView;
use crate::ui::start_times::StartTimes;
use crate::ui::summary;
use crate::ui::term::{Progress, Term, data, say};
use devrun_config::PortPreference;
use devrun_logs::LogFollower;
use devrun_model::exit;
use devrun_model::feed::{FailedService, FeedItem, Outcome, Status};
use devrun_model::{Command, Failure, FailureKind, Kind, Plan, RestartTargets, ServiceId, Snapshot, State, UpOptions};

use crate::app::abandoned_runs;
use crate::app::data::branch;
use crate::app::load::{self, Project, Purpose, Wanted};
use crate::app::mapping_report::MappingDetail;
use crate::app::missing_files::MissingFiles;
use crate::app::missing_programs::{self, LaunchPlaces, ProgramCheck};
use crate::app::password_advice;
use crate::app::pending_migrations;
use crate::app::port_conflicts;
use crate::app::profile_selection;
use crate::app::project::TemporarySelection;
use crate::app::project_ports;
use crate::app::remembered_scale;
use crate::app::session::{Session, Settled, Signals, token, until_settled};
use crate::app::shared_server::start;
use crate::app::start_scope::{self, PortAdvice};
use crate::app::stop_stack;
use crate::app::stop_wait;
use crate::globals::Globals;
use crate::ui::{exit_line, output};

use hints::{DETACHED, Hint, JOINED};
use log_output::style;

const NOTHING_DELETED: &str = "nothing was deleted";

/// Who waits for a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StartViewer {
    /// The supervisor was started for this request.
    Owner,
    /// The stack was up already.
    Joined,
    /// So it was, and its output is followed.
    Attached,
}

/// How often a start is begun once more because a stop came first.
const ROUNDS: u32 = 10;

/// Runs it.
///
/// # Errors
/// As the contract's exit codes say.
pub fn run(globals: &Globals, args: &UpArgs, term: Term) -> Result<i32, Failure> {
    if args.ports.as_deref().is_some_and(|how| how != "auto") {
        return Err(Failure::new(FailureKind::Config, "--ports takes `auto`").help("devrun up --ports auto"));
    }
    let mut project = load::project(globals)?;
    if args.ephemeral && args.is_detached() {
        return Err(Failure::new(FailureKind::Config, "--ephemeral is for a stack that one stays attached to")
            .help("devrun up --ephemeral, or devrun up -d --instance NAME"));
    }
    if args.clean && !args.plan && !args.ephemeral {
        if !wipe(globals, &project, args, term)? {
            return Ok(exit::DONE);
        }
        if args.is_detached() {
            // If a stack was stopped for it; the second time there is nothing to wipe.
            crate::app::runtime::fit_to_fork()?;
        }
    }
    // Held to the very end: with it goes all that the stack has kept.
    let folder = if args.ephemeral && !args.plan {
        let folder = tempfile::Builder::new().prefix(abandoned_runs::PREFIX).tempdir().map_err(|error| {
            Failure::new(FailureKind::Config, format!("cannot create a temporary directory: {error}")).help("check TMPDIR")
        })?;
        let state = folder.path().join("state");
        project.places = devrun_runtime::runtime_dir::ephemeral(&project.root, &state, &project.env)?;
        project.temporary = Some(TemporarySelection { mode: globals.mode.clone(), profiles: globals.profile.clone() });
        Some((crate::app::temporary_stack::TemporaryRun(project.places.clone()), folder))
    } else {
        None
    };
    if !args.plan && folder.is_none() && load::is_running(&project.places)? {
        // What the stop gives back, ports among it, is looked at after it.
        let _joined = crate::app::runtime::waiting_runtime()?.block_on(stop_wait::answers(&project.places, term))?;
    }
    let wanted = Wanted {
        purpose: if args.plan { Purpose::Look } else { Purpose::Start },
        named: args.services.clone(),
        scale: scale(&args.scale)?,
        resets_scale: args.services.is_empty(),
        ports_auto: args.ports.is_some() || args.ephemeral,
        init_cache: !args.no_init_cache,
        warn: true,
        mapping: MappingDetail::Once,
        acts_on_running: false,
    };
    let read = load::read(globals, &project, &wanted)?;
    if !args.plan && folder.is_none() && devrun_runtime::runtime_dir::lacks_pointer(&project.places) {
        say(
            "note: the project cannot be written to, so that it does not name its state directory: give --state-dir or DEVRUN_STATE_DIR to every command",
        );
    }
    if read.plan.services.is_empty() {
        return Err(profile_selection::nothing_selected(&read));
    }
    let targets = load::resolve(&read.plan, &args.services)?;
    let missing_files = MissingFiles::find(&read, &built(&read.plan, args.build), term.err_color);
    // Under a supervisor only what it would start matters; it is asked for that.
    if !args.plan && !load::is_running(&project.places)? {
        let scope = start_scope::of(&read.plan, &targets, args.no_deps);
        missing_files.refuse(|id| scope.contains(id), None)?;
    }
    if !args.plan && !branch::prepare(globals, &project, &read, term)? {
        return Ok(exit::DONE);
    }
    if !args.plan
        && let Some(code) = start::before_start(globals, &project, &read, &args.services)?
    {
        return Ok(code);
    }
    if !args.plan && folder.is_none() {
        let declared = read.document.declared_replicas(&read.facts);
        remembered_scale::set_by_up(&project.places, &wanted.scale, &declared, wanted.resets_scale)?;
    }
    let usual_ports = if args.plan { usual_ports(&read)? } else { BTreeSet::new() };
    let advice = password_advice::of(&read);
    let launch_places = LaunchPlaces::new(&read);
    let port_advice = launch_places.port_advice(args.port_advice());
    let mut plan = read.plan;
    if let Some(timeout) = start_timeout(args)? {
        Arc::make_mut(&mut plan).timeout = timeout;
    }
    if args.plan {
        return plan::run(&project, &plan, &targets, args, &launch_places, &missing_files, &usual_ports);
    }
    let code_from = match &args.exit_code_from {
        Some(name) => load::resolve(&plan, std::slice::from_ref(name))?.into_iter().next(),
        None => None,
    };
    let options = UpOptions {
        no_deps: args.no_deps,
        rollback: args.rollback,
        abort_on_failure: args.abort_on_failure,
        exit_code_from: code_from,
        build: args.build,
    };
    if nix::unistd::geteuid().is_root() && term.progress == Progress::Tty {
        say("devrun runs as root: services do too, unless user_id says otherwise");
    }
    let force_recreate = args.force_recreate;
    let (no_wait, log_style) = (args.no_wait, style(term, args));
    let log_length = std::fs::metadata(project.places.supervisor_log()).map_or(0, |meta| meta.len());
    let private = read.private;
    let (offline, mirror) = (args.offline, args.mirror.clone());
    let stack = Stack {
        project,
        plan,
        targets,
        options,
        force_recreate,
        no_wait,
        log_style,
        log_length,
        private,
        term,
        advice,
        launch_places,
        missing_files,
        offline,
        mirror,
        ports_auto: args.ports.is_some(),
        port_advice,
    };
    let code = if args.is_detached() { stack.detached(args) } else { stack.alone(args) };
    drop(folder);
    code
}

/// Ports that are a server's usual ones, in the place of which a start takes others: service and port name.
fn usual_ports(read: &load::Read) -> Result<BTreeSet<(String, String)>, Failure> {
    let wants = read.required_values()?.ports.into_iter();
    let usual = wants.filter(|want| matches!(want.preference, PortPreference::Usual(_)));
    Ok(usual.map(|want| (want.service, want.name)).collect())
}

/// `--timeout`, or `--wait-timeout` as compose has it.
fn start_timeout(args: &UpArgs) -> Result<Option<Duration>, Failure> {
    if let Some(text) = &args.wait_timeout {
        let seconds = text.parse().map(Duration::from_secs).or_else(|_| devrun_model::duration::parse(text));
        return seconds.map(Some).map_err(|error| {
            Failure::new(FailureKind::Config, format!("--wait-timeout: {error}")).help("devrun up -d --wait-timeout 60")
        });
    }
    let Some(text) = &args.timeout else { return Ok(None) };
    devrun_model::duration::parse(text).map(Some).map_err(|error| {
        let help = if text.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("for the whole start: devrun up --timeout {text}s; for the stop, as in compose: devrun down --timeout {text}")
        } else {
            "devrun up --timeout 5m".to_owned()
        };
        Failure::new(FailureKind::Config, format!("--timeout: {error}")).help(help)
    })
}

/// `--clean`. False: somebody was asked and said no. What runs is stopped only after the yes.
fn wipe(globals: &Globals, project: &Project, args: &UpArgs, term: Term) -> Result<bool, Failure> {
    let read = load::read(globals, project, &Wanted::look())?;
    let running = load::is_running(&project.places)?;
    if running {
        crate::app::stop_stack::only_from_outside(&project.places)?;
    }
    let doomed = if running {
        crate::app::deletion::lists(project, &read, None)?
    } else {
        crate::app::deletion::doomed(project, &read, None)?
    };
    if doomed.is_empty() {
        return Ok(true);
    }
    // What could not be started again afterwards is not deleted either.
    let nothing_shown = Arc::new(devrun_store::NoDownloadProgress);
    let options = load::fetch_options(project, args.offline, args.mirror.clone(), nothing_shown);
    let (places, to_build) = (LaunchPlaces::new(&read), built(&read.plan, args.build));
    let check = ProgramCheck { plan: &read.plan, places: &places, options: &options, to_build: &to_build };
    MissingFiles::find(&read, &to_build, term.err_color).refuse_deletion(NOTHING_DELETED)?;
    missing_programs::refuse(crate::app::runtime::runtime()?.block_on(check.missing(|_| true))?, NOTHING_DELETED)?;
    if !crate::app::deletion::agreed(&doomed, "devrun rebuild", globals, term)? {
        return Ok(false);
    }
    if running {
        crate::app::stop_stack::stop(&project.places, term)?;
    }
    crate::app::deletion::say_placed_kept(&read, |_| true);
    // The stop has written more: it is looked for again.
    crate::app::deletion::delete(project, &crate::app::deletion::doomed(project, &read, None)?)?;
    Ok(true)
}

/// What a start builds first.
fn built(plan: &Plan, builds: bool) -> BTreeSet<ServiceId> {
    plan.services.values().filter(|spec| builds && spec.build.is_some()).map(|spec| spec.id.clone()).collect()
}

fn scale(words: &[String]) -> Result<BTreeMap<String, u32>, Failure> {
    words
        .iter()
        .map(|word| {
            word.split_once('=').and_then(|(name, count)| Some((name.to_owned(), count.parse::<u32>().ok()?))).ok_or_else(|| {
                Failure::new(FailureKind::Config, format!("--scale {word}: not S=N")).help("devrun up --scale worker=4")
            })
        })
        .collect()
}

struct Stack {
    project: Project,
    plan: Arc<Plan>,
    targets: Vec<ServiceId>,
    options: UpOptions,
    /// What runs is restarted, also where nothing has changed.
    force_recreate: bool,
    /// Nothing is waited for once a running supervisor has taken the start on.
    no_wait: bool,
    /// How log lines are shown to an attached caller.
    log_style: Style,
    /// What the supervisor's log holds of earlier runs, in bytes.
    log_length: u64,
    /// Ports that stand in no table: service and port name.
    private: BTreeSet<(String, String)>,
    term: Term,
    /// What to do where a login is refused, by server.
    advice: BTreeMap<ServiceId, String>,
    launch_places: LaunchPlaces,
    missing_files: MissingFiles,
    offline: bool,
    mirror: Option<String>,
    /// `--ports auto`.
    ports_auto: bool,
    /// What is said where a port is taken.
    port_advice: PortAdvice,
}

impl Stack {
    fn up(&self, plan: bool) -> Command {
        if plan && self.force_recreate {
            let (plan, targets) = (Some(Arc::clone(&self.plan)), self.targets.clone());
            return Command::Restart { plan, targets, with_dependents: false, grace_ms: None };
        }
        Command::Up { plan: plan.then(|| Arc::clone(&self.plan)), targets: self.targets.clone(), options: self.options.clone() }
    }

    /// A supervisor is there already: it is told what is wanted, and nothing is started twice. `None`: it was on its way out and
    /// has taken nothing on, so that the start is to be begun once more.
    async fn join(&self, pid: Option<i32>, attach: bool) -> Result<Option<i32>, Failure> {
        let begun = std::time::Instant::now();
        let mut signals = Signals::take()?;
        let mut found = None;
        for _ in 0..50 {
            found = Session::remote(&self.project.places, Duration::from_millis(200)).await?;
            if found.is_some() {
                break;
            }
            if !load::is_running(&self.project.places)? {
                return Ok(None);
            }
        }
        let Some((mut session, status)) = found else {
            let who = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            return Err(Failure::new(FailureKind::Elsewhere, format!("a supervisor{who} holds the lock and cannot be reached"))
                .help("devrun down --emergency ends it and what it runs"));
        };
        if status.stopping {
            return Ok(None);
        }
        if let Some(pid) = status.snapshot.supervisor_pid
            && self.term.progress != Progress::Quiet
        {
            say(format!("already running under supervisor {pid}; starting what is missing"));
        }
        let scope = start_scope::of(&self.plan, &self.targets, self.options.no_deps);
        port_conflicts::free_beside(&self.plan, &scope, &status.snapshot, &self.port_advice).await?;
        self.find_files_and_programs(&scope).await?;
        let ids: Vec<ServiceId> = self.plan.services.keys().cloned().collect();
        let further = crate::app::log_selection::known(&self.project).into_iter().filter(|id| id.as_str().contains('/'));
        let followed: Vec<ServiceId> = ids.iter().cloned().chain(further).collect();
        let mut follower = LogFollower::new(&self.project.places.logs(), &followed);
        let mut view = self.view();
        let ours = token();
        if self.ports_auto {
            project_ports::keep_auto(&self.project.places)?;
        }
        session.command(ours, self.up(true)).await?;
        if self.no_wait && !attach {
            while let Some(item) = session.next().await? {
                if matches!(item, FeedItem::Accepted { token } if token == ours) {
                    return Ok(Some(exit::DONE));
                }
            }
            return Ok(None);
        }
        let settled = until_settled(&mut session, &status, Some(ours), &mut view, &mut signals).await?;
        view.clear();
        let interrupted = match &settled {
            Settled::Outcome(outcome) if stop_wait::was_refused(outcome) => return Ok(None),
            // One that is killed is not started again: the kill was meant as an end.
            Settled::Gone(None) if !stop_wait::stopped_in_order(&self.project.places) => {
                return Err(self.supervisor_lost("while the stack started"));
            }
            // Every start that it has taken on is settled before the end.
            Settled::Gone(_) => return Ok(None),
            Settled::Outcome(_) => false,
            Settled::Interrupted(_) => true,
        };
        let viewer = if attach { StartViewer::Attached } else { StartViewer::Joined };
        let code = self.conclude(settled, &mut session, &status, view.times(), begun.elapsed(), viewer).await?;
        if !attach || interrupted {
            return Ok(Some(code));
        }
        // Attached to a stack that was up: Ctrl-C only detaches.
        let mut lines = LogView::new(self.log_style, &ids);
        output::detach().map_err(no_thread)?;
        let mut out = output::Stdout;
        loop {
            tokio::select! {
                () = output::room() => {}
                code = signals.next() => return Ok(Some(detached(code))),
                item = session.next() => match item? {
                    Some(item) => {
                        view.item(&item);
                        continue;
                    }
                    None => return Ok(Some(exit::DONE)),
                },
            }
            for id in crate::app::log_selection::known(&self.project) {
                // What a service begins to write besides its output is shown from its first line.
                if id.as_str().contains('/') {
                    follower.add(&id, false);
                }
            }
            for line in follower.poll() {
                if lines.line(&line, &mut out).is_err() {
                    return Ok(Some(exit::DONE));
                }
            }
            tokio::select! {
                code = signals.next() => return Ok(Some(detached(code))),
                item = session.next() => match item? {
                    Some(item) => view.item(&item),
                    None => return Ok(Some(exit::DONE)),
                },
                () = tokio::time::sleep(if follower.is_behind() { Duration::ZERO } else { Duration::from_millis(50) }) => {}
            }
        }
    }

    /// Finds what a start needs before anything that runs is stopped for it.
    async fn find_files_and_programs(&self, scope: &BTreeSet<ServiceId>) -> Result<(), Failure> {
        let restart = RestartTargets { targets: self.targets.clone(), with_dependents: false };
        let restart = self.force_recreate.then_some(restart);
        let Some(changes) = missing_programs::changes(&self.project, &self.plan, restart).await? else { return Ok(()) };
        let started = if self.force_recreate {
            missing_programs::started_by_restart(&changes, &self.plan, &self.targets)
        } else {
            missing_programs::started_by_up(&changes, &self.plan, scope)
        };
        let left = (!started.is_empty()).then_some(missing_programs::NOTHING_STOPPED);
        let starts = |id: &ServiceId| started.contains(id) || missing_programs::is_started(&changes, id, scope);
        self.missing_files.refuse(starts, left)?;
        let to_build = built(&self.plan, self.options.build);
        let options = load::fetch_options(&self.project, self.offline, self.mirror.clone(), download::progress(self.term));
        let check = ProgramCheck { plan: &self.plan, places: &self.launch_places, options: &options, to_build: &to_build };
        check.find(&started).await
    }

    /// `status` is what the session began with.
    async fn conclude(
        &self,
        settled: Settled,
        session: &mut Session,
        status: &Status,
        times: &StartTimes,
        took: Duration,
        viewer: StartViewer,
    ) -> Result<i32, Failure> {
        let mut outcome = match settled {
            Settled::Outcome(outcome) | Settled::Gone(Some(outcome)) => outcome,
            Settled::Gone(None) if stop_wait::stopped_in_order(&self.project.places) => {
                return Err(Failure::new(FailureKind::Elsewhere, "the stack was stopped while it started")
                    .help("see who stopped it: devrun events; then devrun up"));
            }
            Settled::Gone(None) => return Err(self.supervisor_lost("while the stack started")),
            Settled::Interrupted(code) => return self.interrupted(code, session, status, viewer).await,
        };
        password_advice::add(&mut outcome, &self.advice);
        self.launch_places.add(&mut outcome);
        // A supervisor with nothing left to supervise may end, and reset the connection, while we ask.
        let snapshot = match session.status().await {
            Ok(Some(status)) => Some(status.snapshot),
            _ => devrun_runtime::engine::state_files::last_snapshot(&self.project.places),
        };
        if let Some(snapshot) = snapshot {
            self.add_ended(&snapshot, times, &mut outcome);
            if viewer != StartViewer::Owner && !matches!(self.term.progress, Progress::Quiet | Progress::Json) {
                let is_running =
                    |id: &ServiceId| snapshot.services.iter().any(|one| one.name == id.as_str() && one.state == State::Running);
                pending_migrations::lines(&self.plan, is_running).await.into_iter().for_each(say);
            }
            self.summary(&snapshot, &outcome, times, took, if viewer == StartViewer::Attached { &JOINED } else { &DETACHED });
        }
        let mut code = outcome.code();
        if !outcome.failures.is_empty() && (self.options.rollback || self.options.abort_on_failure) {
            // The supervisor stops everything; what the caller does next must not meet what is left of it.
            let supervisor = status.snapshot.supervisor_pid;
            let interrupted = stop_stack::follow(&self.project.places, session, supervisor, self.term).await?;
            code = interrupted.unwrap_or(code);
        }
        if !self.options.rollback && !self.options.abort_on_failure {
            outcome.failures.iter().for_each(|failed| self.say_waits_for_change(failed.id.as_str(), |text| say(text)));
        }
        if let Some(line) = exit_line::of_outcome(&outcome, self.options.exit_code_from.as_ref()) {
            say(line);
        }
        Ok(code)
    }

    /// Ctrl-C while a start is waited for. One that we began is unwound, as with an attached one.
    async fn interrupted(&self, code: i32, session: &mut Session, status: &Status, viewer: StartViewer) -> Result<i32, Failure> {
        let now = session.status().await.ok().flatten();
        let live = now.iter().flat_map(|now| &now.snapshot.services).filter(|service| service.state.is_live());
        let live = live.map(|service| service.name.as_str()).collect::<Vec<_>>().join(", ");
        if viewer != StartViewer::Owner {
            let running = if live.is_empty() { String::new() } else { format!("; running: {live}") };
            say(format!("interrupted: the supervisor continues the start{running}; to stop everything: devrun down"));
            return Ok(code);
        }
        let running = if live.is_empty() { "nothing runs yet".to_owned() } else { format!("stopping {live}") };
        say(format!("interrupted: undoing the start; {running} (press Ctrl-C again to kill)"));
        // The first request to end; the next one, which `follow` passes on, kills.
        session.interrupt().await?;
        stop_stack::follow(&self.project.places, session, status.snapshot.supervisor_pid, self.term).await?;
        Ok(code)
    }

    /// What has failed since the start was over, while it was being summed up.
    fn add_ended(&self, snapshot: &Snapshot, times: &StartTimes, outcome: &mut Outcome) {
        for service in snapshot.services.iter().filter(|service| service.state == State::Failed && times.has(&service.name)) {
            let Some(id) = ServiceId::parse(&service.name).ok() else { continue };
            let is_optional = self.plan.services.get(&id).is_none_or(|spec| spec.optional);
            let is_named =
                outcome.failures.iter().any(|failed| failed.id == id) || outcome.blocked.iter().any(|(_, root)| *root == id);
            if let Some(end) = service.end().filter(|_| !is_optional && !is_named) {
                let kind = if service.kind == Kind::Task { FailureKind::Task } else { FailureKind::Service };
                let failure = Failure::new(kind, end).help(format!("devrun logs {id}; devrun why {id}"));
                outcome.failures.push(FailedService { id, failure, last_answer: None, log: Vec::new() });
            }
        }
        self.launch_places.add(outcome);
    }

    /// What became of a supervisor that ended without a word. Its own faults are in its log; anything else that ends it so is a
    /// kill from outside: `down --emergency` of another terminal, the out-of-memory killer.
    fn supervisor_lost(&self, when: &str) -> Failure {
        let log = self.project.places.supervisor_log();
        let bytes = devrun_keeper::regular_file::read_below(&self.project.places.logs(), &log).unwrap_or_default();
        let from = usize::try_from(self.log_length).unwrap_or(usize::MAX);
        let said = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default());
        if let Some((reason, help)) = exit_line::own_failure(&said) {
            return Failure::new(FailureKind::Internal, format!("the supervisor failed {when}: {reason}"))
                .help(help.map_or_else(|| format!("see {}", log.display()), str::to_owned));
        }
        Failure::new(FailureKind::Elsewhere, format!("the supervisor was killed {when}; what it had started is stopped"))
            .help("`devrun down --emergency` kills it, and so does kill -9; to start again: devrun up -d")
    }

    /// A service that has failed and comes back by itself is reported as such, so that one waits for it.
    fn say_waits_for_change(&self, name: &str, say: impl Fn(&str)) {
        let mut named = self.plan.services.values().filter(|spec| spec.id.as_str() == name || spec.service.as_str() == name);
        if named.any(|spec| !spec.watch.is_empty()) && self.term.progress != Progress::Json {
            say(&format!("{name}: a change of a watched file starts it again"));
        }
    }

    /// Shows a start whose log lines are not shown.
    fn view(&self) -> ProgressView {
        ProgressView::new(self.term).with_plan(&self.plan).with_logs(self.project.places.logs())
    }

    fn summary(&self, snapshot: &Snapshot, outcome: &Outcome, times: &StartTimes, took: Duration, hints: &[Hint]) {
        if !outcome.failures.is_empty() || !outcome.blocked.is_empty() {
            say(summary::failures(outcome, Some(snapshot), self.term.err_color).trim_end());
            ci::failures(outcome);
        }
        ci::step_summary(snapshot, times, outcome);
        if matches!(self.term.progress, Progress::Quiet | Progress::Json) {
            return;
        }
        if outcome.failures.is_empty() && outcome.blocked.is_empty() {
            say(summary::ready(&self.plan, snapshot, times, took));
            copies_summary::without_shared_address(&self.plan, times).iter().for_each(say);
        }
        let urls = summary::urls(&self.plan, snapshot, |service| self.private.contains(&(service.to_owned(), "main".to_owned())));
        if !urls.is_empty() {
            // The table is what a script may want to read: data, so on stdout.
            let _gone = data(urls.trim_end());
        }
        // What is being stopped is nothing to look at.
        let stays = !self.options.rollback && !self.options.abort_on_failure;
        let is_good = outcome.failures.is_empty() && outcome.blocked.is_empty();
        let hints = if stays || is_good { hints::lines(&self.project, snapshot, outcome, hints) } else { Vec::new() };
        for hint in hints {
            say(format!("  {hint}"));
        }
    }
}

/// Ctrl-C while attached to a stack that was up.
fn detached(code: i32) -> i32 {
    say("detached; the stack keeps running (devrun down stops it)");
    if code == exit::INT { exit::DONE } else { code }
}

fn no_thread(error: std::io::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("cannot create a thread: {error}"))
}
