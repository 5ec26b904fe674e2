//! The page and its protocol on 127.0.0.1: who asks, what for, and the one thread that knows the answer.
//!
//! `GET /` is the page; `GET /state` and the orders `POST /act {"action"}`, `/eyes {"open"}` and `/reset {"seed"}` are answered with the whole
//! state, as JSON. A refusal is `{"error"}`.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use simulators::rng::Seed;

use super::http::{self, Reply, Request};
use crate::cli::MOST_PLAYED_SEED;
use crate::failure::Usage;

/// Connections at a time. A browser has six, of which some may wait in case they are needed.
const MOST_CONNECTIONS: usize = 32;
/// How long it takes to notice that the program is to end.
const NOTICED_IN: Duration = Duration::from_millis(100);

/// What a page can ask of the game.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Only to look.
    Look,
    /// An action.
    Act(Value),
    /// Eyes open or shut.
    Eyes(bool),
    /// The world of a seed, from its beginning.
    Reset(Seed),
}

/// An order, and where its answer goes.
struct Asked {
    order: Order,
    answer: Sender<Result<Value>>,
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Listens on a port of 127.0.0.1, or on any that is free for 0.
    ///
    /// # Errors
    /// If the port is taken or may not be had.
    pub fn listen(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
            let refusal = Usage::argument("--port", port, format!("cannot listen there: {error}"));
            refusal.suggest(Some("give another, or 0 for any that is free"))
        })?;
        Ok(Self { listener })
    }

    /// Where the page is.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn url(&self) -> Result<String> {
        let port = self.listener.local_addr().context("cannot tell the port")?.port();
        Ok(format!("http://127.0.0.1:{port}/"))
    }

    /// Answers until `stop` is raised: `game` hears all orders on this thread, one after the other.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn run(self, stop: &AtomicBool, mut game: impl FnMut(Order) -> Result<Value>) -> Result<()> {
        let (orders, inbox) = mpsc::channel();
        let listener = self.listener;
        // It ends with the program.
        thread::Builder::new().name("listen".into()).spawn(move || accept(&listener, &orders))?;
        while !stop.load(Ordering::SeqCst) {
            hear(&inbox, &mut game);
        }
        Ok(())
    }
}

/// Hears the next order, if one comes soon.
fn hear(inbox: &Receiver<Asked>, game: &mut impl FnMut(Order) -> Result<Value>) {
    match inbox.recv_timeout(NOTICED_IN) {
        // Whoever asked may have gone.
        Ok(Asked { order, answer }) => drop(answer.send(game(order))),
        Err(RecvTimeoutError::Timeout) => {}
        // Nobody listens any more; there is nothing left but to be stopped.
        Err(RecvTimeoutError::Disconnected) => thread::sleep(NOTICED_IN),
    }
}

fn accept(listener: &TcpListener, orders: &Sender<Asked>) {
    let open = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Such as too many open files: it passes.
            thread::sleep(NOTICED_IN);
            continue;
        };
        if open.fetch_add(1, Ordering::SeqCst) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (orders, count) = (orders.clone(), Arc::clone(&open));
        let connection = move || {
            connected(&stream, &orders);
            count.fetch_sub(1, Ordering::SeqCst);
        };
        if thread::Builder::new().name("connection".into()).spawn(connection).is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn connected(stream: &TcpStream, orders: &Sender<Asked>) {
    http::serve(stream, |request| {
        page(request).unwrap_or_else(|| match order(request) {
            Ok(order) => answered(order, orders),
            Err(refusal) => refusal,
        })
    });
}

/// The answer of the game.
fn answered(order: Order, orders: &Sender<Asked>) -> Reply {
    let (answer, answers) = mpsc::channel();
    let said = orders.send(Asked { order, answer }).ok().and_then(|()| answers.recv().ok());
    match said {
        Some(Ok(state)) => Reply::of("application/json", state.to_string()),
        Some(Err(error)) => Reply::refusal(400, format!("{error:#}")),
        None => Reply::refusal(503, "the game has ended"),
    }
}

/// A file of the page.
fn page(request: &Request) -> Option<Reply> {
    if request.method != "GET" {
        return None;
    }
    let (content_type, text) = match request.path.as_str() {
        "/" => ("text/html; charset=utf-8", include_str!("page.html")),
        "/page.css" => ("text/css; charset=utf-8", include_str!("page.css")),
        "/page.js" => ("text/javascript; charset=utf-8", include_str!("page.js")),
        _ => return None,
    };
    Some(Reply::of(content_type, text))
}

/// What a request asks of the game.
///
/// # Errors
/// The refusal: no such path, another method, or a body that does not say what it should.
fn order(request: &Request) -> Result<Order, Reply> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Act {
        action: Value,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Eyes {
        open: bool,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Reset {
        seed: u64,
    }
    let allow = match request.path.as_str() {
        "/" | "/page.css" | "/page.js" | "/state" => "GET",
        "/act" | "/eyes" | "/reset" => "POST",
        path => return Err(Reply::refusal(404, format!("there is nothing at {path:?}"))),
    };
    if request.method != allow {
        let refusal = Reply::refusal(405, format!("{} is asked by {allow}", request.path));
        return Err(Reply { allow: Some(allow), ..refusal });
    }
    match request.path.as_str() {
        "/act" => said(request, "an action").map(|Act { action }| Order::Act(action)),
        "/eyes" => said(request, "{\"open\": true} or {\"open\": false}").map(|Eyes { open }| Order::Eyes(open)),
        "/reset" => {
            let Reset { seed } = said(request, "{\"seed\": N}")?;
            if seed > MOST_PLAYED_SEED {
                return Err(Reply::refusal(400, format!("seed = {seed}: allowed: 0..={MOST_PLAYED_SEED}")));
            }
            Ok(Order::Reset(Seed(seed)))
        }
        _ => Ok(Order::Look),
    }
}

fn said<T: DeserializeOwned>(request: &Request, expected: &str) -> Result<T, Reply> {
    serde_json::from_slice(&request.body)
        .map_err(|error| Reply::refusal(400, format!("{}: {error}; allowed: {expected}", request.path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(method: &str, path: &str, body: &str) -> Request {
        Request { method: method.into(), path: path.into(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn orders_are_what_their_bodies_say() {
        let post = |path: &str, body: &str| order(&request("POST", path, body)).unwrap();
        assert_eq!(order(&request("GET", "/state", "")), Ok(Order::Look));
        assert_eq!(post("/act", r#"{"action": [1, -2]}"#), Order::Act(json!([1, -2])));
        assert_eq!(post("/eyes", r#"{"open": false}"#), Order::Eyes(false));
        assert_eq!(post("/reset", r#"{"seed": 9}"#), Order::Reset(Seed(9)));
    }

    #[test]
    fn other_requests_are_refused_by_status_and_word() {
        let most = MOST_PLAYED_SEED + 1;
        let cases = [
            ("GET", "/favicon.ico", String::new(), 404, "/favicon.ico"),
            ("GET", "/../etc/passwd", String::new(), 404, "there is nothing"),
            ("GET", "/act", r#"{"action": 1}"#.into(), 405, "POST"),
            ("POST", "/state", String::new(), 405, "GET"),
            ("DELETE", "/", String::new(), 405, "GET"),
            ("POST", "/act", "action=1".into(), 400, "/act: expected value"),
            ("POST", "/act", "{}".into(), 400, "missing field `action`"),
            ("POST", "/act", r#"{"action": 1, "actoin": 2}"#.into(), 400, "unknown field `actoin`"),
            ("POST", "/eyes", r#"{"open": 1}"#.into(), 400, "allowed: {\"open\": true}"),
            ("POST", "/reset", r#"{"seed": -1}"#.into(), 400, "allowed: {\"seed\": N}"),
            ("POST", "/reset", format!(r#"{{"seed": {most}}}"#), 400, "allowed: 0..="),
            ("POST", "/act", "[".repeat(4000), 400, "/act: recursion limit"),
        ];
        for (method, path, body, status, part) in cases {
            let request = request(method, path, &body);
            assert!(page(&request).is_none(), "{method} {path}");
            let refusal = order(&request).unwrap_err();
            let said: Value = serde_json::from_slice(&refusal.body).unwrap();
            assert_eq!(refusal.status, status, "{method} {path} {body}: {said}");
            assert!(said["error"].as_str().unwrap().contains(part), "{said} should say {part:?}");
        }
    }

    #[test]
    fn the_page_fetches_nothing_from_elsewhere() {
        for path in ["/", "/page.css", "/page.js"] {
            let reply = page(&request("GET", path, "")).unwrap();
            let text = String::from_utf8(reply.body).unwrap();
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("//cdn"), "{path}");
        }
    }
}
