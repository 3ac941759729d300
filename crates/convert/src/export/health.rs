//! `ready` and `alive` → what a container runtime asks, with the procfile's timings.

use devrun_model::ready::Endpoint;
use devrun_model::{Check, ReadySpec, ServiceSpec};
use toml::Value;

use super::references::{PlaceholderScope, References};
use super::stack::{Health, Probe};
use super::template::{ExportText, Piece};

/// The probe of a service; `None` where nothing of it can be asked, with a loss for each part.
pub(crate) fn health(references: &References<'_>, name: &str, key: &str, ready: &ReadySpec) -> Option<Health> {
    let spec = references.spec(name)?;
    let path = format!("{}.{key}", references.path(name));
    let mut probes = Vec::new();
    for check in &ready.checks {
        match probe(references, spec, name, check, &path) {
            Ok(probe) => probes.push(probe),
            Err(reason) => references.lose(format!("{path}.{}", check.kind()), reason),
        }
    }
    (!probes.is_empty()).then_some(Health {
        probes,
        any: ready.any,
        interval: ready.interval,
        timeout: ready.timeout,
        retries: ready.retries,
        start_period: ready.start_period,
        start_interval: ready.start_interval,
        within: ready.within,
    })
}

fn probe(references: &References<'_>, spec: &ServiceSpec, name: &str, check: &Check, path: &str) -> Result<Probe, String> {
    let image = references.image(name);
    let by_image = image.map(|image| image.health).filter(|health| !health.is_empty());
    let inside = |at: &Endpoint| {
        let named = spec.ports.iter().find(|(_, number)| **number == at.port).map(|(port, _)| port.as_str());
        let own = references.is_gateway(name).then_some("main").or(named);
        own.and_then(|port| references.port(name, port))
            .ok_or_else(|| "it asks another server; only the own one can be asked".to_owned())
    };
    let of_image =
        || by_image.map(|line| Probe::Shell(ExportText::literal(line))).ok_or_else(|| no_program(image.map(|image| image.name)));
    match check {
        Check::Http { at, tls, path: page, status, headers, body } => {
            // The exported entry point speaks HTTP.
            let tls = &(*tls && !references.is_gateway(name));
            if !status.is_empty() {
                references.lose(format!("{path}.status"), "every answer from 200 to 399 passes");
            }
            if body.is_some() {
                references.lose(format!("{path}.body"), "the body is not looked at");
            }
            let port = inside(at)?;
            let command = match image {
                Some(image) if !image.has_wget => by_image.map(ExportText::literal),
                image => {
                    let scheme = if *tls { "https" } else { "http" };
                    let url = ExportText::join([
                        ExportText::literal(format!("'{scheme}://127.0.0.1:")),
                        port.clone(),
                        ExportText::literal(format!("{page}'")),
                    ]);
                    let option = |name: &str| -> String {
                        headers
                            .iter()
                            .map(|(key, value)| format!(" {name} {}", shell_quote(&format!("{key}: {value}"))))
                            .collect()
                    };
                    let mut line = ExportText::literal(format!("wget -q{} -O /dev/null ", option("--header")));
                    line.append(url.clone());
                    if image.is_none() {
                        line.append(ExportText::literal(format!(" || curl -fsS{} -o /dev/null ", option("-H"))));
                        line.append(url);
                    }
                    Some(line)
                }
            };
            asked_by(command.as_ref(), references, image)?;
            Ok(Probe::Http { port, tls: *tls, path: page.clone(), headers: headers.clone(), command })
        }
        Check::Tcp { at } => {
            let port = inside(at)?;
            let command = match image {
                Some(_) => by_image.map(ExportText::literal),
                None => Some(ExportText::join([
                    ExportText::literal("nc -z 127.0.0.1 "),
                    port.clone(),
                    ExportText::literal(" || bash -c ': > /dev/tcp/127.0.0.1/"),
                    port.clone(),
                    ExportText::literal("'"),
                ])),
            };
            asked_by(command.as_ref(), references, image)?;
            Ok(Probe::Tcp { port, command })
        }
        Check::Grpc { at, service } => Ok(Probe::Grpc { port: inside(at)?, service: service.clone() }),
        Check::Sql { query, .. } if image.is_some_and(|image| image.recipe == "postgres") && query.trim() != "SELECT 1" => {
            let line = format!(
                "psql -h 127.0.0.1 -U \"$POSTGRES_USER\" -d \"${{POSTGRES_DB:-$POSTGRES_USER}}\" -v ON_ERROR_STOP=1 -qtAc {}",
                shell_quote(query)
            );
            let authenticated = "PGPASSWORD=\"${POSTGRES_PASSWORD:-$(cat \"$POSTGRES_PASSWORD_FILE\")}\" ";
            Ok(Probe::Shell(ExportText::literal(format!("{authenticated}{line}"))))
        }
        Check::Redis { .. } if image.is_some() => of_image(),
        Check::Pg { .. } | Check::Sql { .. } | Check::Bolt { .. } | Check::S3 { .. } if image.is_some() => of_image(),
        Check::Pg { .. } | Check::Sql { .. } | Check::Redis { .. } | Check::Bolt { .. } | Check::S3 { .. } => {
            Err("the container has no such client; give it a `cmd`".to_owned())
        }
        Check::Cmd { .. } => command(references, name, path).ok_or_else(|| "its command cannot be read".to_owned()),
        Check::File { path, max_age } => {
            if max_age.is_some() {
                references.lose(format!("{}.ready.max_age", references.path(name)), "only whether the file is there is asked");
            }
            let root = &references.source.plan.root;
            match path.strip_prefix(root) {
                Ok(_) => Err("a file of the project's directory is not in the container".to_owned()),
                Err(_) => Ok(Probe::Exec(
                    ["test", "-e"]
                        .map(ExportText::literal)
                        .into_iter()
                        .chain([ExportText::literal(path.display().to_string())])
                        .collect(),
                )),
            }
        }
        Check::Unix { path } => Ok(Probe::Exec(vec![
            ExportText::literal("test"),
            ExportText::literal("-S"),
            ExportText::literal(path.display().to_string()),
        ])),
        Check::Log { .. } => Err("nothing reads the output there; started is enough".to_owned()),
        Check::Notify => Err("a notify socket is not available there; started is enough".to_owned()),
        Check::Uptime { .. } => Err("an age cannot be probed there; started is enough".to_owned()),
    }
}

/// Kubernetes asks a port itself; compose has a program of the image do it.
fn asked_by(
    command: Option<&ExportText>,
    references: &References<'_>,
    image: Option<&super::images::ContainerImage>,
) -> Result<(), String> {
    if command.is_some() || references.is_strict { Ok(()) } else { Err(no_program(image.map(|image| image.name))) }
}

fn no_program(image: Option<&str>) -> String {
    match image {
        Some(image) => format!("the image {image} has no program that could ask"),
        None => "the container has no such client".to_owned(),
    }
}

/// `ready.cmd` as it was written.
fn command(references: &References<'_>, name: &str, path: &str) -> Option<Probe> {
    let key = path.rsplit('.').next()?;
    let value = references.key(name, key)?.get("cmd")?;
    let scope = PlaceholderScope { service: name, key: path };
    Some(match value {
        Value::Array(list) => Probe::Exec(list.iter().map(|word| references.value(word, scope)).collect()),
        value => {
            let text = value.as_str()?;
            // A shell expands its own variables itself.
            let mut out = ExportText::default();
            for part in super::template::parts(text, false) {
                match part {
                    super::template::TextPart::Literal(text) => out.push(Piece::Literal(text)),
                    super::template::TextPart::ExportPlaceholder(hole) => out.append(references.hole(&hole, scope)),
                }
            }
            Probe::Shell(out)
        }
    })
}

/// A word for a shell.
pub(crate) fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
