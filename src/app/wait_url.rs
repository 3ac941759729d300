//! `wait URL`: blocks until a server answers as its kind should, with no procfile and no supervisor.
//!
//! Owns the loop, the well-known paths of a base URL and the line that says what was found. The checks themselves are
//! the probes' own, so that `wait postgres://…` and `ready = { sql = … }` never disagree. Prints nothing: what is said
//! along the way goes to the caller's function.

use std::time::{Duration, Instant};

use devrun_model::ready::Endpoint;
use devrun_model::{Check, Failure, FailureKind};
use devrun_runtime::probe::{self, ProbeError, http};

/// Tried in turn where a URL names no path.
const WELL_KNOWN: &[&str] = &["/health", "/healthz", "/ready", "/api/health", "/"];

/// What the attempt at the very end is given.
const LAST_ATTEMPT: Duration = Duration::from_millis(500);

/// How to wait.
pub struct UrlWaitOptions<'a> {
    /// For all of it.
    pub timeout: Duration,
    /// The longest pause between attempts; the first ones follow one another within milliseconds.
    pub interval: Duration,
    /// Gives up after so many attempts. Then every pause is `interval`, or the attempts would be over at once.
    pub retries: Option<u32>,
    /// For one attempt.
    pub attempt: Duration,
    /// Redis: SET, GET and DEL of a throw-away key.
    pub roundtrip: bool,
    /// Postgres: what must be there.
    pub deep: Deep,
    /// HTTP: an answer that takes longer does not count.
    pub max_ms: Option<u64>,
    /// Gets a line per changed answer, and facts about the server at the end (`-v`).
    pub verbose: Option<&'a (dyn Fn(&str) + Send + Sync)>,
}

/// What a Postgres must hold before it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deep {
    /// A schema.
    pub schema: Option<String>,
    /// A table, with or without its schema.
    pub table: Option<String>,
    /// Migrations of any of the usual tools.
    pub migrations: bool,
}

/// Tables in which the usual tools note what they applied.
const APPLIED: &str = "'devrun_migrations', 'alembic_version', 'django_migrations', 'flyway_schema_history', '_prisma_migrations', 'schema_migrations'";

impl Deep {
    /// A query for the number of migrations that are noted in those tables. Each is counted by its own statement, as a query cannot name a
    /// table that may be absent.
    #[must_use]
    pub fn count_migrations() -> String {
        format!(
            "SELECT coalesce(sum((xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s', oid::regclass), \
             false, true, '')))[1]::text::bigint), 0) FROM pg_class WHERE relkind IN ('r', 'p') AND relname IN ({APPLIED})"
        )
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// A query that the server refuses in its own words as long as something is missing.
    fn query(&self) -> String {
        let text = |value: &str| format!("'{}'", value.replace('\'', "''"));
        let mut query = String::new();
        if let Some(schema) = &self.schema {
            query.push_str(&format!("SELECT {}::regnamespace;", text(schema)));
        }
        if let Some(table) = &self.table {
            query.push_str(&format!("SELECT {}::regclass;", text(table)));
        }
        if self.migrations {
            query.push_str(&format!(
                "DO $devrun$ DECLARE one regclass; filled boolean; BEGIN \
                 FOR one IN SELECT oid FROM pg_class WHERE relkind IN ('r', 'p') AND relname IN ({APPLIED}) LOOP \
                 EXECUTE format('SELECT EXISTS (SELECT FROM %s)', one) INTO filled; IF filled THEN RETURN; END IF; END LOOP; \
                 RAISE EXCEPTION 'no migration has been applied'; END $devrun$;"
            ));
        }
        query
    }

    fn found(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.schema.as_ref().map(|name| format!("schema {name}")));
        parts.extend(self.table.as_ref().map(|name| format!("table {name}")));
        parts.extend(self.migrations.then(|| "migrations".to_owned()));
        parts.join(", ")
    }
}

impl Default for UrlWaitOptions<'_> {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            interval: Duration::from_secs(1),
            retries: None,
            attempt: Duration::from_secs(5),
            roundtrip: false,
            deep: Deep::default(),
            max_ms: None,
            verbose: None,
        }
    }
}

/// Waits for a URL; what was found, in one line.
///
/// # Errors
/// `Config` for a URL that cannot be waited for, `Credentials` as soon as a login is refused, `NotReady` with the last
/// answer when time or attempts run out.
pub async fn wait_for_url(url: &str, options: &UrlWaitOptions<'_>) -> Result<String, Failure> {
    let mut check = probe::check_from_url(url).map_err(|reason| {
        Failure::new(FailureKind::Config, reason)
            .help("for example: devrun wait postgres://user:password@localhost:5432/database")
    })?;
    if options.roundtrip {
        match &mut check {
            Check::Redis { roundtrip, .. } => *roundtrip = true,
            _ => return Err(misplaced("--roundtrip", "Redis")),
        }
    }
    if !options.deep.is_empty() {
        match &mut check {
            Check::Sql { query, .. } => *query = options.deep.query(),
            _ => return Err(misplaced("--schema, --table and --migrations", "a postgres:// address with a database")),
        }
    }
    if options.max_ms.is_some() && !matches!(check, Check::Http { .. }) {
        return Err(misplaced("--max-ms", "HTTP"));
    }
    let base = is_base(url);
    let began = Instant::now();
    let mut last = String::new();
    let mut attempts = 0u32;
    // The time is used up to its end and one attempt is made there, so that `--timeout 5s` means 5 s.
    let mut ending = false;
    loop {
        let attempted = Instant::now();
        let left = options.timeout.saturating_sub(began.elapsed());
        let limit = options.attempt.min(left.max(LAST_ATTEMPT));
        let miss = match once(&check, base, limit, options).await {
            Ok(found) => {
                facts(&check, options).await;
                return Ok(if options.deep.is_empty() { found } else { format!("there: {}", options.deep.found()) });
            }
            Err(ProbeError { fatal: Some(failure), .. }) => return Err(failure),
            Err(miss) => miss,
        };
        attempts += 1;
        if miss.answer != last
            && let Some(say) = options.verbose
        {
            say(&format!("attempt {attempts}: {}", miss.answer));
        }
        // An attempt that the end of the time cut short says less than the one before it.
        let cut = limit < options.attempt && attempted.elapsed() >= limit;
        if last.is_empty() || !cut {
            last = miss.answer;
        }
        let left = options.timeout.saturating_sub(began.elapsed());
        if ending || left.is_zero() || options.retries.is_some_and(|most| attempts >= most) {
            return Err(given_up(url, &check, &last, attempts, began.elapsed()));
        }
        let pause = match options.retries {
            Some(_) => options.interval,
            None => probe::attempt_step(began.elapsed(), attempted.elapsed(), options.interval),
        };
        ending = pause >= left;
        tokio::time::sleep(pause.min(left)).await;
    }
}

fn misplaced(flag: &str, kind: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("{flag} is for {kind} only")).help(format!("leave {flag} out"))
}

fn given_up(url: &str, check: &Check, last: &str, attempts: u32, after: Duration) -> Failure {
    // Put together anew: the URL as it was given may hold a password.
    let what = match (url.split_once("://"), check.endpoint()) {
        (Some((scheme, _)), Some(at)) => format!("{}://{at}", scheme.trim()),
        _ => check.kind().to_owned(),
    };
    let times = if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") };
    let spent = devrun_model::duration::human(after);
    Failure::new(FailureKind::NotReady, format!("{what} is not ready after {spent} and {times}: {last}"))
        .help("start it, or wait longer: `--timeout 5m`")
}

/// No path at all, or `/` alone: a base URL.
fn is_base(url: &str) -> bool {
    url.split_once("://").is_some_and(|(_, rest)| match rest.find(['/', '?', '#']) {
        None => true,
        Some(place) => &rest[place..] == "/",
    })
}

async fn once(check: &Check, base: bool, limit: Duration, options: &UrlWaitOptions<'_>) -> Result<String, ProbeError> {
    let Check::Http { at, tls, path, headers, .. } = check else {
        return probe::attempt(check, limit).await.map_err(|(answer, fatal)| miss(answer, fatal));
    };
    let paths: Vec<&str> = if base { WELL_KNOWN.to_vec() } else { vec![path.as_str()] };
    let mut first = None;
    for path in paths {
        let fetched = match http::fetch(at, *tls, path, headers, limit).await {
            Ok(fetched) => fetched,
            // No connection for one path is none for the others.
            Err(miss) => return Err(first.unwrap_or(miss)),
        };
        match accept(&fetched, path, base, options.max_ms) {
            Ok(found) => return Ok(found),
            Err(miss) => first = first.or(Some(miss)),
        }
    }
    Err(first.unwrap_or_else(|| miss("no path to ask for".to_owned(), None)))
}

fn miss(answer: String, fatal: Option<Failure>) -> ProbeError {
    ProbeError { answer, fatal, retry: probe::RetryHint::Step, closed: Vec::new() }
}

fn accept(fetched: &http::HttpFetch, path: &str, base: bool, max_ms: Option<u64>) -> Result<String, ProbeError> {
    let (status, took) = (fetched.reply.status, fetched.took.as_millis());
    if !(200..400).contains(&status) {
        return Err(miss(format!("{status} from {path}"), None));
    }
    if let Some(most) = max_ms.filter(|most| took > u128::from(*most)) {
        return Err(miss(format!("{status} from {path}, but slower than {most}ms"), None));
    }
    let mut line = if base { format!("found {path}: {status} in {took}ms") } else { format!("{status} in {took}ms") };
    if let Some(who) = who(&fetched.reply) {
        line.push_str(&format!(", {who}"));
    }
    Ok(line)
}

/// `name` and `version` of a JSON answer, else the Server header.
fn who(reply: &http::HttpReply) -> Option<String> {
    let json: Option<serde_json::Value> = serde_json::from_slice(&reply.body).ok();
    let field = |names: &[&str]| {
        let object = json.as_ref()?.as_object()?;
        let text = names.iter().find_map(|name| object.get(*name)?.as_str())?;
        Some(text.chars().filter(|c| !c.is_control()).take(60).collect::<String>())
    };
    match (field(&["name", "service", "app"]), field(&["version"])) {
        (Some(name), Some(version)) => Some(format!("{name} {version}")),
        (Some(name), None) => Some(name),
        (None, Some(version)) => Some(format!("version {version}")),
        (None, None) => reply.header("server").filter(|text| !text.is_empty()).map(str::to_owned),
    }
}

/// Facts are a courtesy: that they cannot be had does not undo the pass.
async fn facts(check: &Check, options: &UrlWaitOptions<'_>) {
    let (Some(say), Check::Redis { at, user, password, .. }) = (options.verbose, check) else { return };
    let asked = redis_facts(at, user.as_deref(), password.as_deref());
    match tokio::time::timeout(options.attempt, asked).await {
        Ok(Ok(lines)) => lines.iter().for_each(|line| say(line)),
        Ok(Err(miss)) => say(&format!("INFO: {}", miss.answer)),
        Err(_) => say("INFO: no answer in time"),
    }
}

async fn redis_facts(at: &Endpoint, user: Option<&str>, password: Option<&str>) -> Result<Vec<String>, ProbeError> {
    probe::redis_facts(at, user, password).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &str, server: Option<&str>) -> http::HttpReply {
        let headers = server.map(|server| ("server".to_owned(), server.to_owned())).into_iter().collect();
        http::HttpReply { status: 200, headers, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_service_says_who_it_is() {
        for (body, server, expected) in [
            (r#"{"name":"airtable-gateway","version":"1.4.0"}"#, None, Some("airtable-gateway 1.4.0")),
            (r#"{"service":"api","status":"ok"}"#, Some("uvicorn"), Some("api")),
            (r#"{"status":"ok"}"#, Some("uvicorn"), Some("uvicorn")),
            ("<html>", Some("nginx/1.27"), Some("nginx/1.27")),
            ("[1]", None, None),
            ("", None, None),
        ] {
            assert_eq!(who(&reply(body, server)).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn what_must_be_there_is_asked_for_by_name() {
        let deep = Deep { schema: Some("o'dd".to_owned()), table: Some("app.users".to_owned()), migrations: true };
        let query = deep.query();
        assert!(query.starts_with("SELECT 'o''dd'::regnamespace;SELECT 'app.users'::regclass;DO "), "{query}");
        assert_eq!(deep.found(), "schema o'dd, table app.users, migrations");
        assert!(Deep::default().query().is_empty());
    }

    #[test]
    fn only_a_url_without_a_path_is_a_base() {
        for (url, base) in [
            ("http://localhost:8002", true),
            ("http://localhost:8002/", true),
            ("http://localhost:8002/health", false),
            ("http://localhost/?x", false),
        ] {
            assert_eq!(is_base(url), base, "{url}");
        }
    }
}
