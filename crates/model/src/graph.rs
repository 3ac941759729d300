//! Algorithms on dependency graphs: a cycle with its path, and depths. They know nodes and edges only, so that `config`
//! (which refuses cycles and numbers the view's tiers) and `core` (which orders a start and a stop) share one answer.
//! An edge points from a node to what it needs. A node that only occurs as a target has no dependency itself.
//! Everything is iterative, as a long chain must not overflow the stack, and ordered, as output must not vary.

use std::collections::{BTreeMap, BTreeSet};

/// Finds one loop and returns it closed: `[a, b, a]`. The smallest node of the first loop met comes first, so the message
/// stays the same however the file is shuffled.
#[must_use]
pub fn find_cycle<N: Ord + Clone>(edges: &BTreeMap<N, Vec<N>>) -> Option<Vec<N>> {
    let mut done: BTreeSet<&N> = BTreeSet::new();
    for root in edges.keys() {
        if done.contains(root) {
            continue;
        }
        // The path from the root, each node with the place in its list of targets where the search goes on.
        let mut path: Vec<(&N, usize)> = vec![(root, 0)];
        let mut on_path: BTreeSet<&N> = BTreeSet::from([root]);
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            let target = edges.get(node).and_then(|targets| targets.get(*next));
            *next += 1;
            match target {
                None => {
                    done.insert(node);
                    on_path.remove(node);
                    path.pop();
                }
                Some(target) if on_path.contains(target) => {
                    let start = path.iter().position(|(n, _)| *n == target).unwrap_or(0);
                    return Some(closed(path[start..].iter().map(|(n, _)| (*n).clone()).collect()));
                }
                Some(target) if done.contains(target) => {}
                Some(target) => {
                    on_path.insert(target);
                    path.push((target, 0));
                }
            }
        }
    }
    None
}

/// Turns the loop so that its smallest node comes first, and closes it.
fn closed<N: Ord + Clone>(mut nodes: Vec<N>) -> Vec<N> {
    let smallest = (0..nodes.len()).min_by_key(|&i| &nodes[i]).unwrap_or(0);
    nodes.rotate_left(smallest);
    if let Some(first) = nodes.first().cloned() {
        nodes.push(first);
    }
    nodes
}

/// How deep each node lies: 1 without a dependency, else one more than its deepest dependency. Targets that are no keys
/// have depth 1 too. Nodes of a loop and those that need one are left out: `find_cycle` comes first.
#[must_use]
pub fn depths<N: Ord + Clone>(edges: &BTreeMap<N, Vec<N>>) -> BTreeMap<N, u32> {
    // Kahn's algorithm: a node is numbered when its last dependency is.
    let mut missing: BTreeMap<&N, usize> = BTreeMap::new();
    let mut users: BTreeMap<&N, Vec<&N>> = BTreeMap::new();
    for (node, targets) in edges {
        let targets: BTreeSet<&N> = targets.iter().collect();
        missing.insert(node, targets.len());
        for target in targets {
            missing.entry(target).or_insert(0);
            users.entry(target).or_default().push(node);
        }
    }
    let mut depth: BTreeMap<N, u32> = BTreeMap::new();
    let mut level: Vec<&N> = missing.iter().filter(|(_, count)| **count == 0).map(|(node, _)| *node).collect();
    let mut number = 1;
    while !level.is_empty() {
        let mut next = Vec::new();
        for node in level {
            depth.insert(node.clone(), number);
            for user in users.get(node).into_iter().flatten() {
                if let Some(count) = missing.get_mut(user) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        next.push(*user);
                    }
                }
            }
        }
        level = next;
        number += 1;
    }
    depth
}

/// The strongly connected components: sets of nodes of which each reaches every other. A component comes after those that its
/// edges lead to. Targets that are no keys are left out.
#[must_use]
pub fn components<N: Ord + Clone>(edges: &BTreeMap<N, Vec<N>>) -> Vec<Vec<N>> {
    // Tarjan's algorithm, with the path of the search kept by hand.
    let mut order: BTreeMap<&N, usize> = BTreeMap::new();
    let mut lowest: BTreeMap<&N, usize> = BTreeMap::new();
    let mut open: Vec<&N> = Vec::new();
    let mut is_open: BTreeSet<&N> = BTreeSet::new();
    let mut found = Vec::new();
    for root in edges.keys() {
        if order.contains_key(root) {
            continue;
        }
        let mut path: Vec<(&N, usize)> = vec![(root, 0)];
        while let Some((node, next)) = path.last_mut() {
            let node = *node;
            if *next == 0 {
                let number = order.len();
                order.insert(node, number);
                lowest.insert(node, number);
                open.push(node);
                is_open.insert(node);
            }
            let target = edges.get(node).and_then(|targets| targets.get(*next));
            *next += 1;
            let reached = match target {
                Some(target) if !edges.contains_key(target) => None,
                Some(target) if !order.contains_key(target) => {
                    path.push((target, 0));
                    None
                }
                Some(target) if is_open.contains(target) => order.get(target).copied(),
                Some(_) => None,
                None => {
                    path.pop();
                    let low = lowest.get(node).copied();
                    if low == order.get(node).copied() {
                        let start = open.iter().rposition(|other| *other == node).unwrap_or(0);
                        let component: Vec<N> = open.split_off(start).into_iter().cloned().collect();
                        component.iter().for_each(|node| {
                            is_open.remove(node);
                        });
                        found.push(component);
                    }
                    // What it reaches, the node that led to it reaches too.
                    if let (Some((parent, _)), Some(low)) = (path.last(), low)
                        && let Some(known) = lowest.get_mut(parent)
                    {
                        *known = low.min(*known);
                    }
                    None
                }
            };
            if let (Some(reached), Some(known)) = (reached, lowest.get_mut(node)) {
                *known = reached.min(*known);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(text: &str) -> BTreeMap<String, Vec<String>> {
        text.split_whitespace()
            .map(|part| {
                let (node, targets) = part.split_once(':').unwrap_or((part, ""));
                (node.to_owned(), targets.split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect())
            })
            .collect()
    }

    #[test]
    fn cycles_are_spelled_out() {
        for (text, expected) in [
            ("", None),
            ("a", None),
            ("a:b b:c c", None),
            ("a:b,c b:d c:d d", None),
            ("a:a", Some("a a")),
            ("a:b b:a", Some("a b a")),
            ("b:a a:b", Some("a b a")),
            ("x:c c:b b:a a:c", Some("a c b a")),
            ("a:b b:c c:d d:b", Some("b c d b")),
            ("a:nobody", None),
        ] {
            let cycle = find_cycle(&graph(text)).map(|nodes| nodes.join(" "));
            assert_eq!(cycle.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn depth_is_one_more_than_the_deepest_dependency() {
        let depth = depths(&graph("api:db,cache,db db:disk cache web:api other:nobody"));
        let text: Vec<String> = depth.iter().map(|(node, n)| format!("{node}={n}")).collect();
        assert_eq!(text.join(" "), "api=3 cache=1 db=2 disk=1 nobody=1 other=2 web=4");
    }

    #[test]
    fn a_loop_has_no_depth() {
        let depth = depths(&graph("a:b b:a c:a d"));
        assert_eq!(depth.into_keys().collect::<Vec<_>>(), ["d"]);
    }

    #[test]
    fn components_are_what_reaches_each_other() {
        for (text, expected) in [
            ("", ""),
            ("a b:a", "a | b"),
            ("a:b b:a c:a", "a b | c"),
            ("a:b b:c c:b d", "b c | a | d"),
            ("a:b b:c c:a,d d:e e:d", "d e | a b c"),
            ("a:a,nobody", "a"),
        ] {
            let mut found: Vec<String> = Vec::new();
            for mut component in components(&graph(text)) {
                component.sort();
                found.push(component.join(" "));
            }
            assert_eq!(found.join(" | "), expected, "{text}");
        }
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let edges: BTreeMap<u32, Vec<u32>> = (0..100_000).map(|n| (n, if n == 0 { Vec::new() } else { vec![n - 1] })).collect();
        assert_eq!(find_cycle(&edges), None);
        assert_eq!(components(&edges).len(), 100_000);
        assert_eq!(depths(&edges).get(&99_999), Some(&100_000));
    }
}
