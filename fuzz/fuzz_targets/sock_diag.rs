//! Any bytes as a datagram of the kernel: listeners or an error, never a panic.
#![no_main]

use devrun_runtime::ports::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for port in [0, 80, 0x1234] {
        if let Ok(found) = fuzz::listeners(bytes, port) {
            // 16 bytes of header and 72 of answer each.
            assert!(found.len() <= bytes.len() / 88);
            assert!(found.iter().all(|one| port == 0 || one.port == port));
        }
    }
    for questions in [0, 1, 64] {
        let _ = fuzz::answers(bytes, &mut vec![false; questions]);
    }
});
