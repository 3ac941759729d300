//! How well-known servers are kept from putting themselves into the background, for the failure of one that did.

use devrun_model::{Launch, ServiceSpec};

/// Program, and what to write instead.
const OPTIONS: &[(&str, &str)] = &[
    ("apache2", "apache2 -D FOREGROUND"),
    ("apache2ctl", "apache2ctl -D FOREGROUND"),
    ("apachectl", "apachectl -D FOREGROUND"),
    ("httpd", "httpd -D FOREGROUND"),
    ("nginx", "nginx -g 'daemon off;'"),
    ("caddy", "caddy run"),
    ("haproxy", "haproxy -db"),
    ("varnishd", "varnishd -F"),
    ("squid", "squid -N"),
    ("redis-server", "redis-server --daemonize no"),
    ("valkey-server", "valkey-server --daemonize no"),
    ("memcached", "memcached without -d"),
    ("mongod", "mongod without --fork"),
    ("pg_ctl", "postgres -D DATA"),
    ("pg_ctlcluster", "pg_ctlcluster --foreground"),
    ("postgres", "postgres -D DATA"),
    ("mysqld", "mysqld without --daemonize"),
    ("mysqld_safe", "mysqld"),
    ("mariadbd", "mariadbd without --daemonize"),
    ("neo4j", "neo4j console"),
    ("cassandra", "cassandra -f"),
    ("elasticsearch", "elasticsearch without -d"),
    ("opensearch", "opensearch without -d"),
    ("kafka-server-start.sh", "kafka-server-start.sh without -daemon"),
    ("zookeeper-server-start.sh", "zookeeper-server-start.sh without -daemon"),
    ("zkServer.sh", "zkServer.sh start-foreground"),
    ("rabbitmq-server", "rabbitmq-server without -detached"),
    ("dnsmasq", "dnsmasq --keep-in-foreground"),
    ("sshd", "sshd -D"),
    ("cron", "cron -f"),
    ("crond", "crond -f"),
    ("supervisord", "supervisord --nodaemon"),
    ("php-fpm", "php-fpm --nodaemonize"),
    ("gunicorn", "gunicorn without --daemon"),
    ("uwsgi", "uwsgi without --daemonize"),
    ("celery", "celery worker"),
    ("puma", "puma without --daemon"),
    ("pm2", "pm2-runtime"),
    ("stunnel", "stunnel with foreground = yes"),
    ("slapd", "slapd -d 0"),
];

/// What to write in the place of the service's command, by its own words and by the names of what it has left.
pub(crate) fn advice(spec: &ServiceSpec, left: &[(i32, String)]) -> String {
    let words: Vec<&str> = match &spec.launch {
        Launch::Run(command) => command.argv.iter().flat_map(|word| word.split_whitespace()).collect(),
        _ => Vec::new(),
    };
    let names =
        words.iter().map(|word| word.rsplit('/').next().unwrap_or(word)).chain(left.iter().map(|(_, name)| name.as_str()));
    let known = names.into_iter().find_map(|name| OPTIONS.iter().find(|(program, _)| is_called(name, program)));
    match known {
        Some((_, instead)) => format!("run it in the foreground: {instead}"),
        None => {
            "run it in the foreground: servers have an option such as --foreground, --nodaemon or -F for it; devrun keeps it \
                 in the background itself"
                .to_owned()
        }
    }
}

/// The kernel keeps 15 bytes of a name; a version may follow it, as in `php-fpm8.2`.
fn is_called(name: &str, program: &str) -> bool {
    name == program
        || name.len() == 15 && program.starts_with(name)
        || name.strip_prefix(program).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use devrun_model::ServiceName;

    #[test]
    fn known_servers_are_told_by_their_command_or_by_what_is_left() {
        let spec = |words: &[&str]| {
            let argv = words.iter().map(|word| (*word).to_owned()).collect();
            ServiceSpec::bare(ServiceName::new("a").unwrap(), "/".into(), argv)
        };
        let left = |name: &str| vec![(7, name.to_owned())];
        for (words, left, expected) in [
            (&["/usr/bin/redis-server", "--daemonize", "yes"][..], left("redis-server"), "redis-server --daemonize no"),
            (&["sh", "-c", "exec /usr/sbin/php-fpm8.2"][..], left("php-fpm8.2"), "php-fpm --nodaemonize"),
            (&["./start.sh"][..], left("nginx"), "nginx -g 'daemon off;'"),
            (&["./start.sh"][..], left("zookeeper-serve"), "zookeeper-server-start.sh without -daemon"),
            (&["./start.sh"][..], left("sleep"), "--foreground"),
        ] {
            let advice = advice(&spec(words), &left);
            assert!(advice.starts_with("run it in the foreground: ") && advice.contains(expected), "{words:?}: {advice}");
        }
    }
}
