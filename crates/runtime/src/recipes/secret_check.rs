//! A secret that data was made with is never made anew: a new password would not fit the old data.

use std::collections::BTreeMap;
use std::path::Path;

use super::password_rotation::PasswordRotation;
use crate::init;
use devrun_model::{Failure, FailureKind, Launch, Plan};

/// Looks, before missing secrets are generated, whether initialised data was made with one of them. `missing` holds the
/// name of each absent secret and the stand-in that `plan` was made with in its place (any text that occurs nowhere
/// else); `dir` is the secrets folder, for the message.
///
/// # Errors
/// `Config`, naming the file and the ways out.
pub fn check_secrets(plan: &Plan, missing: &BTreeMap<String, String>, dir: &Path) -> Result<(), Failure> {
    for spec in plan.services.values() {
        let (Launch::Recipe(recipe), Some(data)) = (&spec.launch, &spec.data) else { continue };
        let Some(volume) = plan.volumes.get(data) else { continue };
        let Some(sentinel) = init::sentinel(&volume.path, &recipe.recipe.name) else { continue };
        for attribute in &sentinel.secrets {
            let Some(value) = spec.attributes.get(attribute) else { continue };
            let Some((name, _)) = missing.iter().find(|(_, stand_in)| !stand_in.is_empty() && value.contains(stand_in.as_str()))
            else {
                continue;
            };
            let file = dir.join(name);
            return Err(Failure::new(
                FailureKind::Config,
                format!("{} is gone or empty, and the data in volume {} was made with it", file.display(), volume.name),
            )
            .help(match super::password_rotation(&recipe.recipe.name) {
                PasswordRotation::Anew => format!(
                    "put the file back, or the password into the procfile if it stood there; or have a new password set through the server's private socket at the next start: \
                     devrun secret rotate {name} (to start over without the data: devrun clean --only {})",
                    volume.name
                ),
                PasswordRotation::FromOld | PasswordRotation::Never => {
                    format!("put the file back, or the password into the procfile if it stood there; or start over without the data: devrun clean --only {}", volume.name)
                }
            }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::{ProjectName, RecipeBook as _, RecipeUse, ServiceName, ServiceSpec, VolumeClass, VolumeName, VolumeSpec};
    use std::path::PathBuf;
    use std::time::Duration;

    fn plan(volume: &Path, password: &str) -> Plan {
        let name = VolumeName::new("pg").unwrap();
        let recipe = RecipeUse {
            recipe: super::super::RecipeRegistry::new().find("postgres").unwrap().clone(),
            version: None,
            settings: BTreeMap::new(),
            init: Vec::new(),
            extensions: Vec::new(),
            locale: None,
            encoding: None,
            migrations: None,
            source: None,
            init_cache: true,
            gateway: None,
        };
        let mut spec = ServiceSpec::bare(ServiceName::new("db").unwrap(), PathBuf::from("/"), Vec::new());
        spec.launch = Launch::Recipe(Box::new(recipe));
        spec.data = Some(name.clone());
        spec.attributes.insert("password".to_owned(), password.to_owned());
        let volume = VolumeSpec { name: name.clone(), class: VolumeClass::Persistent, path: volume.to_owned(), placed: false };
        Plan {
            project: ProjectName::new("p").unwrap(),
            root: PathBuf::from("/"),
            instance: String::new(),
            mode: None,
            timeout: Duration::from_secs(1),
            tier_pause: Duration::ZERO,
            tiers: BTreeMap::new(),
            services: [(spec.id.clone(), std::sync::Arc::new(spec))].into(),
            inactive: BTreeMap::new(),
            volumes: [(name, volume)].into(),
            queries: BTreeMap::new(),
            masks: std::collections::BTreeSet::new(),
            derived: std::collections::BTreeSet::new(),
            seed: 0,
        }
    }

    #[test]
    fn only_data_made_with_the_secret_needs_it() {
        let folder = tempfile::tempdir().unwrap();
        let missing: BTreeMap<String, String> = [("db-password".to_owned(), "<<db-password>>".to_owned())].into();
        let dir = Path::new("/secrets");
        let with = plan(folder.path(), "<<db-password>>");
        assert!(check_secrets(&with, &missing, dir).is_ok(), "no data yet");
        std::fs::create_dir(folder.path().join("postgres")).unwrap();
        let mut sentinel = init::Sentinel::new("postgres/first-boot", String::new(), "15", Duration::ZERO).unwrap();
        sentinel.secrets.push("password".to_owned());
        let text = serde_json::to_vec(&sentinel).unwrap();
        std::fs::write(folder.path().join("postgres").join(init::SENTINEL), text).unwrap();
        let failure = check_secrets(&with, &missing, dir).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Config);
        assert!(failure.reason.contains("/secrets/db-password"), "{}", failure.reason);
        assert!(check_secrets(&plan(folder.path(), "by hand"), &missing, dir).is_ok(), "another password");
        assert!(check_secrets(&with, &BTreeMap::new(), dir).is_ok(), "nothing is missing");
    }
}
