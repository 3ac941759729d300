//! Volumes that a web server serves from, and volumes in memory.

use devrun_convert::KeyOutcome;

use crate::imports::{compose, has, import, lacks, says};

/// A Django with its web server; the volume of its collected files is at `target` in both.
fn django(target: &str, program: &str) -> devrun_convert::Converted {
    let yaml = format!(
        "services:\n  web: {{ image: 'python:3', command: gunicorn shop.wsgi, expose: [8000], {program} }}\n  nginx:\n    image: nginx\n    ports: ['8080:80']\n    volumes: ['static:{target}:ro', './default.conf:/etc/nginx/conf.d/default.conf']\nvolumes: {{ static: }}\n"
    );
    let conf = format!(
        "server {{ listen 80; location /static/ {{ alias {target}/; }} location / {{ proxy_pass http://web:8000; }} }}\n"
    );
    import(&[("compose.yaml", &yaml), ("default.conf", &conf)])
}

#[test]
fn a_volume_that_a_program_fills_below_its_project_is_served_from_there() {
    for (target, program) in [
        ("/app/staticfiles", "working_dir: /app, volumes: ['.:/app', 'static:/app/staticfiles']"),
        ("/srv/files", "working_dir: /app, volumes: ['.:/app', 'static:/app/staticfiles']"),
    ] {
        let converted = django(target, program);
        assert!(converted.text.contains("alias ${dir.project}/staticfiles/;"), "{}", converted.text);
        says(&converted, KeyOutcome::Mapped, &format!("services.nginx.volumes: static: {target} is staticfiles"));
        says(&converted, KeyOutcome::Mapped, "services.web.volumes: volumes: static; below a mounted directory");
    }
    // The same by a mount in both.
    let converted = import(&[
        (
            "compose.yaml",
            "services:\n  nginx: { image: nginx, volumes: ['./out:/files', './default.conf:/etc/nginx/conf.d/default.conf'] }\n",
        ),
        ("default.conf", "server { listen 80; location /static/ { alias /files/; } }\n"),
    ]);
    assert!(converted.text.contains("alias ${dir.project}/out/;"), "{}", converted.text);
}

#[test]
fn a_served_volume_that_only_containers_have_is_named() {
    let converted = django("/vol/static", "working_dir: /app, volumes: ['.:/app', 'static:/vol/static']");
    says(&converted, KeyOutcome::NotMapped, "services.nginx.volumes: static: its configuration serves /vol/static");
    let dropped = converted.report.render(&[KeyOutcome::Dropped]);
    assert!(!dropped.contains("static"), "{dropped}");
}

#[test]
fn data_in_memory_end_with_the_run() {
    for tmpfs in ["tmpfs: /var/lib/postgresql/data", "tmpfs: ['/run', '/var/lib/postgresql/data:size=1g']"] {
        let converted = compose(&format!("services:\n  db: {{ image: 'postgres:16', {tmpfs} }}\n"));
        has(&converted, "services/db/data", "db-tmpfs");
        has(&converted, "volumes/db-tmpfs/class", "scratch");
        says(
            &converted,
            KeyOutcome::Mapped,
            "services.db.tmpfs: /var/lib/postgresql/data → data = \"db-tmpfs\", a scratch volume",
        );
        let dropped = converted.report.render(&[KeyOutcome::Dropped]);
        assert_eq!(dropped.contains("services.db.tmpfs"), tmpfs.contains("/run"), "{dropped}");
    }
    let yaml = "services:\n  db: { image: 'postgres:16', volumes: [{ type: tmpfs, target: /var/lib/postgresql/data }] }\n";
    has(&compose(yaml), "volumes/db-tmpfs/class", "scratch");
    lacks(&compose("services:\n  db: { image: 'postgres:16', tmpfs: /tmp }\n"), "volumes");
}
