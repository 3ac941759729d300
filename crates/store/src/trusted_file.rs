//! Files that say what is run: procfiles, env files, recipes, compose files. Opened so that nothing blocks, regular, bounded,
//! and where they are obeyed, checked for whose they are on the descriptor that is read.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::ownership::Trust;
use devrun_model::{Failure, FailureKind};

/// No such file is larger.
const LARGEST: u64 = 16 << 20;

/// The text of a file that is obeyed; `None` where there is none.
///
/// # Errors
/// `Config`: it cannot be read, is no regular file, is too large, or others can change it.
pub fn read_trusted(path: &Path) -> Result<Option<String>, Failure> {
    let Some((mut file, meta)) = optional(path)? else { return Ok(None) };
    if meta.is_file() {
        Trust::current().file(&meta, path)?;
    }
    text(&mut file, path).map(Some)
}

/// The text of a file that is only looked at; `None` where there is none.
///
/// # Errors
/// `Config`: it cannot be read, is no regular file, or is too large.
pub fn read_untrusted(path: &Path) -> Result<Option<String>, Failure> {
    let Some((mut file, _)) = optional(path)? else { return Ok(None) };
    text(&mut file, path).map(Some)
}

/// The failure of a file that must be there and is not.
#[must_use]
pub fn missing(path: &Path) -> Failure {
    unreadable(path, &io::Error::from_raw_os_error(libc::ENOENT).to_string()).help("check the path")
}

fn optional(path: &Path) -> Result<Option<(File, Metadata)>, Failure> {
    match open(path) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(unreadable(path, &error.to_string()).help("check its permissions, or take it out of the procfile or the command"))
        }
    }
}

/// Opens a regular file. What a shell passes as `<(COMMAND)` is a pipe of the caller's own, below `/dev/fd`.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let passed = ["/dev/fd", "/proc/self/fd"].iter().any(|folder| path.parent() == Some(Path::new(folder)));
    let fits = |meta: &Metadata| match special_kind(meta) {
        None => Ok(()),
        Some(_) if passed && meta.file_type().is_fifo() => Ok(()),
        Some(kind) => Err(io::Error::other(format!("it is {kind}, not a regular file"))),
    };
    // Opening a device may do something, so that is asked first.
    fits(&std::fs::metadata(path)?)?;
    let flags = if passed { 0 } else { libc::O_NONBLOCK };
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags | libc::O_NOCTTY).open(path)?;
    let meta = file.metadata()?;
    fits(&meta)?;
    Ok((file, meta))
}

fn text(file: &mut File, path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable(path, "it is larger than 16 MiB").help("check the path"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let (line, column) = place(error.as_bytes(), error.utf8_error().valid_up_to());
        let shown = std::env::current_dir().ok();
        let shown = shown.as_deref().and_then(|cwd| path.strip_prefix(cwd).ok()).unwrap_or(path).display();
        let reason = format!("{shown}:{line}:{column}: not valid UTF-8");
        Failure::new(FailureKind::Config, reason).help("save the file as UTF-8")
    })
}

/// Line and column, from 1, of the first byte that is not text; columns count characters.
fn place(bytes: &[u8], valid: usize) -> (usize, usize) {
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// What it is where it is not a regular file: `a FIFO`.
#[must_use]
pub fn special_kind(meta: &Metadata) -> Option<&'static str> {
    let kind = meta.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::new(FailureKind::Config, format!("{} cannot be read: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bounded_regular_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, named) in [(fifo.as_path(), "a FIFO"), (folder.path(), "a directory"), (Path::new("/dev/zero"), "a device")] {
            let failure = read_untrusted(path).unwrap_err();
            assert!(failure.reason.contains(named) && failure.reason.contains(&path.display().to_string()), "{failure}");
        }
        let large = folder.path().join("large");
        File::create(&large).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(read_untrusted(&large).unwrap_err().reason.contains("larger than 16 MiB"));
        assert_eq!(read_untrusted(&folder.path().join("none")).unwrap(), None);
    }

    #[test]
    fn what_is_not_utf8_has_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (bytes, place) in [
            (&b"caf\xe9\n"[..], ":1:4:"),
            (b"a\r\nb\n\xff\xfe", ":3:1:"),
            (b"x\n\xc3\xa4\xc3\xa4 \xe4", ":2:4:"),
            (b"cut \xe2\x82", ":1:5:"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let failure = read_untrusted(&path).unwrap_err();
            assert!(failure.reason.ends_with(&format!("file{place} not valid UTF-8")), "{failure}");
        }
    }
}
