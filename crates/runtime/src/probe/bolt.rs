//! `bolt`: the handshake of Neo4j's protocol ends in a version. HTTP opens before Bolt is usable, so only this counts.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{OwnershipGate, connect};
use super::result::{ProbeError, ProbeOk, ProbeResult, excerpt};
use devrun_model::ready::Endpoint;

/// The magic, and four proposals: 5.8 down to 5.0, 4.4 down to 4.2, 4.1, 3.
const HELLO: [u8; 20] = [0x60, 0x60, 0xb0, 0x17, 0, 8, 8, 5, 0, 2, 4, 4, 0, 0, 1, 4, 0, 0, 0, 3];

/// The check.
pub(super) async fn check(at: &Endpoint, gate: Option<&OwnershipGate>) -> ProbeResult {
    let mut dialled = connect(at, gate).await?;
    let mut version = [0u8; 4];
    let talk = async {
        dialled.stream.write_all(&HELLO).await?;
        dialled.stream.read_exact(&mut version).await
    };
    talk.await.map_err(|error| ProbeError::broken(&error))?;
    judge(version).map(|hit| hit.note(dialled.note))
}

fn judge(version: [u8; 4]) -> ProbeResult {
    match version {
        [0, 0, 0, 0] => Err(ProbeError::new("it speaks Bolt, but none of the versions 3 to 5")),
        [0, _, minor, major] if (1..32).contains(&major) => Ok(ProbeOk::new(format!("bolt {major}.{minor}"))),
        other => Err(ProbeError::new(format!("it answers, but not with Bolt: {:?}", excerpt(&other)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_passes_and_other_bytes_do_not() {
        assert_eq!(judge([0, 0, 4, 5]).unwrap().answer, "bolt 5.4");
        assert!(judge([0; 4]).is_err());
        assert_eq!(judge(*b"HTTP").unwrap_err().answer, "it answers, but not with Bolt: \"HTTP\"");
    }
}
