//! Bolt, the protocol of Neo4j: log in, run one statement after the other, read all rows.
//!
//! Own code, as that is all that is wanted: loopback, no TLS, no pool, no routing, versions 4.4 and 5.1 to 5.4. Values
//! arrive as JSON, which is what tasks and consoles show. Each length is checked before it is believed.

use std::io;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use devrun_model::hex::hex;

/// The magic; 5.4 down to 5.1, 4.4 down to 4.2.
const HELLO: [u8; 20] = [0x60, 0x60, 0xb0, 0x17, 0, 3, 4, 5, 0, 2, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0];
/// No answer of a console or a task is larger.
const LONGEST: usize = 64 << 20;
const DEEPEST: usize = 64;
const CONNECT: Duration = Duration::from_secs(10);

const SUCCESS: u8 = 0x70;
const RECORD: u8 = 0x71;
const IGNORED: u8 = 0x7e;
const FAILURE: u8 = 0x7f;

/// Where to log in.
#[derive(Debug, Clone)]
pub(super) struct BoltTarget {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    /// Absent: the server's default.
    pub(super) database: Option<String>,
}

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub(super) enum BoltError {
    /// Nobody there, or the connection broke.
    #[error("{0}")]
    Connection(#[from] io::Error),
    /// What answers does not speak Bolt as we do.
    #[error("{0}")]
    Protocol(String),
    /// The server's own refusal.
    #[error("{message} ({code})")]
    Server {
        /// `Neo.ClientError.Statement.SyntaxError`.
        code: String,
        /// Its words.
        message: String,
    },
}

impl BoltError {
    /// The login was refused.
    pub(super) fn is_login(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code.starts_with("Neo.ClientError.Security."))
    }
    /// It may work a moment later: starting up, or a lock that somebody holds.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Server { code, .. } => code.starts_with("Neo.TransientError.") || code.ends_with(".DatabaseUnavailable"),
            Self::Protocol(_) => false,
        }
    }
}

/// The rows of one statement.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CypherRows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Values, row by row.
    pub rows: Vec<Vec<Value>>,
}

/// A login.
pub(super) struct BoltSession {
    stream: TcpStream,
    database: Option<String>,
}

impl BoltSession {
    pub(super) async fn open(target: &BoltTarget) -> Result<Self, BoltError> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s");
        tokio::time::timeout(CONNECT, Self::log_in(target)).await.map_err(late)?
    }

    async fn log_in(target: &BoltTarget) -> Result<Self, BoltError> {
        let mut stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        stream.write_all(&HELLO).await?;
        let mut version = [0u8; 4];
        stream.read_exact(&mut version).await?;
        let [0, _, minor, major @ (4 | 5)] = version else {
            return Err(BoltError::Protocol(format!("it does not speak Bolt 4.2 to 5.4: it answered {version:?}")));
        };
        let mut session = Self { stream, database: target.database.clone() };
        let agent = concat!("devrun/", env!("CARGO_PKG_VERSION"));
        let login = [("scheme", "basic"), ("principal", &target.user), ("credentials", &target.password)];
        let mut hello = Map::new();
        hello.insert("user_agent".to_owned(), agent.into());
        // From 5.1 on the login is a message of its own.
        let apart = (major, minor) >= (5, 1);
        if apart {
            hello.insert("bolt_agent".to_owned(), serde_json::json!({ "product": agent }));
        } else {
            hello.extend(login.map(|(name, value)| (name.to_owned(), value.into())));
        }
        session.send(0x01, &[Value::Object(hello)]).await?;
        session.success().await?;
        if apart {
            let login: Map<String, Value> = login.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
            session.send(0x6a, &[Value::Object(login)]).await?;
            session.success().await?;
        }
        Ok(session)
    }

    /// One statement in a transaction of its own.
    pub(super) async fn run(&mut self, statement: &str) -> Result<CypherRows, BoltError> {
        self.run_with(statement, Map::new()).await
    }

    /// The same with values for its `$names`.
    pub(super) async fn run_with(&mut self, statement: &str, values: Map<String, Value>) -> Result<CypherRows, BoltError> {
        let mut extra = Map::new();
        if let Some(database) = &self.database {
            extra.insert("db".to_owned(), database.as_str().into());
        }
        self.send(0x10, &[statement.into(), Value::Object(values), Value::Object(extra)]).await?;
        self.send(0x3f, &[serde_json::json!({ "n": -1 })]).await?;
        let described = match self.success().await {
            Ok(described) => described,
            Err(refused @ BoltError::Server { .. }) => {
                // The rows that were asked for are refused too, and the session wants to be told to go on.
                let (tag, _) = self.receive().await?;
                if tag != IGNORED {
                    return Err(BoltError::Protocol(format!("after a refusal it answered {tag:#04x}")));
                }
                self.send(0x0f, &[]).await?;
                self.success().await?;
                return Err(refused);
            }
            Err(error) => return Err(error),
        };
        let columns = described.get("fields").and_then(Value::as_array).into_iter().flatten();
        let columns = columns.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        let mut rows = Vec::new();
        loop {
            match self.receive().await? {
                (RECORD, fields) => rows.push(match fields.into_iter().next() {
                    Some(Value::Array(values)) => values,
                    _ => return Err(BoltError::Protocol("a row that is no list".to_owned())),
                }),
                (SUCCESS, _) => return Ok(CypherRows { columns, rows }),
                (FAILURE, fields) => {
                    self.send(0x0f, &[]).await?;
                    self.success().await?;
                    return Err(refusal(&fields));
                }
                (tag, _) => return Err(BoltError::Protocol(format!("a message {tag:#04x} among rows"))),
            }
        }
    }

    /// Says goodbye. A server that does not listen any more has ended the session too.
    pub(super) async fn close(mut self) {
        let _ended = self.send(0x02, &[]).await;
    }

    async fn success(&mut self) -> Result<Map<String, Value>, BoltError> {
        match self.receive().await? {
            (SUCCESS, fields) => match fields.into_iter().next() {
                Some(Value::Object(map)) => Ok(map),
                _ => Ok(Map::new()),
            },
            (FAILURE, fields) => Err(refusal(&fields)),
            (tag, _) => Err(BoltError::Protocol(format!("an unexpected message {tag:#04x}"))),
        }
    }

    async fn send(&mut self, tag: u8, fields: &[Value]) -> Result<(), BoltError> {
        let mut message = vec![0xb0 | u8::try_from(fields.len()).unwrap_or(0), tag];
        for field in fields {
            encode(field, &mut message);
        }
        let mut framed = Vec::with_capacity(message.len() + 8);
        for chunk in message.chunks(usize::from(u16::MAX)) {
            framed.extend(u16::try_from(chunk.len()).unwrap_or(u16::MAX).to_be_bytes());
            framed.extend(chunk);
        }
        framed.extend([0, 0]);
        self.stream.write_all(&framed).await?;
        Ok(())
    }

    async fn receive(&mut self) -> Result<(u8, Vec<Value>), BoltError> {
        let mut message = Vec::new();
        loop {
            let size = usize::from(self.stream.read_u16().await?);
            // An empty chunk before a message is only a sign of life.
            match (size, message.is_empty()) {
                (0, true) => continue,
                (0, false) => break,
                _ => {}
            }
            let from = message.len();
            if from + size > LONGEST {
                return Err(BoltError::Protocol(format!("an answer of more than {} MB", LONGEST >> 20)));
            }
            message.resize(from + size, 0);
            self.stream.read_exact(&mut message[from..]).await?;
        }
        let mut reader = BoltReader { bytes: &message, at: 0 };
        let head = reader.byte()?;
        let tag = reader.byte()?;
        let mut fields = Vec::new();
        for _ in 0..head & 0x0f {
            fields.push(reader.value(0)?);
        }
        Ok((tag, fields))
    }
}

fn refusal(fields: &[Value]) -> BoltError {
    let text = |key: &str| {
        let text = fields.first().and_then(|map| map.get(key)).and_then(Value::as_str).unwrap_or_default();
        text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect::<String>()
    };
    BoltError::Server { code: text("code"), message: text("message").trim().to_owned() }
}

/// `PackStream`, the kinds that we send.
fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(flag) => out.push(if *flag { 0xc3 } else { 0xc2 }),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => {
                out.push(0xcb);
                out.extend(integer.to_be_bytes());
            }
            None => {
                out.push(0xc1);
                out.extend(number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
            }
        },
        Value::String(text) => {
            size(out, 0xd2, text.len());
            out.extend(text.as_bytes());
        }
        Value::Array(values) => {
            size(out, 0xd6, values.len());
            values.iter().for_each(|value| encode(value, out));
        }
        Value::Object(map) => {
            size(out, 0xda, map.len());
            for (name, value) in map {
                size(out, 0xd2, name.len());
                out.extend(name.as_bytes());
                encode(value, out);
            }
        }
    }
}

/// The widest form of a size is always allowed.
fn size(out: &mut Vec<u8>, marker: u8, size: usize) {
    out.push(marker);
    out.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
}

struct BoltReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BoltReader<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], BoltError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else { return Err(BoltError::Protocol("a message that ends too early".to_owned())) };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, BoltError> {
        Ok(self.take(1)?[0])
    }

    /// A big-endian number of so many bytes.
    fn number(&mut self, count: usize) -> Result<u64, BoltError> {
        Ok(self.take(count)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A size of 1, 2 or 4 bytes, by the marker's distance from the first of its kind.
    fn size(&mut self, step: u8) -> Result<usize, BoltError> {
        Ok(usize::try_from(self.number(1 << step)?).unwrap_or(usize::MAX))
    }

    fn value(&mut self, depth: usize) -> Result<Value, BoltError> {
        if depth > DEEPEST {
            return Err(BoltError::Protocol("a value nested too deeply".to_owned()));
        }
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f => i64::from(marker).into(),
            0xf0..=0xff => i64::from(marker.cast_signed()).into(),
            0xc0 => Value::Null,
            0xc1 => {
                let float = f64::from_bits(self.number(8)?);
                serde_json::Number::from_f64(float).map_or_else(|| float.to_string().into(), Value::Number)
            }
            0xc2 => false.into(),
            0xc3 => true.into(),
            0xc8 => i64::from((self.number(1)? as u8).cast_signed()).into(),
            0xc9 => i64::from((self.number(2)? as u16).cast_signed()).into(),
            0xca => i64::from((self.number(4)? as u32).cast_signed()).into(),
            0xcb => self.number(8)?.cast_signed().into(),
            0xcc..=0xce => {
                let count = self.size(marker - 0xcc)?;
                hex(self.take(count)?).into()
            }
            0x80..=0x8f => self.text(usize::from(marker & 0x0f))?.into(),
            0xd0..=0xd2 => {
                let count = self.size(marker - 0xd0)?;
                self.text(count)?.into()
            }
            0x90..=0x9f => self.list(usize::from(marker & 0x0f), depth)?.into(),
            0xd4..=0xd6 => {
                let count = self.size(marker - 0xd4)?;
                self.list(count, depth)?.into()
            }
            0xa0..=0xaf => self.map(usize::from(marker & 0x0f), depth)?,
            0xd8..=0xda => {
                let count = self.size(marker - 0xd8)?;
                self.map(count, depth)?
            }
            0xb0..=0xbf => {
                let tag = self.byte()?;
                let fields = self.list(usize::from(marker & 0x0f), depth)?;
                structure(tag, fields)
            }
            other => return Err(BoltError::Protocol(format!("a marker {other:#04x} that means nothing"))),
        })
    }

    fn text(&mut self, count: usize) -> Result<String, BoltError> {
        Ok(String::from_utf8_lossy(self.take(count)?).into_owned())
    }

    fn list(&mut self, count: usize, depth: usize) -> Result<Vec<Value>, BoltError> {
        // Never more capacity than there are bytes: a count is only a claim.
        let mut values = Vec::with_capacity(count.min(self.bytes.len() - self.at));
        for _ in 0..count {
            values.push(self.value(depth + 1)?);
        }
        Ok(values)
    }

    fn map(&mut self, count: usize, depth: usize) -> Result<Value, BoltError> {
        let mut map = Map::new();
        for _ in 0..count {
            let Value::String(name) = self.value(depth + 1)? else {
                return Err(BoltError::Protocol("a key that is no text".to_owned()));
            };
            map.insert(name, self.value(depth + 1)?);
        }
        Ok(Value::Object(map))
    }
}

/// Nodes and relationships as people want to see them; everything else as its fields.
fn structure(tag: u8, fields: Vec<Value>) -> Value {
    let field = |at: usize| fields.get(at).cloned().unwrap_or_default();
    match tag {
        b'N' => serde_json::json!({ "labels": field(1), "properties": field(2) }),
        b'R' => serde_json::json!({ "type": field(3), "properties": field(4) }),
        b'P' => serde_json::json!({ "nodes": field(0), "relationships": field(1) }),
        _ => Value::Array(fields),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(value: &Value) -> Value {
        let mut bytes = Vec::new();
        encode(value, &mut bytes);
        BoltReader { bytes: &bytes, at: 0 }.value(0).unwrap()
    }

    #[test]
    fn values_survive_both_ways() {
        for value in [
            serde_json::json!(null),
            serde_json::json!([true, false, 0, -1, 127, -128, 40000, -40000, i64::MAX, i64::MIN, 1.5]),
            serde_json::json!({ "a": "ä \"'", "b": { "c": [] }, "long": "x".repeat(70_000) }),
        ] {
            assert_eq!(back(&value), value);
        }
    }

    #[test]
    fn short_forms_are_read() {
        for (bytes, expected) in [
            (&[0x83, b'a', b'b', b'c'][..], serde_json::json!("abc")),
            (&[0xf0], serde_json::json!(-16)),
            (&[0xc8, 0x80], serde_json::json!(-128)),
            (&[0xc9, 0xff, 0xfe], serde_json::json!(-2)),
            (&[0x92, 1, 0xa1, 0x81, b'k', 0xc3], serde_json::json!([1, { "k": true }])),
            (&[0xb3, b'N', 1, 0x91, 0x81, b'L', 0xa0], serde_json::json!({ "labels": ["L"], "properties": {} })),
            (&[0xcc, 2, 0xab, 0x01], serde_json::json!("ab01")),
        ] {
            assert_eq!(BoltReader { bytes, at: 0 }.value(0).unwrap(), expected);
        }
    }

    #[test]
    fn lies_end_in_an_error() {
        let deep = [0x91; 200];
        for bytes in [&[][..], &[0x83, b'a'], &[0xd6, 0xff, 0xff, 0xff, 0xff], &[0xc4], &[0xa1, 1, 1], &deep] {
            assert!(matches!(BoltReader { bytes, at: 0 }.value(0), Err(BoltError::Protocol(_))), "{bytes:?}");
        }
    }
}
