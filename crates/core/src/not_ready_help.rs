//! What to do about a service that did not become ready, from what its probe was answered last.

use devrun_model::ServiceSpec;

/// The answer of a `cmd` check whose command is not on the PATH.
const NOT_IN_PATH: &str = " is not found in the service's PATH";

/// The help of the failure: first the command that shows its output, then what to change.
#[must_use]
pub fn not_ready_help(spec: &ServiceSpec, logs: &str, answer: &str) -> String {
    let service = format!("services.{}", spec.service);
    let change = if let Some((command, _)) = answer.split_once(NOT_IN_PATH) {
        format!("install {command}, or correct {service}.ready.cmd")
    } else if answer.starts_with("exit 127") {
        format!("{service}.ready.cmd runs a command that is not there: install or correct it")
    } else if let Some(port) = other_port(answer) {
        format!("set {service}.port = {port}, or let its command listen on $PORT")
    } else if let Some((code, path)) = refused_path(answer) {
        format!("set {service}.ready.http to a path that it answers with 2xx or 3xx: {path} is answered with {code}")
    } else {
        format!("raise {service}.ready.within if it needs longer")
    };
    format!("{logs}; {change}")
}

/// The port of `it listens on 0.0.0.0:18765, not on $PORT (18766)`; the first one of several.
fn other_port(answer: &str) -> Option<u16> {
    let (_, rest) = answer.split_once("it listens on ")?;
    let address = rest.split(',').next()?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// Code and path of `404 from /nothere`. A 5xx is a failure of the server, not of the path.
fn refused_path(answer: &str) -> Option<(u16, &str)> {
    let (before, rest) = answer.split_once(" from /")?;
    let code: u16 = before.rsplit(' ').next()?.parse().ok()?;
    let start = answer.len() - rest.len() - 1;
    let path = answer.get(start..)?.split([' ', ',', ';']).next()?;
    (400..500).contains(&code).then_some((code, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    #[test]
    fn the_help_follows_the_last_answer() {
        let spec = ServiceSpec::bare(ServiceName::new("web").unwrap(), "/".into(), vec!["true".to_owned()]);
        for (answer, change) in [
            ("pg_isreadyy is not found in the service's PATH", "install pg_isreadyy, or correct services.web.ready.cmd"),
            (
                "exit 127: sh: 1: pg_isreadyy: not found",
                "services.web.ready.cmd runs a command that is not there: install or correct it",
            ),
            (
                "connection refused; it listens on 0.0.0.0:18765, not on $PORT (18766)",
                "set services.web.port = 18765, or let its command listen on $PORT",
            ),
            (
                "it listens on [::1]:9, 127.0.0.1:10, not on $PORT (5)",
                "set services.web.port = 9, or let its command listen on $PORT",
            ),
            (
                "404 from /nothere",
                "set services.web.ready.http to a path that it answers with 2xx or 3xx: /nothere is answered with 404",
            ),
            ("503 from /", "raise services.web.ready.within if it needs longer"),
            ("connection refused", "raise services.web.ready.within if it needs longer"),
        ] {
            assert_eq!(not_ready_help(&spec, "devrun logs web", answer), format!("devrun logs web; {change}"));
        }
    }
}
