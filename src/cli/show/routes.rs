//! `devrun routes`: what leads where; with `--check` every route is asked.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use devrun_gateway::{CheckedRoute, LocalCaPaths, RouteTable, check_route};
use devrun_model::ready::Endpoint;
use devrun_model::{Failure, FailureKind, GatewaySpec, Launch, Route, RoutePattern, RouteTarget, ServiceSpec, State};

use crate::app::readonly::{self, Seen};
use crate::globals::Globals;
use crate::ui::table;
use crate::ui::term::{Term, safe, say};

// `routes`.
#[derive(Debug, Args)]
pub struct RoutesArgs {
    /// Output as JSON
    #[arg(long)]
    pub json: bool,
    /// Ask every route and name the service that answered; exit 1 if one does not
    #[arg(long)]
    pub check: bool,
}

#[derive(Serialize)]
struct RouteRow {
    gateway: String,
    /// Where the whole of a service is asked for by a host of its own.
    host: Option<String>,
    path: String,
    /// `service`, `files`, `reply` or `redirect`.
    kind: &'static str,
    target: String,
    service: Option<String>,
    /// The addresses of its copies.
    addresses: Vec<String>,
    state: Option<State>,
    strip: Option<String>,
    max_body: Option<u64>,
    /// Where a client asks for it.
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<RouteCheck>,
}

#[derive(Serialize)]
struct RouteCheck {
    ok: bool,
    status: Option<u16>,
    /// The copy that answered; null: the gateway itself.
    answered_by: Option<String>,
    took_ms: Option<u64>,
    error: Option<String>,
}

/// `devrun routes`.
///
/// # Errors
/// `Config` for a procfile with errors; with `--check` `Elsewhere` when no gateway runs, `Service` when a route is not answered.
pub fn run(globals: &Globals, args: &RoutesArgs, _term: Term) -> Result<i32, Failure> {
    let seen = Seen::new(globals, &[])?;
    let mut rows: Vec<RouteRow> = Vec::new();
    let mut asked: Vec<Asked> = Vec::new();
    for spec in seen.plan.services.values() {
        let Launch::Recipe(recipe) = &spec.launch else { continue };
        let Some(gateway) = &recipe.gateway else { continue };
        let at = Endpoint {
            host: spec.attributes.get("host").cloned().unwrap_or_else(|| spec.bind.clone()),
            port: seen.ports(spec).get("main").copied().unwrap_or_default(),
        };
        let authority = gateway.tls.as_ref().map(|tls| LocalCaPaths::new(&tls.authority).certificate());
        for route in RouteTable::new(gateway.routes.iter().cloned()).routes() {
            rows.push(row(&seen, spec, &at, None, route));
            let (at, authority) = (at.clone(), authority.clone());
            asked.push(Asked { at, authority, host: None, path: path_of(route), target: route.target.clone() });
        }
        for (host, route) in named(gateway) {
            rows.push(row(&seen, spec, &at, Some(host), &route));
            let (at, authority) = (at.clone(), authority.clone());
            asked.push(Asked { at, authority, host: Some(host.clone()), path: path_of(&route), target: route.target });
        }
    }
    if rows.is_empty() {
        say("no service has routes");
    }
    let mut failed = 0;
    if args.check && !rows.is_empty() {
        if !seen.running() {
            return Err(Failure::new(FailureKind::Elsewhere, "nothing is running").help("devrun up -d"));
        }
        let answers = crate::app::runtime::runtime()?.block_on(ask_all(&asked));
        for ((row, asked), answer) in rows.iter_mut().zip(&asked).zip(answers) {
            let check = judge(row, &asked.target, answer);
            failed += usize::from(!check.ok);
            row.check = Some(check);
        }
    }
    let code = if args.json { readonly::json(&rows)? } else { readonly::text(&text(&rows, args.check)) };
    if !args.json {
        rows.iter().find_map(refused).into_iter().for_each(say);
    }
    match failed {
        0 => Ok(code),
        count => Err(Failure::new(FailureKind::Service, format!("{count} of {} routes did not answer", rows.len()))
            .help("devrun logs, or devrun ps, says why")),
    }
}

/// What `--check` asks for.
#[derive(Clone)]
struct Asked {
    at: Endpoint,
    /// The certificate by which one that speaks HTTPS is trusted.
    authority: Option<PathBuf>,
    host: Option<String>,
    path: String,
    target: RouteTarget,
}

/// The services that have a host of their own, as routes.
fn named(gateway: &GatewaySpec) -> impl Iterator<Item = (&String, Route)> {
    gateway.names.iter().filter_map(|(host, service)| {
        let target = RouteTarget::Service { service: service.clone(), port: "main".to_owned(), strip: None };
        Some((host, Route { path: RoutePattern::parse("/").ok()?, target, max_body: None }))
    })
}

fn row(seen: &Seen, gateway: &ServiceSpec, at: &Endpoint, host: Option<&String>, route: &Route) -> RouteRow {
    let (mut service, mut strip, mut addresses, mut state) = (None, None, Vec::new(), None);
    let kind = match &route.target {
        RouteTarget::Service { service: name, port, strip: stripped } => {
            (service, strip) = (Some(name.to_string()), stripped.clone());
            for spec in seen.plan.services.values().filter(|spec| spec.service == *name) {
                let host = spec.attributes.get("host").unwrap_or(&spec.bind);
                // A port that is chosen at the start has no number yet.
                let chosen = seen.ports(spec).get(port).filter(|port| **port != 0);
                addresses.extend(chosen.map(|port| Endpoint { host: host.clone(), port: *port }.to_string()));
                let own = seen.status(spec).map_or(State::Stopped, |status| status.state);
                // Of several copies, the one that serves.
                if state != Some(State::Running) {
                    state = Some(own);
                }
            }
            "service"
        }
        RouteTarget::Files { .. } => "files",
        RouteTarget::Reply { .. } => "reply",
        RouteTarget::Redirect { .. } => "redirect",
    };
    let is_tls =
        matches!(&gateway.launch, Launch::Recipe(recipe) if recipe.gateway.as_ref().is_some_and(|own| own.tls.is_some()));
    let scheme = if is_tls { "https" } else { "http" };
    RouteRow {
        gateway: gateway.id.to_string(),
        host: host.cloned(),
        path: route.path.to_string(),
        kind,
        target: match &route.target {
            RouteTarget::Files { path, .. } => path.strip_prefix(&seen.plan.root).unwrap_or(path).display().to_string(),
            target => target.to_string(),
        },
        service,
        addresses,
        state,
        strip,
        max_body: route.max_body.map(|size| size.0),
        url: match host {
            Some(host) => format!("{scheme}://{host}:{}{}", at.port, path_of(route)),
            None => format!("{scheme}://{at}{}", path_of(route)),
        },
        check: None,
    }
}

/// A path that takes this route.
fn path_of(route: &Route) -> String {
    let base = route.path.base();
    match &route.target {
        _ if base.is_empty() => "/".to_owned(),
        RouteTarget::Files { path, .. } if path.is_dir() => format!("{base}/"),
        _ => base.to_owned(),
    }
}

/// All at a time, as each may wait for a service that is starting.
async fn ask_all(asked: &[Asked]) -> Vec<Result<CheckedRoute, String>> {
    let tasks: Vec<_> = asked
        .iter()
        .cloned()
        .map(|asked| {
            tokio::spawn(
                async move { check_route(&asked.at, asked.authority.as_deref(), asked.host.as_deref(), &asked.path).await },
            )
        })
        .collect();
    let mut answers = Vec::with_capacity(tasks.len());
    for task in tasks {
        answers.push(task.await.unwrap_or_else(|error| Err(error.to_string())));
    }
    answers
}

fn judge(row: &RouteRow, target: &RouteTarget, answer: Result<CheckedRoute, String>) -> RouteCheck {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return RouteCheck { ok: false, status: None, answered_by: None, took_ms: None, error: Some(error) },
    };
    let is_its_route = answer.route.as_ref() == Some(row.host.as_ref().unwrap_or(&row.path));
    let error = match target {
        _ if !is_its_route => {
            Some(format!("the route {} was taken", answer.route.as_deref().unwrap_or("of another program, or none")))
        }
        RouteTarget::Service { service, .. } => match &answer.service {
            Some(name) if name == service.as_str() || name.starts_with(&format!("{service}.")) => None,
            Some(name) => Some(format!("{name} answered")),
            None => Some(format!("{service} did not answer")),
        },
        RouteTarget::Reply { status } if *status != answer.status => Some(format!("the reply was {}", answer.status)),
        RouteTarget::Files { .. } if answer.status >= 400 => Some("no file at this path".to_owned()),
        _ => None,
    };
    RouteCheck {
        ok: error.is_none(),
        status: Some(answer.status),
        answered_by: answer.service,
        took_ms: Some(u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX)),
        error,
    }
}

/// What an answer such as 404 says, and what it does not: which paths a service has, only the service knows.
fn refused(row: &RouteRow) -> Option<String> {
    let check = row.check.as_ref().filter(|check| check.ok)?;
    let (status, service) = (check.status.filter(|status| *status >= 400)?, check.answered_by.as_ref()?);
    Some(format!(
        "note: any HTTP answer counts, as it proves that the route leads to its service; {status} is what {service} says to GET {}",
        row.url
    ))
}

fn text(rows: &[RouteRow], with_check: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut head = vec!["GATEWAY", "PATH", "TARGET", "ADDRESS", "STATE"];
    if with_check {
        head.extend(["STATUS", "ANSWERED BY", "TIME"]);
    }
    let cells = rows.iter().map(|row| {
        let mut cells = vec![
            row.gateway.clone(),
            safe(row.host.as_ref().unwrap_or(&row.path)),
            safe(&row.target),
            safe(&row.addresses.join(" ")),
            row.state.map(|state| state.to_string()).unwrap_or_default(),
        ];
        if let Some(check) = &row.check {
            cells.push(check.status.map(|status| status.to_string()).unwrap_or_default());
            cells.push(match (&check.error, &check.answered_by) {
                (Some(error), _) => safe(error),
                (None, Some(name)) => safe(name),
                (None, None) => row.gateway.clone(),
            });
            cells.push(check.took_ms.map(|ms| format!("{ms}ms")).unwrap_or_default());
        }
        cells
    });
    table::render(&head, &cells.collect::<Vec<_>>())
}
