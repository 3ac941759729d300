//! `devrun self update`: a release is taken from a directory or a server with its sums, and nothing is replaced that is not proved.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Project, devrun};
use crate::test_ports;
use crate::test_programs::copy_program;

/// What scripts/release calls the tarball for this platform.
fn artifact(version: &str) -> String {
    format!("devrun-{version}-{}-unknown-linux-musl.tar.gz", std::env::consts::ARCH)
}

/// A program that answers as devrun of this version does.
fn program(version: &str) -> String {
    format!("#!/bin/sh\necho devrun {version}\n")
}

/// A tarball as scripts/package makes it, with this text as its binary.
fn tarball(version: &str, binary: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, text, mode) in [("devrun", binary, 0o755), ("LICENSE", "MIT\n", 0o644)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        archive.append_data(&mut header, format!("devrun-{version}/{name}"), text.as_bytes()).expect("memory");
    }
    archive.into_inner().and_then(flate2::write::GzEncoder::finish).expect("memory")
}

fn sum(bytes: &[u8]) -> String {
    devrun_store::pin::of_reader(bytes).expect("memory").sha256
}

/// A project, a copy of the binary in its `bin`, and a release of this version in its `dist`.
struct Installed {
    project: Project,
}

impl Installed {
    fn new(version: &str) -> Self {
        let this = Self { project: Project::new() };
        fs::create_dir_all(this.project.path("bin")).expect("a directory");
        copy_program(&devrun(), &this.binary());
        this.release(version, &program(version));
        this
    }
    fn binary(&self) -> PathBuf {
        self.project.path("bin/devrun")
    }
    fn release(&self, version: &str, binary: &str) {
        let packed = tarball(version, binary);
        fs::create_dir_all(self.project.path("dist")).expect("a directory");
        fs::write(self.project.path("dist").join(artifact(version)), &packed).expect("our own file");
        self.sums(&format!("{}  {}\n", sum(&packed), artifact(version)));
    }
    fn sums(&self, text: &str) {
        self.project.write("dist/SHA256SUMS", text);
    }
    /// Exit code, and what was said.
    fn update(&self, words: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = Command::new(self.binary());
        command.args(["self", "update"]).args(words).current_dir(self.project.dir());
        command.env_remove("DEVRUN_UPDATE_URL").envs(variables.iter().copied());
        let output = command.output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
    #[track_caller]
    fn is_unchanged(&self) {
        assert_eq!(fs::metadata(self.binary()).expect("it is there").len(), fs::metadata(devrun()).expect("ours").len());
        let left: Vec<_> =
            fs::read_dir(self.project.path("bin")).expect("it is there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["devrun"], "nothing is left over");
    }
    #[track_caller]
    fn is_replaced(&self, version: &str) {
        assert_eq!(fs::read_to_string(self.binary()).expect("a script"), program(version));
        let left = fs::read_dir(self.project.path("bin")).expect("it is there").count();
        assert_eq!(left, 1, "nothing is left over");
    }
}

/// Serves the files of a directory over http until this process ends. Returns its address.
fn serve(folder: &Path) -> String {
    let listener = test_ports::listener();
    let address = format!("http://{}", listener.local_addr().expect("it has one"));
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut first = String::new();
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let _closed = reader.read_line(&mut first);
            while reader.read_line(&mut String::new()).is_ok_and(|count| count > 2) {}
            let name = first.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            let (status, body) = match fs::read(folder.join(name)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _gone = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    address
}

/// Shows: self, self update, self update --from, self update --check.
#[test]
fn a_newer_release_of_a_directory_replaces_the_binary() {
    let installed = Installed::new("99.1.0");
    fs::set_permissions(installed.binary(), fs::Permissions::from_mode(0o750)).expect("our own file");
    let (code, said) = installed.update(&["--from", "dist"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("to 99.1.0"), "{said}");
    installed.is_replaced("99.1.0");
    let mode = fs::metadata(installed.binary()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o750, "the mode stays");
}

#[test]
fn a_server_is_named_by_a_variable() {
    let installed = Installed::new("99.1.0");
    let address = serve(&installed.project.path("dist"));
    let variables = [("DEVRUN_UPDATE_URL", address.as_str()), ("DEVRUN_TEST_ALLOW_HTTP", "1")];
    let (code, said) = installed.update(&[], &variables);
    assert_eq!(code, Some(0), "{said}");
    installed.is_replaced("99.1.0");

    // Without https nothing is fetched.
    let installed = Installed::new("99.1.0");
    let (code, said) = installed.update(&["--from", &address], &[]);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains("is not https"), "{said}");
    installed.is_unchanged();
}

#[test]
fn nothing_is_replaced_by_a_look_or_by_what_is_not_newer() {
    let installed = Installed::new("99.1.0");
    let (code, said) = installed.update(&["--check", "--from", "dist"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("devrun 99.1.0 is available"), "{said}");
    installed.is_unchanged();
    for version in ["0.0.1", env!("CARGO_PKG_VERSION")] {
        installed.release(version, &program(version));
        let (code, said) = installed.update(&["--from", "dist"], &[]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("is up to date"), "{said}");
        installed.is_unchanged();
    }
}

#[test]
fn what_the_sums_do_not_prove_is_refused() {
    let installed = Installed::new("99.1.0");
    let refused = |code: i32, words: &str| {
        let (found, said) = installed.update(&["--from", "dist"], &[]);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(words) && said.contains("help: "), "{words:?} or a help is missing in {said}");
        installed.is_unchanged();
    };
    installed.sums(&format!("{}  {}\n", "0".repeat(64), artifact("99.1.0")));
    refused(8, "SHA256SUMS says 0000");
    // The sum is right, and the program is another one, or none.
    installed.release("99.1.0", &program("98.0.0"));
    refused(8, "it should be devrun 99.1.0");
    installed.release("99.1.0", "\u{7f}ELF of another machine");
    refused(8, "99.1.0");
    let broken = b"no archive";
    fs::write(installed.project.path("dist").join(artifact("99.1.0")), broken).expect("our own file");
    installed.sums(&format!("{}  {}\n", sum(broken), artifact("99.1.0")));
    refused(8, &artifact("99.1.0"));
    // Listed and absent; not listed; no sums at all.
    installed.sums(&format!("{}  {}\n", "0".repeat(64), artifact("99.2.0")));
    refused(7, "cannot fetch");
    installed.sums(&format!("{}  devrun-99.1.0-mips-unknown-linux-musl.tar.gz\n", "0".repeat(64)));
    refused(7, "lists no release for this platform");
    fs::remove_file(installed.project.path("dist/SHA256SUMS")).expect("our own file");
    refused(7, "SHA256SUMS");
    let (code, said) = installed.update(&[], &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("help: devrun self update --from"), "{said}");
}

#[test]
fn a_temporary_directory_that_cannot_be_used_is_named() {
    let installed = Installed::new("99.1.0");
    let place = installed.project.path("none");
    let (code, said) = installed.update(&["--from", "dist"], &[("TMPDIR", &place.display().to_string())]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&format!("error: cannot make a temporary directory in {}: ", place.display())), "{said}");
    assert!(said.contains("help: TMPDIR=DIRECTORY devrun self update"), "{said}");
    installed.is_unchanged();
}

#[test]
fn a_binary_of_a_package_manager_is_left_to_it() {
    let installed = Installed::new("99.1.0");
    let refused = |words: &str| {
        let (code, said) = installed.update(&["--from", "dist"], &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(words) && said.contains("help: "), "{words:?} is missing in {said}");
        installed.is_unchanged();
    };
    let python = installed.project.path("lib/python3.11/site-packages/devrun-0.1.0.dist-info");
    fs::create_dir_all(&python).expect("a directory");
    refused("belongs to a Python environment");
    fs::remove_dir(&python).expect("our own directory");
    installed.project.write(".crates.toml", "[v1]\n\"devrun 0.1.0 (registry)\" = [\"devrun\"]\n");
    refused("was installed by cargo");
    fs::remove_file(installed.project.path(".crates.toml")).expect("our own file");
    let (code, said) = installed.update(&["--from", "dist"], &[]);
    assert_eq!(code, Some(0), "{said}");
    installed.is_replaced("99.1.0");
}
