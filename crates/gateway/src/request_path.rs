//! A request's path as it is compared with routes.
//!
//! Servers behind a gateway decode and tidy paths each in its own way, so a route is chosen by what the path means:
//! `%XX` of letters, digits and `-._~` is decoded (RFC 3986, 6.2.2.2) and runs of `/` count as one. A path that climbs, in any
//! spelling, is refused: what it means depends on who reads it. What is sent on is the path as it came.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadPath {
    /// It does not begin with `/`.
    NotAbsolute,
    /// A segment is `.` or `..`, plain or encoded.
    DotSegment,
    /// It holds an encoded NUL.
    Nul,
}

impl BadPath {
    /// For the response.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NotAbsolute => "the path does not begin with /",
            Self::DotSegment => "the path has a segment . or ..",
            Self::Nul => "the path holds a NUL",
        }
    }
}

/// The path that routes are compared with.
pub(crate) fn normalize(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath::NotAbsolute);
    }
    let decoded = if path.contains('%') { decode(path.as_bytes(), |_| true).into() } else { Cow::Borrowed(path.as_bytes()) };
    if decoded.contains(&0) {
        return Err(BadPath::Nul);
    }
    // `%2f` and `\` separate segments for some servers.
    if decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| matches!(segment, b"." | b"..")) {
        return Err(BadPath::DotSegment);
    }
    if !path.contains('%') && !path.contains("//") {
        return Ok(Cow::Borrowed(path));
    }
    let plain = decode(path.as_bytes(), |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let mut folded = String::with_capacity(plain.len());
    for char in String::from_utf8_lossy(&plain).chars() {
        if char != '/' || !folded.ends_with('/') {
            folded.push(char);
        }
    }
    Ok(Cow::Owned(folded))
}

/// Whether a path names a hidden file or directory, `.well-known` (RFC 8615) apart.
pub(crate) fn is_hidden(path: &str) -> bool {
    let decoded = decode(path.as_bytes(), |_| true);
    decoded.split(|byte| *byte == b'/').any(|segment| segment.starts_with(b".") && segment != b".well-known")
}

pub(crate) fn decode(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        let code = (*byte == b'%').then(|| path.get(at + 1..at + 3)).flatten().and_then(hex).filter(|code| wanted(*code));
        match code {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let [high, low] = digits else { return None };
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_paths_look_equal() {
        for (path, expected) in [
            ("/", "/"),
            ("/api/x", "/api/x"),
            ("/%61pi", "/api"),
            ("//api///x/", "/api/x/"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%zz%4", "/a%zz%4"),
            ("/%7Euser", "/~user"),
            ("/ä", "/ä"),
            ("/...", "/..."),
            ("/..a/b..", "/..a/b.."),
        ] {
            assert_eq!(normalize(path).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn climbing_is_refused_in_every_spelling() {
        for path in
            ["/..", "/a/../b", "/./a", "/a/.", "/%2e%2e/a", "/a/%2E./b", "/a%2f..%2fb", "/a/..\\b", "/a%5c..%5cb", "/.%2e"]
        {
            assert_eq!(normalize(path), Err(BadPath::DotSegment), "{path}");
        }
        assert_eq!(normalize("/a%00"), Err(BadPath::Nul));
        for path in ["", "*", "a/b", "http://x/"] {
            assert_eq!(normalize(path), Err(BadPath::NotAbsolute), "{path}");
        }
    }

    #[test]
    fn hidden_files_are_known_in_every_spelling() {
        for path in ["/.env", "/a/.git/config", "/%2eenv", "/a/%2Egit"] {
            assert!(is_hidden(path), "{path}");
        }
        for path in ["/", "/a.b", "/.well-known/acme", "/a/b."] {
            assert!(!is_hidden(path), "{path}");
        }
    }
}
