//! What a glob means: an absolute pattern, and the part of it that means itself.

use std::path::{Component, Path, PathBuf};

/// The glob as an absolute one without `.` and `..`; characters of the root's own path mean themselves.
pub(super) fn absolute(root: &Path, glob: &str) -> String {
    let escaped = |path: &Path| {
        path.to_string_lossy().chars().fold(String::new(), |mut text, c| {
            if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
                text.push('\\');
            }
            text.push(c);
            text
        })
    };
    if glob.starts_with('/') {
        return glob.to_owned();
    }
    let (mut base, mut rest) = (root.to_path_buf(), glob);
    loop {
        match rest.split_once('/') {
            Some((".", after)) => rest = after.trim_start_matches('/'),
            Some(("..", after)) => {
                base.pop();
                rest = after.trim_start_matches('/');
            }
            _ => break,
        }
    }
    let base = escaped(&base);
    if rest.is_empty() || rest == "." { base } else { format!("{}/{rest}", base.trim_end_matches('/')) }
}

/// The part of a glob that means itself.
pub(super) fn base(glob: &str) -> PathBuf {
    let mut base = PathBuf::new();
    for part in Path::new(glob).components() {
        let text = part.as_os_str().to_string_lossy();
        let special = |c| matches!(c, '*' | '?' | '[' | '{');
        if matches!(part, Component::Normal(_))
            && text.replace("\\*", "").replace("\\?", "").replace("\\[", "").replace("\\{", "").contains(special)
        {
            break;
        }
        base.push(text.replace('\\', ""));
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_have_a_base() {
        for (glob, expected) in [
            ("src/**/*.py", "/p/src"),
            ("./src", "/p/src"),
            ("../other/*.rs", "/other"),
            ("*.toml", "/p"),
            ("/etc/x.conf", "/etc/x.conf"),
            ("a/{b,c}/d", "/p/a"),
        ] {
            assert_eq!(base(&absolute(Path::new("/p"), glob)), Path::new(expected), "{glob}");
        }
        assert_eq!(base(&absolute(Path::new("/p [1]"), "a/*")), Path::new("/p [1]/a"));
    }
}
