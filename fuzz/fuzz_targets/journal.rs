//! The journal's reader takes any bytes. The second half of the input is given sound checksums, so that what lies behind
//! them is reached too.
#![no_main]

use devrun_keeper::journal;
use libfuzzer_sys::fuzz_target;

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fuzz_target!(|bytes: &[u8]| {
    let _ = journal::parse(bytes);
    let mut sound = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        sound.extend_from_slice(line);
        sound.extend_from_slice(format!("\t{:016x}\n", checksum(line)).as_bytes());
    }
    let read = journal::parse(&sound);
    // What was understood can be written and is understood again.
    for entry in read.live.values() {
        let line = journal::encode(&journal::JournalRecord::Started(Box::new(entry.clone()))).expect("it is JSON");
        assert_eq!(journal::parse(&line).live.get(&entry.process), Some(entry));
    }
});
