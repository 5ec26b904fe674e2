//! As much of HTTP as one page on this machine needs: a request is bounded in size and time, and every connection has one.
//!
//! Heads are parsed by `httparse`; the rest is here, since small servers off the shelf set no limit to how long a request may take.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

/// The most bytes of a request's line and headers; browsers send the cookies of all ports of this machine.
const MOST_HEAD: usize = 32 << 10;
/// The most headers.
const MOST_HEADERS: usize = 64;
/// The most bytes of a body.
const MOST_BODY: usize = 4 << 10;
/// How long a request may take to arrive, and a reply to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a refused request is still read, so that its sender hears why, and for how long.
const MOST_DRAINED: usize = 1 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(1);

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Such as GET.
    pub method: String,
    /// Without what follows a question mark.
    pub path: String,
    /// Its body.
    pub body: Vec<u8>,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Such as 200.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// Methods that a refused one could have been.
    pub allow: Option<&'static str>,
}

impl Reply {
    /// What was asked for.
    pub fn of(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, content_type, body: body.into(), allow: None }
    }

    /// A refusal, and why.
    pub fn refusal(status: u16, error: impl Into<String>) -> Self {
        let body = json!({ "error": error.into() }).to_string().into_bytes();
        Self { status, content_type: "application/json", body, allow: None }
    }

    /// Whether it refuses.
    pub fn refuses(&self) -> bool {
        self.status >= 400
    }

    /// The whole reply: nothing may be kept, framed, guessed or fetched from elsewhere.
    fn bytes(&self) -> Vec<u8> {
        let Self { status, content_type, body, allow } = self;
        let allow = allow.map_or_else(String::new, |methods| format!("Allow: {methods}\r\n"));
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\n\
             Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\r\n",
            reason(*status),
            body.len()
        );
        [head.as_bytes(), body].concat()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Bad Request",
    }
}

/// A connection whose reads together end in time.
struct Timed<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

/// Reads the request of a connection, answers it, and closes it. Whoever goes away unanswered is not missed.
pub fn serve(mut stream: &TcpStream, answer: impl FnOnce(&Request) -> Reply) {
    let until = Instant::now() + PATIENCE;
    let reply = match read(&mut Timed { stream, until }) {
        Ok(Some(request)) => answer(&request),
        Ok(None) => return,
        Err(refusal) => refusal,
    };
    let sent = stream.set_write_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(&reply.bytes()));
    if sent.and_then(|()| stream.shutdown(Shutdown::Write)).is_ok() && reply.refuses() {
        // What is unread when a connection is closed takes the reply with it.
        let rest = Timed { stream, until: Instant::now() + DRAINED_FOR };
        let _ = io::copy(&mut rest.take(MOST_DRAINED as u64), &mut io::sink());
    }
}

/// A request; none where nobody says anything.
///
/// # Errors
/// The refusal of one that is too large, too slow, not HTTP, or not for this machine.
fn read(from: &mut impl Read) -> Result<Option<Request>, Reply> {
    let mut bytes = Vec::new();
    loop {
        if let Some((head, length)) = parse(&bytes)? {
            return body(from, bytes.split_off(length), head).map(Some);
        }
        if bytes.len() >= MOST_HEAD {
            return Err(Reply::refusal(431, format!("the head of a request may have {MOST_HEAD} bytes")));
        }
        let arrived = more(from, MOST_HEAD - bytes.len(), &mut bytes)?;
        if arrived == 0 {
            return if bytes.is_empty() { Ok(None) } else { Err(Reply::refusal(400, "the request ends in its head")) };
        }
    }
}

/// Reads once, `most` bytes or fewer.
fn more(from: &mut impl Read, most: usize, into: &mut Vec<u8>) -> Result<usize, Reply> {
    let mut part = [0; 4096];
    let room = part.len().min(most);
    loop {
        match from.read(&mut part[..room]) {
            Ok(arrived) => {
                into.extend_from_slice(&part[..arrived]);
                return Ok(arrived);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Reply::refusal(408, format!("the request did not arrive: {error}"))),
        }
    }
}

/// A head: what it asks for, and how long its body is.
struct Head {
    method: String,
    path: String,
    body: usize,
}

/// The head at the beginning of `bytes`, and its length, if it is there whole.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Reply> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Reply::refusal(431, format!("a request may have {MOST_HEADERS} headers")));
        }
        Err(error) => return Err(Reply::refusal(400, format!("no HTTP request: {error}"))),
    };
    let only = |name: &str| -> Result<Option<String>, Reply> {
        let mut values = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let value = values.next().map(|header| String::from_utf8_lossy(header.value).into_owned());
        if values.next().is_some() {
            return Err(Reply::refusal(400, format!("two headers {name}")));
        }
        Ok(value)
    };
    let host = only("host")?.ok_or_else(|| Reply::refusal(400, "no header Host"))?;
    is_here(&host, only("origin")?.as_deref())?;
    if only("transfer-encoding")?.is_some() {
        return Err(Reply::refusal(400, "a body is to come with its Content-Length"));
    }
    let body = match only("content-length")? {
        None => 0,
        Some(said) => said
            .parse::<usize>()
            .ok()
            .filter(|_| said.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| Reply::refusal(400, format!("Content-Length is {said:?}, a whole number is expected")))?,
    };
    if body > MOST_BODY {
        return Err(Reply::refusal(413, format!("a body of {body} bytes; allowed: {MOST_BODY}")));
    }
    let method = request.method.unwrap_or_default().to_owned();
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    Ok(Some((Head { method, path, body }, length)))
}

/// Refuses what pages of other sites have browsers send: by a name of theirs that leads here, or from there.
fn is_here(host: &str, origin: Option<&str>) -> Result<(), Reply> {
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let here =
        ["127.0.0.1", "localhost"].iter().any(|own| name.eq_ignore_ascii_case(own)) && port.parse::<u16>().is_ok();
    if !here {
        return Err(Reply::refusal(403, format!("Host is {host:?}; allowed: 127.0.0.1 and localhost")));
    }
    match origin {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => {
            Err(Reply::refusal(403, format!("Origin is {origin:?}; allowed: http://{host}")))
        }
        _ => Ok(()),
    }
}

fn body(from: &mut impl Read, mut body: Vec<u8>, head: Head) -> Result<Request, Reply> {
    // What comes after a body belongs to no request: each connection has one.
    body.truncate(head.body);
    while body.len() < head.body {
        if more(from, head.body - body.len(), &mut body)? == 0 {
            return Err(Reply::refusal(400, format!("a body of {} bytes, {} were said", body.len(), head.body)));
        }
    }
    Ok(Request { method: head.method, path: head.path, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a byte at a time, then what silence is.
    struct Trickle<'a>(&'a [u8], io::ErrorKind);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.split_first() {
                Some((first, rest)) => {
                    buffer[0] = *first;
                    self.0 = rest;
                    Ok(1)
                }
                None => Err(self.1.into()),
            }
        }
    }

    fn status(request: &str) -> u16 {
        match read(&mut request.as_bytes()) {
            Ok(_) => 200,
            Err(refusal) => {
                let said: serde_json::Value = serde_json::from_slice(&refusal.body).unwrap();
                assert!(said["error"].as_str().is_some_and(|error| !error.is_empty()), "{said}");
                refusal.status
            }
        }
    }

    #[test]
    fn a_request_is_read_however_it_arrives() {
        let text = b"POST /act?x=1 HTTP/1.1\r\nHost: localhost:8717\r\nContent-Length: 5\r\n\r\nhello, and more";
        let expected = Request { method: "POST".into(), path: "/act".into(), body: b"hello".to_vec() };
        assert_eq!(read(&mut &text[..]), Ok(Some(expected.clone())));
        assert_eq!(read(&mut Trickle(text, io::ErrorKind::TimedOut)), Ok(Some(expected)));
        assert_eq!(read(&mut &b""[..]), Ok(None), "a connection that was opened in case");
    }

    #[test]
    fn what_is_said_too_slowly_or_not_to_its_end_is_refused() {
        let late = read(&mut Trickle(b"GET / HTTP/1.1\r\nHo", io::ErrorKind::WouldBlock)).unwrap_err();
        assert_eq!(late.status, 408);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: 127.0.0.1"), 400);
        assert_eq!(status("POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{}"), 400);
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_kept() {
        let long = "x".repeat(MOST_HEAD);
        assert_eq!(status(&format!("GET /{long} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")), 431);
        let many = "A: b\r\n".repeat(MOST_HEADERS);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{many}\r\n")), 431);
        for length in ["4097", "18446744073709551615"] {
            let head = format!("POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(status(&head), 413);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let with = |headers: &str| format!("POST /act HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n\r\n");
        for bad in ["Content-Length: -1", "Content-Length: +1", "Content-Length: two", "Transfer-Encoding: chunked"] {
            assert_eq!(status(&with(bad)), 400, "{bad}");
        }
        assert_eq!(status(&with("Content-Length: 0\r\nContent-Length: 0")), 400);
        assert_eq!(status("\u{0}\u{1}\u{2}\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400, "without Host");
    }

    #[test]
    fn only_pages_of_this_server_are_heard() {
        let from = |host: &str, more: &str| status(&format!("GET /state HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"));
        for host in ["127.0.0.1", "127.0.0.1:8717", "localhost:1", "LocalHost"] {
            assert_eq!(from(host, ""), 200, "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example", "evil.example:8717", "localhost:x", "0.0.0.0", "[::1]", ""]
        {
            assert_eq!(from(host, ""), 403, "{host}");
        }
        assert_eq!(from("127.0.0.1:5", "Origin: http://127.0.0.1:5\r\n"), 200);
        for origin in ["http://127.0.0.1:6", "https://127.0.0.1:5", "null", "http://evil.example"] {
            assert_eq!(from("127.0.0.1:5", &format!("Origin: {origin}\r\n")), 403, "{origin}");
        }
    }
}
