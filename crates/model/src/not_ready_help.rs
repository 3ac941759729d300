//! What to do about a service that did not become ready, from what its probe was answered last.

/// The answer of a `cmd` check whose command is not on the PATH.
const NOT_IN_PATH: &str = " is not found in the service's PATH";

/// What an answer says of a service that listens elsewhere, up to the first address and from the last one.
const LISTENS_ON: &str = "it listens on ";
const NOT_ON_PORT: &str = ", not on $PORT (";

/// The help of a service that was not ready with this answer: first `logs`, the command that shows its output, then what to change.
#[must_use]
pub fn not_ready_help(service: &str, logs: &str, answer: &str) -> String {
    let service = format!("services.{service}");
    let change = if let Some((command, _)) = answer.split_once(NOT_IN_PATH) {
        format!("install {command}, or correct {service}.ready.cmd")
    } else if answer.starts_with("exit 127") {
        format!("{service}.ready.cmd runs a command that is not there: install or correct it")
    } else if let Some(port) = other_ports(answer).first() {
        format!("set {service}.port = {port}, or let its command listen on $PORT")
    } else if let Some((code, path)) = refused_path(answer) {
        format!("set {service}.ready.http to a path that it answers with 2xx or 3xx: {path} is answered with {code}")
    } else {
        format!("raise {service}.ready.within if it needs longer")
    };
    format!("{logs}; {change}")
}

/// `it listens on 127.0.0.1:3000, not on $PORT (21113)`, for the addresses of a service and the port that it was given.
#[must_use]
pub fn listens_elsewhere(addresses: &[String], port: u16) -> String {
    format!("{LISTENS_ON}{}{NOT_ON_PORT}{port})", addresses.join(", "))
}

/// That sentence, where an answer holds it.
#[must_use]
pub fn said_elsewhere(answer: &str) -> Option<&str> {
    let sentence = answer.get(answer.find(LISTENS_ON)?..)?;
    sentence.contains(NOT_ON_PORT).then_some(sentence)
}

/// The other ports that it names, in its order.
#[must_use]
pub fn other_ports(answer: &str) -> Vec<u16> {
    let addresses = said_elsewhere(answer).and_then(|sentence| sentence.strip_prefix(LISTENS_ON)?.split(NOT_ON_PORT).next());
    let port = |address: &str| address.rsplit_once(':')?.1.parse().ok();
    addresses.unwrap_or_default().split(", ").filter_map(port).collect()
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

    #[test]
    fn the_help_follows_the_last_answer() {
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
            assert_eq!(not_ready_help("web", "devrun logs web.2", answer), format!("devrun logs web.2; {change}"));
        }
    }

    #[test]
    fn all_ports_of_a_service_that_listens_elsewhere_are_known() {
        let sentence = listens_elsewhere(&["[::1]:9".to_owned(), "127.0.0.1:10".to_owned()], 5);
        let answer = format!("connection refused; {sentence}");
        assert_eq!(said_elsewhere(&answer), Some(sentence.as_str()));
        assert_eq!(other_ports(&answer), [9, 10]);
        assert_eq!(other_ports("connection refused"), []);
    }
}
