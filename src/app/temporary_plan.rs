//! The plan of a stack whose state is thrown away.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use devrun_model::{Launch, Paths, Plan, VolumeClass, VolumeSpec};

/// Moves everything that a run keeps into a folder that is thrown away. Sources are used in place: they are never written. So is a
/// directory that the procfile names and that does not belong to a service (a virtual environment, `node_modules`): commands write to that path
/// whatever is said here, so its tasks are done for this stack as well. None of it has to outlive a loss of power, so no write waits for a disk.
#[must_use]
pub fn throw_away(plan: Arc<Plan>, places: &Paths) -> Arc<Plan> {
    let mut plan = Arc::unwrap_or_clone(plan);
    let data: &Path = &places.data(None);
    let data_of_services: BTreeSet<_> = plan.services.values().filter_map(|spec| spec.data.clone()).collect();
    let stays =
        |volume: &VolumeSpec| volume.class == VolumeClass::Source || volume.placed && !data_of_services.contains(&volume.name);
    for volume in plan.volumes.values_mut().filter(|volume| !stays(volume)) {
        let path = data.join(volume.name.as_str());
        for spec in plan.services.values_mut().filter(|spec| spec.data.as_ref() == Some(&volume.name)) {
            if let Some(place) = Arc::make_mut(spec).attributes.get_mut("data") {
                *place = path.display().to_string();
            }
        }
        volume.path = path;
        volume.placed = false;
        volume.class = VolumeClass::Scratch;
    }
    for spec in plan.services.values_mut() {
        if let Launch::Recipe(used) = &mut Arc::make_mut(spec).launch {
            for (name, value) in devrun_runtime::recipes::temporary_settings(&used.recipe.name) {
                used.settings.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
            }
        }
    }
    Arc::new(plan)
}
