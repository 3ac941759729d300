//! A web server on loopback that does to a download what networks do.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::waits::eventually;

/// How an answer goes.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The body; ranges are honoured.
    Body(Vec<u8>),
    /// The first answer ends after so many bytes of the announced length; later ones are whole, and honour ranges.
    CutOnce(Vec<u8>, usize),
    /// Every answer is cut, and ranges are ignored.
    CutAlways(Vec<u8>, usize),
    /// So many bytes, then nothing more while the connection stays open.
    Stall(Vec<u8>, usize),
    /// No length is announced, and the connection's end is the end.
    NoLength(Vec<u8>),
    /// A redirect.
    Redirect(String),
    /// A bare status.
    Status(u16),
}

/// Runs until dropped.
pub struct Server {
    pub base: String,
    pub hits: Arc<AtomicUsize>,
    /// `Range` headers seen.
    pub ranges: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<Vec<(String, Answer)>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub fn new(answers: &[(&str, Answer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect()));
        let server = Self { base, hits: Arc::default(), ranges: Arc::default(), answers, ended: Arc::default() };
        let (answers, hits) = (server.answers.clone(), server.hits.clone());
        let (ranges, ended) = (server.ranges.clone(), server.ended.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (answers, hits, ranges, ended) = (answers.clone(), hits.clone(), ranges.clone(), ended.clone());
                std::thread::spawn(move || serve(stream, &answers, &hits, &ranges, &ended));
            }
        });
        server
    }
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
    pub fn set(&self, path: &str, answer: Answer) {
        let mut answers = self.answers.lock().unwrap();
        answers.retain(|(known, _)| known != path);
        answers.push((path.to_owned(), answer));
    }
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then drops the listener.
        let _woken = TcpStream::connect(self.base.trim_start_matches("http://"));
    }
}

fn serve(
    mut stream: TcpStream,
    answers: &Mutex<Vec<(String, Answer)>>,
    hits: &AtomicUsize,
    ranges: &Mutex<Vec<String>>,
    ended: &AtomicBool,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = lines.take_while(|line| !line.is_empty()).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("range").then(|| value.trim().to_owned())
    });
    hits.fetch_add(1, Ordering::Relaxed);
    let from = range.as_ref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    ranges.lock().unwrap().extend(range);
    let answer = {
        let mut answers = answers.lock().unwrap();
        let Some((_, answer)) = answers.iter_mut().find(|(known, _)| *known == path) else {
            let _closed = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        };
        let now = answer.clone();
        if let Answer::CutOnce(body, _) = &now {
            *answer = Answer::Body(body.clone());
        }
        now
    };
    // A client that hangs up in the middle is what several tests are about.
    let _closed = match answer {
        Answer::Body(body) => match from.filter(|from| *from < body.len()) {
            Some(from) => stream
                .write_all(
                    format!(
                        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len() - 1,
                        body.len(),
                        body.len() - from
                    )
                    .as_bytes(),
                )
                .and_then(|()| stream.write_all(&body[from..])),
            None => head(&mut stream, body.len()).and_then(|()| stream.write_all(&body)),
        },
        Answer::CutOnce(body, at) | Answer::CutAlways(body, at) => {
            head(&mut stream, body.len()).and_then(|()| stream.write_all(&body[..at]))
        }
        Answer::Stall(body, at) => head(&mut stream, body.len()).and_then(|()| stream.write_all(&body[..at])).map(|()| {
            eventually("the end of the test", Duration::MAX, || ended.load(Ordering::Relaxed).then_some(()));
        }),
        Answer::NoLength(body) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").and_then(|()| stream.write_all(&body))
        }
        Answer::Redirect(to) => stream.write_all(
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes(),
        ),
        Answer::Status(status) => {
            stream.write_all(format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
        }
    };
}

fn head(stream: &mut TcpStream, length: usize) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes())
}
