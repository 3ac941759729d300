//! The certificate authority of one user on one machine, and the certificates that it signs.
//!
//! It lies in a directory of its own, as `ca.pem` and `ca.key` (0600). The two are written into a staging directory, which is
//! then renamed, under a lock: there is never half of one, and two starts at once make one. By its name constraints (RFC 5280,
//! 4.2.1.10) it can vouch for this machine's own names and loopback addresses alone, even if the key is stolen.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::certificate_fields::CertificateFields;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority is valid.
const VALID: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// One that is valid for less is replaced at the next start.
const REPLACED_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Clocks of virtual machines differ by minutes.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// The files of an authority in its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCaPaths {
    base: PathBuf,
}

impl LocalCaPaths {
    /// Those in the directory `base`, which is private to the user.
    #[must_use]
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into() }
    }
    fn current(&self) -> PathBuf {
        self.base.join("current")
    }
    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.current().join("ca.pem")
    }
    /// The private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.current().join("ca.key")
    }
    /// What tells one authority from the next in the same place.
    pub(crate) fn stamp(&self) -> Option<(u64, i64, i64)> {
        let meta = fs::metadata(self.certificate()).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
    }
    fn lock(&self) -> io::Result<File> {
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.base.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }
}

/// Why an authority is missing.
#[derive(Debug)]
pub enum LocalCaError {
    /// None was made yet, or a file of it was deleted.
    Missing(PathBuf),
    /// It is about to end, or has.
    Expired(Timestamp),
    /// A file is not what it was made as.
    Unusable(String),
}

impl fmt::Display for LocalCaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{} does not exist", path.display()),
            Self::Expired(at) => write!(f, "the local certificate authority expires on {}", at.strftime("%Y-%m-%d")),
            Self::Unusable(reason) => f.write_str(reason),
        }
    }
}

/// What [`LocalCa::ensure`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalCaChange {
    /// It was there.
    Kept,
    /// There was none.
    Created,
    /// The earlier one was about to end, or a file of it was missing.
    Replaced,
}

/// An authority that can sign.
pub struct LocalCa {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    valid_until: Timestamp,
}

impl LocalCa {
    /// Reads an authority.
    ///
    /// # Errors
    /// What it lacks.
    pub fn open(paths: &LocalCaPaths, now: Timestamp) -> Result<Self, LocalCaError> {
        let (certificate_path, key_path) = (paths.certificate(), paths.key());
        let bad = |path: &Path, reason: &dyn fmt::Display| LocalCaError::Unusable(format!("{}: {reason}", path.display()));
        let read = |path: &Path| match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LocalCaError::Missing(path.to_owned())),
            read => read.map_err(|error| bad(path, &error)),
        };
        let (certificate, key) = (read(&certificate_path)?, read(&key_path)?);
        let mode = fs::metadata(&key_path).map_err(|error| bad(&key_path, &error))?.mode();
        if mode & 0o077 != 0 {
            return Err(bad(&key_path, &format!("others can read the private key (mode {:04o})", mode & 0o7777)));
        }
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| bad(&certificate_path, &format!("invalid certificate: {error}")))?;
        let fields = CertificateFields::parse(&certificate).ok_or_else(|| bad(&certificate_path, &"invalid certificate"))?;
        let key = KeyPair::from_pem(&key).map_err(|error| bad(&key_path, &format!("invalid private key: {error}")))?;
        if fields.public_key != key.subject_public_key_info() {
            return Err(bad(&key_path, &format!("it is not the key of {}", certificate_path.display())));
        }
        if now + REPLACED_BEFORE > fields.not_after {
            return Err(LocalCaError::Expired(fields.not_after));
        }
        Ok(Self { certificate, issuer: Issuer::new(authority(&key), key), valid_until: fields.not_after })
    }

    /// Reads the authority, and makes one where there is none, half of one, or one that is about to end. A file that was altered
    /// is not replaced: its owner may want it back.
    ///
    /// # Errors
    /// A sentence's fragment, which names the file.
    pub fn ensure(paths: &LocalCaPaths, now: Timestamp) -> Result<(Self, LocalCaChange), String> {
        match Self::open(paths, now) {
            Ok(found) => return Ok((found, LocalCaChange::Kept)),
            Err(error @ LocalCaError::Unusable(_)) => return Err(error.to_string()),
            Err(LocalCaError::Missing(_) | LocalCaError::Expired(_)) => {}
        }
        let failed = |error: io::Error| format!("cannot make a certificate authority in {}: {error}", paths.base.display());
        let _alone = paths.lock().map_err(failed)?;
        // Another start may have made it in between.
        match Self::open(paths, now) {
            Ok(found) => return Ok((found, LocalCaChange::Kept)),
            Err(error @ LocalCaError::Unusable(_)) => return Err(error.to_string()),
            Err(LocalCaError::Missing(_) | LocalCaError::Expired(_)) => {}
        }
        let is_first = !paths.current().exists();
        make(paths, now).map_err(failed)?;
        let made = Self::open(paths, now).map_err(|error| error.to_string())?;
        Ok((made, if is_first { LocalCaChange::Created } else { LocalCaChange::Replaced }))
    }

    /// Writes the certificates of a file and this one into another file of its directory, where that has changed.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn write_bundle(&self, paths: &LocalCaPaths, source: &Path, bundle: &Path) -> io::Result<()> {
        let mut text = fs::read(source)?;
        if text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(&fs::read(paths.certificate())?);
        if fs::read(bundle).is_ok_and(|there| there == text) {
            return Ok(());
        }
        let _alone = paths.lock()?;
        let stage = paths.base.join(".bundle.pem");
        write(&stage, &text, 0o644)?;
        fs::rename(&stage, bundle)
    }

    /// A certificate for these names and addresses, with a key of its own.
    ///
    /// # Errors
    /// A sentence's fragment.
    pub(crate) fn certify(
        &self,
        names: &[String],
        now: Timestamp,
        valid: Duration,
    ) -> Result<(Arc<CertifiedKey>, Timestamp), String> {
        let fault = |error: &dyn fmt::Display| format!("cannot make a certificate for {}: {error}", names.join(", "));
        let until = (now + valid).min(self.valid_until);
        let mut params = CertificateParams::new(names.to_vec()).map_err(|error| fault(&error))?;
        // A blank in it, so that no client takes it for a host name.
        params.distinguished_name = named("devrun gateway");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (date(now - BACKDATED), date(until));
        let key = KeyPair::generate().map_err(|error| fault(&error))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| fault(&error))?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| fault(&error))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|error| fault(&error))?;
        Ok((Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)), until))
    }

    /// The certificate, in DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
    /// Its SHA-256, in lower-case hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(&self.certificate))
    }
    /// When it ends.
    #[must_use]
    pub fn valid_until(&self) -> Timestamp {
        self.valid_until
    }
}

/// What an authority with this key is. Its name is made of the key: two authorities of one name would be confused by stores that
/// look them up by it.
fn authority(key: &KeyPair) -> CertificateParams {
    let digest = hex(&Sha256::digest(key.subject_public_key_info()));
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("devrun local CA {}", &digest[..8]));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            // And every name below it.
            GeneralSubtree::DnsName("localhost".to_owned()),
            GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
            GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix(std::net::Ipv6Addr::LOCALHOST.octets(), 128)),
        ],
        excluded_subtrees: Vec::new(),
    });
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::OrganizationName, "devrun");
    all.push(DnType::CommonName, name);
    all
}

fn make(paths: &LocalCaPaths, now: Timestamp) -> io::Result<()> {
    // Of a start that was killed.
    for entry in fs::read_dir(&paths.base)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".stage-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let (text, key) = generate(now).map_err(|error| io::Error::other(error.to_string()))?;
    let id = std::process::id();
    let (stage, old) = (paths.base.join(format!(".stage-{id}")), paths.base.join(format!(".stage-{id}-old")));
    fs::DirBuilder::new().mode(0o700).create(&stage)?;
    write(&stage.join("ca.key"), key.as_bytes(), 0o600)?;
    write(&stage.join("ca.pem"), text.as_bytes(), 0o644)?;
    File::open(&stage)?.sync_all()?;
    let current = paths.current();
    match fs::rename(&current, &old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        moved => moved?,
    }
    fs::rename(&stage, &current)?;
    File::open(&paths.base)?.sync_all()?;
    match fs::remove_dir_all(&old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn generate(now: Timestamp) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = authority(&key);
    (params.not_before, params.not_after) = (date(now - DAY), date(now + VALID));
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// As `rcgen` takes it.
fn date(at: Timestamp) -> time::OffsetDateTime {
    date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-29T04:00:00Z".parse().unwrap()
    }

    fn place() -> (tempfile::TempDir, LocalCaPaths) {
        let directory = tempfile::tempdir().unwrap();
        let paths = LocalCaPaths::new(directory.path());
        (directory, paths)
    }

    #[test]
    fn it_is_made_once_and_its_key_is_private() {
        let (_directory, paths) = place();
        assert!(matches!(LocalCa::open(&paths, now()), Err(LocalCaError::Missing(_))));
        let (first, change) = LocalCa::ensure(&paths, now()).unwrap();
        assert_eq!(change, LocalCaChange::Created);
        let (second, change) = LocalCa::ensure(&paths, now()).unwrap();
        assert_eq!((change, second.fingerprint()), (LocalCaChange::Kept, first.fingerprint()));
        assert_eq!(fs::metadata(paths.key()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(paths.current()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(first.valid_until(), now() + VALID);
    }

    #[test]
    fn starts_at_the_same_time_make_one() {
        let (_directory, paths) = place();
        let made: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| LocalCa::ensure(&paths, now()).unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).map(|(ca, change)| (ca.fingerprint(), change)).collect()
        });
        assert!(made.iter().all(|(fingerprint, _)| *fingerprint == made[0].0), "{made:?}");
        assert_eq!(made.iter().filter(|(_, change)| *change == LocalCaChange::Created).count(), 1, "{made:?}");
    }

    #[test]
    fn what_a_killed_start_left_is_no_authority_and_is_removed() {
        let (directory, paths) = place();
        let left = directory.path().join(".stage-1");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("ca.key"), "half").unwrap();
        assert_eq!(LocalCa::ensure(&paths, now()).unwrap().1, LocalCaChange::Created);
        assert!(!left.exists());
    }

    #[test]
    fn a_missing_file_and_the_end_of_its_time_are_made_anew_and_an_altered_file_is_an_error() {
        let (_directory, paths) = place();
        let (first, _) = LocalCa::ensure(&paths, now()).unwrap();
        fs::remove_file(paths.key()).unwrap();
        let (second, change) = LocalCa::ensure(&paths, now()).unwrap();
        assert_eq!(change, LocalCaChange::Replaced);
        assert_ne!(first.fingerprint(), second.fingerprint());
        let late = second.valid_until() - DAY;
        assert!(matches!(LocalCa::open(&paths, late), Err(LocalCaError::Expired(_))));
        assert_eq!(LocalCa::ensure(&paths, late).unwrap().1, LocalCaChange::Replaced);

        let good = fs::read(paths.certificate()).unwrap();
        for (what, altered) in [
            ("invalid certificate", b"garbage".to_vec()),
            ("not the key of", {
                let (_other, other) = place();
                LocalCa::ensure(&other, late).unwrap();
                fs::read(other.certificate()).unwrap()
            }),
        ] {
            fs::write(paths.certificate(), altered).unwrap();
            let error = LocalCa::ensure(&paths, late).err().unwrap();
            assert!(error.contains(what), "{error}");
        }
        fs::write(paths.certificate(), good).unwrap();
        fs::set_permissions(paths.key(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = LocalCa::ensure(&paths, late).err().unwrap();
        assert!(error.contains("others can read the private key (mode 0640)"), "{error}");
    }

    #[test]
    fn a_bundle_is_the_certificates_of_a_file_and_this_one() {
        let (directory, paths) = place();
        let (ca, _) = LocalCa::ensure(&paths, now()).unwrap();
        let system = directory.path().join("system.crt");
        fs::write(&system, "SYSTEM").unwrap();
        let bundle = directory.path().join("bundle.pem");
        ca.write_bundle(&paths, &system, &bundle).unwrap();
        let own = fs::read_to_string(paths.certificate()).unwrap();
        assert_eq!(fs::read_to_string(bundle).unwrap(), format!("SYSTEM\n{own}"));
    }
}
