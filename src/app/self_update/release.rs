//! What a file of sums offers for this platform.

use std::cmp::Ordering;

use devrun_store::version::compare;

/// An artifact that can be installed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// `0.2.0`.
    pub version: String,
    /// The file's name, next to the sums.
    pub file: String,
    /// Its sum: hexadecimal, lower case.
    pub sha256: String,
}

/// The targets whose tarballs run here, the best first: the static one runs wherever the other does.
#[must_use]
pub(super) fn targets() -> Vec<String> {
    let arch = std::env::consts::ARCH;
    match std::env::consts::OS {
        "linux" => vec![format!("{arch}-unknown-linux-musl"), format!("{arch}-unknown-linux-gnu")],
        "macos" => vec![format!("{arch}-apple-darwin")],
        _ => Vec::new(),
    }
}

/// The newest release for one of the targets in a text as `sha256sum` writes it.
#[must_use]
pub fn newest(sums: &str, targets: &[String]) -> Option<Release> {
    let mut found: Option<(usize, Release)> = None;
    for line in sums.lines() {
        let Some((sha256, file)) = line.split_once([' ', '\t']) else { continue };
        let file = file.trim_start().trim_start_matches('*');
        let is_sum = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        let Some(inner) = file.strip_prefix("devrun-").and_then(|rest| rest.strip_suffix(".tar.gz")) else { continue };
        let Some((rank, version)) = targets
            .iter()
            .enumerate()
            .find_map(|(rank, target)| Some((rank, inner.strip_suffix(target.as_str())?.strip_suffix('-')?)))
        else {
            continue;
        };
        let is_version =
            version.starts_with(|c: char| c.is_ascii_digit()) && version.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
        if !is_sum || !is_version {
            continue;
        }
        let release = Release { version: version.to_owned(), file: file.to_owned(), sha256: sha256.to_ascii_lowercase() };
        let is_better = found.as_ref().is_none_or(|(known, best)| match compare(&release.version, &best.version) {
            Ordering::Greater => true,
            Ordering::Equal => rank < *known,
            Ordering::Less => false,
        });
        if is_better {
            found = Some((rank, release));
        }
    }
    found.map(|(_, release)| release)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(letter: char) -> String {
        letter.to_string().repeat(64)
    }

    fn offers(lines: &[String]) -> Option<(String, String)> {
        let targets = ["x-musl".to_owned(), "x-gnu".to_owned()];
        newest(&lines.join("\n"), &targets).map(|release| (release.file, release.sha256))
    }

    #[test]
    fn the_newest_of_this_platform_is_taken() {
        let line = |letter: char, file: &str| format!("{}  {file}", sum(letter));
        let all = [
            line('a', "devrun-0.9.0-x-musl.tar.gz"),
            line('b', "devrun-0.10.0-x-gnu.tar.gz"),
            line('C', "devrun-0.10.0-x-musl.tar.gz"),
            line('d', "devrun-0.11.0-y-musl.tar.gz"),
            line('e', "devrun-0.12.0-py3-none-any.whl"),
            line('f', "other-1.0.0-x-musl.tar.gz"),
        ];
        assert_eq!(offers(&all), Some(("devrun-0.10.0-x-musl.tar.gz".to_owned(), sum('c'))), "the static one of two");
        assert_eq!(offers(&all[..2]).map(|(file, _)| file).as_deref(), Some("devrun-0.10.0-x-gnu.tar.gz"));
        assert_eq!(offers(&all[3..]), None);
        assert_eq!(offers(&[format!("{} *devrun-1.0.0-x-gnu.tar.gz", sum('1'))]).map(|(_, sha256)| sha256), Some(sum('1')));
        for broken in [
            format!("{}  devrun-../../x-x-gnu.tar.gz", sum('a')),
            format!("{}  devrun--x-gnu.tar.gz", sum('a')),
            format!("{}  devrun-1.0.0-x-gnu.tar.gz", "a".repeat(63)),
            format!("{}  devrun-1.0.0-x-gnu.tar.gz", "g".repeat(64)),
            "devrun-1.0.0-x-gnu.tar.gz".to_owned(),
        ] {
            assert_eq!(offers(std::slice::from_ref(&broken)), None, "{broken}");
        }
    }
}
