//! The tools: names, descriptions and parameters. The reference for agents is made from this table too.

use serde_json::{Map, Value, json};

/// What a tool may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolEffect {
    /// It looks.
    Reads,
    /// It starts or stops processes.
    Acts,
    /// It deletes data.
    Destroys,
}

/// One tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolSpec {
    /// Its name.
    pub name: &'static str,
    /// What it does, for the agent.
    pub about: &'static str,
    /// What it may do.
    pub effect: ToolEffect,
    /// Name, JSON type, whether it must be given, meaning.
    pub parameters: &'static [(&'static str, &'static str, bool, &'static str)],
}

const SERVICES: (&str, &str, bool, &str) = ("services", "strings", false, "Names of services; all, if left out");
const SERVICE: (&str, &str, bool, &str) = ("service", "string", true, "Name of a service or task");

/// Every tool.
pub const TOOLS: &[ToolSpec] = &[
    ToolSpec {
        name: "status",
        about: "State, health, ports, restarts and reason of every service and task. Works with the stack down.",
        effect: ToolEffect::Reads,
        parameters: &[],
    },
    ToolSpec {
        name: "up",
        about: "Read the procfile and start the stack, or the named services with what they need. Starts what is missing, restarts what changed. Returns when everything is ready or has failed.",
        effect: ToolEffect::Acts,
        parameters: &[SERVICES],
    },
    ToolSpec {
        name: "restart",
        about: "Restart services with the current procfile and environment. Returns when they are ready or have failed.",
        effect: ToolEffect::Acts,
        parameters: &[SERVICES],
    },
    ToolSpec {
        name: "stop",
        about: "Stop services. Returns when their processes are gone.",
        effect: ToolEffect::Acts,
        parameters: &[SERVICES],
    },
    ToolSpec {
        name: "down",
        about: "Stop the whole stack in reverse order; data stays. Returns when everything is gone.",
        effect: ToolEffect::Acts,
        parameters: &[],
    },
    ToolSpec {
        name: "logs",
        about: "New log lines since the last call, lines that look like errors first. Works with the stack down.",
        effect: ToolEffect::Reads,
        parameters: &[
            ("service", "string", false, "Name of a service; all, if left out"),
            ("grep", "string", false, "Only lines that match this regular expression"),
            ("all", "boolean", false, "Lines from before the last call as well"),
            ("budget", "integer", false, "Bytes of lines at most (8000, if left out)"),
        ],
    },
    ToolSpec {
        name: "why",
        about: "Why a service is not running, not ready, blocked or was restarted: the chain of causes to the root, the last probe answer, the last restarts.",
        effect: ToolEffect::Reads,
        parameters: &[SERVICE],
    },
    ToolSpec {
        name: "explain_failure",
        about: "Every failed service with its reason, exit code, last probe answer, last log lines and who is blocked by it. Start here after a failed `up`.",
        effect: ToolEffect::Reads,
        parameters: &[],
    },
    ToolSpec {
        name: "query",
        about: "Run one SELECT (or WITH, VALUES, TABLE) against the stack's Postgres, in a read-only transaction.",
        effect: ToolEffect::Reads,
        parameters: &[
            ("sql", "string", true, "One statement"),
            ("on", "string", false, "Name of the service, where there are several"),
        ],
    },
    ToolSpec { name: "urls", about: "Addresses of the services.", effect: ToolEffect::Reads, parameters: &[] },
    ToolSpec {
        name: "env",
        about: "Environment of a service as the procfile gives it. Secrets are masked.",
        effect: ToolEffect::Reads,
        parameters: &[SERVICE],
    },
    ToolSpec {
        name: "wait",
        about: "Wait until services are ready, healthy, exited or stopped.",
        effect: ToolEffect::Reads,
        parameters: &[
            SERVICES,
            ("for", "string", false, "ready, healthy, exited or stopped (ready, if left out)"),
            ("timeout_seconds", "integer", false, "60, if left out"),
        ],
    },
    ToolSpec {
        name: "clean",
        about: "Delete data, secrets and logs that devrun has made. The stack must be down. Without `confirm` it only says what would go and which text confirms it.",
        effect: ToolEffect::Destroys,
        parameters: &[
            ("only", "string", false, "A class (persistent, cache, scratch, secrets, logs) or the name of a volume"),
            ("confirm", "string", false, "The text that the call without it has named"),
        ],
    },
];

/// The JSON schema of a tool's parameters.
#[must_use]
pub fn schema(tool: &ToolSpec) -> Map<String, Value> {
    let mut properties = Map::new();
    for (name, kind, _, about) in tool.parameters {
        let value = match *kind {
            "strings" => json!({ "type": "array", "items": { "type": "string" }, "description": about }),
            kind => json!({ "type": kind, "description": about }),
        };
        properties.insert((*name).to_owned(), value);
    }
    let required: Vec<&str> = tool.parameters.iter().filter(|(_, _, must, _)| *must).map(|(name, ..)| *name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("required".to_owned(), json!(required));
    schema.insert("additionalProperties".to_owned(), false.into());
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_name_every_parameter() {
        let query = TOOLS.iter().find(|tool| tool.name == "query").unwrap();
        let schema = schema(query);
        assert_eq!(schema["required"], json!(["sql"]));
        assert_eq!(schema["properties"]["on"]["type"], "string");
        let mut names: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TOOLS.len());
    }
}
