//! Archives for the tests: honest ones by the crates' own writers, and raw tar entries that those writers would refuse.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What the fake server of the tests says.
pub const SERVER: &str = "#!/bin/sh\necho made-up 1.2.3\n";

pub fn executable(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// One raw tar entry: nothing about it is checked.
pub struct Entry<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    pub mode: u32,
    pub link: &'a [u8],
    pub content: &'a [u8],
}

pub fn file<'a>(name: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { name: name.as_bytes(), kind: b'0', mode: 0o644, link: b"", content }
}
pub fn program<'a>(name: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { mode: 0o755, ..file(name, content) }
}
pub fn folder(name: &str) -> Entry<'_> {
    Entry { kind: b'5', mode: 0o755, ..file(name, b"") }
}
pub fn symlink<'a>(name: &'a str, target: &'a str) -> Entry<'a> {
    Entry { kind: b'2', link: target.as_bytes(), ..file(name, b"") }
}
pub fn hardlink<'a>(name: &'a str, target: &'a str) -> Entry<'a> {
    Entry { kind: b'1', link: target.as_bytes(), ..file(name, b"") }
}

/// A tar archive of these entries.
pub fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        {
            let old = header.as_old_mut();
            assert!(entry.name.len() <= 100 && entry.link.len() <= 100);
            old.name[..entry.name.len()].copy_from_slice(entry.name);
            old.linkname[..entry.link.len()].copy_from_slice(entry.link);
            old.linkflag = [entry.kind];
        }
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(entry.content);
        out.resize(out.len().div_ceil(512) * 512, 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut packed = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A Debian package whose data member has this name.
pub fn deb(member: &str, data: &[u8]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in
        [("debian-binary", &b"2.0\n"[..]), ("control.tar.gz", &gz(&tar(&[file("./control", b"odd")]))), (member, data)]
    {
        out.extend_from_slice(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).as_bytes());
        out.extend_from_slice(content);
        if content.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

/// A zip archive: name, Unix mode, content.
pub fn zip(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated).unix_permissions(*mode);
        if mode & 0o170_000 == 0o120_000 {
            out.add_symlink(*name, std::str::from_utf8(content).unwrap(), options).unwrap();
        } else {
            out.start_file(*name, options).unwrap();
            out.write_all(content).unwrap();
        }
    }
    out.finish().unwrap().into_inner()
}

/// The good package: one top folder, a server, a library with links.
pub fn good() -> Vec<u8> {
    gz(&tar(&[
        folder("made-up-1.2.3/"),
        program("made-up-1.2.3/bin/made-upd", SERVER.as_bytes()),
        file("made-up-1.2.3/lib/libmade.so.1.2", b"library"),
        symlink("made-up-1.2.3/lib/libmade.so", "libmade.so.1.2"),
        file("made-up-1.2.3/share/text", b"text"),
    ]))
}
