//! The globs of unpack rules: `*` within a name, `**` across folders. Nothing else, so no crate is worth its cost.

/// Whether `path` matches.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    parts(&pattern, &path)
}

fn parts(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.first(), path.first()) {
        (None, None) => true,
        // What a pattern names as a folder takes all that is in it.
        (None, Some(_)) => true,
        (Some(&"**"), _) => parts(&pattern[1..], path) || (!path.is_empty() && parts(pattern, &path[1..])),
        (Some(_), None) => false,
        (Some(part), Some(name)) => word(part.as_bytes(), name.as_bytes()) && parts(&pattern[1..], &path[1..]),
    }
}

/// Greedy with one point of return, so that no pattern takes more than the product of the lengths.
fn word(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut in_name, mut star) = (0, 0, None);
    while in_name < name.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, in_name));
            at += 1;
        } else if pattern.get(at) == Some(&name[in_name]) {
            at += 1;
            in_name += 1;
        } else if let Some((back, taken)) = star {
            at = back + 1;
            in_name = taken + 1;
            star = Some((back, taken + 1));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, path, fits) in [
            ("lib/ollama/cuda_*", "lib/ollama/cuda_v12/libx.so", true),
            ("lib/ollama/cuda_*", "lib/ollama/cpu/libx.so", false),
            ("*.a", "x.a", true),
            ("*.a", "lib/x.a", false),
            ("**/*.a", "lib/deep/x.a", true),
            ("**/*.a", "x.a", true),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("bin", "bin/x", true),
        ] {
            assert_eq!(matches(pattern, path), fits, "{pattern} {path}");
        }
    }
}
