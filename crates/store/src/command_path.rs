//! The executable behind the first word of a `run`, and what is wrong with it when it cannot be run.
//!
//! Owns: the look-up in the service's own PATH and folder, and reading a file's first bytes so that a wrong architecture or a
//! missing interpreter is said before the start, with the path, and not as an errno after it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use devrun_model::{Failure, FailureKind, os_text};

use super::system::is_executable;

/// What a shell without PATH looks into.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Finds the executable of a `run` command in the service's own PATH and directory.
///
/// # Errors
/// `Binary`, naming the word and the PATH.
pub fn find(word: &str, env: &BTreeMap<String, String>, dir: &Path) -> Result<PathBuf, Failure> {
    let binary = |reason: String| Failure::new(FailureKind::Binary, reason);
    if word.is_empty() {
        return Err(binary("the command is empty".to_owned()).help("write what to run in `run`"));
    }
    if word.contains('/') {
        let path = if Path::new(word).is_absolute() { PathBuf::from(word) } else { dir.join(word) };
        return check(word, &path).map(|()| path);
    }
    let path = os_text::to_os(env.get("PATH").map_or(DEFAULT_PATH, String::as_str));
    if let Ok(found) = which::which_in(word, Some(&path), dir) {
        let found = if found.is_absolute() { found } else { dir.join(found) };
        return check(word, &found).map(|()| found);
    }
    // Something of that name which is no program says more than that nothing was found.
    for folder in std::env::split_paths(&path) {
        let candidate = dir.join(folder).join(word);
        if candidate.is_file() {
            return Err(not_executable(&candidate));
        }
    }
    let failure = binary(format!("cannot find the command `{word}`"));
    if dir.join(word).is_file() {
        return Err(failure.help(format!("it lies in {}: write ./{word}", dir.display())));
    }
    if BUILTINS.contains(&word) {
        return Err(failure.help(format!("{word} is a word of the shell: set shell = true")));
    }
    Err(failure.help(format!("install {word}, or add its directory to PATH: env = {{ PATH = \"DIR:${{PATH}}\" }}")))
}

/// Words that only a shell knows and no usual system has as a program.
const BUILTINS: &[&str] = &["source", "export", "alias", "set", "eval", "exec", "unset", "ulimit", "trap", "."];

fn not_executable(path: &Path) -> Failure {
    Failure::new(FailureKind::Binary, format!("{} is not executable", path.display()))
        .help(format!("chmod +x {}", path.display()))
}

/// The interpreter that the first line of a script names.
#[must_use]
pub fn interpreter_of(path: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(512).read_to_end(&mut head)).ok()?;
    first_word(head.strip_prefix(b"#!")?).map(PathBuf::from)
}

/// Of a line; what ends it as on Windows belongs to the word, as for the system.
fn first_word(line: &[u8]) -> Option<String> {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).split([' ', '\t']).find(|word| !word.is_empty()).map(str::to_owned)
}

fn check(word: &str, path: &Path) -> Result<(), Failure> {
    let binary = |reason: String| Failure::new(FailureKind::Binary, reason);
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) => {
            let failure = binary(format!("{} cannot be run: {error}", path.display()));
            return Err(if word.starts_with("~/") {
                failure.help("`~` is known to shells only: write ${HOME}/…")
            } else if std::fs::symlink_metadata(path).is_ok() {
                failure.help("it is a link to nothing")
            } else {
                failure.help("a word with a slash is looked up from the service's `dir`")
            });
        }
    };
    if meta.is_dir() {
        return Err(binary(format!("{} is a directory", path.display())).help("name a program in it"));
    }
    if !is_executable(path) {
        return Err(not_executable(path));
    }
    let mut head = Vec::new();
    // A program may be executable and not readable; then the system has the last word.
    let Ok(()) = std::fs::File::open(path).and_then(|file| file.take(512).read_to_end(&mut head).map(drop)) else {
        return Ok(());
    };
    if let Some(line) = head.strip_prefix(b"#!") {
        return interpreter(path, line);
    }
    if let Some(built_for) = foreign(&head) {
        let here = std::env::consts::ARCH;
        return Err(binary(format!("{} is built for {built_for}, this machine is {here}", path.display()))
            .help("install the build for this machine"));
    }
    Ok(())
}

fn interpreter(path: &Path, line: &[u8]) -> Result<(), Failure> {
    let Some(interpreter) = first_word(line) else {
        return Err(Failure::new(FailureKind::Binary, format!("{} names no interpreter after #!", path.display()))
            .help("begin it with #!/bin/sh or #!/usr/bin/env NAME"));
    };
    let dos = interpreter.ends_with('\r');
    if is_executable(Path::new(&interpreter)) {
        return Ok(());
    }
    let shown = interpreter.trim_end();
    if !dos && Path::new(&interpreter).exists() {
        return Err(Failure::new(FailureKind::Binary, format!("{} needs {shown}, which is not executable", path.display()))
            .help(format!("chmod +x {shown}, or correct the first line of {}", path.display())));
    }
    let failure = Failure::new(FailureKind::Binary, format!("{} needs {shown}, which is not there", path.display()));
    Err(if dos {
        failure.help(format!("its lines end as on Windows: sed -i 's/\\r$//' {}", path.display()))
    } else {
        failure.help(format!("install {shown}, or recreate the environment it belongs to"))
    })
}

/// What an executable is built for, if that is not this machine.
fn foreign(head: &[u8]) -> Option<String> {
    if head.starts_with(b"MZ") {
        return Some("Windows".to_owned());
    }
    let magic: [u8; 4] = head.get(..4)?.try_into().ok()?;
    let mach = matches!(u32::from_le_bytes(magic), 0xfeed_facf | 0xfeed_face | 0xbeba_feca);
    if mach {
        return (!cfg!(target_os = "macos")).then(|| "macOS".to_owned());
    }
    if &magic != b"\x7fELF" {
        return None;
    }
    if cfg!(target_os = "macos") {
        return Some("Linux".to_owned());
    }
    let machine = head.get(18..20)?;
    let machine = if head.get(5) == Some(&2) {
        u16::from_be_bytes([machine[0], machine[1]])
    } else {
        u16::from_le_bytes([machine[0], machine[1]])
    };
    let name = match machine {
        3 => "x86",
        8 => "mips",
        20 | 21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return Some(format!("machine {machine}")),
    };
    // A 64-bit x86 machine also runs what is built for 32 bits, where its libraries are there; the system decides that.
    let here = std::env::consts::ARCH;
    let runs = name == here || (name == "x86" && here == "x86_64") || (name == "arm" && here == "aarch64");
    (!runs).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(path: &Path, bytes: &[u8], mode: u32) {
        std::fs::write(path, bytes).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn env(path: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("PATH".to_owned(), path.to_owned())])
    }

    #[test]
    fn commands_are_found_in_the_services_own_path_and_folder() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::create_dir(dir.join("bin")).unwrap();
        file(&dir.join("bin/tool"), b"#!/bin/sh\n", 0o755);
        file(&dir.join("here"), b"#!/bin/sh\n", 0o755);
        let bin = dir.join("bin");
        assert_eq!(find("tool", &env(bin.to_str().unwrap()), dir).unwrap(), bin.join("tool"));
        assert_eq!(find("bin/tool", &env(""), dir).unwrap(), bin.join("tool"));
        assert_eq!(find("./here", &env(""), dir).unwrap(), dir.join("./here"));
        assert!(find("sh", &BTreeMap::new(), dir).unwrap().ends_with("sh"));
    }

    #[test]
    fn what_is_wrong_is_said_before_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let mut arm = b"\x7fELF\x02\x01\x01".to_vec();
        arm.resize(18, 0);
        arm.extend_from_slice(&[22, 0]);
        file(&dir.join("plain"), b"#!/bin/sh\n", 0o644);
        file(&dir.join("foreign"), &arm, 0o755);
        file(&dir.join("windows"), b"MZ\x90\0", 0o755);
        file(&dir.join("orphan"), b"#!/gone/venv/bin/python\n", 0o755);
        let text = format!("#!{}\n", dir.join("plain").display());
        file(&dir.join("unusable"), text.as_bytes(), 0o755);
        file(&dir.join("dos"), b"#!/bin/sh\r\necho\r\n", 0o755);
        file(&dir.join("nothing"), b"#!\n", 0o755);
        std::os::unix::fs::symlink("gone", dir.join("dangling")).unwrap();
        std::fs::create_dir(dir.join("folder")).unwrap();
        let path = env(dir.to_str().unwrap());
        for (word, reason, help) in [
            ("no-such-tool", "cannot find the command `no-such-tool`", "install no-such-tool"),
            ("plain", "is not executable", "chmod +x"),
            ("./plain", "is not executable", "chmod +x"),
            ("./foreign", "is built for s390x", "this machine"),
            ("windows", "is built for Windows", "this machine"),
            ("orphan", "needs /gone/venv/bin/python", "install /gone"),
            ("unusable", "plain, which is not executable", "chmod +x"),
            ("dos", "needs /bin/sh", "Windows"),
            ("nothing", "names no interpreter", "#!/bin/sh"),
            ("./dangling", "cannot be run", "a link to nothing"),
            ("./folder", "is a directory", "program"),
            ("./gone", "cannot be run", "`dir`"),
            ("~/bin/x", "cannot be run", "${HOME}"),
            ("", "empty", "run"),
        ] {
            let failure = find(word, &path, dir).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Binary, "{word}");
            assert!(failure.reason.contains(reason), "{word}: {}", failure.reason);
            let said = failure.help.unwrap_or_default();
            assert!(said.contains(help), "{word}: {said}");
        }
        let beside = find("plain", &env("/nonexistent"), dir).unwrap_err();
        assert!(beside.help.unwrap().contains("./plain"));
        let builtin = find("source", &env("/nonexistent"), dir).unwrap_err();
        assert!(builtin.help.unwrap().contains("shell = true"));
    }
}
