//! Base images whose own command is the server of what is copied into them: the Dockerfile has none, and none is missing.

use super::dockerfile::Dockerfile;
use super::syntax;

/// The command of the base image, from the build's directory.
pub(super) fn command(file: &Dockerfile) -> Option<Vec<String>> {
    let base = syntax::image(&file.from);
    let words: Vec<String> = match base.name.as_str() {
        // Their script takes app/main.py where there is one, and main.py else, and an ASGI server for either; PORT is 80 there.
        "tiangolo/uvicorn-gunicorn-fastapi" | "tiangolo/uvicorn-gunicorn-starlette" | "tiangolo/uvicorn-gunicorn" => {
            let variable = |name: &str| file.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            let copies_app = |(from, to): &(String, String)| {
                let from = from.trim_start_matches("./").trim_end_matches('/');
                from == "app" && matches!(to.trim_end_matches('/'), "/app/app" | "./app" | "app")
            };
            let module = variable("APP_MODULE").or_else(|| {
                let module = variable("MODULE_NAME");
                let place = if file.copies.iter().any(copies_app) { "app.main" } else { "main" };
                let name = variable("VARIABLE_NAME").unwrap_or_else(|| "app".to_owned());
                Some(format!("{}:{name}", module.as_deref().unwrap_or(place)))
            })?;
            ["uvicorn", &module, "--host", "0.0.0.0", "--port", "${PORT:-80}"].map(str::to_owned).to_vec()
        }
        "tensorflow/tensorflow" if file.from.ends_with("jupyter") => {
            ["jupyter", "notebook", "--ip=0.0.0.0", "--no-browser"].map(str::to_owned).to_vec()
        }
        _ => return None,
    };
    if words.iter().any(|word| word.contains('$')) {
        return Some(vec!["sh".to_owned(), "-c".to_owned(), format!("exec {}", words.join(" "))]);
    }
    Some(words)
}

/// Why a service without a command of its own, on this base, ends as soon as it is started: an interpreter reads its program from the
/// standard input, and that is empty. Such a service is there for commands by hand.
pub(super) fn ends_at_once(file: &Dockerfile) -> Option<&'static str> {
    const REASON: &str =
        "it starts an interpreter without a program, which ends at once: `devrun run -- COMMAND` runs what is typed into it";
    let base = syntax::image(&file.from);
    matches!(base.name.as_str(), "python" | "node" | "ruby" | "php").then_some(REASON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::dockerfile;

    #[test]
    fn the_base_images_own_command() {
        let table = [
            (
                "FROM tiangolo/uvicorn-gunicorn-fastapi:python3.9\nWORKDIR /app\nCOPY ./app ./app\n",
                Some("sh -c exec uvicorn app.main:app --host 0.0.0.0 --port ${PORT:-80}"),
            ),
            (
                "FROM tiangolo/uvicorn-gunicorn:python3.9\nENV MODULE_NAME=shop.web\nCOPY . /app\n",
                Some("sh -c exec uvicorn shop.web:app --host 0.0.0.0 --port ${PORT:-80}"),
            ),
            (
                "FROM tensorflow/tensorflow:2.4.1-jupyter\nCOPY requirements.txt /tf\n",
                Some("jupyter notebook --ip=0.0.0.0 --no-browser"),
            ),
            ("FROM tensorflow/tensorflow:2.4.1\n", None),
            ("FROM python:3\n", None),
        ];
        for (text, expected) in table {
            let words = command(&dockerfile::parse(text, None, &[])).map(|words| words.join(" "));
            assert_eq!(words.as_deref(), expected, "{text}");
        }
    }
}
