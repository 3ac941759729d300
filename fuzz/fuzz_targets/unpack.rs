//! Any bytes as an archive of each kind: a tree or a reason, never a panic, and never anything outside of the directory that it is
//! unpacked into.
#![no_main]

use std::path::Path;

use devrun_store::catalog::UnpackRules;
use devrun_store::unpack;
use libfuzzer_sys::fuzz_target;

const KINDS: [&str; 7] = ["tar", "tar.gz", "tar.xz", "tar.zst", "zip", "deb", "raw"];

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, archive)) = bytes.split_first() else { return };
    let top = tempfile::tempdir().expect("a directory");
    let packed = top.path().join("packed");
    std::fs::write(&packed, archive).expect("our own file");
    let into = top.path().join("one/two/into");
    std::fs::create_dir_all(&into).expect("our own directory");
    let rules = UnpackRules {
        kind: Some(KINDS[usize::from(choice & 0x0f) % KINDS.len()].to_owned()),
        strip: (choice & 0x10 != 0).then_some(usize::from(choice >> 6)),
        subdir: (choice & 0x20 != 0).then(|| "a".to_owned()),
        ..UnpackRules::default()
    };
    let _ = unpack::unpack(&[(&packed, "packed")], &rules, "raw", &into);
    assert_eq!(names(&top.path().join("one")), ["two"]);
    assert_eq!(names(&top.path().join("one/two")), ["into"]);
    assert_eq!(names(top.path()).len(), 2);
});
