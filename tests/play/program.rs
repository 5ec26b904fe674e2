//! The program as a server, and runs for it to play.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use simulators::image::Image;
use tempfile::TempDir;

/// A guard against waiting for ever, not a claim about speed.
const LONG: Duration = Duration::from_mins(2);

fn mindseye(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("mindseye"));
    // One thread: for models this small, waiting for a second one would be most of the work.
    command.args(arguments).args(["--threads", "1"]).stdin(Stdio::null());
    command
}

/// Runs the program to its end; its exit code, standard output and standard error.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = mindseye(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A folder for one test.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// A FloWM of two updates in a small MNIST World; the folder of its run.
    pub fn digits(&self) -> String {
        let set = ["model.hidden=4", "model.v_range=0"];
        self.trained("digits", ["mnist-world", "flowm"], &set)
    }

    /// A FloWM 3D of two updates in a small Blockworld; the folder of its run.
    pub fn blocks(&self) -> String {
        self.trained("blocks", ["block-world", "flowm3d"], &["model.hidden=16", "model.map_side=9"])
    }

    fn trained(&self, name: &str, [env, model]: [&str; 2], set: &[&str]) -> String {
        let (data, out) = (self.at(&format!("{name}-data")), self.at(name));
        let ok = |arguments: &[&str]| {
            let (code, _, err) = run(arguments);
            assert_eq!(code, 0, "{arguments:?}: {err}");
        };
        ok(&["collect", env, "--preset", "tiny", "--episodes", "4", "--truth", "none", "--out", &data]);
        let train = ["train", model, "--preset", "tiny", "--data", &data, "--out", &out];
        let common =
            ["train.updates=2", "train.batch_size=2", "train.context=5", "train.horizon=3", "train.device=cpu"];
        let set: Vec<&str> = common.iter().chain(set).flat_map(|field| ["--set", *field]).collect();
        ok(&[&train[..], &set[..]].concat());
        assert!(Path::new(&out).join("checkpoints/last").exists());
        out
    }
}

/// A reply, in parts.
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A server that ends with its test.
pub struct Played {
    child: Option<Child>,
    said: BufReader<ChildStdout>,
    pub url: String,
}

impl Played {
    /// Starts one, and waits until it says where its page is.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = mindseye(&[&["play", "--port", "0"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let Some(url) = line.split_whitespace().next() else {
            let output = child.wait_with_output().unwrap();
            panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        assert!(url.starts_with("http://127.0.0.1:"), "{line}");
        let url = url.to_owned();
        Self { child: Some(child), said, url }
    }

    pub fn port(&self) -> u16 {
        self.url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// Sends bytes and reads the reply, which may be none where the bytes ask for nothing.
    pub fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A request that is refused need not be read to its end.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
        Reply { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn ok(&self, request: &str) -> Value {
        let reply = self.raw(request.as_bytes());
        assert_eq!(reply.status, 200, "{request}: {}", reply.body);
        serde_json::from_str(&reply.body).unwrap()
    }

    pub fn state(&self) -> Value {
        self.ok(&format!("GET /state HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", self.port()))
    }

    /// What must be obeyed; the state after it.
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (port, body) = (self.port(), body.to_string());
        let head = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n");
        self.ok(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// Ends it as Ctrl-C does; its exit code, and all that it said.
    pub fn interrupt(mut self) -> (Option<i32>, String) {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (child.wait().unwrap().code(), said)
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// The picture in a `data:` address.
pub fn decoded(address: &str) -> Image {
    let file = STANDARD.decode(address.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
    Image::from_png(&file).unwrap()
}
