//! Files of a state directory, opened so that nothing else in their place can block: the opening of a FIFO waits until its
//! other side is opened, that of a device may act.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file of ours for reading, never through a link: a checkout can bring one, which leads anywhere.
///
/// # Errors
/// As the system says; `InvalidInput` for what is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    check(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path))
}

/// Reads a whole file of ours.
///
/// # Errors
/// As [`open()`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file below a directory of ours for reading. Neither that directory nor one on the way to the file is a link either.
///
/// # Errors
/// As [`open()`].
pub fn open_below(top: &Path, path: &Path) -> io::Result<File> {
    check_directories(top, path)?;
    open(path)
}

/// Reads a whole file below a directory of ours.
///
/// # Errors
/// As [`open()`].
pub fn read_below(top: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_below(top, path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks the directories of a file, from `top` on.
///
/// # Errors
/// As the system says; `InvalidInput`, with its path, for one that is a link or no directory.
pub fn check_directories(top: &Path, path: &Path) -> io::Result<()> {
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(top)) {
        let meta = std::fs::symlink_metadata(folder)?;
        if !meta.is_dir() {
            let what = if meta.is_symlink() { "a link" } else { "not a directory" };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is {what}", folder.display())));
        }
    }
    Ok(())
}

/// Opens a file of the user for reading, also through links.
///
/// # Errors
/// As [`open()`].
pub fn open_linked(path: &Path) -> io::Result<File> {
    check(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path))
}

/// Reads a whole file of the user.
///
/// # Errors
/// As [`open()`].
pub fn read_linked(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_linked(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a file for appending: made with mode 0600, never through a link.
///
/// # Errors
/// As [`open()`].
pub fn append(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    check(OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(path))
}

/// Lets through what is a regular file.
///
/// # Errors
/// That of the opening, or `InvalidInput`.
pub fn check(opened: io::Result<File>) -> io::Result<File> {
    let refused = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
    match opened {
        Ok(file) => {
            let meta = file.metadata()?;
            match (meta.is_file(), meta.is_dir()) {
                (true, _) => Ok(file),
                (_, true) => Err(refused("it is a directory")),
                _ => Err(refused("it is not a regular file")),
            }
        }
        // A FIFO without a reader, and a socket.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Err(refused("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(refused("it is a directory")),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Err(refused("it is a link")),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_file_is_opened_and_nothing_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&place("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::create_dir(place("folder")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        std::os::unix::fs::symlink("/dev/null", place("device")).unwrap();
        for (name, said) in
            [("fifo", "not a regular file"), ("folder", "a directory"), ("socket", "not a regular file"), ("device", "a link")]
        {
            let error = open(&place(name)).expect_err(name);
            assert!(error.to_string().contains(said), "{name}: {error}");
            assert!(append(&place(name)).is_err(), "{name}");
        }
        assert!(open_linked(&place("device")).expect_err("a device").to_string().contains("not a regular file"));
        std::io::Write::write_all(&mut append(&place("file")).unwrap(), b"text").unwrap();
        assert_eq!(read(&place("file")).unwrap(), b"text");
        std::os::unix::fs::symlink("file", place("link")).unwrap();
        assert!(read(&place("link")).is_err());
        assert_eq!(read_linked(&place("link")).unwrap(), b"text");
    }

    #[test]
    fn a_directory_that_is_a_link_is_not_entered() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(place("logs/web")).unwrap();
        std::fs::write(place("logs/web/file"), "text").unwrap();
        assert_eq!(read_below(&place("logs"), &place("logs/web/file")).unwrap(), b"text");
        std::os::unix::fs::symlink("logs", place("top")).unwrap();
        std::os::unix::fs::symlink("web", place("logs/link")).unwrap();
        for (top, file) in [("top", "top/web/file"), ("logs", "logs/link/file")] {
            let error = read_below(&place(top), &place(file)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().ends_with("is a link"), "{error}");
        }
        assert_eq!(read_below(&place("logs"), &place("logs/none/file")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
