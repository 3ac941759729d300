//! Versions as people ask for them and as servers report them.
//!
//! Owns: reading a request (`16`, `7.2.5`), whether a version satisfies it, the order of versions, and finding the version
//! in what a tool prints. It is no semantic versioning: servers number as they like (`16.4`, `RELEASE.2025-09-07T…`), so
//! versions stay text and are compared component by component.

use std::cmp::Ordering;

/// What a procfile asks for after the `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRequest(Option<String>);

impl VersionRequest {
    /// Reads a request; absent, empty and `latest` are any version.
    #[must_use]
    pub fn new(text: Option<&str>) -> Self {
        let text = text.map(|text| text.trim().trim_start_matches('v')).filter(|text| !text.is_empty() && *text != "latest");
        Self(text.map(ToOwned::to_owned))
    }
    /// Whether any version will do.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_none()
    }
    /// Whether this version will do: one or two components name a line (`16`, `16.4`), three or more exactly one version.
    #[must_use]
    pub fn admits(&self, version: &str) -> bool {
        let Some(wanted) = &self.0 else { return true };
        if wanted == version {
            return true;
        }
        let (wanted, found) = (components(wanted), components(version));
        if wanted.len() >= 3 {
            return trimmed(&wanted) == trimmed(&found);
        }
        found.len() >= wanted.len() && found[..wanted.len()] == wanted[..]
    }
}

impl std::fmt::Display for VersionRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("any version"))
    }
}

fn components(version: &str) -> Vec<&str> {
    version.split(['.', '-', '+']).collect()
}

/// `18.4.0` and `18.4` are one version: vendors pad to three parts where the server has two.
fn trimmed<'a, 'b>(parts: &'b [&'a str]) -> &'b [&'a str] {
    let keep = parts.iter().rposition(|part| *part != "0").map_or(0, |last| last + 1);
    &parts[..keep]
}

/// Orders versions: numbers by value, all else as text.
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (components(left), components(right));
    for (a, b) in left.iter().zip(&right) {
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

/// The version in what a tool printed, wherever it stands: `postgres (PostgreSQL) 15.20 (Debian …)`,
/// `Redis server v=6.2.5 sha=…`, `nginx version: nginx/1.22.1`, `minio version RELEASE.2025-09-07T16-13-09Z`.
#[must_use]
pub fn in_output(output: &str) -> Option<String> {
    if let Some(at) = output.find("RELEASE.") {
        return output[at..].split_whitespace().next().map(|word| word.trim_end_matches([',', ')']).to_owned());
    }
    let dotted = tokens(output).find(|token| token.contains('.'));
    // A development version has no dot: `postgres (PostgreSQL) 19devel`. Below the first line such a number is anything, say the
    // year of a copyright.
    let first = output.lines().next().unwrap_or_default();
    dotted.or_else(|| tokens(first).next()).map(ToOwned::to_owned)
}

/// Runs of digits and dots that begin a word, or follow `v`, `=`, `/`, `:` or `(`.
fn tokens(output: &str) -> impl Iterator<Item = &str> {
    let bytes = output.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let begins = bytes[at].is_ascii_digit() && (at == 0 || starts_token(bytes, at));
            if !begins {
                at += 1;
                continue;
            }
            let start = at;
            while at < bytes.len() && (bytes[at].is_ascii_digit() || bytes[at] == b'.') {
                at += 1;
            }
            return Some(output[start..at].trim_end_matches('.'));
        }
        None
    })
}

fn starts_token(bytes: &[u8], at: usize) -> bool {
    match bytes[at - 1] {
        b'v' | b'V' => at < 2 || !bytes[at - 2].is_ascii_alphanumeric(),
        before => before.is_ascii_whitespace() || b"=/:(".contains(&before),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_admit_a_line_or_exactly_one() {
        for (request, version, fits) in [
            ("16", "16.4", true),
            ("16", "16", true),
            ("16", "17.1", false),
            ("16", "160.1", false),
            ("16.4", "16.4", true),
            ("16.4", "16.4.1", true),
            ("16.4", "16.41", false),
            ("7.2.5", "7.2.5", true),
            ("7.2.5", "7.2.50", false),
            ("7.2.5", "7.2", false),
            ("7.2.5", "7.2.5.1", false),
            ("18.4.0", "18.4", true),
            ("v2.11", "2.11.7", true),
            ("latest", "3", true),
            ("", "3", true),
            ("RELEASE.2025-09-07T16-13-09Z", "RELEASE.2025-09-07T16-13-09Z", true),
        ] {
            assert_eq!(VersionRequest::new(Some(request)).admits(version), fits, "{request} admits {version}");
        }
        assert!(VersionRequest::new(None).admits("anything"));
    }

    #[test]
    fn versions_sort_by_number() {
        let mut versions = ["6.2.5", "16.10", "9.0", "16.9", "16"];
        versions.sort_by(|a, b| compare(a, b));
        assert_eq!(versions, ["6.2.5", "9.0", "16", "16.9", "16.10"]);
    }

    #[test]
    fn versions_are_found_in_what_servers_print() {
        for (output, version) in [
            ("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", "15.20"),
            ("initdb (PostgreSQL) 18.4", "18.4"),
            ("postgres (PostgreSQL) 19devel", "19"),
            ("Redis server v=6.2.5 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64 build=135cf79b58e84c2a", "6.2.5"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("v2.11.7 h1:abc", "2.11.7"),
            ("prometheus, version 2.42.0+ds (branch: debian/sid)", "2.42.0"),
            ("nats-server: v2.9.10", "2.9.10"),
            ("minio version RELEASE.2025-09-07T16-13-09Z (commit-id=07c3a429)", "RELEASE.2025-09-07T16-13-09Z"),
            ("mariadbd  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu", "10.11.6"),
            ("Warning: could not connect to a running Ollama instance\nWarning: client version is 0.32.5", "0.32.5"),
            ("memcached 1.6.18", "1.6.18"),
        ] {
            assert_eq!(in_output(output).as_deref(), Some(version), "{output}");
        }
        for nothing in
            ["", "no version here", "utf8 x86", "minio version DEVELOPMENT.GOGET\nRuntime: go1.26.8\nCopyright: 2015-0000"]
        {
            assert_eq!(in_output(nothing), None, "{nothing}");
        }
    }
}
