//! The file next to a backup that says what it is: `FILE.json`.

use std::path::{Path, PathBuf};

use devrun_model::{Failure, FailureKind};
use serde::{Deserialize, Serialize};

use crate::archive::hash_file;
use crate::cancel::CopyCancel;
use crate::durable::{now, replace_durably};

/// The layout of the file.
const LAYOUT: u32 = 1;

/// What a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackupFormat {
    /// `pg_dump --format=custom`.
    PostgresCustom,
    /// `pg_dump --format=plain`, SQL text.
    PostgresPlain,
    /// Buckets and objects of an S3 server as a gzipped tar.
    S3Objects,
    /// `mariadb-dump`, SQL text.
    MariadbSql,
    /// `neo4j-admin database dump`.
    Neo4jDump,
    /// The data directory as a gzipped tar, of a server that was stopped or brought to a copyable state.
    DataDirectory,
}

impl BackupFormat {
    /// The usual end of the file's name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::PostgresCustom | Self::Neo4jDump => "dump",
            Self::PostgresPlain | Self::MariadbSql => "sql",
            Self::S3Objects => "s3.tar.gz",
            Self::DataDirectory => "tar.gz",
        }
    }
}

/// The manifest of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupManifest {
    /// The layout of this file.
    pub devrun: u32,
    /// What the backup is.
    pub format: BackupFormat,
    /// The service that was saved.
    pub service: String,
    /// Its recipe; absent for a service with a command of its own.
    pub recipe: Option<String>,
    /// The server's version.
    pub version: Option<String>,
    /// The version of the `pg_dump` that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dumped_by: Option<String>,
    /// Project, instance and mode.
    pub project: String,
    /// Empty for the usual one.
    pub instance: String,
    /// Mode.
    pub mode: Option<String>,
    /// Database, for a dump.
    pub database: Option<String>,
    /// Buckets, for one of an S3 server. `all_buckets`: it has all that there were, and a restore removes the others.
    #[serde(default)]
    pub buckets: Vec<String>,
    /// See `buckets`.
    #[serde(default)]
    pub all_buckets: bool,
    /// RFC 3339, UTC.
    pub made_at: String,
    /// The version of devrun.
    pub by: String,
    /// Length of the file.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

impl BackupManifest {
    /// A manifest of now, with nothing known of the file yet.
    #[must_use]
    pub fn new(format: BackupFormat, service: &str, project: &str) -> Self {
        Self {
            devrun: LAYOUT,
            format,
            service: service.to_owned(),
            recipe: None,
            version: None,
            dumped_by: None,
            project: project.to_owned(),
            instance: String::new(),
            mode: None,
            database: None,
            buckets: Vec::new(),
            all_buckets: false,
            made_at: now(),
            by: env!("CARGO_PKG_VERSION").to_owned(),
            bytes: 0,
            sha256: String::new(),
        }
    }

    /// Writes it next to its backup.
    ///
    /// # Errors
    /// As the file system says.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| Failure::new(FailureKind::Internal, format!("the manifest cannot be written: {error}")))?;
        text.push(b'\n');
        replace_durably(&manifest_path(file), &text)
    }

    /// Reads it and checks the backup against it.
    ///
    /// # Errors
    /// `Config` where the file or the manifest is missing, `Integrity` where they do not belong together.
    pub fn check(file: &Path, cancel: &CopyCancel) -> Result<Self, Failure> {
        let place = manifest_path(file);
        let length = match std::fs::metadata(file) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(Failure::new(FailureKind::Config, format!("{} is not a file", file.display()))),
            Err(error) => {
                return Err(Failure::new(FailureKind::Config, format!("cannot read {}: {error}", file.display()))
                    .help("ls .devrun/backups; `devrun backup` writes them there by default"));
            }
        };
        let bytes = std::fs::read(&place).map_err(|error| {
            Failure::new(FailureKind::Config, format!("cannot read the manifest {}: {error}", place.display()))
                .help("keep it next to the backup: `devrun backup` writes both")
        })?;
        let broken = |reason: String| {
            Failure::new(FailureKind::Integrity, format!("{}: {reason}", file.display()))
                .help("the file was cut or changed since it was made; take another backup")
        };
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| broken(format!("the manifest cannot be read: {error}")))?;
        if manifest.devrun > LAYOUT {
            let reason = format!("{} was made by devrun {}, which is newer", file.display(), manifest.by);
            return Err(Failure::new(FailureKind::Config, reason).help("use that version of devrun"));
        }
        if manifest.bytes != length {
            return Err(broken(format!("it has {length} bytes, the manifest says {}", manifest.bytes)));
        }
        if hash_file(file, cancel)? != manifest.sha256 {
            return Err(broken("its checksum is not that of the manifest".to_owned()));
        }
        Ok(manifest)
    }
}

/// Where the manifest of a backup lies.
#[must_use]
pub fn manifest_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_or_changed_backup_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pg.dump");
        std::fs::write(&file, b"content").unwrap();
        let cancel = CopyCancel::default();
        assert_eq!(BackupManifest::check(&file, &cancel).unwrap_err().kind, FailureKind::Config);
        let mut manifest = BackupManifest::new(BackupFormat::PostgresCustom, "postgres", "shop");
        (manifest.bytes, manifest.sha256) = (7, hash_file(&file, &cancel).unwrap());
        manifest.write(&file).unwrap();
        assert_eq!(BackupManifest::check(&file, &cancel).unwrap(), manifest);
        for changed in [&b"conten"[..], b"Content", b"content!", b""] {
            std::fs::write(&file, changed).unwrap();
            assert_eq!(BackupManifest::check(&file, &cancel).unwrap_err().kind, FailureKind::Integrity);
        }
        std::fs::write(manifest_path(&file), "{").unwrap();
        assert_eq!(BackupManifest::check(&file, &cancel).unwrap_err().kind, FailureKind::Integrity);
        assert_eq!(BackupManifest::check(&folder.path().join("no"), &cancel).unwrap_err().kind, FailureKind::Config);
    }
}
