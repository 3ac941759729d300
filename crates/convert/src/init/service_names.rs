//! Names of services, from names of directories and of processes.

/// As long as the name of a service is at most, so that those of its tasks, which begin with it, are names too.
pub(super) const LONGEST_NAME: usize = 50;

pub(super) fn limited(name: &str, longest: usize) -> String {
    name.chars().take(longest).collect()
}

/// A directory's name as that of a service.
pub(super) fn service_name(dir: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c.to_ascii_lowercase() } else { '-' };
    let name: String = dir.chars().map(plain).collect();
    let name = limited(name.trim_start_matches(['-', '_']), LONGEST_NAME);
    let name = name.trim_end_matches('-');
    // These have a meaning in placeholders.
    let is_free = !name.is_empty() && !["secret", "dir", "replica", "project", "mode", "instance"].contains(&name);
    if is_free { name.to_owned() } else { "web".to_owned() }
}
