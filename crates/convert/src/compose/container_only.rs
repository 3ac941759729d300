//! Images whose work is containers themselves: they update, restart, show or route them through Docker's socket, or prepare the
//! volumes of one. Natively there is nothing for them to do, so they are dropped by name, with what does the like here.

/// Why an image has no work without containers.
pub(super) fn reason(name: &str, words: &[String]) -> Option<&'static str> {
    Some(match name {
        "containrrr/watchtower" | "v2tec/watchtower" | "nickfedor/watchtower" | "crazymax/diun" => {
            "it looks for newer images: `devrun fetch` fetches what the procfile names"
        }
        "willfarrell/autoheal" => "it restarts unhealthy containers: `restart` and `alive` do that",
        "portainer/portainer" | "portainer/portainer-ce" | "portainer/portainer-ee" | "portainer/agent" | "louislam/dockge" => {
            "it manages containers: `devrun ps` and the dashboard show the services"
        }
        "amir20/dozzle" | "gliderlabs/logspout" => {
            "it reads the logs of containers: `devrun logs` and the dashboard show those of services"
        }
        "tecnativa/docker-socket-proxy" | "linuxserver/socket-proxy" | "wollomatic/socket-proxy" => {
            "it guards Docker's socket, and there is none"
        }
        "nginxproxy/acme-companion" | "jrcs/letsencrypt-nginx-proxy-companion" => {
            "it gets certificates for the proxy of the containers: `tls = true` makes a gateway serve HTTPS"
        }
        "drone/agent" | "drone/drone-runner-docker" | "gitlab/gitlab-runner" => "it runs builds in containers",
        "cadvisor/cadvisor" | "google/cadvisor" => {
            "it measures containers: `devrun stats` and the dashboard measure services, `node_exporter` the machine"
        }
        "n8nio/runners" => "n8n starts the runner of its JavaScript itself, and does not run Python without such a container",
        "cnfldemos/flink-sql-client-kafka" if words.is_empty() => {
            "it waits for commands by `docker exec`: `sql-client.sh` of a Flink that you install talks to the JobManager from here"
        }
        "waisbrot/wait" | "dadarek/wait-for-dependencies" | "willwill/wait-for-it" => {
            "it waits for other containers: `depends_on` waits until a service is ready"
        }
        "busybox" | "alpine" | "bash" | "debian" | "ubuntu" if prepares_volumes(words) => {
            "it gives the files of a volume to the user of a container: services run as you"
        }
        _ => return None,
    })
}

/// Whether a command does nothing but change owners and modes, and make directories for that. A directory alone may be wanted here.
fn prepares_volumes(words: &[String]) -> bool {
    let script = match words {
        [shell, option, script]
            if matches!(shell.as_str(), "sh" | "/bin/sh" | "bash" | "/bin/bash") && option.starts_with('-') =>
        {
            script.clone()
        }
        [script] => script.clone(),
        words => words.join(" "),
    };
    let mut changes = false;
    for command in script.split([';', '\n', '&', '|']).map(str::trim).filter(|command| !command.is_empty()) {
        match command.split_whitespace().next() {
            Some("chown" | "chmod") => changes = true,
            Some("mkdir" | "set" | "echo" | "exit" | "true") => {}
            _ => return false,
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scripts_that_change_owners_have_no_work() {
        let words = |text: &[&str]| text.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let table: [(&[&str], bool); 7] = [
            (&["sh", "-c", "chown -R 1000:1000 /home/node/.n8n"], true),
            (&["/bin/sh", "-ec", "mkdir -p /data && chown 1001 /data; exit 0"], true),
            (&["chmod", "-R", "777", "/data"], true),
            (&["mkdir", "-p", "/data"], false),
            (&["sh", "-c", "chown 1 /data && ./migrate"], false),
            (&["sleep", "1"], false),
            (&[], false),
        ];
        for (command, expected) in table {
            assert_eq!(reason("busybox", &words(command)).is_some(), expected, "{command:?}");
        }
        assert!(reason("containrrr/watchtower", &[]).is_some() && reason("nginx", &[]).is_none());
        let client = "cnfldemos/flink-sql-client-kafka";
        assert!(reason(client, &[]).is_some() && reason(client, &words(&["sql-client.sh", "-f", "jobs.sql"])).is_none());
    }
}
