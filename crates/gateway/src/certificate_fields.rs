//! What is read of a certificate (RFC 5280, 4.1): its end and its public key. A parser of everything else would bring ten crates.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The fields of one certificate.
pub(crate) struct CertificateFields {
    pub not_after: Timestamp,
    /// The whole SubjectPublicKeyInfo, in DER.
    pub public_key: Vec<u8>,
}

impl CertificateFields {
    /// `None`: not a certificate.
    pub(crate) fn parse(der: &[u8]) -> Option<Self> {
        let mut outer = Fields(der);
        let mut certificate = Fields(outer.take(SEQUENCE)?.content);
        let mut signed = Fields(certificate.take(SEQUENCE)?.content);
        if signed.0.first() == Some(&VERSION) {
            signed.next()?;
        }
        let (_serial, _algorithm, _issuer) = (signed.next()?, signed.next()?, signed.next()?);
        let mut validity = Fields(signed.take(SEQUENCE)?.content);
        let _not_before = validity.next()?;
        let not_after = time_of(&validity.next()?)?;
        let _subject = signed.next()?;
        Some(Self { not_after, public_key: signed.take(SEQUENCE)?.whole.to_vec() })
    }
}

struct Field<'d> {
    tag: u8,
    content: &'d [u8],
    whole: &'d [u8],
}

/// What follows in a value.
struct Fields<'d>(&'d [u8]);

impl<'d> Fields<'d> {
    fn next(&mut self) -> Option<Field<'d>> {
        let (tag, first) = (*self.0.first()?, usize::from(*self.0.get(1)?));
        let (length, head) = match first {
            ..=0x7f => (first, 2),
            // More than four bytes of length is not a certificate.
            0x81..=0x84 => {
                let count = first - 0x80;
                let bytes = self.0.get(2..2 + count)?;
                (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), 2 + count)
            }
            _ => return None,
        };
        let whole = self.0.get(..head.checked_add(length)?)?;
        self.0 = &self.0[whole.len()..];
        Some(Field { tag, content: &whole[head..], whole })
    }
    fn take(&mut self, tag: u8) -> Option<Field<'d>> {
        self.next().filter(|field| field.tag == tag)
    }
}

fn time_of(field: &Field<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(field.content).ok()?.strip_suffix('Z')?;
    let text = match field.tag {
        // Two digits of the year: those from 50 on are of the last century.
        UTC_TIME => format!("{}{text}", if text.get(..2)? < "50" { "20" } else { "19" }),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let at = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_both_forms() {
        let of = |tag, text: &str| time_of(&Field { tag, content: text.as_bytes(), whole: &[] }).map(|at| at.to_string());
        assert_eq!(of(UTC_TIME, "361126040000Z").as_deref(), Some("2036-11-26T04:00:00Z"));
        assert_eq!(of(UTC_TIME, "991231235959Z").as_deref(), Some("1999-12-31T23:59:59Z"));
        assert_eq!(of(GENERALIZED_TIME, "20561126040000Z").as_deref(), Some("2056-11-26T04:00:00Z"));
        assert_eq!(of(UTC_TIME, "361126040000+0100"), None);
        assert_eq!(of(UTC_TIME, "Z"), None);
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_no_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let der = made.der().as_ref();
        let fields = CertificateFields::parse(der).unwrap();
        assert_eq!(fields.public_key, rcgen::PublicKeyData::subject_public_key_info(&key));
        for end in 0..der.len() {
            assert!(CertificateFields::parse(&der[..end]).is_none(), "{end}");
        }
    }
}
