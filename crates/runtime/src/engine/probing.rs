//! Probes and output of a process that runs: what the log pump reads, what probes look at, and how lines reach a probe.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{probe, user};
use devrun_core::event::Generation;
use devrun_logs::{LineObserver, LogStream};
use devrun_model::ServiceId;

use super::engine_state::Engine;
use super::instance::ProbeSlot;
use super::pre_start::{has_notify_check, set_home_env};
use super::task_result::TaskResult;

/// How many first lines of a service make its probe look again at once.
const NUDGES: u32 = 200;

impl Engine {
    pub(super) fn attach_logs(&mut self, id: &ServiceId, stdout: OwnedFd, stderr: Option<OwnedFd>) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(spec) = instance.spec.clone() else { return };
        if spec.tty {
            // Without a descriptor to spare no one can attach; the log continues.
            instance.terminal = stdout.try_clone().ok().map(Arc::new);
        }
        self.pump.follow_files(id, &spec.log);
        let observer = |slot: &ProbeSlot| -> LineObserver {
            let slot = Arc::clone(slot);
            let seen = AtomicU32::new(0);
            Arc::new(move |line: &[u8]| match slot.lock() {
                Ok(guard) => match guard.as_ref() {
                    Some(probe) => {
                        probe.line(line);
                        // A server that says something is often ready: the first lines make the probe look again at once.
                        probe.wants_lines() || seen.fetch_add(1, Ordering::Relaxed) < NUDGES
                    }
                    None => false,
                },
                Err(_) => false,
            })
        };
        let probed = spec.ready.is_some();
        self.pump.attach(id, &spec.log, LogStream::Stdout, stdout, probed.then(|| observer(&instance.probe)));
        if let Some(stderr) = stderr {
            self.pump.attach(id, &spec.log, LogStream::Stderr, stderr, probed.then(|| observer(&instance.probe)));
        }
    }

    pub(super) fn start_probes(&mut self, id: &ServiceId, generation: Generation) {
        let runner =
            self.instances.get(id).and_then(|instance| instance.spec.clone()).map(|spec| self.runner(&spec, generation, true));
        let socket = self.notify_socket(id);
        let (Some(instance), Some(runner)) = (self.instances.get_mut(id), runner) else { return };
        let Some(spec) = instance.spec.clone() else { return };
        if spec.ready.is_none() && spec.alive.is_none() {
            return;
        }
        let mut env = spec.env.clone();
        env.insert("DEVRUN_RUN_ID".to_owned(), self.run.clone());
        let run_as = match user::of(&spec) {
            Ok(run_as) => run_as,
            // The service itself was started as that user a moment ago.
            Err(failure) => {
                let _ended = self.task_results.send(TaskResult::Said(id.clone(), format!("it is not probed: {failure}")));
                return;
            }
        };
        set_home_env(&spec, &run_as, &mut env);
        let subject = probe::ProbeSubject {
            id: id.clone(),
            generation,
            ready: spec.ready.clone(),
            alive: spec.alive.clone(),
            leader: instance.pid,
            runner,
            env,
            dir: spec.dir.clone(),
            run_as,
            notify_socket: has_notify_check(&spec).then_some(socket),
            held: spec.port().filter(|_| spec.listen),
            listen_watch: self.listen_watch.clone(),
        };
        let notify = instance.notify.take();
        let handle = self.drivers.probes.start(subject, notify, self.probe_reports.clone());
        if let Ok(mut slot) = instance.probe.lock() {
            *slot = Some(handle);
        }
    }

    pub(super) fn stop_probes(&mut self, id: &ServiceId, generation: Generation) {
        // Taken out rather than replaced: the log pump holds the slot too.
        if let Some(instance) = self.instance_of(id, generation)
            && let Ok(mut slot) = instance.probe.lock()
        {
            *slot = None;
        }
    }

    pub(super) fn set_probe_pace(&mut self, id: &ServiceId, generation: Generation, is_often: bool) {
        if let Some(instance) = self.instance_of(id, generation)
            && let Ok(slot) = instance.probe.lock()
            && let Some(probe) = slot.as_ref()
        {
            probe.set_often(is_often);
        }
    }

    /// What runs is described by another definition from now on. Whoever was probing it had the old login.
    pub(super) fn redefine(&mut self, id: &ServiceId, generation: Generation) {
        let Some(spec) = self.core.spec(id).cloned() else { return };
        let Some(instance) = self.instances.get_mut(id).filter(|instance| instance.generation == generation) else { return };
        instance.spec = Some(spec);
        self.stop_probes(id, generation);
        self.start_probes(id, generation);
    }
}
