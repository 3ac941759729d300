//! `pg`: does Postgres accept connections. One startup packet (protocol 3.0), one message back, no driver, no password:
//! what `pg_isready` asks. Like it, a missing database or a refused user passes: use `sql` to know that one can log in.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{OwnershipGate, connect};
use super::result::{ProbeError, ProbeOk, ProbeResult};
use devrun_model::ready::Endpoint;

/// The longest error message that is read.
const MOST: usize = 8 * 1024;

/// Whether the server that is the leader says in its own folder that it is not ready yet, as `pg_ctl -w` reads it: the eighth
/// line of `postmaster.pid` (storage-file-layout). Each connection before that costs the server a process which can only
/// refuse, in the middle of its start. A server that says nothing, or of which nothing can be read, is asked.
pub(super) async fn is_starting(gate: Option<&OwnershipGate>) -> Result<(), ProbeError> {
    let Some(leader) = gate.and_then(OwnershipGate::leader) else { return Ok(()) };
    let Some(folder) = devrun_keeper::process_list::working_directory(leader) else { return Ok(()) };
    let Ok(text) = tokio::fs::read_to_string(folder.join("postmaster.pid")).await else { return Ok(()) };
    match status(&text, leader) {
        Some(status @ ("starting" | "stopping")) => Err(ProbeError::new(format!("the database system is {status}, it says"))),
        _ => Ok(()),
    }
}

/// The state in a `postmaster.pid`, if it is this process's.
fn status(text: &str, leader: i32) -> Option<&str> {
    let mut lines = text.lines();
    let own = lines.next()?.trim().parse() == Ok(leader);
    lines.nth(6).filter(|_| own).map(str::trim)
}

/// The check.
pub(super) async fn check(at: &Endpoint, database: &str, user: &str, gate: Option<&OwnershipGate>) -> ProbeResult {
    is_starting(gate).await?;
    let mut dialled = connect(at, gate).await?;
    let stream = &mut dialled.stream;
    let answer = async {
        stream.write_all(&startup(user, database)).await?;
        let kind = stream.read_u8().await?;
        let mut text = Vec::new();
        if kind == b'E' {
            let length = usize::try_from(stream.read_u32().await?).unwrap_or(MOST).saturating_sub(4).min(MOST);
            text.resize(length, 0);
            stream.read_exact(&mut text).await?;
        } else {
            // A server logs a client that hangs up without a word.
            stream.write_all(&[b'X', 0, 0, 0, 4]).await?;
        }
        Ok((kind, text))
    };
    let (kind, text) = answer.await.map_err(|error| ProbeError::broken(&error))?;
    judge(kind, &text).map(|hit| hit.note(dialled.note))
}

fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&196_608u32.to_be_bytes());
    // A zero byte would end the value early; no name holds one.
    for (key, value) in [("user", user), ("database", database), ("application_name", "devrun")] {
        if !value.is_empty() && !value.contains('\0') {
            body.extend_from_slice(key.as_bytes());
            body.push(0);
            body.extend_from_slice(value.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let mut packet = length.to_be_bytes().to_vec();
    packet.append(&mut body);
    packet
}

fn judge(kind: u8, text: &[u8]) -> ProbeResult {
    match kind {
        b'R' | b'v' => Ok(ProbeOk::new("accepts connections")),
        b'E' => {
            let field = |code: u8| {
                text.split(|byte| *byte == 0)
                    .find(|field| field.first() == Some(&code))
                    .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
            };
            let message = field(b'M').unwrap_or_else(|| "no message".to_owned());
            match field(b'C').as_deref() {
                // Cannot connect now, and the three ways of shutting down.
                Some(code @ ("57P01" | "57P02" | "57P03")) => Err(ProbeError::new(format!("{message} ({code})"))),
                Some(code) => Ok(ProbeOk::new(format!("accepts connections ({code}: {message})"))),
                None => Err(ProbeError::new(format!("it answers with an error that has no code: {message}"))),
            }
        }
        other => Err(ProbeError::new(format!("it answers, but not as Postgres does (first byte {other:#04x})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_names_user_and_database() {
        let packet = startup("app", "shop");
        assert_eq!(u32::from_be_bytes([packet[0], packet[1], packet[2], packet[3]]) as usize, packet.len());
        assert!(packet.ends_with(b"application_name\0devrun\0\0"));
        assert!(packet.windows(9).any(|window| window == b"user\0app\0"));
    }

    #[test]
    fn the_state_is_read_from_the_file_of_the_very_process() {
        let text = "41\n/data\n1795000000\n5432\n/tmp\nlocalhost\n  5432001    65536\nstarting\n";
        assert_eq!(status(text, 41), Some("starting"));
        assert_eq!(status(&text.replace("starting", "ready   "), 41), Some("ready"));
        assert_eq!(status(text, 42), None, "left by another one");
        assert_eq!(status("41\n/data\n1795000000\n5432\n", 41), None, "half of it is written");
        assert_eq!(status("", 41), None);
    }

    #[test]
    fn only_not_now_and_shutting_down_are_misses() {
        let error = |code: &str| format!("SFATAL\0C{code}\0Mwords\0\0").into_bytes();
        assert!(judge(b'R', b"").is_ok());
        for (code, passes) in
            [("57P03", false), ("57P01", false), ("3D000", true), ("28P01", true), ("28000", true), ("53300", true)]
        {
            assert_eq!(judge(b'E', &error(code)).is_ok(), passes, "{code}");
        }
        assert_eq!(judge(b'E', &error("57P03")).unwrap_err().answer, "words (57P03)");
        assert!(judge(b'H', b"").is_err());
        assert!(judge(b'E', b"").is_err());
    }
}
