//! "Did you mean": the known name that is nearest to a misspelt one.

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows: [Vec<usize>; 3] = [vec![0; b.len() + 1], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[1][j] + 1).min(row[j - 1] + 1).min(rows[1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[0][j - 2] + 1);
            }
        }
        rows.rotate_left(1);
        rows[1] = row;
    }
    rows[1][b.len()]
}

/// The candidate nearest to `word`, where one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase().replace('-', "_");
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let known = candidate.to_lowercase().replace('-', "_");
            let edits = distance(&lower, &known);
            let related = lower.len() >= 4 && known.len() >= 4 && (known.starts_with(&lower) || lower.starts_with(&known));
            if edits <= limit {
                Some((edits, candidate))
            } else if related {
                Some((limit + 1, candidate))
            } else {
                None
            }
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` and `c`, each in backquotes.
#[must_use]
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// The help line for an unknown name: the nearest known one, else all of them.
#[must_use]
pub fn help<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = nearest(word, candidates.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    match all.len() {
        0 => None,
        1..=14 => Some(format!("known: {}", list(all))),
        more => Some(format!("known: {} and {} more", list(all[..12].iter().copied()).replace(" and ", ", "), more - 12)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["port", "ports", "depends_on", "env_file", "restart", "ready"];
        for (typed, meant) in [
            ("prot", Some("port")),
            ("dependson", Some("depends_on")),
            ("depends-on", Some("depends_on")),
            ("envfile", Some("env_file")),
            ("Restart", Some("restart")),
            ("redy", Some("ready")),
            ("environment_variables", None),
            ("image", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
        assert_eq!(distance("ca", "ac"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
