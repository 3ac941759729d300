//! An answer over HTTP, whatever carried it, and whether it passes.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::bytes::Regex;

use super::result::{ProbeError, ProbeOk, ProbeResult, spent};

/// The part of a body that a pattern is tried on.
pub(super) const MOST_BODY: usize = 1024 * 1024;

/// What is asked, and what passes.
pub(super) struct HttpExpectation<'a> {
    /// With the leading slash.
    pub path: &'a str,
    /// Codes that pass; empty: 200 to 399.
    pub status: &'a [u16],
    /// Request headers.
    pub headers: &'a BTreeMap<String, String>,
    /// For the first MiB of the body.
    pub body: Option<&'a Regex>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpReply {
    /// The code.
    pub status: u16,
    /// Header fields in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What was read of the body.
    pub body: Vec<u8>,
}

impl HttpReply {
    /// The first field of this name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Whether an answer passes.
pub(super) fn judge(reply: &HttpReply, want: &HttpExpectation<'_>, took: Duration) -> ProbeResult {
    let code = reply.status;
    let passes = if want.status.is_empty() { (200..400).contains(&code) } else { want.status.contains(&code) };
    if !passes {
        let wanted: Vec<String> = want.status.iter().map(u16::to_string).collect();
        return Err(ProbeError::new(match wanted.as_slice() {
            [] => format!("{code} from {}", want.path),
            codes => format!("{code} from {}, not {}", want.path, codes.join(" or ")),
        }));
    }
    if let Some(pattern) = want.body
        && !pattern.is_match(&reply.body)
    {
        return Err(ProbeError::new(format!("{code} from {}, but the body does not match {:?}", want.path, pattern.as_str())));
    }
    Ok(ProbeOk::new(format!("{code} from {} in {}", want.path, spent(took))))
}
