//! The private runtime directory of a service.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use devrun_model::{Failure, FailureKind};

/// Makes a directory that only we may enter.
pub(super) fn make_private(folder: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(FailureKind::Config, format!("{} cannot be used: {error}", folder.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed(&error))?;
    let metadata = std::fs::symlink_metadata(folder).map_err(|error| failed(&error))?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(failed(&"it belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(|error| failed(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_folder_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("db");
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755)).unwrap();
        make_private(&run).unwrap();
        assert_eq!(std::fs::metadata(&run).unwrap().mode() & 0o777, 0o700);
        std::os::unix::fs::symlink("/tmp", folder.path().join("link")).unwrap();
        assert!(make_private(&folder.path().join("link")).is_err());
    }
}
