//! The keys of a compose file and what each of them takes, as docker compose judges them: the compose specification's
//! `schema/compose-spec.json`. Keys that begin with `x-` are allowed everywhere and stand in no table.
//!
//! It knows more keys than devrun maps: what is known and has no counterpart is a line of the report, what is unknown an error. Numbers
//! and booleans where text is wanted are taken as that text.

use KeyShape::{Any, Bool, Duration, Either, Integer, List, Mount, Named, Number, Port, PortNumber, Size, Table, Text, Words};

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum KeyShape {
    /// Not judged.
    Any,
    /// One value.
    Text,
    Bool,
    /// A whole number.
    Integer,
    Number,
    /// `1m30s`.
    Duration,
    /// `512m`.
    Size,
    /// One of these words; one that ends in `*` stands for all that begin so.
    Words(&'static [&'static str]),
    /// `[[IP:]PUBLISHED:]TARGET[/PROTOCOL]`.
    Port,
    /// A port, or a range of them.
    PortNumber,
    /// `[SOURCE:]TARGET[:MODE]`.
    Mount,
    /// The words of a health check: the first says how they are run.
    HealthTest,
    List(&'static KeyShape),
    /// A table with these keys.
    Table(&'static KeyTable),
    /// A table whose keys are names of the user's.
    Named(&'static KeyShape),
    /// Whichever of them has the kind of the value.
    Either(&'static [KeyShape]),
}

/// The keys of a table.
#[derive(Debug)]
pub(super) struct KeyTable {
    pub keys: &'static [(&'static str, KeyShape)],
    /// Keys that must be there.
    pub required: &'static [&'static str],
}

impl KeyTable {
    /// What a key takes; `None` for an unknown one.
    pub(super) fn shape(&self, key: &str) -> Option<KeyShape> {
        self.keys.iter().find(|(name, _)| *name == key).map(|(_, shape)| *shape)
    }
}

macro_rules! table {
    ($($key:literal: $shape:expr),* $(,)?) => { table!([] $($key: $shape),*) };
    ([$($required:literal),*] $($key:literal: $shape:expr),* $(,)?) => {
        Table(&KeyTable { keys: &[$(($key, $shape)),*], required: &[$($required),*] })
    };
}

const TEXTS: KeyShape = List(&Text);
const TEXT_OR_TEXTS: KeyShape = Either(&[Text, TEXTS]);
/// `[NAME=VALUE]` or a table.
const LIST_OR_TABLE: KeyShape = Either(&[TEXTS, Named(&Any)]);
const EXTERNAL: KeyShape = Either(&[Bool, table! { "name": Text }]);
const RESTART: KeyShape = Words(&["no", "always", "on-failure", "on-failure:*", "unless-stopped"]);
const PULL_POLICY: KeyShape =
    Words(&["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly", "every_*"]);
const ULIMITS: KeyShape = Named(&Either(&[Integer, table! { ["hard", "soft"] "hard": Integer, "soft": Integer }]));

/// All the keys at the top of a file.
pub(super) const FILE: KeyShape = table! {
    "version": Text,
    "name": Text,
    "include": Any,
    "services": Named(&SERVICE),
    "models": Named(&table! { ["model"] "name": Text, "model": Text, "context_size": Integer, "runtime_flags": TEXTS }),
    "networks": Named(&NETWORK),
    "volumes": Named(&VOLUME),
    "secrets": Named(&SECRET),
    "configs": Named(&CONFIG),
};

const SERVICE: KeyShape = table! {
    "annotations": LIST_OR_TABLE,
    "attach": Bool,
    "blkio_config": BLKIO,
    "build": Either(&[Text, BUILD]),
    "cap_add": TEXTS,
    "cap_drop": TEXTS,
    "cgroup": Words(&["host", "private"]),
    "cgroup_parent": Text,
    "command": TEXT_OR_TEXTS,
    "configs": List(&FILE_REFERENCE),
    "container_name": Text,
    "cpu_count": Integer,
    "cpu_percent": Number,
    "cpu_period": Text,
    "cpu_quota": Text,
    "cpu_rt_period": Text,
    "cpu_rt_runtime": Text,
    "cpu_shares": Number,
    "cpus": Number,
    "cpuset": Text,
    "credential_spec": table! { "config": Text, "file": Text, "registry": Text },
    "depends_on": Either(&[TEXTS, Named(&table! {
        ["condition"]
        "condition": Words(&["service_started", "service_healthy", "service_completed_successfully"]),
        "required": Bool,
        "restart": Bool,
    })]),
    "deploy": DEPLOY,
    "develop": table! { "watch": List(&table! {
        ["path", "action"]
        "action": Words(&["rebuild", "restart", "sync", "sync+restart", "sync+exec"]),
        "exec": HOOK,
        "ignore": TEXT_OR_TEXTS,
        "include": TEXT_OR_TEXTS,
        "initial_sync": Bool,
        "path": Text,
        "target": Text,
    }) },
    "device_cgroup_rules": TEXTS,
    "devices": List(&Either(&[Text, table! { ["source"] "source": Text, "target": Text, "permissions": Text }])),
    "dns": TEXT_OR_TEXTS,
    "dns_opt": TEXTS,
    "dns_search": TEXT_OR_TEXTS,
    "domainname": Text,
    "entrypoint": TEXT_OR_TEXTS,
    "env_file": Either(&[Text, List(&Either(&[Text, table! { ["path"] "path": Text, "format": Text, "required": Bool }]))]),
    "environment": LIST_OR_TABLE,
    "expose": TEXTS,
    "extends": Either(&[Text, table! { ["service"] "service": Text, "file": Text }]),
    "external_links": TEXTS,
    "extra_hosts": LIST_OR_TABLE,
    "gpus": Either(&[Text, List(&Named(&Any))]),
    "group_add": TEXTS,
    "healthcheck": table! {
        "disable": Bool,
        "interval": Duration,
        "retries": Integer,
        "start_interval": Duration,
        "start_period": Duration,
        "test": Either(&[Text, KeyShape::HealthTest]),
        "timeout": Duration,
    },
    "hostname": Text,
    "image": Text,
    "init": Bool,
    "ipc": Text,
    "isolation": Text,
    "label_file": TEXT_OR_TEXTS,
    "labels": LIST_OR_TABLE,
    "links": TEXTS,
    "logging": table! { "driver": Text, "options": Named(&Text) },
    "mac_address": Text,
    "mem_limit": Size,
    "mem_reservation": Size,
    "mem_swappiness": Integer,
    "memswap_limit": Size,
    "models": Either(&[TEXTS, Named(&table! { "endpoint_var": Text, "model_var": Text })]),
    "network_mode": Text,
    "networks": Either(&[TEXTS, Named(&table! {
        "aliases": TEXTS,
        "driver_opts": Named(&Text),
        "gw_priority": Number,
        "interface_name": Text,
        "ipv4_address": Text,
        "ipv6_address": Text,
        "link_local_ips": TEXTS,
        "mac_address": Text,
        "priority": Number,
    })]),
    "oom_kill_disable": Bool,
    "oom_score_adj": Integer,
    "pid": Text,
    "pids_limit": Integer,
    "platform": Text,
    "ports": List(&Either(&[Port, table! {
        "app_protocol": Text,
        "host_ip": Text,
        "mode": Text,
        "name": Text,
        "protocol": Text,
        "published": PortNumber,
        "target": PortNumber,
    }])),
    "post_start": List(&HOOK),
    "pre_start": List(&START_HOOK),
    "pre_stop": List(&HOOK),
    "privileged": Bool,
    "profiles": TEXTS,
    "provider": table! { ["type"] "type": Text, "options": Named(&Any) },
    "pull_policy": PULL_POLICY,
    "pull_refresh_after": Text,
    "read_only": Bool,
    "restart": RESTART,
    "runtime": Text,
    "scale": Integer,
    "secrets": List(&FILE_REFERENCE),
    "security_opt": TEXTS,
    "shm_size": Size,
    "stdin_open": Bool,
    "stop_grace_period": Duration,
    "stop_signal": Text,
    "storage_opt": Any,
    "sysctls": LIST_OR_TABLE,
    "tmpfs": TEXT_OR_TEXTS,
    "tty": Bool,
    "ulimits": ULIMITS,
    "use_api_socket": Bool,
    "user": Text,
    "userns_mode": Text,
    "uts": Text,
    "volumes": List(&Either(&[Mount, LONG_MOUNT])),
    "volumes_from": TEXTS,
    "working_dir": Text,
};

/// A config or a secret of a service or a build.
const FILE_REFERENCE: KeyShape =
    Either(&[Text, table! { "gid": Text, "mode": Text, "source": Text, "target": Text, "uid": Text }]);

const LONG_MOUNT: KeyShape = table! {
    ["type"]
    "bind": table! {
        "create_host_path": Bool,
        "propagation": Text,
        "recursive": Words(&["enabled", "disabled", "writable", "readonly"]),
        "selinux": Words(&["z", "Z"]),
    },
    "consistency": Text,
    "image": table! { "subpath": Text },
    "read_only": Bool,
    "source": Text,
    "target": Text,
    "tmpfs": table! { "mode": Text, "size": Size },
    "type": Words(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"]),
    "volume": table! { "labels": LIST_OR_TABLE, "nocopy": Bool, "subpath": Text },
};

const HOOK: KeyShape = table! {
    ["command"]
    "command": TEXT_OR_TEXTS,
    "environment": LIST_OR_TABLE,
    "privileged": Bool,
    "user": Text,
    "working_dir": Text,
};

/// Runs in a container of its own before the service starts.
const START_HOOK: KeyShape = table! {
    "command": TEXT_OR_TEXTS,
    "environment": LIST_OR_TABLE,
    "image": Text,
    "per_replica": Bool,
    "privileged": Bool,
    "user": Text,
    "working_dir": Text,
};

const BLKIO_RATES: KeyShape = List(&table! { "path": Text, "rate": Text });
const BLKIO: KeyShape = table! {
    "device_read_bps": BLKIO_RATES,
    "device_read_iops": BLKIO_RATES,
    "device_write_bps": BLKIO_RATES,
    "device_write_iops": BLKIO_RATES,
    "weight": Integer,
    "weight_device": List(&table! { "path": Text, "weight": Integer }),
};

const BUILD: KeyShape = table! {
    "additional_contexts": LIST_OR_TABLE,
    "args": LIST_OR_TABLE,
    "cache_from": TEXTS,
    "cache_to": TEXTS,
    "context": Text,
    "dockerfile": Text,
    "dockerfile_inline": Text,
    "entitlements": TEXTS,
    "extra_hosts": LIST_OR_TABLE,
    "isolation": Text,
    "labels": LIST_OR_TABLE,
    "network": Text,
    "no_cache": Bool,
    "no_cache_filter": TEXT_OR_TEXTS,
    "platforms": TEXTS,
    "privileged": Bool,
    "provenance": Text,
    "pull": Bool,
    "sbom": Text,
    "secrets": List(&FILE_REFERENCE),
    "shm_size": Size,
    "ssh": Either(&[Text, TEXTS, Named(&Any)]),
    "tags": TEXTS,
    "target": Text,
    "ulimits": ULIMITS,
};

const DEPLOY: KeyShape = table! {
    "endpoint_mode": Text,
    "labels": LIST_OR_TABLE,
    "mode": Text,
    "placement": table! {
        "constraints": TEXTS,
        "max_replicas_per_node": Integer,
        "preferences": List(&table! { "spread": Text }),
    },
    "replicas": Integer,
    "resources": table! {
        "limits": table! { "cpus": Number, "memory": Size, "pids": Integer },
        "reservations": table! {
            "cpus": Number,
            "devices": List(&DEVICE_REQUEST),
            "generic_resources": List(&table! { "discrete_resource_spec": table! { "kind": Text, "value": Number } }),
            "memory": Size,
        },
    },
    "restart_policy": table! { "condition": Text, "delay": Duration, "max_attempts": Integer, "window": Duration },
    "rollback_config": UPDATE,
    "update_config": UPDATE,
};

const UPDATE: KeyShape = table! {
    "delay": Duration,
    "failure_action": Text,
    "max_failure_ratio": Number,
    "monitor": Duration,
    "order": Words(&["start-first", "stop-first"]),
    "parallelism": Integer,
};

const DEVICE_REQUEST: KeyShape = table! { ["capabilities"] "capabilities": TEXTS, "count": Text, "device_ids": TEXTS, "driver": Text, "options": LIST_OR_TABLE };

const NETWORK: KeyShape = table! {
    "attachable": Bool,
    "driver": Text,
    "driver_opts": Named(&Text),
    "enable_ipv4": Bool,
    "enable_ipv6": Bool,
    "external": EXTERNAL,
    "internal": Bool,
    "ipam": table! {
        "config": List(&table! { "aux_addresses": Named(&Text), "gateway": Text, "ip_range": Text, "subnet": Text }),
        "driver": Text,
        "options": Named(&Text),
    },
    "labels": LIST_OR_TABLE,
    "name": Text,
};

const VOLUME: KeyShape =
    table! { "driver": Text, "driver_opts": Named(&Text), "external": EXTERNAL, "labels": LIST_OR_TABLE, "name": Text };

const SECRET: KeyShape = table! {
    "driver": Text,
    "driver_opts": Named(&Text),
    "environment": Text,
    "external": Either(&[Bool, Named(&Any)]),
    "file": Text,
    "labels": LIST_OR_TABLE,
    "name": Text,
    "template_driver": Text,
};

const CONFIG: KeyShape = table! {
    "content": Text,
    "environment": Text,
    "external": Either(&[Bool, Named(&Any)]),
    "file": Text,
    "labels": LIST_OR_TABLE,
    "name": Text,
    "template_driver": Text,
};
