//! A real API server of Kubernetes over etcd, on loopback and for one test. `scripts/kube-apiserver` builds it and kubectl.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{LONG, Project};
use crate::services::{fetched, store};
use crate::test_ports::free_port;
use crate::waits::within;

/// A request with it may do everything.
const TOKEN: &str = "of-the-test";

/// Ends with its value.
pub struct ApiServer {
    processes: Vec<Child>,
    port: u16,
    dir: TempDir,
}

fn tool(name: &str) -> PathBuf {
    store().join("tools/kubernetes").join(name)
}

impl ApiServer {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn start() -> Result<Self, String> {
        if !tool("kube-apiserver").exists() || !tool("kubectl").exists() {
            return Err("kube-apiserver is absent; scripts/real-services builds it".to_owned());
        }
        fetched("etcd").or_else(|why| if crate::services::is_there("etcd") { Ok(()) } else { Err(format!("etcd: {why}")) })?;
        let nowhere = Project::new().env("DEVRUN_BIN_CACHE", &store().display().to_string()).env("DEVRUN_OFFLINE", "true");
        let which = nowhere.run(&["which", "etcd", "--json"]).code(0).json();
        let etcd = which[0]["path"].as_str().expect("a path").to_owned();
        let dir = tempfile::Builder::new().prefix("dk").tempdir_in("/tmp").expect("a directory");
        let (client, peer, port) = (free_port(), free_port(), free_port());
        let key = dir.path().join("accounts.key");
        let made = Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048").output();
        if !made.is_ok_and(|output| output.status.success()) {
            return Err("openssl is not installed".to_owned());
        }
        std::fs::write(dir.path().join("tokens.csv"), format!("{TOKEN},tester,1,system:masters\n")).expect("our own file");
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let mut server = Self { processes: Vec::new(), port, dir };
        server.spawn(
            Path::new(&etcd),
            &[
                ("--data-dir", server.path("etcd")),
                ("--listen-client-urls", address(client)),
                ("--advertise-client-urls", address(client)),
                ("--listen-peer-urls", address(peer)),
                ("--initial-advertise-peer-urls", address(peer)),
                ("--initial-cluster", format!("default={}", address(peer))),
            ],
        );
        let key = key.display().to_string();
        server.spawn(
            &tool("kube-apiserver"),
            &[
                ("--etcd-servers", address(client)),
                ("--bind-address", "127.0.0.1".to_owned()),
                // A loopback address is refused; of this one, which is for documentation, only a record is made.
                ("--advertise-address", "192.0.2.1".to_owned()),
                ("--endpoint-reconciler-type", "none".to_owned()),
                ("--secure-port", port.to_string()),
                ("--cert-dir", server.path("certificates")),
                ("--token-auth-file", server.path("tokens.csv")),
                ("--service-account-issuer", "https://kubernetes.default.svc".to_owned()),
                ("--service-account-signing-key-file", key.clone()),
                ("--service-account-key-file", key),
                ("--service-cluster-ip-range", "10.0.0.0/24".to_owned()),
            ],
        );
        let is_ready = || (server.kubectl(&["get", "namespace", "default"]).0).then_some(());
        if within(LONG, is_ready).is_none() {
            let said = |name: &str| std::fs::read_to_string(server.dir.path().join(name)).unwrap_or_default();
            let last = |text: String| text.lines().rev().take(20).map(str::to_owned).collect::<Vec<_>>().join("\n");
            panic!("the API server does not answer\n{}\n{}", last(said("etcd.log")), last(said("kube-apiserver.log")));
        }
        Ok(server)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn spawn(&mut self, program: &Path, options: &[(&str, String)]) {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = std::fs::File::create(self.dir.path().join(format!("{name}.log"))).expect("our own file");
        let child = Command::new(program)
            .args(options.iter().map(|(option, value)| format!("{option}={value}")))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn();
        self.processes.push(child.unwrap_or_else(|error| panic!("{}: {error}", program.display())));
    }

    /// Whether it succeeds, and all that it says.
    pub fn kubectl(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new(tool("kubectl"))
            .args([format!("--server=https://127.0.0.1:{}", self.port), format!("--token={TOKEN}")])
            .args(["--insecure-skip-tls-verify", "--kubeconfig=/dev/null", &format!("--cache-dir={}", self.path("cache"))])
            .args(words)
            .env("HOME", self.dir.path())
            .output()
            .expect("kubectl runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            // It keeps nothing that anyone wants.
            let _gone = process.kill();
            let _status = process.wait();
        }
    }
}
