//! A stack as one unit of systemd: devrun's supervisor starts at boot or login, and systemd restarts it and stops it.
//!
//! Order, readiness, restarts and graces of the services stay devrun's: the unit is active once all of them are ready. The keeper
//! outlives a supervisor that crashed and stops the services in order, so systemd signals the supervisor alone and
//! `devrun down` makes sure that nothing is left.

use std::fmt::Write as _;
use std::time::Duration;

use super::Exported;
use super::systemd_install::commands;
use super::systemd_sandbox as sandbox;
use super::systemd_source::{SystemdSource, secret_losses};
use super::systemd_syntax::{command_line, setting, specifiers};

/// Makes the unit. `ports`: those that the stack opens.
#[must_use]
pub fn systemd(source: &SystemdSource, ports: &[u16]) -> Exported {
    let unit = format!("devrun-{}.service", source.project);
    let mut out = String::new();
    let mut line = |text: &str| {
        let _infallible = writeln!(out, "{text}");
    };
    line("# Written by `devrun export systemd --one-unit`.");
    commands(source, &unit, true).header().iter().for_each(|text| line(text));
    line("");
    line("[Unit]");
    line(&format!("Description={} (devrun)", specifiers(&source.project)));
    if source.is_system {
        line("Wants=network-online.target");
        line("After=network-online.target");
    }
    // A stack that cannot start is tried five times, and then left failed for somebody to look at.
    line("StartLimitIntervalSec=10min");
    line("StartLimitBurst=5");
    line("");
    line("[Service]");
    line("Type=exec");
    let command = |words: &[&str]| command_line(source.command.iter().map(String::as_str).chain(words.iter().copied()));
    let seconds = |duration: Duration| duration.as_millis().div_ceil(1000).to_string();
    let start = seconds(source.start);
    line(&format!("ExecStart={}", command(&["--progress", "plain", "up"])));
    line(&format!("ExecStartPost={}", command(&["wait", "--all", "--timeout", &format!("{start}s")])));
    line(&format!("ExecStop={}", command(&["down"])));
    line(&format!("ExecStopPost={}", command(&["down"])));
    line(&format!("WorkingDirectory={}", specifiers(&source.root.display().to_string())));
    for (name, value) in &source.environment {
        line(&format!("Environment={}", setting(&format!("{name}={value}"))));
    }
    line("Restart=on-failure");
    line("RestartSec=2s");
    // Usage and configuration, a missing binary, a broken one: another try would find the same.
    line("RestartPreventExitStatus=2 7 8");
    line(&format!("TimeoutStartSec={start}s"));
    line(&format!("TimeoutStopSec={}s", seconds(source.stop)));
    line("KillMode=process");
    line("Delegate=yes");
    if source.is_system {
        sandbox::lines(source, ports.iter().copied(), true).iter().for_each(|text| line(text));
    }
    line("");
    line("[Install]");
    line(if source.is_system { "WantedBy=multi-user.target" } else { "WantedBy=default.target" });
    Exported { files: vec![(String::new(), out)], losses: secret_losses(source), needs: sandbox::needs(source) }
}

#[cfg(test)]
mod tests {
    use super::super::systemd_source::tests::source;
    use super::*;

    #[test]
    fn words_and_values_come_back_as_they_were() {
        let mut source = SystemdSource {
            secret_variables: vec!["API_TOKEN".to_owned()],
            stop: Duration::from_millis(70_500),
            ..source(false)
        };
        source.command.extend(["--profile", "a$b%c"].map(str::to_owned));
        source.environment.push(("X".to_owned(), "a \"b\" $c".to_owned()));
        let made = systemd(&source, &[]);
        let text = &made.files[0].1;
        for line in [
            "ExecStart=/usr/bin/devrun -C \"/srv/my shop\" --profile \"a$$b%%c\" --progress plain up",
            "ExecStartPost=/usr/bin/devrun -C \"/srv/my shop\" --profile \"a$$b%%c\" wait --all --timeout 600s",
            "WorkingDirectory=/srv/my shop",
            "Environment=PATH=/usr/bin:/bin",
            "Environment=\"X=a \\\"b\\\" $c\"",
            "TimeoutStopSec=71s",
            "WantedBy=default.target",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert_eq!(made.losses[0].key, "${API_TOKEN}");
        assert!(!text.contains("User="), "{text}");
    }

    #[test]
    fn a_service_of_the_system_has_a_user_of_its_own() {
        let made = systemd(&source(true), &[80]);
        for line in [
            "User=devrun-shop",
            "StateDirectory=devrun-shop",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ReadWritePaths=\"-/srv/my shop\"",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "WantedBy=multi-user.target",
        ] {
            assert!(made.files[0].1.lines().any(|known| known == line), "{line}");
        }
    }
}
