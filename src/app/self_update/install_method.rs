//! Which program runs, and whether a package manager keeps track of its file: then that one has to replace it.

use std::fs;
use std::path::{Path, PathBuf};

use devrun_model::{Failure, FailureKind};

/// Where dpkg lists the files of each package.
const DPKG_LISTS: &str = "/var/lib/dpkg/info";

/// What put the program where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstallMethod {
    /// Built in a checkout.
    Checkout,
    /// A Debian package.
    Debian,
    /// pip, uv or pipx.
    Python,
    /// npm and its like.
    Npm,
    /// `cargo install`.
    Cargo,
    /// Homebrew.
    Homebrew,
    /// Nix.
    Nix,
}

impl InstallMethod {
    /// What owns this program; `None`: nothing but the user who unpacked it.
    #[must_use]
    pub fn of(program: &Path) -> Option<Self> {
        Self::with_lists(program, Path::new(DPKG_LISTS))
    }

    fn with_lists(program: &Path, dpkg_lists: &Path) -> Option<Self> {
        let folder = program.parent()?;
        let has_component = |name: &str| folder.components().any(|part| part.as_os_str() == name);
        if has_component("node_modules") {
            return Some(Self::Npm);
        }
        if program.starts_with("/nix/store") {
            return Some(Self::Nix);
        }
        if has_component("Cellar") {
            return Some(Self::Homebrew);
        }
        if folder.join(".cargo-lock").exists() || folder.join(".fingerprint").is_dir() {
            return Some(Self::Checkout);
        }
        let prefix = folder.parent()?;
        if fs::read_to_string(prefix.join(".crates.toml")).is_ok_and(|text| text.contains("\"devrun ")) {
            return Some(Self::Cargo);
        }
        if is_of_python(prefix) {
            return Some(Self::Python);
        }
        is_of_debian(program, dpkg_lists).then_some(Self::Debian)
    }

    /// Who it is, and what replaces the program.
    #[must_use]
    pub fn refusal(self, program: &Path) -> Failure {
        let (owner, help) = match self {
            Self::Checkout => ("is a build of a checkout", "git pull && cargo build --release"),
            Self::Debian => ("belongs to a Debian package", "apt install ./devrun_VERSION_ARCH.deb"),
            Self::Python => (
                "belongs to a Python environment",
                "pip install --upgrade devrun (of uv: uv tool upgrade devrun; of pipx: pipx upgrade devrun)",
            ),
            Self::Npm => ("belongs to npm", "npm install @devrun/cli@latest (with -g where it was installed so)"),
            Self::Cargo => ("was installed by cargo", "cargo install devrun"),
            Self::Homebrew => ("belongs to Homebrew", "brew upgrade devrun"),
            Self::Nix => ("belongs to Nix", "nix profile upgrade devrun, or nix flake update where a flake declares it"),
        };
        Failure::new(FailureKind::Config, format!("{} {owner} and is not replaced", program.display())).help(help)
    }
}

/// Whether the Python environment of this prefix lists devrun.
fn is_of_python(prefix: &Path) -> bool {
    let is_listed =
        |packages: PathBuf| names(&packages).iter().any(|name| name.starts_with("devrun-") && name.ends_with(".dist-info"));
    ["lib", "lib64", "local/lib"].iter().map(|lib| prefix.join(lib)).any(|lib| {
        names(&lib)
            .iter()
            .filter(|name| name.starts_with("python"))
            .any(|python| ["site-packages", "dist-packages"].iter().any(|kind| is_listed(lib.join(python).join(kind))))
    })
}

fn is_of_debian(program: &Path, lists: &Path) -> bool {
    let Some(program) = program.to_str() else { return false };
    names(lists)
        .iter()
        .filter(|name| name.starts_with("devrun") && name.ends_with(".list"))
        .any(|name| fs::read_to_string(lists.join(name)).is_ok_and(|text| text.lines().any(|line| line == program)))
}

/// The names in a directory; none where it cannot be read.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The file of the program that runs, links followed.
///
/// # Errors
/// `Config` when it was deleted or replaced meanwhile.
pub fn own_program() -> Result<PathBuf, Failure> {
    let found = std::env::current_exe().and_then(fs::canonicalize);
    found.map_err(|error| {
        Failure::new(FailureKind::Config, format!("cannot find the file of this program: {error}"))
            .help("it was moved or replaced while it ran: run the command again")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_manager_is_recognised_by_what_it_leaves() {
        let root = tempfile::tempdir().unwrap();
        let lists = root.path().join("dpkg");
        let file = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let of = |path: &str| InstallMethod::with_lists(&root.path().join(path), &lists);
        assert_eq!(of("home/bin/devrun"), None);
        assert_eq!(of("p/node_modules/@devrun/cli-linux-x64/bin/devrun"), Some(InstallMethod::Npm));
        assert_eq!(of("opt/Cellar/devrun/1/bin/devrun"), Some(InstallMethod::Homebrew));
        assert_eq!(InstallMethod::of(Path::new("/nix/store/abc-devrun/bin/devrun")), Some(InstallMethod::Nix));
        file("src/target/release/.cargo-lock", "");
        assert_eq!(of("src/target/release/devrun"), Some(InstallMethod::Checkout));
        file(".cargo/.crates.toml", "[v1]\n\"ripgrep 1.0.0 (x)\" = [\"rg\"]\n");
        assert_eq!(of(".cargo/bin/devrun"), None, "another program of cargo");
        file(".cargo/.crates.toml", "[v1]\n\"devrun 0.1.0 (x)\" = [\"devrun\"]\n");
        assert_eq!(of(".cargo/bin/devrun"), Some(InstallMethod::Cargo));
        file("venv/lib/python3.11/site-packages/other-1.dist-info/RECORD", "");
        assert_eq!(of("venv/bin/devrun"), None, "an environment without devrun");
        file("venv/lib/python3.11/site-packages/devrun-0.1.0.dist-info/RECORD", "");
        assert_eq!(of("venv/bin/devrun"), Some(InstallMethod::Python));
        file("dpkg/devrun.list", &format!("/.\n{}\n", root.path().join("usr/bin/devrun").display()));
        assert_eq!(of("usr/bin/devrun"), Some(InstallMethod::Debian));
        assert_eq!(of("usr/local/bin/devrun"), None, "not in the list");
    }
}
