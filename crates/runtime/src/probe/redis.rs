//! `redis`: `+PONG` itself, after AUTH where there is a password. An open port or an exit code of a client proves
//! nothing: the port opens long before LOADING ends, and a client that gets NOAUTH exits 0.

use devrun_model::ready::Endpoint;

#[cfg(not(feature = "redis"))]
use super::{
    connect::OwnershipGate,
    result::{ProbeError, ProbeResult},
};

#[cfg(not(feature = "redis"))]
fn absent() -> ProbeError {
    ProbeError::fatal(super::result::unusable(
        "redis checks need the feature `redis`, which this devrun was built without",
        "use `tcp = true`, or install a devrun with its default features",
    ))
}

/// The check.
#[cfg(not(feature = "redis"))]
pub(super) async fn check(
    _at: &Endpoint,
    _user: Option<&str>,
    _password: Option<&str>,
    _roundtrip: bool,
    _gate: Option<&OwnershipGate>,
) -> ProbeResult {
    Err(absent())
}

/// Lines about the server for `wait -v`.
///
/// # Errors
/// Always, in a build without the feature.
#[cfg(not(feature = "redis"))]
pub async fn facts(_at: &Endpoint, _user: Option<&str>, _password: Option<&str>) -> Result<Vec<String>, ProbeError> {
    Err(absent())
}

/// What it is in the middle of.
///
/// # Errors
/// Always, in a build without the feature.
#[cfg(not(feature = "redis"))]
pub async fn busy(_at: &Endpoint, _user: Option<&str>, _password: Option<&str>) -> Result<Option<String>, ProbeError> {
    Err(absent())
}

/// One command, and its answer as text.
///
/// # Errors
/// Always, in a build without the feature.
#[cfg(not(feature = "redis"))]
pub async fn ask(_at: &Endpoint, _user: Option<&str>, _password: Option<&str>, _words: &[&str]) -> Result<String, ProbeError> {
    Err(absent())
}

/// Another password while it runs.
///
/// # Errors
/// Always, in a build without the feature.
#[cfg(not(feature = "redis"))]
pub async fn renew(_at: &Endpoint, _user: Option<&str>, _old: Option<&str>, _new: &str) -> Result<(), ProbeError> {
    Err(absent())
}

#[cfg(feature = "redis")]
pub(super) use with_client::check;
#[cfg(feature = "redis")]
pub use with_client::{ask, busy, facts, renew};

#[cfg(feature = "redis")]
mod with_client {
    use std::future::Future;

    use redis::aio::MultiplexedConnection;
    use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value, cmd};
    use tokio::net::TcpStream;

    use super::super::capped_stream::{CappedStream, PROBE_ANSWERS, TOO_LONG};
    use super::super::connect::{OwnershipGate, connect};
    use super::super::result::{ProbeError, ProbeOk, ProbeResult, excerpt};
    use super::Endpoint;

    /// The check. The connection lives inside this future: dropped with it, nothing goes on behind.
    pub(in super::super) async fn check(
        at: &Endpoint,
        user: Option<&str>,
        password: Option<&str>,
        roundtrip: bool,
        gate: Option<&OwnershipGate>,
    ) -> ProbeResult {
        let dialled = connect(at, gate).await?;
        let answer = talk(dialled.stream, async |connection| {
            login(connection, user, password).await?;
            ping(connection, password.is_some()).await?;
            if roundtrip { round(connection).await } else { Ok("PONG".to_owned()) }
        });
        answer.await.map(|answer| ProbeOk::new(answer).note(dialled.note))
    }

    /// Lines about the server for `wait -v`: version, mode, uptime, memory.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn facts(at: &Endpoint, user: Option<&str>, password: Option<&str>) -> Result<Vec<String>, ProbeError> {
        let dialled = connect(at, None).await?;
        let info = talk(dialled.stream, async |connection| {
            login(connection, user, password).await?;
            cmd("INFO").query_async::<String>(connection).await.map_err(|error| judge(&error, password.is_some()))
        });
        Ok(lines(&info.await?))
    }

    /// What it is in the middle of: a snapshot, or a rewrite of its append-only file.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn busy(at: &Endpoint, user: Option<&str>, password: Option<&str>) -> Result<Option<String>, ProbeError> {
        let dialled = connect(at, None).await?;
        let info = talk(dialled.stream, async |connection| {
            login(connection, user, password).await?;
            let mut ask = cmd("INFO");
            ask.arg("persistence").query_async::<String>(connection).await.map_err(|error| judge(&error, password.is_some()))
        });
        Ok(writing(&info.await?))
    }

    /// One command, and its answer as text.
    ///
    /// # Errors
    /// When it does not answer, or answers with an error.
    pub async fn ask(at: &Endpoint, user: Option<&str>, password: Option<&str>, words: &[&str]) -> Result<String, ProbeError> {
        let dialled = connect(at, None).await?;
        let answer = talk(dialled.stream, async |connection| {
            login(connection, user, password).await?;
            let mut command = redis::Cmd::new();
            words.iter().for_each(|word| {
                command.arg(*word);
            });
            command.query_async::<Value>(connection).await.map_err(|error| judge(&error, password.is_some()))
        });
        Ok(answer_text(&answer.await?))
    }

    /// Bulk strings, numbers and lists, one value a line.
    fn answer_text(value: &Value) -> String {
        match value {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::SimpleString(text) => text.clone(),
            Value::VerbatimString { text, .. } => text.clone(),
            Value::Int(number) => number.to_string(),
            Value::Okay => "OK".to_owned(),
            Value::Array(values) => values.iter().map(answer_text).collect::<Vec<_>>().join("\n"),
            Value::Map(pairs) => {
                pairs.iter().flat_map(|(key, value)| [answer_text(key), answer_text(value)]).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        }
    }

    /// Gives the server another password while it runs. Who is logged in stays so; every new login needs the new one.
    ///
    /// # Errors
    /// When the old one is not taken, or the server does not let its configuration be changed.
    pub async fn renew(at: &Endpoint, user: Option<&str>, old: Option<&str>, new: &str) -> Result<(), ProbeError> {
        let dialled = connect(at, None).await?;
        let work = async |connection: &mut MultiplexedConnection| {
            login(connection, user, old).await?;
            let done = |result: Result<Value, RedisError>| result.map(drop).map_err(|error| judge(&error, true));
            if let Some(user) = user.filter(|user| *user != "default") {
                let mut set = cmd("ACL");
                set.arg("SETUSER").arg(user).arg("resetpass").arg(format!(">{new}"));
                done(set.query_async(connection).await)?;
            }
            done(cmd("CONFIG").arg("SET").arg("requirepass").arg(new).query_async(connection).await)
        };
        talk(dialled.stream, work).await
    }

    fn writing(info: &str) -> Option<String> {
        let at_work = |field: &str| info.lines().any(|line| line.trim() == format!("{field}:1"));
        let all =
            [("rdb_bgsave_in_progress", "it writes a snapshot"), ("aof_rewrite_in_progress", "it rewrites its append-only file")];
        all.into_iter().find(|(field, _)| at_work(field)).map(|(_, what)| what.to_owned())
    }

    /// Drives the connection while `work` goes on.
    async fn talk<T, F>(stream: TcpStream, work: F) -> Result<T, ProbeError>
    where
        F: AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, ProbeError>,
    {
        // Login is ours, so that its answer is seen as it is; the client's own limit of time would cut ours short.
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let limits = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let stream = CappedStream::new(stream, PROBE_ANSWERS);
        let opened = MultiplexedConnection::new_with_config(&settings, stream, limits).await;
        let (mut connection, driver) = opened.map_err(|error| judge(&error, false))?;
        driven(driver, work(&mut connection)).await
    }

    async fn driven<T>(
        driver: impl Future<Output = ()>,
        work: impl Future<Output = Result<T, ProbeError>>,
    ) -> Result<T, ProbeError> {
        tokio::pin!(driver, work);
        tokio::select! {
            answer = &mut work => answer,
            // What is in flight is told that the connection is gone.
            () = &mut driver => work.await,
        }
    }

    async fn login(connection: &mut MultiplexedConnection, user: Option<&str>, password: Option<&str>) -> Result<(), ProbeError> {
        let Some(password) = password else { return Ok(()) };
        let mut auth = cmd("AUTH");
        if let Some(user) = user {
            auth.arg(user);
        }
        match auth.arg(password).query_async::<Value>(connection).await {
            Ok(_) => Ok(()),
            // A server without a password says so; that the client has one is no reason to wait.
            Err(error) if user.is_none() && text(&error).contains("without any password configured") => Ok(()),
            Err(error) => Err(judge(&error, true)),
        }
    }

    async fn ping(connection: &mut MultiplexedConnection, with_password: bool) -> Result<(), ProbeError> {
        match cmd("PING").query_async::<Value>(connection).await {
            Ok(Value::SimpleString(word)) if word == "PONG" => Ok(()),
            Ok(Value::BulkString(word)) if word == b"PONG" => Ok(()),
            Ok(other) => Err(ProbeError::new(format!("it answers PING with {:?}", excerpt(format!("{other:?}").as_bytes())))),
            Err(error) => Err(judge(&error, with_password)),
        }
    }

    /// SET, GET and DEL of a key that nobody else has and that goes by itself. A server that may evict is allowed to.
    async fn round(connection: &mut MultiplexedConnection) -> Result<String, ProbeError> {
        let unique = getrandom::u64().map_err(|error| ProbeError::new(format!("cannot generate a random key: {error}")))?;
        let (key, value) = (format!("devrun:wait:{unique:016x}"), format!("{unique:x}"));
        let step = |name: &'static str| {
            move |error: RedisError| {
                let miss = judge(&error, true);
                ProbeError { answer: format!("{name} failed: {}", miss.answer), ..miss }
            }
        };
        let set = cmd("SET").arg(&key).arg(&value).arg("EX").arg(30).query_async::<Value>(connection).await;
        set.map_err(step("SET"))?;
        let got = cmd("GET").arg(&key).query_async::<Option<String>>(connection).await.map_err(step("GET"))?;
        let answer = match got {
            Some(back) if back == value => "SET, GET and DEL work".to_owned(),
            Some(_) => return Err(ProbeError::new("GET gave back another value than SET had stored")),
            None => "SET works; the key was evicted before GET".to_owned(),
        };
        cmd("DEL").arg(&key).query_async::<Value>(connection).await.map_err(step("DEL"))?;
        Ok(answer)
    }

    fn text(error: &RedisError) -> String {
        match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            (Some(code), None) => code.to_owned(),
            _ => error.to_string(),
        }
    }

    fn judge(error: &RedisError, with_password: bool) -> ProbeError {
        match error.code() {
            Some("NOAUTH") => ProbeError::credentials(
                if with_password { "NOAUTH: the password was not taken" } else { "NOAUTH: the server asks for a password" },
                "give it: `password = \"…\"`, or redis://:PASSWORD@…",
            ),
            Some("WRONGPASS") => ProbeError::credentials("WRONGPASS: user or password is wrong", "check `user` and `password`"),
            // Before 6.0 a wrong password has no code of its own.
            Some("ERR") if error.detail().is_some_and(|detail| detail.contains("invalid password")) => {
                ProbeError::credentials("the password is wrong", "check `password`")
            }
            Some(_) => ProbeError::new(excerpt(text(error).as_bytes())),
            None if error.to_string().contains(TOO_LONG) => ProbeError::new(TOO_LONG),
            None if error.is_connection_dropped() || error.is_io_error() => {
                ProbeError::new("the connection was closed without an answer")
            }
            None => ProbeError::new(format!("it answers, but not as Redis does: {:?}", excerpt(error.to_string().as_bytes()))),
        }
    }

    /// INFO in three lines; a warning where nine tenths of the memory are used.
    fn lines(info: &str) -> Vec<String> {
        let field = |name: &str| info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
        let mut out = Vec::new();
        if let Some(version) = field("redis_version") {
            let mode = field("redis_mode").unwrap_or("standalone");
            let up = field("uptime_in_seconds").unwrap_or("?");
            out.push(format!("redis {version}, {mode}, up for {up} s"));
        }
        if let Some(used) = field("used_memory_human") {
            let policy = field("maxmemory_policy").unwrap_or("noeviction");
            let number = |name| field(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            let (bytes, most) = (number("used_memory"), number("maxmemory"));
            let limit = if most == 0 { "no limit" } else { field("maxmemory_human").unwrap_or("?") };
            let warning = if most > 0 && bytes / 9 >= most / 10 { " (nearly full)" } else { "" };
            out.push(format!("memory {used} / {limit} {policy}{warning}"));
        }
        out
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// Answers everything with an announced length that it never reaches, or with a line without an end.
        async fn endless(first: &'static [u8]) -> Endpoint {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(async move {
                use tokio::io::AsyncWriteExt;
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut sent = stream.write_all(first).await;
                while sent.is_ok() {
                    sent = stream.write_all(&[b'a'; 65536]).await;
                }
            });
            Endpoint { host: "127.0.0.1".to_owned(), port }
        }

        #[tokio::test]
        async fn an_answer_without_an_end_is_given_up() {
            for first in [&b"$9223372036854775807\r\n"[..], b"+", b"*2147483647\r\n$10\r\n"] {
                let at = endless(first).await;
                let asked = tokio::time::timeout(std::time::Duration::from_secs(30), check(&at, None, None, false, None));
                let miss = asked.await.expect("it ends").expect_err("another answer than PONG");
                assert!(!miss.answer.is_empty(), "{first:?}");
            }
        }

        #[test]
        fn what_it_writes_is_read_from_info() {
            let info =
                |save, rewrite| format!("loading:0\r\nrdb_bgsave_in_progress:{save}\r\naof_rewrite_in_progress:{rewrite}\r\n");
            assert_eq!(writing(&info(0, 0)), None);
            assert_eq!(writing(&info(1, 0)).as_deref(), Some("it writes a snapshot"));
            assert_eq!(writing(&info(0, 1)).as_deref(), Some("it rewrites its append-only file"));
        }

        #[test]
        fn facts_are_read_from_info() {
            let info = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nuptime_in_seconds:12\r\n\
                        used_memory:95\r\nused_memory_human:12.00M\r\nmaxmemory:100\r\nmaxmemory_human:256.00M\r\n\
                        maxmemory_policy:allkeys-lru\r\n";
            assert_eq!(
                lines(info),
                ["redis 7.0.15, standalone, up for 12 s", "memory 12.00M / 256.00M allkeys-lru (nearly full)"]
            );
            assert!(lines("").is_empty());
        }
    }
}
