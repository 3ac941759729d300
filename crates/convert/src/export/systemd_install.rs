//! The commands that install and remove what was written: at the head of the target, and printed after the export.

use super::health::shell_quote;
use super::systemd_sandbox as sandbox;
use super::systemd_source::SystemdSource;

/// Commands for a shell, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallCommands {
    /// Where the manager looks for units.
    pub directory: &'static str,
    /// Writes the units there.
    pub export: String,
    /// Makes them known and starts the stack, also at boot.
    pub install: Vec<String>,
    /// Stops the stack and removes the units; data and account stay.
    pub remove: Vec<String>,
    is_system: bool,
}

/// The commands for `unit`, the target or the only unit.
#[must_use]
pub fn commands(source: &SystemdSource, unit: &str, is_one: bool) -> InstallCommands {
    let is_system = source.is_system;
    let (directory, systemctl) =
        if is_system { ("/etc/systemd/system", "systemctl") } else { ("~/.config/systemd/user", "systemctl --user") };
    let user = sandbox::user(source);
    let options = [(is_one, " --one-unit"), (is_system, " --system")].into_iter().filter(|(given, _)| *given);
    let options: String = options.map(|(_, option)| option).collect();
    let place = if is_one { format!("{directory}/{unit}") } else { directory.to_owned() };
    let command: Vec<String> = source.command.iter().map(|word| shell_word(word)).collect();
    let mut install = Vec::new();
    if is_system && is_one {
        let home = format!("/var/lib/{user}");
        install.push(format!("useradd --system --home-dir {home} --no-create-home --shell /usr/sbin/nologin {user}"));
    } else if is_system {
        install.push(format!("systemd-sysusers {directory}/{}", sandbox::account_file(source)));
    }
    if is_system {
        install.push(format!("chown -R {user} {}", shell_word(&source.root.display().to_string())));
    }
    install.push(format!("{systemctl} daemon-reload"));
    install.push(format!("{systemctl} enable --now {unit}"));
    if !is_system {
        install.push("loginctl enable-linger".to_owned());
    }
    let files = if is_one { place.clone() } else { format!("{directory}/{user}.*") };
    let remove = vec![format!("{systemctl} disable --now {unit}"), format!("rm {files}"), format!("{systemctl} daemon-reload")];
    let export = format!("{} export systemd{options} -o {place}", command.join(" "));
    InstallCommands { directory, export, install, remove, is_system }
}

impl InstallCommands {
    /// As comments of a unit.
    pub(crate) fn header(&self) -> Vec<String> {
        let mut lines = vec![if self.is_system { "# Install it (as root):" } else { "# Install it:" }.to_owned()];
        for command in std::iter::once(&self.export).chain(&self.install) {
            let why = if command.starts_with("loginctl") {
                "     # so that it starts at boot and outlives the last session"
            } else {
                ""
            };
            lines.push(format!("#   {command}{why}"));
        }
        lines.push("# Remove it; data and account stay:".to_owned());
        lines.extend(self.remove.iter().map(|command| format!("#   {command}")));
        lines
    }
}

/// A word for a shell, in quotes where it needs them.
fn shell_word(text: &str) -> String {
    let is_plain = !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || "/._-=:,@+".contains(char));
    if is_plain { text.to_owned() } else { shell_quote(text) }
}
