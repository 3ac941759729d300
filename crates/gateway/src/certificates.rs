//! The certificates of a gateway: one for `localhost` and the loopback addresses, one for each name under `.localhost` that is
//! asked for. They live in memory, a week at most, and are renewed by the first connection after two thirds of that.
//!
//! The gateway signs them itself, with a key that it reads when it needs it: it runs as the user who owns the key. To have the
//! supervisor sign would put keys of certificates on disk, and a gateway whose supervisor was killed could renew none.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use devrun_model::GatewayTls;
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::access_log::AccessLog;
use super::local_ca::{LocalCa, LocalCaPaths};

/// How long a certificate is valid.
const VALID: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Names at a time; where more are asked for, the earlier ones are forgotten.
const MAX_NAMES: usize = 512;
/// The name of the certificate for the machine itself.
const LOCALHOST: &str = "localhost";

/// Certificates by name.
pub(crate) struct Certificates {
    paths: LocalCaPaths,
    /// What stands in the certificate of `localhost`.
    own_names: Vec<String>,
    now: fn() -> Timestamp,
    log: AccessLog,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// Of the authority that signed them.
    stamp: Option<(u64, i64, i64)>,
    by_name: HashMap<String, Certificate>,
}

struct Certificate {
    key: Arc<CertifiedKey>,
    renewed_at: Timestamp,
    until: Timestamp,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Makes the certificate of `localhost`, so that an authority that cannot sign is noticed at the start.
    ///
    /// # Errors
    /// A sentence's fragment.
    pub(crate) fn new(tls: &GatewayTls, log: AccessLog, now: fn() -> Timestamp) -> Result<Self, String> {
        let mut own_names = vec![LOCALHOST.to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        own_names.extend(tls.addresses.iter().cloned());
        let paths = LocalCaPaths::new(&tls.authority);
        let certificates = Self { paths, own_names, now, log, made: Mutex::default() };
        certificates.certificate(LOCALHOST).map(|_| certificates)
    }

    /// The certificate of a name that may be had.
    fn certificate(&self, name: &str) -> Result<Arc<CertifiedKey>, String> {
        let now = (self.now)();
        let stamp = self.paths.stamp();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // Clients trust the authority that is there now.
        if stamp.is_some() && stamp != made.stamp {
            made.by_name.clear();
            made.stamp = stamp;
        }
        if let Some(found) = made.by_name.get(name)
            && now < found.renewed_at
        {
            return Ok(Arc::clone(&found.key));
        }
        let names = if name == LOCALHOST { self.own_names.clone() } else { vec![name.to_owned()] };
        let signed = LocalCa::open(&self.paths, now)
            .map_err(|error| format!("cannot sign a certificate for {name}: {error}"))
            .and_then(|authority| authority.certify(&names, now, VALID));
        match signed {
            Ok((key, until)) => {
                if made.by_name.len() >= MAX_NAMES {
                    made.by_name.clear();
                }
                let renewed_at = now + VALID * 2 / 3;
                made.by_name.insert(name.to_owned(), Certificate { key: Arc::clone(&key), renewed_at, until });
                Ok(key)
            }
            Err(error) => match made.by_name.get(name).filter(|found| now < found.until) {
                Some(found) => Ok(Arc::clone(&found.key)),
                None => Err(error),
            },
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A client that asks for an address sends no name.
        let asked = hello.server_name().unwrap_or(LOCALHOST);
        let name = name_of(asked)?;
        match self.certificate(&name) {
            Ok(key) => Some(key),
            Err(error) => {
                self.log.error(error);
                None
            }
        }
    }
}

/// A name that this machine has by itself (RFC 6761, 6.3); `None`: it is another's.
fn name_of(asked: &str) -> Option<String> {
    let name = asked.trim_end_matches('.').to_ascii_lowercase();
    (name == LOCALHOST || name.ends_with(".localhost")).then_some(name)
}

/// How a gateway speaks TLS: 1.2 and 1.3, HTTP/2 before HTTP/1.1.
pub(crate) fn server_config(certificates: Certificates) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// Moved by the test that uses it.
    static HOURS: AtomicI64 = AtomicI64::new(0);

    fn start() -> Timestamp {
        "2026-11-29T04:00:00Z".parse().unwrap()
    }

    fn clock() -> Timestamp {
        start() + Duration::from_secs(3600 * HOURS.load(Ordering::Relaxed).unsigned_abs())
    }

    fn of(directory: &std::path::Path, now: fn() -> Timestamp) -> Result<Certificates, String> {
        let (log, _writer) = AccessLog::start(None).unwrap();
        Certificates::new(&GatewayTls { authority: directory.to_owned(), addresses: Vec::new() }, log, now)
    }

    #[test]
    fn only_names_of_this_machine_have_a_certificate() {
        for (asked, name) in [
            ("localhost", Some("localhost")),
            ("Api.Shop.Localhost.", Some("api.shop.localhost")),
            ("shop.test", None),
            ("notlocalhost", None),
            ("localhost.evil.test", None),
        ] {
            assert_eq!(name_of(asked).as_deref(), name, "{asked}");
        }
    }

    #[test]
    fn a_certificate_is_kept_and_renewed_before_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let paths = LocalCaPaths::new(directory.path());
        assert!(of(directory.path(), clock).is_err_and(|error| error.contains("ca.pem does not exist")));
        LocalCa::ensure(&paths, clock()).unwrap();
        let certificates = of(directory.path(), clock).unwrap();
        let first = certificates.certificate("api.shop.localhost").unwrap();
        assert!(!Arc::ptr_eq(&first, &certificates.certificate("localhost").unwrap()));
        HOURS.store(4 * 24, Ordering::Relaxed);
        assert!(Arc::ptr_eq(&first, &certificates.certificate("api.shop.localhost").unwrap()));
        HOURS.store(5 * 24, Ordering::Relaxed);
        let second = certificates.certificate("api.shop.localhost").unwrap();
        assert_ne!(first.cert, second.cert);
        // Without its authority the last one is used for as long as it is valid.
        std::fs::rename(paths.key(), directory.path().join("away")).unwrap();
        HOURS.store(11 * 24, Ordering::Relaxed);
        assert!(Arc::ptr_eq(&second, &certificates.certificate("api.shop.localhost").unwrap()));
        HOURS.store(13 * 24, Ordering::Relaxed);
        assert!(certificates.certificate("api.shop.localhost").is_err_and(|error| error.contains("ca.key does not exist")));
        std::fs::rename(directory.path().join("away"), paths.key()).unwrap();
        assert_ne!(second.cert, certificates.certificate("api.shop.localhost").unwrap().cert);
        // A new authority signs everything again.
        let third = certificates.certificate("localhost").unwrap();
        std::fs::remove_file(paths.key()).unwrap();
        LocalCa::ensure(&paths, clock()).unwrap();
        assert_ne!(third.cert, certificates.certificate("localhost").unwrap().cert);
    }
}
