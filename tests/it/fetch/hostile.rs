//! Archives that mean harm. Whatever they hold, nothing outside the folder changes and no entry comes of them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use devrun_model::FailureKind;
use devrun_store::catalog::UnpackRules;
use devrun_store::locate;
use devrun_store::unpack::unpack;

use super::archives::{Entry, deb, file, folder, gz, hardlink, program, symlink, tar, xz, zip};
use super::server::{Answer, Server};
use super::{Place, from_url, tree_of};

/// A folder with a bystander beside the tree.
struct Arena {
    folder: tempfile::TempDir,
}

impl Arena {
    fn new() -> Self {
        let arena = Self { folder: tempfile::tempdir().unwrap() };
        let bystander = arena.bystander();
        std::fs::write(&bystander, "untouched").unwrap();
        std::fs::set_permissions(&bystander, std::fs::Permissions::from_mode(0o640)).unwrap();
        arena
    }
    fn bystander(&self) -> std::path::PathBuf {
        self.folder.path().join("bystander")
    }
    fn unpack(&self, name: &str, bytes: &[u8], rules: &UnpackRules) -> Result<(), String> {
        let archive = self.folder.path().join(name);
        std::fs::write(&archive, bytes).unwrap();
        let tree = self.folder.path().join("tree");
        let _absent = std::fs::remove_dir_all(&tree);
        std::fs::create_dir(&tree).unwrap();
        let got = unpack(&[(&archive, name)], rules, "raw", &tree).map_err(|refused| refused.to_string());
        std::fs::remove_file(&archive).unwrap();
        got
    }
    fn assert_untouched(&self, what: &str) {
        let meta = std::fs::metadata(self.bystander()).unwrap();
        assert_eq!(std::fs::read_to_string(self.bystander()).unwrap(), "untouched", "{what}");
        assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o640, 1), "{what}");
        let mut beside: Vec<_> = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["bystander", "tree"], "{what}");
    }
    fn tree(&self) -> std::path::PathBuf {
        self.folder.path().join("tree")
    }
}

fn refuse(name: &str, bytes: &[u8], says: &str, what: &str) {
    let arena = Arena::new();
    let refused = arena.unpack(name, bytes, &UnpackRules::default()).expect_err(what);
    assert!(refused.contains(says), "{what}: {refused}");
    arena.assert_untouched(what);
}

fn refuse_tars(cases: &[(&str, Vec<Entry<'_>>, &str)]) {
    for (what, entries, says) in cases {
        let bytes = tar(entries);
        refuse("x.tar.gz", &gz(&bytes), says, what);
        refuse("x.deb", &deb("data.tar.xz", &xz(&bytes)), says, &format!("{what}, in a package"));
    }
}

#[test]
fn d01_names_that_leave_the_folder_are_refused() {
    let raw = |name: &'static [u8]| Entry { name, kind: b'0', mode: 0o644, link: b"", content: b"x" };
    refuse_tars(&[
        ("parent", vec![file("../bystander", b"x")], "leaves the directory"),
        ("absolute", vec![file("/tmp/bystander", b"x")], "absolute"),
        ("up in the middle", vec![file("a/../../bystander", b"x")], "leaves the directory"),
        ("up that stays inside", vec![file("a/../b", b"x")], "leaves the directory"),
        ("up at the end", vec![folder("a/..")], "leaves the directory"),
        ("backslash", vec![raw(b"..\\bystander")], "backslash"),
        ("line feed", vec![raw(b"a\nb")], "control character"),
        ("escape code", vec![raw(b"a\x1b[2Jb")], "control character"),
        ("no text", vec![raw(b"a\xff\xfeb")], "not UTF-8"),
        ("direction", vec![file("a\u{202e}txt.sh", b"x")], "an invisible character (\\u{202e})"),
        ("byte order mark", vec![file("bin/\u{feff}tool", b"x")], "an invisible character"),
        ("dot at the end", vec![file("bin/tool.", b"x")], "ends in a dot or a blank"),
        ("blank at the end of a directory", vec![file("bin /tool", b"x")], "ends in a dot or a blank"),
        ("direction in a link", vec![symlink("l", "a\u{2066}b")], "invisible character"),
        ("empty", vec![], "empty"),
    ]);
}

#[test]
fn d02_links_that_leave_the_folder_and_writes_through_links_are_refused() {
    let absolute_bystander = "/etc/passwd";
    refuse_tars(&[
        ("link out", vec![symlink("l", "../bystander")], "leaves the archive"),
        ("absolute link", vec![symlink("l", absolute_bystander)], "is absolute"),
        ("link up after down", vec![folder("d"), symlink("d/e", "."), symlink("l", "d/e/../../bystander")], "goes up after"),
        ("write through a link", vec![symlink("l", "."), file("l/../bystander", b"x")], "leaves the directory"),
        ("write through a good link", vec![folder("d"), symlink("l", "d"), file("l/x", b"x")], "through the link"),
        ("write through a link to nothing", vec![symlink("l", "d"), file("l/x", b"x")], "through the link"),
        ("link, then a folder of its name", vec![symlink("l", "d"), folder("l")], "through the link"),
        ("link, then a file of its name", vec![symlink("l", "d"), file("l", b"x")], "twice"),
        ("folder, then a link of its name", vec![folder("l"), symlink("l", ".")], "twice"),
        ("file and folder", vec![file("a", b"x"), file("a/b", b"x")], "both a file and a directory"),
        ("twice", vec![file("a", b"x"), file("a", b"y")], "twice"),
        ("case", vec![file("Name", b"x"), file("name", b"y")], "case only"),
        ("composed and decomposed", vec![file("caf\u{e9}", b"x"), file("cafe\u{301}", b"y")], "Unicode normalization only"),
        ("composed, in another case", vec![file("CAF\u{c9}", b"x"), file("cafe\u{301}", b"y")], "only"),
        ("case of folders", vec![file("D/x", b"x"), file("d/y", b"y")], "case only"),
        ("hard link out", vec![hardlink("l", "../bystander")], "leaves the directory"),
        ("absolute hard link", vec![hardlink("l", absolute_bystander)], "absolute"),
        ("hard link to nothing", vec![hardlink("l", "gone")], "not a file of this archive"),
        ("hard link to a link", vec![symlink("s", "x"), hardlink("l", "s")], "not a file of this archive"),
        ("link to itself's parent's parent", vec![folder("d"), symlink("d/l", "../..")], "leaves the archive"),
    ]);
}

#[test]
fn d03_special_files_are_refused() {
    let kind = |kind: u8| Entry { name: b"special", kind, mode: 0o644, link: b"", content: b"" };
    refuse_tars(&[
        ("character device", vec![kind(b'3')], "a device"),
        ("block device", vec![kind(b'4')], "a device"),
        ("fifo", vec![kind(b'6')], "a fifo"),
        ("unknown kind", vec![kind(b'Z')], "an entry of kind"),
    ]);
}

#[test]
fn d01_long_name_records_are_names_too() {
    let long = |kind: u8, content: &'static [u8]| Entry { name: b"././@LongLink", kind, mode: 0o644, link: b"", content };
    refuse("x.tgz", &gz(&tar(&[long(b'L', b"../bystander\0"), file("a", b"x")])), "leaves the directory", "long name");
    refuse("x.tgz", &gz(&tar(&[long(b'K', b"../bystander\0"), symlink("a", "b")])), "leaves the archive", "long link");
    let pax = |record: &'static [u8]| Entry { name: b"pax", kind: b'x', mode: 0o644, link: b"", content: record };
    refuse("x.tgz", &gz(&tar(&[pax(b"21 path=../bystander\n"), file("a", b"x")])), "leaves the directory", "pax name");
    refuse("x.tgz", &gz(&tar(&[pax(b"25 linkpath=../bystander\n"), symlink("a", "b")])), "leaves the archive", "pax link");
}

/// Where two readers of tar would see two trees.
#[test]
fn d01_names_that_can_be_read_in_two_ways_are_refused() {
    let record = |kind: u8, content: &'static [u8]| Entry { name: b"pax", kind, mode: 0o644, link: b"", content };
    let (pax, global) = (|content| record(b'x', content), |content| record(b'g', content));
    refuse_tars(&[
        ("one key twice", vec![pax(b"9 path=a\n9 path=b\n"), file("c", b"x")], "has path twice"),
        ("two pax headers", vec![pax(b"9 path=a\n"), pax(b"9 path=b\n"), file("c", b"x")], "two pax headers"),
        ("pax and a long name", vec![pax(b"9 path=a\n"), record(b'L', b"b\0"), file("c", b"x")], "two names"),
        ("two long names", vec![record(b'L', b"a\0"), record(b'L', b"b\0"), file("c", b"x")], "two names"),
        ("two long targets", vec![record(b'K', b"a\0"), pax(b"14 linkpath=b\n"), symlink("c", "d")], "two targets"),
        ("one path for all", vec![global(b"9 path=a\n"), file("c", b"x")], "all entries one path"),
        ("one link for all", vec![global(b"14 linkpath=b\n"), symlink("c", "d")], "all entries one linkpath"),
        ("length too short", vec![pax(b"8 path=a\n"), file("c", b"x")], "not as its length says"),
        ("length too long", vec![pax(b"11 path=a\n"), file("c", b"x")], "not as its length says"),
        ("no record", vec![pax(b"garbage"), file("c", b"x")], "not as its length says"),
        ("no value", vec![pax(b"8 path=\n"), file("c", b"x")], "unusable name"),
        ("NUL in a name", vec![pax(b"12 path=a\0b\n"), file("c", b"x")], "unusable name"),
        ("another size", vec![pax(b"9 size=5\n"), file("c", b"x")], "sets size"),
        ("a sparse map", vec![pax(b"22 GNU.sparse.major=1\n"), file("c", b"x")], "sets GNU.sparse"),
        ("a header of nothing", vec![file("c", b"x"), pax(b"9 path=a\n")], "has no entry"),
    ]);
    let long = "a/".repeat(40_000);
    let entry = Entry { name: b"././@LongLink", kind: b'L', mode: 0o644, link: b"", content: long.as_bytes() };
    refuse("x.tgz", &gz(&tar(&[entry, file("a", b"x")])), "longer than 64 KiB", "a name without an end");
}

/// What `git archive`, npm and GNU tar write.
#[test]
fn long_names_and_harmless_records_are_taken() {
    let record = |kind: u8, content: &'static [u8]| Entry { name: b"pax", kind, mode: 0o644, link: b"", content };
    let entries = [
        record(b'g', b"17 comment=a b=c\n"),
        record(b'x', b"12 path=d/b\n20 mtime=1234567.89\n"),
        file("short", b"by pax"),
        record(b'L', b"d/c\0"),
        file("short", b"by GNU"),
        record(b'x', b"14 linkpath=b\n"),
        symlink("d/l", "elsewhere"),
    ];
    let arena = Arena::new();
    arena.unpack("x.tgz", &gz(&tar(&entries)), &UnpackRules { strip: Some(0), ..UnpackRules::default() }).unwrap();
    let read = |name: &str| std::fs::read_to_string(arena.tree().join(name)).unwrap();
    assert_eq!((read("d/b"), read("d/c"), read("d/l")), ("by pax".to_owned(), "by GNU".to_owned(), "by pax".to_owned()));
}

/// devrun's own files in an entry, also behind a top directory that is taken off; and a second tree behind the first.
#[test]
fn hidden_control_files_are_refused() {
    for name in [".devrun-entry.json", "top/.devrun-entry.json", ".devrun-stamps.json", ".DEVRUN-entry.json", ".devrun-top/x"] {
        let entries = [program("bin/tool", b"x"), file(name, b"{}")];
        refuse("x.tgz", &gz(&tar(&entries)), "devrun's own files", name);
        refuse("x.whl", &zip(&[("bin/tool", 0o755, b"x"), (name, 0o644, b"{}")]), "devrun's own files", name);
    }
    let data = gz(&tar(&[file("a", b"x")]));
    let mut twice = deb("data.tar.gz", &data);
    let second = deb("data.tar.gz", &gz(&tar(&[file("b", b"y")])));
    if twice.len() % 2 == 1 {
        twice.push(b'\n');
    }
    let at = second.windows(8).position(|bytes| bytes == b"data.tar").unwrap();
    twice.extend_from_slice(&second[at..]);
    refuse("x.deb", &twice, "two data members", "two trees in a package");
}

#[test]
fn d02_hostile_zips_are_refused() {
    type Case<'a> = (&'a str, &'a [(&'a str, u32, &'a [u8])], &'a str);
    let cases: &[Case<'_>] = &[
        ("parent", &[("../bystander", 0o644, b"x")], "leaves the directory"),
        ("absolute", &[("/tmp/bystander", 0o644, b"x")], "absolute"),
        ("backslash", &[("..\\bystander", 0o644, b"x")], "backslash"),
        ("link out", &[("l", 0o120_777, b"../bystander")], "leaves the archive"),
        ("absolute link", &[("l", 0o120_777, b"/etc/passwd")], "is absolute"),
        ("through a link", &[("l", 0o120_777, b"d"), ("l/x", 0o644, b"x")], "through the link"),
        ("case", &[("A", 0o644, b"x"), ("a", 0o644, b"y")], "case only"),
        ("composed", &[("\u{e9}", 0o644, b"x"), ("e\u{301}", 0o644, b"y")], "Unicode normalization only"),
        ("direction", &[("a\u{202e}b", 0o644, b"x")], "an invisible character"),
        ("dot at the end", &[("a.", 0o644, b"x")], "ends in a dot or a blank"),
        ("file and folder", &[("a", 0o644, b"x"), ("a/b", 0o644, b"y")], "both a file and a directory"),
        ("empty", &[], "empty"),
    ];
    for (what, entries, says) in cases {
        refuse("x.whl", &zip(entries), says, what);
    }
    refuse("x.whl", b"PK\x03\x04 no archive at all", "broken", "garbage");
    // One name twice: the writer refuses to make it, so the bytes of two names of one length are made the same.
    let mut twice = zip(&[("first", 0o644, b"x"), ("other", 0o644, b"y")]);
    for at in 0..twice.len() - 5 {
        if &twice[at..at + 5] == b"other" {
            twice[at..at + 5].copy_from_slice(b"first");
        }
    }
    refuse("x.whl", &twice, "twice", "twice");
    // A fifo: the kind is in the upper half of the external attributes, 38 bytes into the entry of the directory.
    let mut fifo = zip(&[("special", 0o644, b"x")]);
    let entry = fifo.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    fifo[entry + 40..entry + 42].copy_from_slice(&0o010_644_u16.to_le_bytes());
    refuse("x.whl", &fifo, "a special file", "fifo");
}

#[test]
fn d05_bombs_end_at_the_cap() {
    let zeros = vec![0_u8; 80 << 20];
    let begun = std::time::Instant::now();
    refuse("x.tgz", &gz(&tar(&[file("zeros", &zeros)])), "bytes unpacked", "bytes in a tar");
    refuse("x.whl", &zip(&[("zeros", 0o644, &zeros)]), "bytes unpacked", "bytes in a zip");
    let mut left_out = UnpackRules { exclude: vec!["zeros".to_owned()], ..UnpackRules::default() };
    let arena = Arena::new();
    let refused = arena.unpack("x.tgz", &gz(&tar(&[file("zeros", &zeros)])), &left_out).unwrap_err();
    assert!(refused.contains("bytes unpacked"), "{refused}");
    left_out.exclude.clear();
    let copies: Vec<String> = (0..40).map(|number| format!("copy{number}")).collect();
    let mut entries = vec![file("first", &zeros[..2 << 20])];
    entries.extend(copies.iter().map(|name| hardlink(name, "first")));
    refuse("x.tgz", &gz(&tar(&entries)), "bytes unpacked", "hard links of one large file");
    let names: Vec<String> = (0..100_001).map(|number| format!("d/{number}")).collect();
    // Folders that are left out are counted all the same, and cost no disk.
    let entries: Vec<Entry<'_>> = names.iter().map(|name| folder(name)).collect();
    let rules = UnpackRules { exclude: vec!["d".to_owned()], ..UnpackRules::default() };
    let refused = Arena::new().unpack("x.tgz", &gz(&tar(&entries)), &rules).unwrap_err();
    assert!(refused.contains("100000 entries"), "{refused}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(120), "{:?}", begun.elapsed());
}

#[test]
fn cut_and_foreign_archives_are_refused() {
    let packed = super::archives::good();
    for cut in [0, 5, packed.len() / 2, packed.len() - 1] {
        let refused = Arena::new().unpack("x.tgz", &packed[..cut], &UnpackRules::default());
        assert!(refused.is_err(), "cut at {cut} was taken");
    }
    let mut flipped = packed.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 0xff;
    assert!(Arena::new().unpack("x.tgz", &flipped, &UnpackRules::default()).is_err(), "a wrong checksum was taken");
    for (name, bytes, says) in [
        ("x.tar.zst", &b"anything"[..], "the archive is broken"),
        ("x.deb", b"!<arch>\n", "no data member"),
        ("x.deb", b"no ar at all", "ar archive"),
    ] {
        let refused = Arena::new().unpack(name, bytes, &UnpackRules::default()).unwrap_err();
        assert!(refused.contains(says), "{name}: {refused}");
    }
    let zst = Arena::new().unpack("x.deb", &deb("data.tar.zst", b"x"), &UnpackRules::default()).unwrap_err();
    assert!(zst.contains("the archive is broken"), "{zst}");
}

#[test]
fn d03_modes_lose_all_but_the_executable_bit() {
    let arena = Arena::new();
    let entries = [
        Entry { mode: 0o4755, ..program("suid", b"x") },
        Entry { mode: 0o2711, ..program("sgid", b"x") },
        Entry { mode: 0o1777, ..folder("sticky") },
        Entry { mode: 0o666, ..file("open", b"x") },
        Entry { mode: 0o400, ..file("closed", b"x") },
    ];
    arena.unpack("x.tgz", &gz(&tar(&entries)), &UnpackRules::default()).unwrap();
    let mode = |name: &str| std::fs::metadata(arena.tree().join(name)).unwrap().mode() & 0o7777;
    for (name, wanted) in [("suid", 0o755), ("sgid", 0o755), ("sticky", 0o755), ("open", 0o644), ("closed", 0o644)] {
        assert_eq!(mode(name), wanted, "{name}");
    }
}

#[test]
fn honest_archives_of_every_kind_unpack_to_the_same() {
    let entries = [
        folder("./"),
        folder("./bin/"),
        program("./bin/tool", b"tool"),
        file("./lib/libx.so.1", b"lib"),
        symlink("./lib/libx.so", "libx.so.1"),
        hardlink("./lib/copy", "./lib/libx.so.1"),
        symlink("./bin/up", "../lib/libx.so"),
    ];
    let packed = tar(&entries);
    let mut trees = Vec::new();
    for (name, bytes) in [
        ("x.tgz", gz(&packed)),
        ("x.tar.xz", xz(&packed)),
        ("x.tar", packed.clone()),
        ("x.deb", deb("data.tar.xz", &xz(&packed))),
        ("y.deb", deb("data.tar.gz", &gz(&packed))),
        ("z.deb", deb("data.tar", &packed)),
        (
            "x.zip",
            zip(&[
                ("bin/", 0o755, b""),
                ("bin/tool", 0o755, b"tool"),
                ("lib/libx.so.1", 0o644, b"lib"),
                ("lib/libx.so", 0o120_777, b"libx.so.1"),
                ("lib/copy", 0o644, b"lib"),
                ("bin/up", 0o120_777, b"../lib/libx.so"),
            ]),
        ),
    ] {
        let arena = Arena::new();
        arena.unpack(name, &bytes, &UnpackRules::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(std::fs::read_to_string(arena.tree().join("bin/up")).unwrap(), "lib", "{name}");
        trees.push((name, tree_of(&arena.tree())));
    }
    for (name, tree) in &trees {
        assert_eq!(tree, &trees[0].1, "{name}");
    }
}

#[test]
fn the_rules_of_the_catalogue_hold() {
    let manifest = br#"[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"},
                        {"source":"native/lib/libpq.so.5.18","target":"native/libpq.so"}]"#;
    let entries = [
        file("package/package.json", b"{}"),
        program("package/native/bin/tool", b"tool"),
        file("package/native/lib/libpq.so.5.18", b"lib"),
        file("package/native/lib/libpq.a", b"archive"),
        file("package/native/old", b"old"),
        file("package/native/links.json", manifest),
    ];
    let rules: UnpackRules = toml::from_str(
        "strip = 1\nsubdir = \"native\"\nexclude = [\"**/*.a\"]\nrename = { old = \"new\" }\n\
         symlinks = \"links.json\"\nmode = { \"lib/*\" = \"0755\" }",
    )
    .unwrap();
    let arena = Arena::new();
    arena.unpack("x.tgz", &gz(&tar(&entries)), &rules).unwrap();
    let names: Vec<String> = tree_of(&arena.tree()).into_keys().map(|name| name.display().to_string()).collect();
    assert_eq!(names, ["bin", "bin/tool", "lib", "lib/libpq.so.5", "lib/libpq.so.5.18", "libpq.so", "links.json", "new"]);
    for link in ["lib/libpq.so.5", "libpq.so"] {
        assert_eq!(std::fs::read_to_string(arena.tree().join(link)).unwrap(), "lib", "{link}");
    }
    assert_eq!(std::fs::metadata(arena.tree().join("lib/libpq.so.5.18")).unwrap().mode() & 0o777, 0o755);
    for (manifest, says) in [
        (&br#"[{"source":"native/lib/libpq.so.5.18","target":"../../bystander"}]"#[..], "leaves the directory"),
        (br#"[{"source":"/etc/passwd","target":"native/x"}]"#, "absolute"),
        (br#"[{"source":"native/gone","target":"native/x"}]"#, "is not there"),
        (b"no json", "links.json"),
    ] {
        let entries = [file("package/native/lib/libpq.so.5.18", b"lib"), file("package/native/links.json", manifest)];
        let arena = Arena::new();
        let refused = arena.unpack("x.tgz", &gz(&tar(&entries)), &rules).unwrap_err();
        assert!(refused.contains(says), "{refused}");
        arena.assert_untouched(says);
    }
}

#[test]
async fn d01_a_hostile_download_is_an_integrity_failure_and_leaves_the_store_as_it_was() {
    let place = Place::new();
    let hostile = gz(&tar(&[program("bin/made-upd", b"#!/bin/sh\n"), file("../../../escaped", b"x")]));
    let server = Server::new(&[("/x.tgz", Answer::Body(hostile))]);
    let failure = locate(&from_url(&server.url("/x.tgz")), &place.options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Integrity);
    assert!(failure.reason.contains("leaves the directory") && failure.help.is_some(), "{failure:?}");
    assert_eq!(place.stored(), Vec::<String>::new());
    assert_eq!(place.lock(), "");
    assert!(!Path::new(&place.path().join("escaped")).exists());
}
