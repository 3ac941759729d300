//! The program of the demo stack: a small shop, written as a user of devrun would write it. It knows nothing of devrun;
//! all it reads is its environment.
//!
//! - `shop api` answers `/api/*` from Postgres (`DATABASE_URL`) and Redis (`REDIS_URL`) on `PORT`.
//! - `shop frontend` serves the page in `WEB_DIR` on `PORT` and hands `/api/*` on to `API_URL`.
//!
//! HTTP is spoken by hand, one request per connection, so that the demo needs no crate which devrun itself does not.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

/// Whatever went wrong; the demo only prints it.
type Fault = Box<dyn Error + Send + Sync>;

/// A request head and a body larger than these are refused.
const MAX_HEAD: u64 = 16 * 1024;
const MAX_BODY: usize = 64 * 1024;
/// Neither a silent client nor a hanging server may hold a connection for longer.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() {
    let role = std::env::args().nth(1).unwrap_or_default();
    let outcome = match role.as_str() {
        "api" => api().await,
        "frontend" => frontend().await,
        _ => Err("usage: shop api|frontend".into()),
    };
    if let Err(fault) = outcome {
        say(&format!("shop {role}: {fault}"));
        std::process::exit(1);
    }
}

/// One line of the log. A closed pipe is no reason to end.
fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn need(name: &str) -> Result<String, Fault> {
    std::env::var(name).map_err(|_| format!("{name} is not set").into())
}

// ---------------------------------------------------------------------------------------------------------------- api

/// The two stores. Connections are made anew when they broke, so a restart of either is survived.
struct Stores {
    postgres: tokio_postgres::Config,
    client: Mutex<Option<Arc<Client>>>,
    redis: redis::Client,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Stores {
    async fn postgres(&self) -> Result<Arc<Client>, Fault> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let (client, connection) = timeout(PATIENCE, self.postgres.connect(NoTls)).await??;
        tokio::spawn(async move {
            if let Err(fault) = connection.await {
                say(&format!("postgres: {fault}"));
            }
        });
        let client = Arc::new(client);
        *slot = Some(Arc::clone(&client));
        Ok(client)
    }

    /// Runs one Redis command, a second time on a fresh connection if the first one had broken.
    async fn redis(&self, command: &redis::Cmd) -> Result<redis::Value, Fault> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_mut() {
            match command.query_async(connection).await {
                Ok(value) => return Ok(value),
                Err(fault) if fault.is_io_error() || fault.is_connection_dropped() => *slot = None,
                Err(fault) => return Err(fault.into()),
            }
        }
        let mut connection = timeout(PATIENCE, self.redis.get_multiplexed_async_connection()).await??;
        let value = command.query_async(&mut connection).await?;
        *slot = Some(connection);
        Ok(value)
    }
}

async fn api() -> Result<(), Fault> {
    let stores = Arc::new(Stores {
        postgres: need("DATABASE_URL")?.parse()?,
        client: Mutex::new(None),
        redis: redis::Client::open(need("REDIS_URL")?)?,
        connection: Mutex::new(None),
    });
    serve("api", move |request| {
        let stores = Arc::clone(&stores);
        async move { answer(&stores, &request).await.unwrap_or_else(|fault| Response::fault(503, &fault.to_string())) }
    })
    .await
}

async fn answer(stores: &Stores, request: &Request) -> Result<Response, Fault> {
    Ok(match (request.method.as_str(), request.path()) {
        ("GET", "/health") => {
            stores.postgres().await?.query_one("SELECT 1", &[]).await?;
            stores.redis(&redis::cmd("PING")).await?;
            Response::json(200, &json!({ "status": "ok" }))
        }
        ("GET", "/api/products") => Response::json(200, &products(stores).await?),
        ("GET", "/api/orders") => Response::json(200, &orders(stores).await?),
        ("POST", "/api/orders") => place_order(stores, &request.body).await?,
        ("GET", "/api/visits") => visits(stores, redis::cmd("GET").arg("shop:visits")).await?,
        ("POST", "/api/visits") => visits(stores, redis::cmd("INCR").arg("shop:visits")).await?,
        _ => Response::fault(404, "no such page"),
    })
}

async fn products(stores: &Stores) -> Result<Value, Fault> {
    let rows =
        stores.postgres().await?.query("SELECT id, name, description, price_cents, stock FROM products ORDER BY id", &[]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            json!({
                "id": row.get::<_, i32>(0),
                "name": row.get::<_, String>(1),
                "description": row.get::<_, String>(2),
                "price_cents": row.get::<_, i32>(3),
                "stock": row.get::<_, i32>(4),
            })
        })
        .collect())
}

async fn orders(stores: &Stores) -> Result<Value, Fault> {
    let rows = stores
        .postgres()
        .await?
        .query("SELECT id, product, quantity, total_cents, placed_at FROM recent_orders LIMIT 5", &[])
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            json!({
                "id": row.get::<_, i32>(0),
                "product": row.get::<_, String>(1),
                "quantity": row.get::<_, i32>(2),
                "total_cents": row.get::<_, i64>(3),
                "placed_at": row.get::<_, String>(4),
            })
        })
        .collect())
}

/// Stock and order change in one statement, so two customers never buy the same last piece.
async fn place_order(stores: &Stores, body: &[u8]) -> Result<Response, Fault> {
    let wish: Value = serde_json::from_slice(body).unwrap_or_default();
    let number = |key: &str| wish[key].as_i64().and_then(|number| i32::try_from(number).ok());
    let (Some(product), Some(quantity @ 1..=99)) = (number("product_id"), number("quantity")) else {
        return Ok(Response::fault(400, "product_id and quantity (1 to 99) are needed"));
    };
    let client = stores.postgres().await?;
    let order = client
        .query_opt(
            "WITH taken AS (UPDATE products SET stock = stock - $2 WHERE id = $1 AND stock >= $2 RETURNING id, price_cents) \
             INSERT INTO orders (product_id, quantity, total_cents) \
             SELECT id, $2, price_cents::bigint * $2 FROM taken RETURNING id, total_cents",
            &[&product, &quantity],
        )
        .await?;
    if let Some(row) = order {
        let (id, total) = (row.get::<_, i32>(0), row.get::<_, i64>(1));
        say(&format!("order {id}: {quantity} x product {product}"));
        return Ok(Response::json(201, &json!({ "id": id, "total_cents": total })));
    }
    Ok(match client.query_opt("SELECT 1 FROM products WHERE id = $1", &[&product]).await? {
        Some(_) => Response::fault(409, "not enough in stock"),
        None => Response::fault(404, "no such product"),
    })
}

async fn visits(stores: &Stores, command: &redis::Cmd) -> Result<Response, Fault> {
    let count: Option<u64> = redis::from_redis_value(stores.redis(command).await?)?;
    Ok(Response::json(200, &json!({ "visits": count.unwrap_or(0) })))
}

// ----------------------------------------------------------------------------------------------------------- frontend

async fn frontend() -> Result<(), Fault> {
    let upstream: Arc<str> =
        need("API_URL")?.strip_prefix("http://").ok_or("API_URL must begin with http://")?.trim_end_matches('/').into();
    let folder: Arc<Path> = PathBuf::from(need("WEB_DIR")?).into();
    serve("frontend", move |request| {
        let (upstream, folder) = (Arc::clone(&upstream), Arc::clone(&folder));
        async move {
            if request.path().starts_with("/api/") {
                return forward(&upstream, &request).await.unwrap_or_else(|fault| Response::fault(502, &fault.to_string()));
            }
            // A fixed list, so that no path can leave the folder.
            let (file, kind) = match request.path() {
                "/" | "/index.html" => ("index.html", "text/html; charset=utf-8"),
                "/app.js" => ("app.js", "text/javascript; charset=utf-8"),
                "/style.css" => ("style.css", "text/css; charset=utf-8"),
                "/health" => return Response::json(200, &json!({ "status": "ok" })),
                _ => return Response::fault(404, "no such page"),
            };
            match tokio::fs::read(folder.join(file)).await {
                Ok(body) => Response { status: 200, kind: kind.to_owned(), body },
                Err(fault) => Response::fault(500, &format!("{file}: {fault}")),
            }
        }
    })
    .await
}

async fn forward(upstream: &str, request: &Request) -> Result<Response, Fault> {
    let head = format!(
        "{} {} HTTP/1.1\r\nHost: {upstream}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        request.method,
        request.target,
        request.body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(upstream).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&request.body).await?;
        let mut answer = Vec::new();
        stream.take(1024 * 1024).read_to_end(&mut answer).await?;
        Ok::<_, Fault>(answer)
    };
    let answer = timeout(PATIENCE, exchange).await??;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("the API's answer has no head")?;
    let status = std::str::from_utf8(&answer[..end])?.split(' ').nth(1).ok_or("the API's answer has no status")?.parse()?;
    Ok(Response { status, kind: "application/json".to_owned(), body: answer[end + 4..].to_vec() })
}

// --------------------------------------------------------------------------------------------------------------- http

struct Request {
    method: String,
    target: String,
    body: Vec<u8>,
}

impl Request {
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

struct Response {
    status: u16,
    kind: String,
    body: Vec<u8>,
}

impl Response {
    fn json(status: u16, value: &Value) -> Self {
        Self { status, kind: "application/json".to_owned(), body: value.to_string().into_bytes() }
    }
    fn fault(status: u16, why: &str) -> Self {
        Self::json(status, &json!({ "error": why }))
    }
}

/// Listens on `PORT` until TERM or INT, then lets open requests finish.
async fn serve<Handler, Answer>(role: &'static str, handler: Handler) -> Result<(), Fault>
where
    Handler: Fn(Request) -> Answer + Clone + Send + 'static,
    Answer: Future<Output = Response> + Send + 'static,
{
    let port: u16 = need("PORT")?.parse()?;
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    say(&format!("{role} listens on http://127.0.0.1:{port}"));
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let handler = handler.clone();
                open.spawn(timeout(2 * PATIENCE, converse(stream, handler)));
            }
            Some(_) = open.join_next() => {}
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
    }
    drop(listener);
    say(&format!("{role} finishes {} open requests and ends", open.len()));
    while open.join_next().await.is_some() {}
    Ok(())
}

async fn converse<Handler, Answer>(stream: TcpStream, handler: Handler)
where
    Handler: Fn(Request) -> Answer,
    Answer: Future<Output = Response>,
{
    let mut stream = BufReader::new(stream);
    let response = match timeout(PATIENCE, read_request(&mut stream)).await {
        Ok(Ok(Some(request))) => {
            let line = format!("{} {}", request.method, request.target);
            let response = handler(request).await;
            // Probes come all the time; a log of nothing but them hides what a person did.
            if !line.ends_with(" /health") || response.status != 200 {
                say(&format!("{line} {}", response.status));
            }
            response
        }
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(fault)) => Response::fault(400, &fault.to_string()),
    };
    let mut head = String::new();
    let _ = write!(
        head,
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        response.status,
        reason(response.status),
        response.kind,
        response.body.len()
    );
    // The client may be gone; there is nobody to tell.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&response.body).await;
    let _ = stream.shutdown().await;
}

/// `None`: the client closed without a word, as a TCP probe does.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Result<Option<Request>, Fault> {
    let mut head = stream.take(MAX_HEAD);
    let mut line = String::new();
    if head.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err("no request line".into()) };
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut length = 0;
    loop {
        line.clear();
        if head.read_line(&mut line).await? == 0 {
            return Err("the request's head is cut or too long".into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    if length > MAX_BODY {
        return Err("the request's body is too long".into());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Request { method, target, body }))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        404 => "Not Found",
        409 => "Conflict",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Error",
    }
}
