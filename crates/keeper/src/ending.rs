//! The end: asked for by `Finish`, or because the supervisor is gone. Then the keeper stops the stack by itself, and in both
//! cases it ends what fits no service, proves that nothing is left, writes the result and goes.

use std::time::{Duration, Instant};

use crate::cgroup;
use crate::journal::{Entry, Record};
use crate::shutdown::TreeShutdown;
use crate::signal;
use devrun_core::shutdown::KILL_TO_SURVIVOR;
use devrun_model::keeper::{FromKeeper, ProcessId, Role, SpawnSpec};

use super::serve::{Keeper, look_up};

/// Strays get the usual signal, and this long to follow it.
const STRAY_GRACE: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(10);

/// How far it is.
pub(super) struct Ending {
    shutdown: Option<TreeShutdown>,
    strays_since: Option<Instant>,
    warned: Vec<(i32, u64)>,
    next: Option<Instant>,
    killing_since: Option<Instant>,
    commands: ProcessId,
}

impl Ending {
    /// By `Finish`: everything is stopped already.
    pub(super) fn asked() -> Self {
        Self {
            shutdown: None,
            strays_since: None,
            warned: Vec::new(),
            next: Some(Instant::now()),
            killing_since: None,
            // Numbers of our own, far above the supervisor's.
            commands: 1 << 40,
        }
    }
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.next
    }
}

impl Keeper {
    /// The supervisor is gone without the word `Finish`.
    pub(super) fn orphaned(&mut self) {
        if let Some(socket) = self.socket.take() {
            let _ = self.epoll.delete(&socket);
        }
        self.outbox = crate::wire::Outbox::default();
        match &mut self.ending {
            Some(ending) => ending.next = Some(Instant::now()),
            None => {
                self.write(&[Record::Dead]);
                self.drain_logs();
                self.track_inherited();
                self.ending = Some(Ending { shutdown: Some(TreeShutdown::new(Instant::now())), ..Ending::asked() });
            }
        }
    }

    /// Moves the end on; an exit code once it is done.
    pub(super) fn end(&mut self) -> Option<i32> {
        let mut ending = self.ending.take()?;
        let now = Instant::now();
        let code = self.end_step(&mut ending, now);
        self.ending = Some(ending);
        code
    }

    fn end_step(&mut self, ending: &mut Ending, now: Instant) -> Option<i32> {
        if self.trees.is_empty() {
            return self.end_strays(ending, now);
        }
        if let Some(shutdown) = &mut ending.shutdown {
            let specs = &self.specs;
            let step = shutdown.step(&mut self.trees, now, |process| specs.get(&process).is_some_and(has_stop_command));
            ending.next = step.wake;
            for process in step.commands {
                let Some(command) = self.specs.get(&process).and_then(|spec| stop_command(spec, ending.commands)) else {
                    continue;
                };
                ending.commands += 1;
                shutdown.command_started(process, command.process);
                self.spawn(command);
                // If it could not be started, the process is signalled at once.
                ending.next = Some(now);
            }
            self.drain_logs();
            if !shutdown.is_over() {
                return None;
            }
        }
        // What survives, stop commands, and after `Finish` whatever has been stopped for long enough.
        let left: Vec<(ProcessId, i32, String)> =
            self.trees.entries().map(|entry: &Entry| (entry.process, entry.identity.pid, entry.service.to_string())).collect();
        left.iter().for_each(|(process, ..)| self.trees.kill(*process));
        let since = *ending.killing_since.get_or_insert(now);
        let has_survived = |process| ending.shutdown.as_ref().is_some_and(|shutdown| shutdown.has_survived(process));
        if now.duration_since(since) > KILL_TO_SURVIVOR
            || left.iter().all(|(process, ..)| has_survived(*process)) && !left.is_empty()
        {
            return Some(self.conclude(left.into_iter().map(|(_, pid, service)| (pid, service)).collect()));
        }
        ending.next = Some(now + LOOK);
        None
    }

    /// Everything tracked is gone; what is left of our children fits no service.
    fn end_strays(&mut self, ending: &mut Ending, now: Instant) -> Option<i32> {
        let left = self.trees.loose();
        if left.is_empty() {
            return Some(self.conclude(Vec::new()));
        }
        let since = *ending.strays_since.get_or_insert(now);
        let waited = now.duration_since(since);
        if waited > KILL_TO_SURVIVOR {
            return Some(self.conclude(left.into_iter().map(|stat| (stat.pid, stat.comm)).collect()));
        }
        for stat in left {
            if waited > STRAY_GRACE {
                let _sent = signal::send_checked(stat.pid, stat.start, libc::SIGKILL);
            } else if !ending.warned.contains(&(stat.pid, stat.start)) {
                ending.warned.push((stat.pid, stat.start));
                let _sent = signal::send_checked(stat.pid, stat.start, libc::SIGTERM);
            }
        }
        ending.next = Some(now + LOOK);
        None
    }

    fn conclude(&mut self, survivors: Vec<(i32, String)>) -> i32 {
        let code = i32::from(!survivors.is_empty());
        self.write(&[Record::Result { survivors: survivors.clone() }]);
        if let Some(groups) = &self.groups {
            groups.remove();
        }
        self.say(&FromKeeper::Finished { survivors }, Vec::new());
        // The last words are worth a short wait for a supervisor that is slow to listen.
        let until = Instant::now() + Duration::from_secs(2);
        while self.socket.is_some() && !self.outbox.is_empty() && Instant::now() < until {
            self.flush();
            if !self.outbox.is_empty() {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // Nobody waits for this any more.
        if let Some(groups) = &self.groups {
            cgroup::remove_abandoned(Some(groups.path()));
        }
        code
    }
}

fn has_stop_command(spec: &SpawnSpec) -> bool {
    spec.role == Role::Main && spec.stop.command.is_some()
}

/// A process's stop command as a process: its environment, directory and user, our own number.
fn stop_command(spec: &SpawnSpec, process: ProcessId) -> Option<SpawnSpec> {
    let argv = spec.stop.command.clone().filter(|_| has_stop_command(spec))?;
    let program = look_up(argv.first()?, &spec.env, &spec.dir)?;
    let mut command = SpawnSpec { process, role: Role::StopCommand, program, argv, tty: false, ..spec.clone() };
    command.stop.command = None;
    command.stop.before = Vec::new();
    Some(command)
}
