//! `mindseye play` from outside: the protocol of its page, what it refuses, and the page itself in a real browser.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

mod browser;
mod page;
mod program;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use program::{Place, Played, decoded, run};
use serde_json::{Value, json};

/// Mean of squared differences of two pictures, of pixels from 0 to 1.
fn apart(a: &[u8], b: &[u8]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| ((f64::from(*a) - f64::from(*b)) / 255.0).powi(2));
    squares.sum::<f64>() / a.len() as f64
}

fn shown(state: &Value, picture: &str) -> Vec<u8> {
    decoded(state["pictures"][picture].as_str().unwrap_or_else(|| panic!("no picture {picture}"))).rgb
}

/// Looks, walks, shuts the model's eyes and walks on, in the world that the run says it was trained in.
fn walk_through(run: &str, env: &str, side: usize, moves: &[Value]) {
    let played = Played::start(&["--run", run, "--seed", "2"]);
    let begin = played.state();
    assert_eq!((&begin["env"], &begin["seed"], &begin["step"]), (&json!(env), &json!(2), &json!(0)));
    assert_eq!((&begin["eyes"]["open"], &begin["pictures"]["imagined"]), (&json!(true), &Value::Null));
    let first = decoded(begin["pictures"]["world"].as_str().unwrap());
    assert_eq!((first.width, first.height), (side, side));

    let seen = played.post("/act", &json!({ "action": moves[0] }));
    assert_eq!(seen["step"], 1);
    let copy = apart(&shown(&seen, "world"), &first.rgb);
    assert!((seen["mse"]["now"]["copy"].as_f64().unwrap() - copy).abs() < 1e-6, "{env}: a copy of the first frame");
    let near = |state: &Value| {
        // The picture is rounded to bytes, the error is not.
        let shown = apart(&shown(state, "imagined"), &shown(state, "world"));
        let said = state["mse"]["now"]["model"].as_f64().unwrap();
        assert!((said - shown).abs() < 4e-3, "{env}: the model's error is {said}, its picture's {shown}");
    };
    near(&seen);

    assert_eq!(played.post("/eyes", &json!({ "open": false }))["eyes"], json!({ "open": false, "shut_for": 0 }));
    let mut copies = 0.0;
    for (steps, action) in (1..).zip(moves) {
        let dark = played.post("/act", &json!({ "action": action }));
        near(&dark);
        copies += apart(&shown(&dark, "world"), &shown(&seen, "world"));
        assert_eq!(dark["eyes"], json!({ "open": false, "shut_for": steps }));
        let mean = dark["mse"]["since_shut"]["copy"].as_f64().unwrap();
        assert!((mean - copies / f64::from(steps)).abs() < 1e-6, "{env}: of a copy of what was seen last");
        let open: Vec<bool> = dark["history"].as_array().unwrap().iter().map(|moment| moment["open"] == true).collect();
        assert!(open[0] && open[1..].iter().all(|open| !open) && open.len() == steps as usize + 1, "{open:?}");
    }
    let error = decoded(played.state()["pictures"]["error"].as_str().unwrap());
    assert_eq!((error.width, error.height), (side, side));
    assert_ne!(shown(&played.state(), "map"), shown(&begin, "map"), "the world from above has moved");

    let again = played.post("/reset", &json!({ "seed": 2 }));
    assert_eq!((&again["pictures"], &again["step"]), (&begin["pictures"], &json!(0)), "a seed is a world");
    assert_eq!(played.post("/act", &json!({ "action": moves[0] })), seen, "and a model's picture of it");
    assert_ne!(played.post("/reset", &json!({ "seed": 3 }))["pictures"]["world"], begin["pictures"]["world"]);
    let (code, said) = played.interrupt();
    assert!(code == Some(0) && said.contains("the game is over"), "{code:?}: {said}");
}

#[test]
fn digits_are_walked_over_beside_a_flowm() {
    let place = Place::new();
    let run = place.digits();
    let origin: Value = serde_json::from_str(&fs::read_to_string(Path::new(&run).join("run.json")).unwrap()).unwrap();
    assert_eq!(origin["dataset"]["env"], "MnistWorld-v0");
    assert_eq!(origin["dataset"]["config"]["world"]["window"], 16);
    walk_through(&run, "MnistWorld-v0", 16, &[json!([2, -1]), json!([0, 3]), json!([-5, 5]), json!([0, 0])]);
}

#[test]
fn a_room_is_walked_in_beside_a_flowm_3d() {
    let place = Place::new();
    walk_through(&place.blocks(), "BlockWorld-v0", 32, &[json!(2), json!(0), json!(1), json!(4), json!(3)]);
}

/// One server, many requests that are none; after each it goes on.
#[test]
fn what_is_no_request_is_refused_and_the_game_goes_on() {
    let played = Played::start(&["mnist-world", "--preset", "tiny"]);
    let port = played.port();
    let post = |path: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let get = |path: &str, host: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let long = "x".repeat(40_000);
    let from_elsewhere = post("/act", r#"{"action": [1, 0]}"#)
        .replace("Content-Length", "Origin: http://evil.example\r\nContent-Length");
    let cases = [
        (post("/act", r#"{"action": [6, 0]}"#), 400, "allowed: [-5..=5, -5..=5]"),
        (post("/act", r#"{"action": 2}"#), 400, "allowed: [-5..=5, -5..=5]"),
        (post("/act", r#"{"action": [0.5, 0]}"#), 400, "action = [0.5,0]: no action of this world"),
        (post("/act", "forward"), 400, "allowed: an action"),
        (post("/eyes", r#"{"open": false}"#), 400, "start with --run RUN"),
        (post("/reset", r#"{"seed": "one"}"#), 400, "allowed: {\"seed\": N}"),
        (post("/act", &long), 413, "allowed: 4096"),
        (get(&format!("/{long}"), "127.0.0.1"), 431, "32768 bytes"),
        (get("/act", "127.0.0.1"), 405, "/act is asked by POST"),
        (post("/state", ""), 405, "/state is asked by GET"),
        (get("/secret", "127.0.0.1"), 404, "/secret"),
        (get("/state", "evil.example"), 403, "allowed: 127.0.0.1 and localhost"),
        (from_elsewhere, 403, "allowed: http://127.0.0.1"),
        ("hello\r\n\r\n".to_owned(), 400, "no HTTP request"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "no header Host"),
    ];
    // Browsers open connections in case they need them; nobody waits for these.
    let idle: Vec<_> = (0..8).map(|_| played.connect()).collect();
    for (request, expected, part) in &cases {
        let reply = played.raw(request.as_bytes());
        let line = request.lines().next().unwrap_or_default();
        let line = &line[..line.len().min(60)];
        assert_eq!(reply.status, *expected, "{line}: {}", reply.body);
        let said: Value = serde_json::from_str(&reply.body).unwrap();
        assert!(said["error"].as_str().unwrap().contains(part), "{line}: {said} should say {part:?}");
        assert_eq!(played.state()["step"], 0, "{line}: nothing has happened");
    }
    drop(idle);
    assert_eq!(played.post("/act", &json!({ "action": [5, -5] }))["step"], 1);
    // Bytes that nobody would send, and hang-ups in the middle.
    for length in 0..40 {
        let bytes: Vec<u8> = (0..length * 11).map(|i| (i * 89 % 251) as u8).collect();
        played.raw(&bytes);
    }
    assert_eq!(played.state()["step"], 1);
    let (code, said) = played.interrupt();
    assert!(code == Some(0) && !said.contains("panicked"), "{said}");
}

#[test]
fn the_page_comes_from_here_alone() {
    let played = Played::start(&["block-world", "--preset", "tiny"]);
    for (path, content_type) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let host = played.port();
        let reply = played.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost:{host}\r\n\r\n").as_bytes());
        assert_eq!(reply.status, 200);
        assert!(reply.head.contains(&format!("Content-Type: {content_type}")), "{}", reply.head);
        assert!(
            reply.head.contains("Content-Security-Policy: default-src 'none'; script-src 'self'"),
            "{}",
            reply.head
        );
    }
    let state = played.state();
    assert_eq!((&state["model"], &state["pictures"]["imagined"]), (&Value::Null, &Value::Null));
    assert_eq!(state["play"]["kind"], "choice");
}

#[test]
fn a_model_is_played_from_a_checkpoint_after_it_was_shown_around() {
    let place = Place::new();
    let run = place.digits();
    let checkpoint = format!("{run}/checkpoints/last");
    let played = Played::start(&["--run", &checkpoint, "--context", "20"]);
    let state = played.state();
    assert_eq!((&state["step"], &state["model"]["kind"]), (&json!(19), &json!("flowm")));
    assert!(state["history"].as_array().unwrap().iter().all(|moment| moment["open"] == true));
    // With shut eyes again: another world is shown with open ones.
    played.post("/eyes", &json!({ "open": false }));
    assert_eq!(played.post("/reset", &json!({ "seed": 1 }))["eyes"]["open"], true);
}

#[test]
fn what_cannot_be_played_is_refused_by_name() {
    let place = Place::new();
    let run = place.digits();
    let refused = |arguments: &[&str], parts: &[&str]| {
        let (code, _, err) = program::run(&[&["play", "--port", "0"], arguments].concat());
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert!(parts.iter().all(|part| err.contains(part)), "{arguments:?} should say {parts:?}, says: {err}");
    };
    refused(&[], &["ENV"]);
    refused(&["block-wrld"], &["did you mean block-world"]);
    refused(&["ant"], &["Ant-v0 has no map; envs that have: MnistWorld-v0"]);
    refused(&["block-world", "--preset", "tinny"], &["tinny", "tiny"]);
    refused(&["--run", &place.at("none")], &["no run here"]);
    let shape = ["takes pictures of [16, 16, 1], those of BlockWorld-v0 are [128, 128, 3]", "leave out ENV"];
    refused(&["block-world", "--run", &run], &shape);
    refused(&["--run", &run, "--set", "world.window=20"], &["those of MnistWorld-v0 are [20, 20, 1]"]);
    let colours = ["block-world", "--set", "world.image=16", "--run", &run];
    refused(&colours, &["[16, 16, 3]"]);
    refused(&["mnist-world", "--preset", "tiny", "--seed", "-1"], &["--seed -1"]);
    refused(&["mnist-world", "--preset", "tiny", "--context", "0"], &["--context 0", "1..="]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, _, err) = program::run(&["play", "mnist-world", "--preset", "tiny", "--port", &port]);
    assert!(code == 2 && err.contains(&format!("--port {port}")) && err.contains("0 for any"), "{err}");
}

/// Runs of before `run.json` named the world.
#[test]
fn a_run_that_does_not_say_its_world_is_played_in_one_that_is_named() {
    let place = Place::new();
    let run_path = place.digits();
    let file = Path::new(&run_path).join("run.json");
    let mut origin: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    for field in ["env", "config"] {
        origin["dataset"].as_object_mut().unwrap().remove(field).unwrap();
    }
    fs::write(&file, origin.to_string()).unwrap();
    let (code, _, err) = run(&["play", "--run", &run_path]);
    assert!(
        code == 2 && err.contains("does not say in which world") && err.contains("mindseye play mnist-world"),
        "{err}"
    );
    let played = Played::start(&["mnist-world", "--preset", "tiny", "--run", &run_path]);
    assert_eq!(played.post("/act", &json!({ "action": [1, 1] }))["step"], 1);
    // It also goes on learning.
    let data = place.at("digits-data");
    let (code, _, err) = run(&["train", "flowm", "--data", &data, "--out", &run_path, "--resume"]);
    assert_eq!(code, 0, "{err}");
}
