//! One connection's bytes: framed as the server does it, then understood as a request.
#![no_main]

use bytes::BytesMut;
use devrun_runtime::control::protocol::{ControlRequest, MAX_LINE};
use libfuzzer_sys::fuzz_target;
use tokio_util::codec::{Decoder, LinesCodec};

fuzz_target!(|bytes: &[u8]| {
    let mut codec = LinesCodec::new_with_max_length(MAX_LINE);
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(line)) = codec.decode(&mut buffer) {
        if let Ok(ask) = serde_json::from_str::<ControlRequest>(&line) {
            let text = serde_json::to_string(&ask).expect("it is JSON");
            serde_json::from_str::<ControlRequest>(&text).expect("what we write we understand");
        }
    }
});
