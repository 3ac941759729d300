//! The JSON Schema as an editor uses it: a valid procfile has no mark, and one mistake marks one key, with the words that it takes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Project;

/// The keywords that the schema uses, as draft 7 has them. Each error is a path and a reason.
fn validate(root: &Value, schema: &Value, value: &Value, path: &str, errors: &mut Vec<(String, String)>) {
    let passes = |schema: &Value| {
        let mut errors = Vec::new();
        validate(root, schema, value, path, &mut errors);
        errors.is_empty()
    };
    let Some(keywords) = schema.as_object() else { return };
    for (keyword, wanted) in keywords {
        match keyword.as_str() {
            "$ref" => {
                let target = root.pointer(wanted.as_str().unwrap().trim_start_matches('#')).expect("a definition");
                validate(root, target, value, path, errors);
            }
            "allOf" => wanted.as_array().unwrap().iter().for_each(|schema| validate(root, schema, value, path, errors)),
            "anyOf" => {
                if !wanted.as_array().unwrap().iter().any(passes) {
                    errors.push((path.to_owned(), "anyOf".to_owned()));
                }
            }
            "if" => {
                if !passes(wanted) {
                    validate(root, &schema["else"], value, path, errors);
                }
            }
            "type" => {
                let types: Vec<&str> = match wanted {
                    Value::String(one) => vec![one],
                    several => several.as_array().unwrap().iter().filter_map(Value::as_str).collect(),
                };
                let is = |kind: &str| match kind {
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    other => panic!("type {other}"),
                };
                if !types.iter().any(|kind| is(kind)) {
                    errors.push((path.to_owned(), format!("type {types:?}")));
                }
            }
            "enum" => {
                if !wanted.as_array().unwrap().contains(value) {
                    errors.push((path.to_owned(), format!("one of {wanted}")));
                }
            }
            "pattern" => {
                if let Some(text) = value.as_str()
                    && !regex::Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text)
                {
                    errors.push((path.to_owned(), format!("pattern {wanted}")));
                }
            }
            "minimum" | "maximum" => {
                if let Some(number) = value.as_i64() {
                    let limit = wanted.as_i64().unwrap();
                    if keyword == "minimum" && number < limit || keyword == "maximum" && number > limit {
                        errors.push((path.to_owned(), format!("{keyword} {limit}")));
                    }
                }
            }
            "items" => value
                .as_array()
                .into_iter()
                .flatten()
                .enumerate()
                .for_each(|(at, item)| validate(root, wanted, item, &format!("{path}.{at}"), errors)),
            "properties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = wanted.get(key) {
                        validate(root, schema, value, &format!("{path}.{key}"), errors);
                    }
                }
            }
            "additionalProperties" => {
                let others = value.as_object().into_iter().flatten();
                for (key, value) in others.filter(|(key, _)| schema["properties"].get(key.as_str()).is_none()) {
                    let path = format!("{path}.{key}");
                    if *wanted == Value::Bool(false) {
                        errors.push((path, "unknown key".to_owned()));
                    } else {
                        validate(root, wanted, value, &path, errors);
                    }
                }
            }
            "$schema" | "title" | "description" | "definitions" | "examples" | "else" => {}
            other => panic!("the keyword {other}"),
        }
    }
}

fn errors(schema: &Value, text: &str) -> Vec<(String, String)> {
    let value = serde_json::to_value(toml::from_str::<toml::Table>(text).expect("TOML")).expect("JSON");
    let mut errors = Vec::new();
    validate(schema, schema, &value, "", &mut errors);
    errors
}

fn schema() -> Value {
    Project::new().run(&["schema"]).code(0).json()
}

fn procfiles(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            procfiles(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn valid_procfiles_have_no_mark() {
    let schema = schema();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("procfile.toml")];
    procfiles(&root.join("tests/fixtures/stacks"), &mut files);
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a procfile");
        assert_eq!(errors(&schema, &text), [], "{}", file.display());
    }
    let everything = r#"
        services.a = { use = "postgres@16", restart = "on-failure:3", port = "auto", ports = { x = "private" }, ready = false }
        services.b = { use = "./mine.toml", restart = "${RESTART:-no}", port = "${P:-80}", depends_on = ["a:started"] }
        services.c = { run = ["x", 1], depends_on = { a = { condition = "healthy" } }, ready = { tcp = 80, within = "${N}s" } }
        services.d = false
        tasks.t = { run = "x", on_change = "rerun", inputs = ["a"], once = "v/.x", buckets = ["a", { name = "b" }] }
        volumes.v = { class = "cache" }
    "#;
    assert_eq!(errors(&schema, everything), []);
}

#[test]
fn one_mistake_marks_one_key() {
    let schema = schema();
    for (text, key, reason) in [
        ("services.a = { comand = \"x\" }\nservices.b = { run = \"y\" }", ".services.a.comand", "unknown key"),
        ("service.a = { run = \"x\" }", ".service", "unknown key"),
        ("services.a = { ready = { htpp = \"/\" } }", ".services.a.ready.htpp", "unknown key"),
        ("services.a = { restart = \"alwasy\" }", ".services.a.restart", "unless-stopped"),
        ("services.a = { use = \"postgers\" }", ".services.a.use", "postgres"),
        ("services.a = { use = \"postgers@16\" }", ".services.a.use", "postgres"),
        ("services.a = { on_unhealthy = \"reload\" }", ".services.a.on_unhealthy", "one of [\"ignore\",\"restart\",\"stop\"]"),
        ("services.a = { port = 70000 }", ".services.a.port", "maximum 65535"),
        ("services.a = { port = \"8080:80\" }", ".services.a.port", "auto|private"),
        ("services.a = { replicas = \"two\" }", ".services.a.replicas", "pattern"),
        ("services.a = { depends_on = { b = { condition = \"helthy\" } } }", ".services.a.depends_on.b.condition", "healthy"),
        ("services.a = { env = [\"A=1\"] }", ".services.a.env", "type"),
        ("tasks.a = { buckets = [{ nam = \"x\" }] }", ".tasks.a.buckets.0.nam", "unknown key"),
    ] {
        let found = errors(&schema, text);
        assert!(found.len() == 1 && found[0].0 == key && found[0].1.contains(reason), "{text}: {found:?}");
    }
}

#[test]
fn editors_can_complete_the_known_words() {
    let schema = schema();
    let service = &schema["definitions"]["service"]["properties"];
    for (key, word) in
        [("use", "postgres"), ("use", "gateway"), ("restart", "always"), ("port", "auto"), ("on_unhealthy", "stop")]
    {
        let words = service[key]["anyOf"][0]["enum"].as_array().unwrap_or_else(|| panic!("{key}: {}", service[key]));
        assert!(words.iter().any(|known| known == word), "{key}: {words:?}");
    }
    // Every key says what it is.
    for definition in schema["definitions"].as_object().expect("tables").values() {
        for (name, key) in definition["properties"].as_object().expect("keys") {
            assert!(key["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
    }
}
