//! A data directory as one gzipped tar, and back. Any tar reads it. Extended attributes travel as pax records of our own, in
//! hex: the library takes a newline in a value for its end. Nothing is unpacked outside the target directory.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use devrun_model::{Failure, FailureKind};
use sha2::{Digest as _, Sha256};

use crate::cancel::CopyCancel;
use crate::durable::failed;

const ATTRIBUTE: &str = "DEVRUN.xattr.";
/// Set-user-ID and set-group-ID, which a restored file does not get.
const SET_ID: u32 = 0o6000;
pub(crate) const BLOCK: usize = 1 << 20;

/// The SHA-256 of a file, in hex.
///
/// # Errors
/// As the file system says; `Cancelled`.
pub fn hash_file(path: &Path, cancel: &CopyCancel) -> Result<String, Failure> {
    let mut file = File::open(path).map_err(|error| failed("read", path, &error))?;
    let (mut hash, mut block) = (Sha256::new(), vec![0; BLOCK]);
    loop {
        cancel.check()?;
        match file.read(&mut block).map_err(|error| failed("read", path, &error))? {
            0 => break,
            count => hash.update(&block[..count]),
        }
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    Some(digits?.chunks(2).map(|pair| pair.iter().fold(0, |value, digit| value * 16 + digit)).collect())
}

/// Counts what goes through and ends when it is cancelled.
pub(crate) struct Counted<'a, T> {
    pub(crate) inner: T,
    pub(crate) count: u64,
    pub(crate) cancel: &'a CopyCancel,
    pub(crate) progress: &'a dyn Fn(u64),
}

impl<T> Counted<'_, T> {
    fn add(&mut self, count: usize) {
        self.count += count as u64;
        (self.progress)(self.count);
    }
    fn check(&self) -> io::Result<()> {
        if self.cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) }
    }
}

impl<T: Write> Write for Counted<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        let count = self.inner.write(bytes)?;
        self.add(count);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Counted<'_, T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        let count = self.inner.read(bytes)?;
        self.add(count);
        Ok(count)
    }
}

pub(crate) fn words(what: &str, path: &Path, error: &io::Error, cancel: &CopyCancel) -> Failure {
    if cancel.is_cancelled() { Failure::cancelled() } else { failed(what, path, error) }
}

/// Writes the contents of a directory into a file that is open for writing and empty, and `extra` files, 0600, at the end.
/// Names of the directory that begin with `.devrun-restore-` are left out. `progress` hears how many bytes of
/// contents were read.
///
/// # Errors
/// `Task`, naming the path; `Cancelled`.
pub fn pack(
    directory: &Path,
    extra: &[(String, Vec<u8>)],
    file: &File,
    name: &Path,
    cancel: &CopyCancel,
    progress: &dyn Fn(u64),
) -> Result<(), Failure> {
    let encoder = flate2::write::GzEncoder::new(io::BufWriter::with_capacity(BLOCK, file), flate2::Compression::fast());
    let counted = Counted { inner: encoder, count: 0, cancel, progress };
    let mut builder = tar::Builder::new(counted);
    builder.follow_symlinks(false);
    builder.sparse(false);
    let mut pending = vec![(directory.to_owned(), PathBuf::new())];
    while let Some((folder, inside)) = pending.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| failed("read", &folder, &error))?;
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<_>>()
            .map_err(|error| failed("read", &folder, &error))?;
        paths.sort();
        for path in paths {
            cancel.check()?;
            let metadata = std::fs::symlink_metadata(&path).map_err(|error| failed("read", &path, &error))?;
            if metadata.file_type().is_socket() || metadata.file_type().is_fifo() {
                continue;
            }
            let own = path.file_name().unwrap_or_default();
            if inside.as_os_str().is_empty() && (own == "lost+found" || own.to_string_lossy().starts_with(".devrun-restore-")) {
                continue;
            }
            let inside = inside.join(own);
            if !metadata.is_symlink() {
                let attributes = attributes(&path)?;
                let records = attributes.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
                builder.append_pax_extensions(records).map_err(|error| words("write", name, &error, cancel))?;
            }
            if metadata.is_file() {
                // A server that runs may append to it: what was there at the look is what counts.
                let opened = File::open(&path).map_err(|error| failed("read", &path, &error))?;
                let mut header = tar::Header::new_gnu();
                header.set_metadata(&metadata);
                let contents = opened.take(metadata.len());
                builder.append_data(&mut header, &inside, contents).map_err(|error| words("write", name, &error, cancel))?;
            } else {
                builder.append_path_with_name(&path, &inside).map_err(|error| words("write", name, &error, cancel))?;
            }
            if metadata.is_dir() {
                pending.push((path, inside));
            }
        }
    }
    for (path, contents) in extra {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o600);
        // Root restores owners: an entry without one could not be read back.
        header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getegid().as_raw()));
        builder.append_data(&mut header, path, contents.as_slice()).map_err(|error| words("write", name, &error, cancel))?;
    }
    let counted = builder.into_inner().map_err(|error| words("write", name, &error, cancel))?;
    let mut buffer = counted.inner.finish().map_err(|error| words("write", name, &error, cancel))?;
    buffer.flush().map_err(|error| words("write", name, &error, cancel))?;
    file.sync_all().map_err(|error| words("write", name, &error, cancel))
}

fn attributes(path: &Path) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    use rustix::io::Errno;
    let mut list = vec![0u8; 1 << 16];
    let length = match rustix::fs::listxattr(path, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(failed("read the attributes of", path, &error.into())),
    };
    let mut found = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        if name.starts_with("user.") {
            let mut value = vec![0u8; 1 << 16];
            let size = rustix::fs::getxattr(path, name, &mut value[..])
                .map_err(|error| failed("read the attributes of", path, &error.into()))?;
            value.truncate(size);
            found.push((format!("{ATTRIBUTE}{name}"), hex(&value).into_bytes()));
        }
    }
    Ok(found)
}

/// Unpacks an archive into a directory, which is made and must not exist. `progress` hears how many bytes of the file were
/// read.
///
/// # Errors
/// `Integrity` for an archive that is cut or not one, or that would write outside; `Task`, naming the path; `Cancelled`.
pub fn unpack(file: &Path, directory: &Path, cancel: &CopyCancel, progress: &dyn Fn(u64)) -> Result<(), Failure> {
    let broken = |error: &io::Error| {
        if cancel.is_cancelled() {
            return Failure::cancelled();
        }
        let error = &with_causes(error);
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::PermissionDenied => failed("unpack into", directory, error),
            _ => Failure::new(FailureKind::Integrity, format!("cannot unpack {}: {error}", file.display())),
        }
    };
    let opened = File::open(file).map_err(|error| failed("read", file, &error))?;
    std::fs::DirBuilder::new().mode(0o700).create(directory).map_err(|error| failed("create", directory, &error))?;
    let counted = Counted { inner: io::BufReader::with_capacity(BLOCK, opened), count: 0, cancel, progress };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(counted));
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_preserve_ownerships(rustix::process::geteuid().is_root());
    archive.set_overwrite(false);
    // No server keeps programs in its data, and the archive may come from elsewhere.
    archive.set_mask(SET_ID);
    // A directory that its owner may not write to would keep its own entries out.
    let mut modes = Vec::new();
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let path = entry.path().map_err(|error| broken(&error))?.into_owned();
        let attributes = match entry.pax_extensions().map_err(|error| broken(&error))? {
            Some(records) => records
                .filter_map(Result::ok)
                .filter_map(|record| {
                    Some((record.key().ok()?.strip_prefix(ATTRIBUTE)?.to_owned(), from_hex(record.value().ok()?)?))
                })
                .collect(),
            None => Vec::new(),
        };
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_inside || !entry.unpack_in(directory).map_err(|error| broken(&error))? {
            let reason = format!("{}: the entry {} would be written outside the data", file.display(), path.display());
            return Err(Failure::new(FailureKind::Integrity, reason));
        }
        let target = directory.join(&path);
        for (name, value) in attributes {
            rustix::fs::setxattr(&target, name.as_str(), &value, rustix::fs::XattrFlags::empty())
                .map_err(|error| failed("set the attributes of", &target, &error.into()))?;
        }
        if entry.header().entry_type().is_dir() {
            let mode = entry.header().mode().map_err(|error| broken(&error))?;
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o700))
                .map_err(|error| failed("set the mode of", &target, &error))?;
            modes.push((target, mode));
        }
    }
    // The checksum at the end of the gzip stream says whether it is whole.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| broken(&error))?;
    for (target, mode) in modes.into_iter().rev() {
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode & 0o7777))
            .map_err(|error| failed("set the mode of", &target, &error))?;
    }
    Ok(())
}

/// The reader's errors name a file and leave the reason to their sources.
fn with_causes(error: &io::Error) -> io::Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::MetadataExt as _;

    fn packed(folder: &Path, from: &Path) -> PathBuf {
        let name = folder.join("data.tar.gz");
        let file = File::create(&name).unwrap();
        let extra = [("extra/secret".to_owned(), b"hush".to_vec())];
        pack(from, &extra, &file, &name, &CopyCancel::default(), &|_| ()).unwrap();
        name
    }

    #[test]
    fn a_directory_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir_all(from.join("a/b")).unwrap();
        std::fs::write(from.join("a/b/file"), vec![3u8; 100_000]).unwrap();
        std::fs::write(from.join("a/b").join("x".repeat(200)), "long").unwrap();
        std::fs::set_permissions(from.join("a/b/file"), Permissions::from_mode(0o6640)).unwrap();
        std::fs::set_permissions(from.join("a"), Permissions::from_mode(0o500)).unwrap();
        std::os::unix::fs::symlink("b/file", from.join("a/b/link")).unwrap();
        let value = [1u8, 0, 255, b'\n'];
        let has_attributes =
            rustix::fs::setxattr(from.join("a/b/file"), "user.etag", &value, rustix::fs::XattrFlags::empty()).is_ok();
        let archive = packed(folder.path(), &from);
        let to = folder.path().join("to");
        let seen = std::cell::Cell::new(0);
        unpack(&archive, &to, &CopyCancel::default(), &|count| seen.set(count)).unwrap();
        assert_eq!(seen.get(), std::fs::metadata(&archive).unwrap().len());
        assert_eq!(std::fs::read(to.join("a/b/file")).unwrap(), vec![3u8; 100_000]);
        assert_eq!(std::fs::read_to_string(to.join("a/b").join("x".repeat(200))).unwrap(), "long");
        assert_eq!(std::fs::metadata(to.join("a/b/file")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::metadata(to.join("a")).unwrap().mode() & 0o777, 0o500);
        assert_eq!(std::fs::read(to.join("extra/secret")).unwrap(), b"hush");
        assert_eq!(std::fs::read_link(to.join("a/b/link")).unwrap(), Path::new("b/file"));
        if has_attributes {
            let mut found = [0u8; 8];
            let size = rustix::fs::getxattr(to.join("a/b/file"), "user.etag", &mut found[..]).unwrap();
            assert_eq!(&found[..size], value);
        }
        for path in [from.join("a"), to.join("a")] {
            std::fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        }
    }

    #[test]
    fn a_cut_archive_and_one_that_leaves_the_directory_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir(&from).unwrap();
        std::fs::write(from.join("file"), vec![9u8; 50_000]).unwrap();
        let archive = packed(folder.path(), &from);
        let whole = std::fs::read(&archive).unwrap();
        for (index, cut) in [0, 10, whole.len() / 2, whole.len() - 1].into_iter().enumerate() {
            std::fs::write(&archive, &whole[..cut]).unwrap();
            let to = folder.path().join(format!("cut{index}"));
            assert_eq!(unpack(&archive, &to, &CopyCancel::default(), &|_| ()).unwrap_err().kind, FailureKind::Integrity, "{cut}");
        }
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..9].copy_from_slice(b"../escape");
        header.set_size(1);
        header.set_mode(0o600);
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
        std::fs::write(&archive, builder.into_inner().unwrap().finish().unwrap()).unwrap();
        let to = folder.path().join("outside");
        assert_eq!(unpack(&archive, &to, &CopyCancel::default(), &|_| ()).unwrap_err().kind, FailureKind::Integrity);
        assert!(!folder.path().join("escape").exists());
    }
}
