//! Where the engine keeps a process that serves while the next one of its service starts (`update.order = "start-first"`).

use devrun_core::event::Generation;
use devrun_model::ServiceId;

use super::engine_state::Engine;
use super::instance::Instance;

impl Engine {
    /// The instance of a generation: the present one, or the one that it replaces.
    pub(super) fn instance_of(&mut self, id: &ServiceId, generation: Generation) -> Option<&mut Instance> {
        let present = self.instances.get_mut(id).filter(|instance| instance.generation == generation);
        present.or_else(|| self.previous_instances.get_mut(id).filter(|instance| instance.generation == generation))
    }

    /// Sets aside what still serves, before a new generation takes its place.
    pub(super) fn keep_previous(&mut self, id: &ServiceId, generation: Generation) {
        let previous = self.core.previous_generation(id);
        let is_previous = |instance: &Instance| instance.generation != generation && previous == Some(instance.generation);
        if self.instances.get(id).is_some_and(is_previous)
            && let Some(instance) = self.instances.remove(id)
        {
            self.previous_instances.insert(id.clone(), instance);
        }
    }

    /// What was set aside is the present instance again.
    pub(super) fn restore_previous(&mut self, id: ServiceId, generation: Generation) {
        let previous = self.previous_instances.remove(&id);
        if let Some(instance) = previous.filter(|instance| instance.generation == generation) {
            self.instances.insert(id, instance);
        }
    }
}
