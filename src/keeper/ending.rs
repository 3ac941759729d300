//! The end: asked for by `Finish`, or because the supervisor is gone. Then the keeper stops the stack by itself, and in both
//! cases it ends what fits no service, proves that nothing is left, writes the result and goes.

use std::time::{Duration, Instant};

use crate::drivers::journal::{Entry, Record};
use crate::drivers::process::cgroup;
use crate::drivers::process::orderly::Orderly;
use crate::drivers::process::signal;
use crate::drivers::process::tree::Kin;
use crate::model::keeper::{FromKeeper, ProcessId, Role, SpawnSpec};

use super::serve::{Keeper, look_up};

/// Strays get the usual signal, and this long to follow it.
const STRAY_GRACE: Duration = Duration::from_millis(500);
/// After this long under SIGKILL what is left is named and left.
const GIVE_UP: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

/// How far it is.
pub(super) struct Ending {
    orderly: Option<Orderly>,
    strays_since: Option<Instant>,
    warned: Vec<(i32, u64)>,
    next: Option<Instant>,
    gave_up: Option<Instant>,
    commands: ProcessId,
}

impl Ending {
    /// By `Finish`: everything is stopped already.
    pub(super) fn asked() -> Self {
        Self {
            orderly: None,
            strays_since: None,
            warned: Vec::new(),
            next: Some(Instant::now()),
            gave_up: None,
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
        self.outbox = crate::drivers::process::wire::Outbox::default();
        match &mut self.ending {
            Some(ending) => ending.next = Some(Instant::now()),
            None => {
                self.write(&[Record::Dead]);
                self.drain_logs();
                for entry in std::mem::take(&mut self.inherited) {
                    let gone = !crate::drivers::process::identity::holds(&entry.identity);
                    self.trees.add(entry, Kin::Foreign, None, gone);
                }
                self.ending = Some(Ending { orderly: Some(Orderly::default()), ..Ending::asked() });
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
        if let Some(mut orderly) = ending.orderly.take() {
            let mut commands = Vec::new();
            let specs = &self.specs;
            let counter = &mut ending.commands;
            let next = orderly.step(&mut self.trees, now, &mut |_, process| {
                let command = stop_command(specs.get(&process)?, *counter)?;
                *counter += 1;
                let number = command.process;
                commands.push(command);
                Some(number)
            });
            ending.orderly = Some(orderly);
            ending.next = next;
            if !commands.is_empty() {
                ending.next = Some(now);
            }
            for command in commands {
                self.spawn(command);
            }
            self.drain_logs();
        } else {
            // After `Finish` nothing should be tracked; whatever is has been stopped long enough.
            let left: Vec<ProcessId> = self.trees.entries().map(|entry: &Entry| entry.process).collect();
            left.into_iter().for_each(|process| self.trees.kill(process));
            ending.next = Some(now + LOOK);
        }
        // A tree that survives SIGKILL must not hold the others' end for ever.
        let all_killed = ending.orderly.as_ref().is_none_or(|orderly| orderly.all_killed(&self.trees));
        if !all_killed {
            ending.gave_up = None;
            return None;
        }
        let since = *ending.gave_up.get_or_insert(now);
        ending.next =
            Some(ending.next.map_or(now + LOOK, |at| at.min(since + GIVE_UP + LOOK)).max(now + Duration::from_millis(1)));
        (now.duration_since(since) > GIVE_UP + Duration::from_secs(1)).then(|| {
            let left = self.trees.entries().map(|entry| (entry.identity.pid, entry.service.to_string())).collect();
            self.conclude(left)
        })
    }

    /// Everything tracked is gone; what is left of our children fits no service.
    fn end_strays(&mut self, ending: &mut Ending, now: Instant) -> Option<i32> {
        let left = self.trees.loose();
        if left.is_empty() {
            return Some(self.conclude(Vec::new()));
        }
        let since = *ending.strays_since.get_or_insert(now);
        let waited = now.duration_since(since);
        if waited > GIVE_UP {
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

/// A process's stop command as a process: its environment, directory and user, our own number.
fn stop_command(spec: &SpawnSpec, process: ProcessId) -> Option<SpawnSpec> {
    let argv = spec.stop.command.clone().filter(|_| spec.role == Role::Main)?;
    let program = look_up(argv.first()?, &spec.env, &spec.dir)?;
    let mut command = SpawnSpec { process, role: Role::StopCommand, program, argv, tty: false, ..spec.clone() };
    command.stop.command = None;
    command.stop.before = Vec::new();
    Some(command)
}
