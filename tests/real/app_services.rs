//! Recipes of what stands in front of servers, and of finished applications, with their real servers: pools, broken networks, time
//! series, pages. They come from Debian, npm, PyPI and Go's modules, and run where they were fetched.

use std::time::Duration;

use crate::harness::eventually;
use crate::more_services::{send, send_as};
use crate::services::{down, get, is_there, port, project, up};

trials![
    pgbouncer_passes_queries_on_and_asks_for_the_password,
    toxiproxy_cuts_a_connection,
    influxdb_keeps_its_points,
    moto_has_tables_of_dynamodb,
    changedetection_shows_its_list,
    ghost_keeps_its_site,
    n8n_keeps_its_owner,
    kiwix_serves_its_files,
    archivebox_keeps_its_user,
    wordpress_keeps_its_title,
];

/// Starts on a busy machine.
const LONG: Duration = Duration::from_secs(120);

fn pgbouncer_passes_queries_on_and_asks_for_the_password() {
    let Some(project) = project("pgbouncer", false) else { return };
    if !is_there("postgres@16") {
        crate::harness::skipped("a Postgres 16 is absent; scripts/real-services fetches it");
        return;
    }
    project.rewrite(
        "[services.db]\nuse = \"postgres@16\"\nport = \"auto\"\nuser = \"app\"\npassword = \"p w\"\ndatabase = \"shop\"\n\
         [services.x]\nuse = \"pgbouncer\"\nport = \"auto\"\nuser = \"app\"\npassword = \"p w\"\ndepends_on = [\"db\"]\n\
         set = { host = \"${db.host}\", port = \"${db.port}\" }\n\
         [tasks.ask]\nrun = [\"sh\", \"-c\", \"psql -Atc 'select 40 + 2' > answer\"]\ndepends_on = [\"x\"]\n\
         env = { PGHOST = \"${x.host}\", PGPORT = \"${x.port}\", PGUSER = \"app\", PGDATABASE = \"shop\", PGPASSWORD = \"p w\" }\n",
    );
    if !crate::installed("psql") {
        crate::harness::skipped("psql is absent");
        return;
    }
    for _ in 0..2 {
        up(&project);
        assert_eq!(project.read("answer").trim(), "42");
        let ran = std::process::Command::new("psql")
            .args(["-h", "127.0.0.1", "-p", &port(&project, "main").to_string(), "-U", "app", "-d", "shop", "-Atc", "select 1"])
            .env("PGPASSWORD", "wrong")
            .output()
            .expect("psql starts");
        assert!(!ran.status.success(), "a wrong password is refused");
        down(&project);
    }
}

fn toxiproxy_cuts_a_connection() {
    let Some(project) = project("toxiproxy", false) else { return };
    project.rewrite("[services.x]\nuse = \"toxiproxy\"\nport = \"auto\"\n");
    for _ in 0..2 {
        up(&project);
        let own = port(&project, "main");
        // A proxy in front of its own interface, on any free port.
        let proxy = format!(r#"{{"name":"own","listen":"127.0.0.1:0","upstream":"127.0.0.1:{own}"}}"#);
        let (status, body) = send(own, "POST", "/proxies", &proxy);
        assert_eq!(status, 201, "{body}");
        let listens: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let through = listens["listen"].as_str().and_then(|at| at.rsplit(':').next()?.parse().ok()).expect("a port");
        assert_eq!(get(through, "/version").0, 200);
        let (status, body) = send(own, "POST", "/proxies/own", r#"{"enabled":false}"#);
        assert_eq!(status, 200, "{body}");
        assert!(std::net::TcpStream::connect(("127.0.0.1", through)).is_err(), "the way is cut");
        down(&project);
    }
}

fn influxdb_keeps_its_points() {
    let Some(project) = project("influxdb", false) else { return };
    project.rewrite("[services.x]\nuse = \"influxdb\"\nport = \"auto\"\nports = { backup = \"auto\" }\n");
    up(&project);
    let (status, body) = send(port(&project, "main"), "POST", "/query?q=create%20database%20shop", "");
    assert_eq!(status, 200, "{body}");
    let (status, body) = send(port(&project, "main"), "POST", "/write?db=shop", "orders,word=kept value=42");
    assert_eq!(status, 204, "{body}");
    down(&project);
    up(&project);
    eventually("the point is there", LONG, || {
        let (_, body) = get(port(&project, "main"), "/query?db=shop&q=select%20value%20from%20orders");
        body.contains(",42]").then_some(())
    });
    down(&project);
}

fn moto_has_tables_of_dynamodb() {
    let Some(project) = project("moto", false) else { return };
    project.rewrite("[services.x]\nuse = \"moto\"\nport = \"auto\"\n");
    let signed = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0";
    for _ in 0..2 {
        up(&project);
        let asks = |action: &str, body: &str| {
            let headers = [
                ("X-Amz-Target", format!("DynamoDB_20120810.{action}")),
                ("Authorization", signed.to_owned()),
                ("Content-Type", "application/x-amz-json-1.0".to_owned()),
            ];
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            send_as(port(&project, "main"), "POST", "/", &headers, body)
        };
        let table = r#"{"TableName":"orders","BillingMode":"PAY_PER_REQUEST","AttributeDefinitions":[{"AttributeName":"id","AttributeType":"S"}],"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}]}"#;
        let (status, body) = asks("CreateTable", table);
        assert_eq!(status, 200, "{body}");
        let (_, body) = asks("ListTables", "{}");
        assert!(body.contains(r#""orders""#), "{body}");
        down(&project);
    }
}

fn changedetection_shows_its_list() {
    let Some(project) = project("changedetection", false) else { return };
    project.rewrite("[services.x]\nuse = \"changedetection\"\nport = \"auto\"\n");
    for _ in 0..2 {
        up(&project);
        let (status, body) = get(port(&project, "main"), "/");
        assert_eq!(status, 200, "{body}");
        assert!(body.contains("<title>Change Detection"), "{body}");
        down(&project);
    }
}

fn ghost_keeps_its_site() {
    let Some(project) = project("ghost", false) else { return };
    project.rewrite("[services.x]\nuse = \"ghost\"\nport = \"auto\"\n");
    up(&project);
    let setup =
        r#"{"setup":[{"name":"Boss","email":"boss@shop.example","password":"correct horse battery","blogTitle":"kept"}]}"#;
    let (status, body) = send(port(&project, "main"), "POST", "/ghost/api/admin/authentication/setup/", setup);
    assert_eq!(status, 201, "{body}");
    down(&project);
    up(&project);
    assert!(get(port(&project, "main"), "/ghost/api/admin/site/").1.contains("\"title\":\"kept\""));
    down(&project);
}

fn n8n_keeps_its_owner() {
    let Some(project) = project("n8n", false) else { return };
    project.rewrite("[services.x]\nuse = \"n8n\"\nport = \"auto\"\nports = { broker = \"auto\" }\n");
    let settings = |project: &crate::harness::Project| get(port(project, "main"), "/rest/settings").1;
    up(&project);
    assert!(settings(&project).contains("\"showSetupOnFirstLoad\":true"));
    let owner = r#"{"email":"boss@shop.example","firstName":"B","lastName":"Oss","password":"Correct8horse"}"#;
    let (status, body) = send(port(&project, "main"), "POST", "/rest/owner/setup", owner);
    assert_eq!(status, 200, "{body}");
    down(&project);
    up(&project);
    assert!(settings(&project).contains("\"showSetupOnFirstLoad\":false"));
    down(&project);
}

fn archivebox_keeps_its_user() {
    let Some(project) = project("archivebox", false) else { return };
    project.rewrite(
        "[services.x]\nuse = \"archivebox\"\nport = \"auto\"\nenv = { ADMIN_USERNAME = \"boss\", ADMIN_PASSWORD = \"Correct8horse\" }\n",
    );
    for _ in 0..2 {
        up(&project);
        let own = port(&project, "main");
        let headers = [("Host", "localhost"), ("Referer", "http://localhost/")];
        let (status, page) = get(own, "/admin/login/");
        assert_eq!(status, 200, "{page}");
        let token = page.split("csrfmiddlewaretoken\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
        let cookie = format!("csrftoken={token}");
        let login = |password: &str| {
            let form = format!("csrfmiddlewaretoken={token}&username=boss&password={password}&next=/admin/");
            let headers = [headers[1], ("Cookie", cookie.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
            send_as(own, "POST", "/admin/login/", &headers, &form).0
        };
        assert_eq!((login("wrong"), login("Correct8horse")), (200, 302));
        down(&project);
    }
}

fn wordpress_keeps_its_title() {
    let Some(project) = project("wordpress", false) else { return };
    if !is_there("mariadb") {
        crate::harness::skipped("a MariaDB is absent; scripts/real-services fetches it");
        return;
    }
    project.rewrite(
        "[services.db]\nuse = \"mariadb\"\nport = \"auto\"\nuser = \"site\"\npassword = \"p w\"\ndatabase = \"site\"\n\
         [services.x]\nuse = \"wordpress\"\nport = \"auto\"\ndepends_on = [\"db\"]\n\
         set = { db_host = \"${db.addr}\", db_user = \"site\", db_password = \"p w\", db_name = \"site\" }\n",
    );
    up(&project);
    let form = "weblog_title=kept&user_name=boss&admin_password=Correct8horse&admin_password2=Correct8horse&pw_weak=on&admin_email=boss%40shop.example&blog_public=0";
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let (status, body) = send_as(port(&project, "main"), "POST", "/wp-admin/install.php?step=2", &headers, form);
    assert_eq!(status, 200, "{body}");
    down(&project);
    up(&project);
    let (status, body) = get(port(&project, "main"), "/");
    assert_eq!((status, body.contains("<title>kept")), (200, true), "{body}");
    let login = |password: &str| {
        let form = format!("log=boss&pwd={password}");
        send_as(port(&project, "main"), "POST", "/wp-login.php", &headers, &form).0
    };
    assert_eq!((login("wrong"), login("Correct8horse")), (200, 302));
    down(&project);
}

/// The smallest ZIM file with a page: header, list of types, places of the entries, entries, and one cluster that is not compressed.
fn zim(page: &str) -> Vec<u8> {
    let types = b"text/html\0text/plain\0\0";
    let entries = [(b'A', "index.html", 0u16, page), (b'M', "Title", 1, "The shop")];
    let (header, count) = (80, entries.len());
    let titles = header + types.len() + 8 * count;
    let clusters = titles + 4 * count;
    let (mut records, mut places) = (Vec::new(), Vec::new());
    for (number, (space, name, kind, _)) in entries.iter().enumerate() {
        places.extend((u64::try_from(clusters + 8 + records.len()).expect("small")).to_le_bytes());
        records.extend(kind.to_le_bytes());
        records.extend([0, *space]);
        records.extend([0u32, 0, u32::try_from(number).expect("small")].iter().flat_map(|word| word.to_le_bytes()));
        records.extend(format!("{name}\0{name}\0").bytes());
    }
    let cluster_at = clusters + 8 + records.len();
    let mut cluster = vec![1];
    let mut end = 4 * (count + 1);
    cluster.extend(u32::try_from(end).expect("small").to_le_bytes());
    for (.., text) in &entries {
        end += text.len();
        cluster.extend(u32::try_from(end).expect("small").to_le_bytes());
    }
    entries.iter().for_each(|(.., text)| cluster.extend(text.bytes()));
    let mut file = Vec::new();
    file.extend(72_173_914u32.to_le_bytes());
    file.extend([5, 0, 0, 0]);
    file.extend(b"devrun-test-file");
    file.extend(u32::try_from(count).expect("small").to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for place in [header + types.len(), titles, clusters, header] {
        file.extend(u64::try_from(place).expect("small").to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    file.extend(u32::MAX.to_le_bytes());
    file.extend(u64::try_from(cluster_at + cluster.len()).expect("small").to_le_bytes());
    file.extend(types);
    file.extend(places);
    (0..count).for_each(|number| file.extend(u32::try_from(number).expect("small").to_le_bytes()));
    file.extend(u64::try_from(cluster_at).expect("small").to_le_bytes());
    file.extend(records);
    file.extend(cluster);
    file.extend([0; 16]);
    file
}

fn kiwix_serves_its_files() {
    let Some(project) = project("kiwix", false) else { return };
    project.rewrite(
        "[services.x]\nuse = \"kiwix\"\nport = \"auto\"\n\
         [tasks.put]\nrun = [\"sh\", \"-c\", \"cp shop.zim \\\"$FILES/kiwix/data\\\"\"]\nenv = { FILES = \"${x.data}\" }\ndepends_on = [\"x\"]\n",
    );
    std::fs::write(project.dir().join("shop.zim"), zim("<html><body>kept words</body></html>")).expect("a file");
    up(&project);
    assert_eq!(get(port(&project, "main"), "/shop/A/index.html").0, 404, "files are read at a start");
    down(&project);
    up(&project);
    let (_, entries) = get(port(&project, "main"), "/catalog/v2/entries");
    assert!(entries.contains("<title>The shop</title>"), "{entries}");
    let (status, page) = get(port(&project, "main"), "/shop/A/index.html");
    assert_eq!((status, page.contains("kept words")), (200, true), "{page}");
    down(&project);
}
