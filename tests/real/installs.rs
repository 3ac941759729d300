//! Every form in which devrun is shipped, made by `scripts/package` from the binary under test, installed from local files into an
//! empty home, used there, and removed again; and the action for CI, its steps run by `scripts/run-action`.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::{TEST_STORE, devrun, skipped, testsvc};
use crate::services::installed;

trials![
    a_tarball_is_unpacked_and_runs,
    a_wheel_is_installed_without_an_index,
    npm_packages_are_installed_offline,
    a_debian_package_is_installed_into_a_root_of_its_own,
    the_same_input_gives_the_same_bytes,
    the_action_installs_a_wheel_and_starts_a_stack,
];

const TARGET: &str = if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

fn has(program: &str) -> bool {
    let there =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|output| output.status.success());
    if !there {
        skipped(&format!("{program} is not installed"));
    }
    there
}

fn succeeded(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// The packages of the binary under test; made once, as packing takes seconds.
fn packages() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = TempDir::new().expect("a directory");
        package(dir.path(), &["tarball", "wheel", "npm", "deb"]);
        dir
    })
    .path()
}

fn package(out: &Path, forms: &[&str]) {
    let stripped = out.join("devrun");
    // A debug binary of a hundred megabytes says no more than a stripped one.
    let is_stripped = Command::new("strip").arg("-o").arg(&stripped).arg(devrun()).status().is_ok_and(|status| status.success());
    let binary = if is_stripped { stripped.clone() } else { devrun() };
    // The best compression takes a minute for a debug build.
    let quick = [("DPKG_DEB_COMPRESSOR_TYPE", "gzip"), ("DPKG_DEB_COMPRESSOR_LEVEL", "1"), ("PACKAGE_COMPRESSION", "1")];
    packed(&binary, out, forms, &quick);
    if is_stripped {
        fs::remove_file(stripped).expect("it was made above");
    }
}

/// `scripts/package` for this program.
fn packed(binary: &Path, out: &Path, forms: &[&str], env: &[(&str, &str)]) {
    let output = Command::new(script("package"))
        .args(["--target", TARGET, "--binary"])
        .arg(binary)
        .arg("--out")
        .arg(out)
        .args(forms.iter().filter(|form| **form != "deb" || Path::new("/usr/bin/dpkg-deb").exists()))
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .envs(env.iter().copied())
        .output()
        .expect("python3 is here");
    succeeded(&output);
}

fn made(end: &str) -> PathBuf {
    let names = fs::read_dir(packages()).expect("it is there").flatten().map(|entry| entry.path());
    names.filter(|path| path.to_string_lossy().ends_with(end)).min().unwrap_or_else(|| panic!("no {end} was made"))
}

/// An empty home, and a command that sees nothing of this one's.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().expect("a directory"));
        // One that others can enter is not used.
        fs::DirBuilder::new().mode(0o700).create(home.path("run")).expect("it is new");
        fs::create_dir(home.path("tmp")).expect("it is new");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("TMPDIR", self.path("tmp"))
            .env("CI", "true")
            .current_dir(self.0.path());
        if let Some(store) = std::env::var_os(TEST_STORE) {
            command.env("DEVRUN_BIN_CACHE", store);
        }
        command
    }

    /// What a new user would try first with it: the version, then a stack with no file, which leaves nothing.
    fn works(&self, binary: &Path) {
        let version = succeeded(&self.command(binary).arg("version").output().expect("it runs"));
        assert_eq!(version.trim(), format!("devrun {}", env!("CARGO_PKG_VERSION")));
        if !installed("redis-server") {
            return skipped("redis-server is not installed, so no stack was started");
        }
        let script = "test -n \"$REDIS_URL\" && echo $REDIS_URL";
        let run = self.command(binary).args(["run", "--with", "redis", "--", "sh", "-c", script]).output().expect("it runs");
        assert!(succeeded(&run).contains("redis://"));
        let left = succeeded(&self.command(binary).args(["ls", "--json"]).output().expect("it runs"));
        let left: Vec<serde_json::Value> = serde_json::from_str(&left).expect("JSON");
        // The list has the stacks of this user wherever their runtime directory is; those of others are not this test's.
        let own =
            |stack: &&serde_json::Value| stack["root"].as_str().is_some_and(|root| Path::new(root).starts_with(self.0.path()));
        assert_eq!(left.iter().find(own), None);
    }
}

fn a_tarball_is_unpacked_and_runs() {
    let home = Home::new();
    succeeded(&home.command("tar").arg("xzf").arg(made(".tar.gz")).output().expect("tar is here"));
    let dir = home.path(&format!("devrun-{}-{TARGET}", env!("CARGO_PKG_VERSION")));
    assert!(dir.join("LICENSE").is_file());
    home.works(&dir.join("devrun"));
    // What the metadata says to `cargo binstall` leads to this archive and to the binary in it.
    let manifest: toml::Table = include_str!("../../Cargo.toml").parse().expect("TOML");
    let template = |key: &str| {
        let text = manifest["package"]["metadata"]["binstall"][key].as_str().expect("a template");
        text.replace("{ version }", env!("CARGO_PKG_VERSION")).replace("{ target }", TARGET).replace("{ bin }", "devrun")
    };
    let url = template("pkg-url");
    assert_eq!(url.rsplit('/').next(), made(".tar.gz").file_name().and_then(|name| name.to_str()), "{url}");
    assert_eq!(home.path(&template("bin-dir")), dir.join("devrun"));
}

fn a_wheel_is_installed_without_an_index() {
    let home = Home::new();
    if !home.command("python3").args(["-m", "venv", "venv"]).output().is_ok_and(|output| output.status.success()) {
        return skipped("python3 has no venv module");
    }
    let pip = home.path("venv/bin/pip");
    let install = home.command(&pip).args(["install", "--no-index", "--find-links"]).arg(packages()).arg("devrun").output();
    succeeded(&install.expect("pip is here"));
    let binary = home.path("venv/bin/devrun");
    home.works(&binary);
    succeeded(&home.command(&pip).args(["uninstall", "-y", "devrun"]).output().expect("pip is here"));
    assert!(!binary.exists());
}

fn npm_packages_are_installed_offline() {
    if !has("npm") {
        return;
    }
    let home = Home::new();
    fs::write(home.path("package.json"), r#"{ "private": true }"#).expect("it can be written");
    let platform = made(&format!("{}.tgz", env!("CARGO_PKG_VERSION")));
    let main = packages().join(format!("devrun-cli-{}.tgz", env!("CARGO_PKG_VERSION")));
    let own = fs::read_dir(packages()).expect("it is there").flatten().map(|entry| entry.path());
    let own = own.filter(|path| path.to_string_lossy().contains("devrun-cli-linux-")).min().unwrap_or(platform);
    // The optional packages of other platforms are not available here; npm passes over them as it does for a user.
    let install = home.command("npm").args(["install", "--offline", "--no-audit", "--no-fund"]).arg(own).arg(main).output();
    succeeded(&install.expect("npm is here"));
    home.works(&home.path("node_modules/.bin/devrun"));
    succeeded(&home.command("npm").args(["uninstall", "--offline", "@devrun/cli"]).output().expect("npm is here"));
    assert!(!home.path("node_modules/.bin/devrun").exists());
}

fn a_debian_package_is_installed_into_a_root_of_its_own() {
    if !has("dpkg-deb") {
        return;
    }
    let home = Home::new();
    let root = home.path("root");
    for dir in ["var/lib/dpkg/updates", "var/lib/dpkg/info"] {
        fs::create_dir_all(root.join(dir)).expect("it can be made");
    }
    fs::write(root.join("var/lib/dpkg/status"), "").expect("it can be written");
    let flags = [format!("--root={}", root.display()), "--force-not-root".to_owned(), "--force-script-chrootless".to_owned()];
    succeeded(&home.command("dpkg").args(&flags).arg("--install").arg(made(".deb")).output().expect("dpkg is here"));
    assert!(root.join("usr/share/doc/devrun/copyright").is_file());
    home.works(&root.join("usr/bin/devrun"));
    succeeded(&home.command("dpkg").args(&flags).args(["--remove", "devrun"]).output().expect("dpkg is here"));
    assert!(!root.join("usr/bin/devrun").exists());
}

/// What is packed makes no difference to it, so a small program stands in.
fn the_same_input_gives_the_same_bytes() {
    let places = [TempDir::new().expect("a directory"), TempDir::new().expect("a directory")];
    for place in &places {
        packed(&testsvc(), place.path(), &["tarball", "wheel", "npm", "deb"], &[]);
    }
    let [one, other] = places.each_ref().map(|place| place.path());
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir).expect("it is there").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(one), names(other));
    assert!(names(one).len() >= 4);
    for name in names(one) {
        let (first, second) = (fs::read(one.join(&name)), fs::read(other.join(&name)));
        assert!(first.expect("it is there") == second.expect("it is there"), "{} differs", name.display());
    }
}

fn the_action_installs_a_wheel_and_starts_a_stack() {
    let home = Home::new();
    if !Command::new("python3").args(["-c", "import yaml, venv"]).output().is_ok_and(|output| output.status.success()) {
        return skipped("python3 has no yaml or venv module");
    }
    fs::create_dir(home.path("project")).expect("it is new");
    let procfile = "[services.sleeper]\nrun = \"sleep 600\"\n[services.front]\nuse = \"gateway\"\nport = \"auto\"\n[services.front.routes]\n\"/\" = { reply = 204 }\n";
    fs::write(home.path("project/procfile.toml"), procfile).expect("it can be written");
    fs::create_dir(home.path("tools")).expect("it is new");
    let action = Path::new(env!("CARGO_MANIFEST_DIR")).join("action/action.yml");
    let run = home
        .command(script("run-action"))
        .arg(action)
        .arg(format!("from={}", packages().display()))
        .args(["working-directory=project", "up=true"])
        .env("RUNNER_TEMP", home.path("tools"))
        .output()
        .expect("python3 is here");
    let binary = home.path("tools/devrun/bin/devrun");
    // Before anything is asserted: what runs is stopped.
    let down = home.command(&binary).args(["-C", "project", "down"]).output();
    let seen: serde_json::Value = serde_json::from_str(&succeeded(&run)).expect("JSON");
    succeeded(&down.expect("the action has installed it"));
    let urls = seen["outputs"]["urls"].as_str().expect("the output is there").to_owned();
    assert!(urls.contains("http://127.0.0.1:"), "{urls}");
    assert!(seen["path"].as_str().is_some_and(|path| path.starts_with(&home.path("tools").display().to_string())), "{seen}");
}
