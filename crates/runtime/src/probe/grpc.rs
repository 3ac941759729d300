//! `grpc`: the standard health service (`grpc.health.v1.Health/Check`) says SERVING.
//!
//! One request over HTTP/2 (RFC 9113) by hand: a preface, three frames out, a few back. Header fields are sent as
//! literals that touch no table, and those of the answer are not decoded: the status that counts is in the message. A
//! server that answers with trailers alone (no such service) is known by the message that is missing.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connect::{OwnershipGate, connect};
use super::result::{ProbeError, ProbeOk, ProbeResult, excerpt};
use devrun_model::ready::Endpoint;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const ACK: u8 = 0x1;
/// The largest frame a peer may send that was told nothing else.
const MOST_FRAME: usize = 16 * 1024;
/// Frames after which a server is not going to answer.
const MOST_FRAMES: usize = 64;

/// The check.
pub(super) async fn check(at: &Endpoint, service: &str, gate: Option<&OwnershipGate>) -> ProbeResult {
    let mut dialled = connect(at, gate).await?;
    let verdict = talk(&mut dialled.stream, at, service).await.unwrap_or_else(|error| Err(ProbeError::broken(&error)));
    verdict.map(|hit| hit.note(dialled.note))
}

async fn talk(stream: &mut TcpStream, at: &Endpoint, service: &str) -> io::Result<ProbeResult> {
    let mut out = PREFACE.to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    frame(&mut out, HEADERS, END_HEADERS, 1, &headers(&at.to_string()));
    frame(&mut out, DATA, END_STREAM, 1, &request(service));
    stream.write_all(&out).await?;

    let mut message = Vec::new();
    for _ in 0..MOST_FRAMES {
        let mut head = [0u8; 9];
        stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if length > MOST_FRAME {
            return Ok(Err(ProbeError::new(format!("it answers, but not with HTTP/2: {:?}", excerpt(&head)))));
        }
        let mut payload = vec![0u8; length];
        stream.read_exact(&mut payload).await?;
        let (kind, flags) = (head[3], head[4]);
        let first_stream = head[5..] == [0, 0, 0, 1];
        match kind {
            SETTINGS if flags & ACK == 0 => answer(stream, SETTINGS, &[]).await?,
            PING if flags & ACK == 0 => answer(stream, PING, &payload).await?,
            DATA if first_stream => {
                let padding = if flags & PADDED == 0 { 0 } else { 1 + payload.first().map_or(0, |n| usize::from(*n)) };
                let start = usize::from(flags & PADDED != 0).min(length);
                let end = (length + start).saturating_sub(padding).max(start);
                message.extend_from_slice(&payload[start..end]);
                if let Some(verdict) = judge(&message, service) {
                    return Ok(verdict);
                }
            }
            RESET if first_stream => return Ok(Err(ProbeError::new("the call was reset"))),
            GOAWAY => return Ok(Err(ProbeError::new("the server is going away"))),
            _ => {}
        }
        if first_stream && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return Ok(Err(ProbeError::new("it speaks gRPC, but answers no health check (grpc.health.v1.Health)")));
        }
    }
    Ok(Err(ProbeError::new("it speaks HTTP/2, but does not answer the call")))
}

async fn answer(stream: &mut TcpStream, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut out = Vec::new();
    frame(&mut out, kind, ACK, 0, payload);
    stream.write_all(&out).await
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // A length of 24 bits; nothing that is sent here comes near them.
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(0).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// HPACK (RFC 7541): two fields by index, the rest as literals without indexing.
fn headers(authority: &str) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` stand in the static table.
    let mut out = vec![0x83, 0x86];
    out.push(0x04);
    text(&mut out, "/grpc.health.v1.Health/Check");
    out.push(0x01);
    text(&mut out, authority);
    // `content-type` is number 31, which takes a second byte after a prefix of four bits.
    out.extend_from_slice(&[0x0f, 0x10]);
    text(&mut out, "application/grpc");
    out.push(0x00);
    text(&mut out, "te");
    text(&mut out, "trailers");
    out
}

/// A string without Huffman coding: its length with a prefix of seven bits, then its bytes.
fn text(out: &mut Vec<u8>, text: &str) {
    let length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        varint(out, length - 127);
    }
    out.extend_from_slice(text.as_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 128 {
        out.push((value % 128) as u8 | 0x80);
        value /= 128;
    }
    out.push(value as u8);
}

/// `HealthCheckRequest { service = 1 }` behind gRPC's five bytes of length.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    out.append(&mut message);
    out
}

/// `HealthCheckResponse { status = 1 }`, once it is whole.
fn judge(bytes: &[u8], service: &str) -> Option<ProbeResult> {
    let (prefix, rest) = bytes.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if length > MOST_FRAME || prefix[0] != 0 {
        return Some(Err(ProbeError::new("it answers the health check with something that cannot be read")));
    }
    let message = rest.get(..length)?;
    let status = match message {
        [] => 0,
        [0x08, status, ..] => *status,
        _ => return Some(Err(ProbeError::new("it answers the health check with something that cannot be read"))),
    };
    let whose = if service.is_empty() { "the server".to_owned() } else { service.to_owned() };
    Some(match status {
        1 => Ok(ProbeOk::new(format!("{whose} is SERVING"))),
        2 => Err(ProbeError::new(format!("{whose} is NOT_SERVING"))),
        3 => Err(ProbeError::new(format!("the server knows no {service:?} (SERVICE_UNKNOWN)"))),
        _ => Err(ProbeError::new(format!("the health of {whose} is UNKNOWN"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_serving_passes() {
        let answer = |message: &[u8]| {
            let mut bytes = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
            bytes.extend_from_slice(message);
            judge(&bytes, "")
        };
        assert!(answer(&[8, 1]).unwrap().is_ok());
        for status in [&[8, 0][..], &[8, 2], &[8, 3], &[], &[0x12, 1, 65]] {
            assert!(answer(status).unwrap().is_err(), "{status:?}");
        }
        assert!(judge(&[0, 0, 0, 0, 2, 8], "").is_none());
        assert!(judge(&[0, 0xff, 0xff, 0xff, 0xff], "").unwrap().is_err());
    }

    #[test]
    fn long_names_get_a_length_of_several_bytes() {
        let mut out = Vec::new();
        text(&mut out, &"x".repeat(300));
        assert_eq!(&out[..3], &[127, 0xad, 0x01]);
        assert_eq!(request("abc"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'b', b'c']);
    }
}
