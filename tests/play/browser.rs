//! Chromium without a window, driven through the pipe of its `DevTools` protocol: messages of JSON, each ended by a zero byte.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Names that it has, where `CHROMIUM` names no other.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// A guard against waiting for ever, not a claim about speed.
const LONG: Duration = Duration::from_mins(2);

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    sent: u64,
    session: Option<String>,
    /// Whether the page has loaded.
    loaded: bool,
    /// Answers that nobody has asked for yet.
    answers: Vec<Value>,
    /// What the page complained of.
    complaints: Vec<String>,
    _profile: TempDir,
}

/// The browser's name, if there is one; says loudly that a test is skipped if not.
fn program() -> Option<String> {
    let named = std::env::var("CHROMIUM").ok();
    let names = named.iter().map(String::as_str).chain(NAMES);
    let found = names.into_iter().find(|name| {
        Command::new(name).arg("--version").stderr(Stdio::null()).output().is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!(
            "SKIPPED: no Chromium here, so the page of `mindseye play` was not tried in a browser; the package is `chromium` \
             (apt-get install chromium), or CHROMIUM names the program"
        );
    }
    found.map(str::to_owned)
}

/// What a key says when it is pressed: letters and signs type themselves, others do not.
fn pressed(key: &str) -> Value {
    let (kind, text) = if key.len() == 1 { ("keyDown", key) } else { ("rawKeyDown", "") };
    json!({ "type": kind, "key": key, "text": text })
}

fn released(key: &str) -> Value {
    json!({ "type": "keyUp", "key": key })
}

impl Browser {
    /// Opens an address in a window of this size; none where there is no browser.
    pub fn open(url: &str, size: [u32; 2]) -> Option<Self> {
        let program = program()?;
        let profile = tempfile::tempdir().unwrap();
        // It speaks on descriptors 3 and 4, and may chatter on the others.
        let line = "exec \"$0\" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
                    --disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage \
                    --hide-scrollbars --remote-debugging-pipe --user-data-dir=\"$1\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>&1";
        let mut child = Command::new("sh")
            .args(["-c", line, &program])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (hear, from) = channel();
        thread::spawn(move || {
            for message in BufReader::new(said).split(0).map_while(Result::ok) {
                if hear.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    break;
                }
            }
        });
        let (session, answers, complaints) = (None, Vec::new(), Vec::new());
        let mut browser =
            Self { child, to, from, sent: 0, session, loaded: false, answers, complaints, _profile: profile };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, &json!({}));
        }
        browser.resize(size, false);
        browser.loaded = false;
        browser.call("Page.navigate", &json!({ "url": url }));
        while !browser.loaded {
            browser.hear("Page.navigate");
        }
        Some(browser)
    }

    /// Asks something of the browser, and waits for the answer.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.send(method, parameters);
        self.answer(self.sent, method)
    }

    /// Asks for two things, one right after the other.
    fn call_both(&mut self, method: &str, parameters: [&Value; 2]) {
        for parameters in parameters {
            self.send(method, parameters);
        }
        for id in [self.sent - 1, self.sent] {
            self.answer(id, method);
        }
    }

    fn send(&mut self, method: &str, parameters: &Value) {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(&[message.to_string().as_bytes(), b"\0"].concat()).unwrap();
    }

    fn answer(&mut self, id: u64, method: &str) -> Value {
        loop {
            if let Some(at) = self.answers.iter().position(|answer| answer["id"] == json!(id)) {
                let answer = self.answers.swap_remove(at);
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.hear(method);
        }
    }

    /// Waits for the next message, an answer or an event, while `method` is under way.
    fn hear(&mut self, method: &str) {
        let heard = self.from.recv_timeout(LONG).unwrap_or_else(|error| panic!("{method}: {error}"));
        match heard["method"].as_str() {
            Some("Page.loadEventFired") => self.loaded = true,
            Some("Runtime.exceptionThrown") => self.complaints.push(heard["params"].to_string()),
            Some("Log.entryAdded") if heard["params"]["entry"]["level"] == "error" => {
                self.complaints.push(heard["params"]["entry"].to_string());
            }
            _ => {}
        }
        if heard.get("id").is_some() {
            self.answers.push(heard);
        }
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let said = self.call("Runtime.evaluate", &asked);
        assert!(said.get("exceptionDetails").is_none(), "{expression}: {said}");
        said["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, expression: &str) {
        let begin = Instant::now();
        while self.value(&format!("Boolean({expression})")) != json!(true) {
            assert!(begin.elapsed() < LONG, "never: {expression}; {:?}", self.complaints);
            thread::sleep(Duration::from_millis(15));
        }
    }

    /// Presses a key and holds it.
    pub fn press(&mut self, key: &str) {
        self.call("Input.dispatchKeyEvent", &pressed(key));
    }

    pub fn let_go(&mut self, key: &str) {
        self.call("Input.dispatchKeyEvent", &released(key));
    }

    /// Presses a key and lets it go at once, however slow the machine is.
    pub fn tap(&mut self, key: &str) {
        self.call_both("Input.dispatchKeyEvent", [&pressed(key), &released(key)]);
    }

    /// Clicks in the middle of the element that a selector finds.
    pub fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const r = document.querySelector({}).getBoundingClientRect();
             return [r.x + r.width / 2, r.y + r.height / 2]; }})()",
            json!(selector)
        ));
        let [down, up] = ["mousePressed", "mouseReleased"]
            .map(|kind| json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 }));
        self.call_both("Input.dispatchMouseEvent", [&down, &up]);
    }

    /// Makes the window this large, as on a phone or not.
    pub fn resize(&mut self, [width, height]: [u32; 2], mobile: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Has the page think that its reader likes it dark, or light.
    pub fn darken(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.call("Emulation.setEmulatedMedia", &media);
    }

    /// What the window shows, as a PNG file.
    pub fn picture(&mut self) -> Vec<u8> {
        let said = self.call("Page.captureScreenshot", &json!({ "format": "png" }));
        STANDARD.decode(said["data"].as_str().unwrap()).unwrap()
    }

    /// Errors of the page's script, and of what it was refused, so far.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}
