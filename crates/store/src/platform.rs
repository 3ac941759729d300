//! The platform's name in the catalogue and the lock, and the words that vendors use for it in URLs.

use std::collections::BTreeMap;

/// `linux-x86_64`, `linux-aarch64`, `macos-aarch64`, `macos-x86_64`.
#[must_use]
pub fn current() -> String {
    format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH)
}

/// Why a template cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner.
    #[error("a brace in {0:?} is not closed")]
    NotClosed(String),
    /// `{version}` where no version is known.
    #[error("{0:?} asks for a version and none is given")]
    NoVersion(String),
    /// A name in braces that is none of those.
    #[error("{{{0}}} is not known; use {{version}}, {{os}}, {{arch}}, {{goos}}, {{goarch}} or {{triple}}")]
    UnknownName(String),
}

/// Fills `{version}`, `{os}`, `{arch}`, `{goos}`, `{goarch}` and `{triple}`. `{os}` and `{arch}` are `linux`, `macos`,
/// `x86_64`, `aarch64`; `{goos}` and `{goarch}` are `linux`, `darwin`, `amd64`, `arm64`.
///
/// # Errors
/// When a name in braces is none of these, or `{version}` is used and no version is known.
pub fn fill(template: &str, version: Option<&str>) -> Result<String, TemplateError> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let goos = if os == "macos" { "darwin" } else { os };
    let goarch = match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let triple = if os == "macos" { format!("{arch}-apple-darwin") } else { format!("{arch}-unknown-{os}-gnu") };
    let mut words = BTreeMap::from([("os", os), ("arch", arch), ("goos", goos), ("goarch", goarch), ("triple", &triple)]);
    if let Some(version) = version {
        words.insert("version", version);
    }
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let Some(close) = rest[open..].find('}') else { return Err(TemplateError::NotClosed(template.to_owned())) };
        let word = &rest[open + 1..open + close];
        match words.get(word) {
            Some(value) => out.push_str(value),
            None if word == "version" => return Err(TemplateError::NoVersion(template.to_owned())),
            None => return Err(TemplateError::UnknownName(word.to_owned())),
        }
        rest = &rest[open + close + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_or_refused() {
        let filled = fill("https://x.test/{version}/{os}-{arch}.tgz", Some("1.2")).unwrap();
        assert_eq!(filled, format!("https://x.test/1.2/{}.tgz", current()));
        assert!(fill("https://x.test/{version}", None).unwrap_err().to_string().contains("version"));
        assert!(fill("https://x.test/{what}", Some("1")).unwrap_err().to_string().contains("{what}"));
        assert!(fill("https://x.test/{os", Some("1")).is_err());
    }
}
