//! `devrun graph`: who waits for whom, and for what.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, ValueEnum};

use crate::ui::term::Term;
use devrun_model::{Condition, Failure, Health, Kind, Plan, State};

use crate::app::load::{self, Wanted};
use crate::app::readonly::{self, Seen};
use crate::globals::Globals;

// `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: GraphFormat,
    /// Include current states
    #[arg(long)]
    pub live: bool,
}

/// A way to print a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A tree.
    Text,
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// JSON.
    Json,
}

/// Copies of a service are one node: they have the same edges.
struct GraphNode {
    kind: Kind,
    tier: u32,
    /// Target, condition, whether it holds us up.
    edges: BTreeMap<String, (Condition, bool)>,
    state: Option<(State, Health)>,
}

type Nodes = BTreeMap<String, GraphNode>;

/// Runs it.
///
/// # Errors
/// `Config` for a procfile with errors.
pub fn run(globals: &Globals, args: &GraphArgs, _term: Term) -> Result<i32, Failure> {
    let (plan, seen) = if args.live {
        let seen = Seen::new(globals, &[])?;
        (seen.plan.clone(), Some(seen))
    } else {
        let project = load::project(globals)?;
        (load::plan(globals, &project, &Wanted::look())?, None)
    };
    let mut nodes = nodes(&plan);
    if let Some(seen) = &seen {
        for status in &seen.snapshot.services {
            if let Some(node) = nodes.get_mut(&status.service) {
                node.state = Some((status.state, status.health));
            }
        }
    }
    Ok(match args.format {
        GraphFormat::Text => readonly::text(&tree(&nodes)),
        GraphFormat::Dot => readonly::text(&dot(plan.project.as_str(), &nodes)),
        GraphFormat::Mermaid => readonly::text(&mermaid(&nodes)),
        GraphFormat::Json => readonly::json(&json(&nodes))?,
    })
}

fn nodes(plan: &Plan) -> Nodes {
    let mut nodes = Nodes::new();
    for spec in plan.services.values() {
        let node = nodes.entry(spec.service.to_string()).or_insert_with(|| GraphNode {
            kind: spec.kind,
            tier: spec.shown_tier(),
            edges: BTreeMap::new(),
            state: None,
        });
        for edge in &spec.depends_on {
            if let Some(target) = plan.services.get(&edge.on) {
                node.edges.insert(target.service.to_string(), (edge.condition, edge.required));
            }
        }
    }
    nodes
}

fn label(name: &str, node: Option<&GraphNode>) -> String {
    match node.and_then(|node| node.state) {
        None => name.to_owned(),
        Some((state, Health::None)) => format!("{name} [{state}]"),
        Some((state, health)) => format!("{name} [{state}, {health}]"),
    }
}

fn words(condition: Condition, required: bool) -> String {
    if required { condition.as_str().to_owned() } else { format!("{}, optional", condition.as_str()) }
}

fn tree(nodes: &Nodes) -> String {
    let targets: BTreeSet<&str> = nodes.values().flat_map(|node| node.edges.keys().map(String::as_str)).collect();
    let mut out = String::new();
    let mut shown = BTreeSet::new();
    for name in nodes.keys().filter(|name| !targets.contains(name.as_str())) {
        out.push_str(&label(name, nodes.get(name)));
        out.push('\n');
        branch(nodes, name, "", &mut shown, &mut out);
    }
    out.push_str(&legend(nodes));
    out
}

/// What the words in parentheses mean, for those that are there.
fn legend(nodes: &Nodes) -> String {
    let edges: Vec<(Condition, bool)> = nodes.values().flat_map(|node| node.edges.values().copied()).collect();
    let meaning = |condition| match condition {
        Condition::Started => "its process runs",
        Condition::Healthy => "its readiness check has passed",
        Condition::Completed => "it has exited with 0",
    };
    let all = [Condition::Started, Condition::Healthy, Condition::Completed];
    let mut lines: Vec<String> = all
        .into_iter()
        .filter(|wanted| edges.iter().any(|(condition, _)| condition == wanted))
        .map(|condition| format!("({}) {}", condition.as_str(), meaning(condition)))
        .collect();
    if edges.iter().any(|(_, required)| !required) {
        lines.push("(optional) not waited for when it cannot start".to_owned());
    }
    if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join("\n")) }
}

fn branch<'a>(nodes: &'a Nodes, name: &'a str, indent: &str, shown: &mut BTreeSet<&'a str>, out: &mut String) {
    let Some(node) = nodes.get(name) else { return };
    shown.insert(name);
    for (number, (target, (condition, required))) in node.edges.iter().enumerate() {
        let last = number + 1 == node.edges.len();
        let below = nodes.get(target);
        out.push_str(indent);
        out.push_str(if last { "└─ " } else { "├─ " });
        out.push_str(&format!("{} ({})", label(target, below), words(*condition, *required)));
        let again = shown.contains(target.as_str()) && below.is_some_and(|below| !below.edges.is_empty());
        out.push_str(if again { " …\n" } else { "\n" });
        if !again {
            branch(nodes, target, &format!("{indent}{}", if last { "   " } else { "│  " }), shown, out);
        }
    }
}

fn color(state: Option<(State, Health)>) -> Option<&'static str> {
    Some(match state? {
        (State::Failed | State::Blocked, _) | (_, Health::Unhealthy) => "tomato",
        (State::Running | State::Completed, _) => "palegreen",
        (State::Stopped | State::Skipped | State::Asleep, _) => "lightgrey",
        _ => "khaki",
    })
}

fn dot(project: &str, nodes: &Nodes) -> String {
    let mut out = format!("digraph \"{project}\" {{\n  rankdir = LR;\n");
    for (name, node) in nodes {
        let shape = if node.kind == Kind::Task { "box" } else { "ellipse" };
        let fill = color(node.state).map(|color| format!(", style=filled, fillcolor={color}")).unwrap_or_default();
        out.push_str(&format!("  \"{name}\" [label=\"{}\", shape={shape}{fill}];\n", label(name, Some(node))));
    }
    for (name, node) in nodes {
        for (target, (condition, required)) in &node.edges {
            let style = if *required { "" } else { ", style=dashed" };
            out.push_str(&format!("  \"{name}\" -> \"{target}\" [label=\"{}\"{style}];\n", condition.as_str()));
        }
    }
    out.push_str("}\n");
    out
}

fn mermaid(nodes: &Nodes) -> String {
    // A name such as `end` is a word of Mermaid's own, so nodes are numbered and carry their names as labels.
    let number: BTreeMap<&str, usize> = nodes.keys().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let mut out = String::from("graph LR\n");
    for (at, (name, node)) in nodes.iter().enumerate() {
        let text = label(name, Some(node));
        out.push_str(&if node.kind == Kind::Task {
            format!("  n{at}[\"{text}\"]\n")
        } else {
            format!("  n{at}([\"{text}\"])\n")
        });
    }
    for (name, node) in nodes {
        for (target, (condition, required)) in &node.edges {
            if let (Some(from), Some(to)) = (number.get(name.as_str()), number.get(target.as_str())) {
                let arrow = if *required { "-->" } else { "-.->" };
                out.push_str(&format!("  n{from} {arrow}|{}| n{to}\n", condition.as_str()));
            }
        }
    }
    out
}

fn json(nodes: &Nodes) -> serde_json::Value {
    let list: Vec<_> = nodes
        .iter()
        .map(|(name, node)| {
            let mut value = serde_json::json!({ "name": name, "kind": node.kind, "tier": node.tier });
            if let (Some((state, health)), Some(object)) = (node.state, value.as_object_mut()) {
                object.insert("state".to_owned(), state.as_str().into());
                object.insert("health".to_owned(), health.as_str().into());
            }
            value
        })
        .collect();
    let edges: Vec<_> = nodes
        .iter()
        .flat_map(|(name, node)| {
            node.edges.iter().map(move |(target, (condition, required))| {
                serde_json::json!({ "from": name, "to": target, "condition": condition.as_str(), "required": required })
            })
        })
        .collect();
    serde_json::json!({ "nodes": list, "edges": edges })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Nodes {
        let node = |kind, edges: &[(&str, Condition, bool)]| GraphNode {
            kind,
            tier: 1,
            edges: edges.iter().map(|(name, condition, required)| ((*name).to_owned(), (*condition, *required))).collect(),
            state: None,
        };
        Nodes::from([
            ("api".to_owned(), node(Kind::Service, &[("db", Condition::Healthy, true), ("end", Condition::Completed, true)])),
            ("worker".to_owned(), node(Kind::Service, &[("end", Condition::Completed, false)])),
            ("end".to_owned(), node(Kind::Task, &[("db", Condition::Healthy, true)])),
            ("db".to_owned(), node(Kind::Service, &[])),
        ])
    }

    #[test]
    fn a_tree_shows_each_part_once() {
        assert_eq!(
            tree(&sample()),
            "api\n├─ db (healthy)\n└─ end (completed)\n   └─ db (healthy)\nworker\n└─ end (completed, optional) …\n\n\
             (healthy) its readiness check has passed\n(completed) it has exited with 0\n\
             (optional) not waited for when it cannot start\n"
        );
    }

    #[test]
    fn other_formats_name_every_edge() {
        let nodes = sample();
        assert!(dot("shop", &nodes).contains("\"worker\" -> \"end\" [label=\"completed\", style=dashed];"));
        assert!(mermaid(&nodes).contains("n0 -->|healthy| n1"));
        assert_eq!(json(&nodes)["edges"].as_array().map(Vec::len), Some(4));
    }
}
