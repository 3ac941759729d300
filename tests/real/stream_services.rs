//! Recipes of servers that stand in example stacks, with their real servers: documents, schemas, expectations, time series, streams
//! and changes of databases. They are built by Maven or from PyPI and run where they are built.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{PATIENCE, eventually};
use crate::more_services::{send, send_as};
use crate::services::{down, get, port, project, talk, up};

trials![
    tika_finds_the_text_of_a_document,
    apicurio_takes_schemas_by_confluents_interface,
    mockserver_answers_what_it_was_told,
    questdb_keeps_its_rows_and_asks_for_its_login,
    flink_has_a_jobmanager_and_its_taskmanager,
    debezium_server_carries_the_rows_of_a_postgres,
];

/// Starts of Java on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn tika_finds_the_text_of_a_document() {
    let Some(project) = project("tika", false) else { return };
    project.rewrite("[services.x]\nuse = \"tika\"\nport = \"auto\"\nset = { heap = \"384m\" }\n");
    for _ in 0..2 {
        up(&project);
        let page = "<html><head><title>kept</title></head><body><p>first word</p></body></html>";
        let headers = [("Content-Type", "text/html"), ("Accept", "text/plain")];
        let (status, text) = send_as(port(&project, "main"), "PUT", "/tika", &headers, page);
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("first word") && !text.contains("<p>"), "{text}");
        down(&project);
    }
}

fn apicurio_takes_schemas_by_confluents_interface() {
    let Some(project) = project("apicurio", false) else { return };
    project.rewrite("[services.x]\nuse = \"apicurio\"\nport = \"auto\"\n");
    for _ in 0..2 {
        up(&project);
        let schema = r#"{"schema":"{\"type\":\"record\",\"name\":\"order\",\"fields\":[{\"name\":\"id\",\"type\":\"int\"}]}"}"#;
        let (status, body) = send(port(&project, "main"), "POST", "/apis/ccompat/v7/subjects/orders-value/versions", schema);
        assert_eq!(status, 200, "{body}");
        let (status, body) = get(port(&project, "main"), "/apis/ccompat/v7/subjects/orders-value/versions/latest");
        assert_eq!(status, 200, "{body}");
        assert!(body.contains(r#"\"name\":\"order\""#), "{body}");
        down(&project);
    }
}

fn mockserver_answers_what_it_was_told() {
    let Some(project) = project("mockserver", false) else { return };
    project.rewrite("[services.x]\nuse = \"mockserver\"\nport = \"auto\"\n");
    for _ in 0..2 {
        up(&project);
        let told = r#"{"httpRequest":{"path":"/price"},"httpResponse":{"statusCode":202,"body":"42"}}"#;
        let (status, body) = send(port(&project, "main"), "PUT", "/mockserver/expectation", told);
        assert_eq!(status, 201, "{body}");
        assert_eq!(get(port(&project, "main"), "/price").0, 202);
        assert_eq!(get(port(&project, "main"), "/other").0, 404);
        down(&project);
    }
}

fn questdb_keeps_its_rows_and_asks_for_its_login() {
    let Some(project) = project("questdb", false) else { return };
    project.rewrite(
        "[services.x]\nuse = \"questdb\"\nport = \"auto\"\nports = { pg = \"auto\", line = \"auto\", health = \"auto\" }\n\
         user = \"boss\"\npassword = \"p w\"\n",
    );
    // It keeps a connection open that asks to be closed, so the answer is read up to what is expected.
    let ask = |query: &str, until: &str| {
        let request = format!("GET /exec?query={} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", query.replace(' ', "%20"));
        let said = talk(port(&project, "main"), request.as_bytes(), until);
        assert!(said.contains(until), "{said}");
        said
    };
    up(&project);
    ask("create table orders (id int, word symbol)", "OK");
    ask("insert into orders values (1, 'kept')", "OK");
    down(&project);
    up(&project);
    eventually("the row is there", LONG, || ask("select word from orders", "\"count\":").contains(r#"[["kept"]]"#).then_some(()));
    // The protocol of Postgres takes the login: a start packet of version 3 with the user, and a password in plain text once the
    // server has asked for it.
    let login = |password: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port(&project, "pg"))).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(b"\0\0\0\x20\0\x03\0\0user\0boss\0database\0qdb\0\0").expect("it reads");
        let mut asked = [0; 9];
        stream.read_exact(&mut asked).expect("it asks for a password");
        let length = u32::try_from(password.len() + 5).expect("a short password").to_be_bytes();
        stream.write_all(&[b"p", &length[..], password.as_bytes(), b"\0"].concat()).expect("it reads");
        let mut answer = [0; 400];
        let count = stream.read(&mut answer).expect("it answers");
        String::from_utf8_lossy(&answer[..count]).into_owned()
    };
    assert!(login("p w").contains("server_version"));
    assert!(!login("wrong").contains("server_version"));
    down(&project);
}

fn flink_has_a_jobmanager_and_its_taskmanager() {
    let (Some(_), Some(project)) = (project("flink_taskmanager", false), project("flink", false)) else { return };
    project.rewrite(
        "[services.x]\nuse = \"flink\"\nport = \"auto\"\nports = { rpc = \"auto\", blob = \"auto\" }\n\
         [services.worker]\nuse = \"flink_taskmanager\"\nport = \"auto\"\nports = { data = \"auto\" }\ndepends_on = [\"x\"]\n\
         set = { jobmanager = \"${x.host}\", jobmanager_port = \"${x.ports.rpc}\", slots = \"3\" }\n",
    );
    for _ in 0..2 {
        up(&project);
        let overview = || get(port(&project, "main"), "/overview").1;
        eventually("the TaskManager has registered its slots", LONG, || {
            let said = overview();
            (said.contains(r#""taskmanagers":1"#) && said.contains(r#""slots-total":3"#)).then_some(())
        });
        down(&project);
    }
}

fn debezium_server_carries_the_rows_of_a_postgres() {
    let (Some(_), Some(_)) = (project("valkey", true), project("postgres", false)) else { return };
    let Some(project) = project("debezium_server", false) else { return };
    std::fs::write(
        project.path("rows.sql"),
        "create table orders (id int primary key, word text); insert into orders values (1, 'kept');",
    )
    .expect("our own folder");
    let properties = "debezium.sink.type=redis\\ndebezium.sink.redis.address=${cache.addr}\\n\
        debezium.source.connector.class=io.debezium.connector.postgresql.PostgresConnector\\ndebezium.source.plugin.name=pgoutput\\n\
        debezium.source.offset.storage.file.filename=data/offsets.dat\\ndebezium.source.offset.flush.interval.ms=0\\n\
        debezium.source.database.hostname=${db.host}\\ndebezium.source.database.port=${db.port}\\n\
        debezium.source.database.user=app\\ndebezium.source.database.password=odd\\ndebezium.source.database.dbname=shop\\n\
        debezium.source.topic.prefix=t\\ndebezium.source.table.include.list=public.orders\\n";
    project.rewrite(&format!(
        "[services.cache]\nuse = \"valkey\"\nport = \"auto\"\npassword = \"\"\n\
         [services.db]\nuse = \"postgres@16\"\nport = \"auto\"\nuser = \"app\"\npassword = \"odd\"\ndatabase = \"shop\"\ninit = \"rows.sql\"\n\
         set = {{ wal_level = \"logical\" }}\n\
         [services.x]\nuse = \"debezium_server\"\nport = \"auto\"\ndepends_on = [\"db\", \"cache\"]\n\
         files = {{ \"application.properties\" = \"{properties}\" }}\n"
    ));
    for _ in 0..2 {
        up(&project);
        let cache = u16::try_from(project.service("cache")["ports"]["main"].as_u64().expect("a port")).expect("a port");
        // The second run continues where the first one ended: the row is not carried once more.
        eventually("the row is in its stream", LONG, || {
            talk(cache, b"XLEN t.public.orders\r\n", "\n").starts_with(":1").then_some(())
        });
        down(&project);
    }
}
