//! The page in a browser: real keys, real clicks, what is shown, at both sizes and in both colours.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::program::{Place, Played};

const DESK: [u32; 2] = [1280, 800];
const PHONE: [u32; 2] = [390, 844];

/// The least contrast of any text with what is behind it, and whose it is.
const CONTRAST: &str = r"
(() => {
  const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  let least = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('button:disabled') || !e.checkVisibility()) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(parse(e instanceof SVGElement ? style.fill : style.color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least = [ratio, e.textContent.trim()];
  }
  return least;
})()";

/// Where pictures of the page go for people to look at, if anywhere.
fn keep(browser: &mut Browser, name: &str) {
    if let Some(folder) = std::env::var_os("MINDSEYE_PAGE_PICTURES") {
        fs::write(PathBuf::from(folder).join(format!("{name}.png")), browser.picture()).unwrap();
    }
}

/// That it fits, and can be read, at both sizes and in both colours.
fn looks_right(browser: &mut Browser, name: &str) {
    for (size, phone) in [(PHONE, true), (DESK, false)] {
        for dark in [false, true] {
            browser.resize(size, phone);
            browser.darken(dark);
            // Colours take a moment to change.
            browser
                .value("Promise.all(document.getAnimations().map((animation) => animation.finished)).then(() => true)");
            let wide = browser.value("document.documentElement.scrollWidth").as_u64().unwrap();
            assert!(wide <= u64::from(size[0]), "{name}: {wide} pixels wide in a window of {size:?}");
            let said = browser.value(CONTRAST);
            assert!(said[0].as_f64().unwrap() >= 4.5, "{name}, dark {dark}: contrast {said}");
            keep(
                browser,
                &format!("{name}-{}-{}", if phone { "phone" } else { "desk" }, if dark { "dark" } else { "light" }),
            );
        }
    }
    browser.darken(false);
}

/// Counts requests under way from now on.
fn watch_requests(browser: &mut Browser) {
    browser.value(
        "(() => { const plain = window.fetch; let open = 0; window.most = 0;
         window.fetch = async (...all) => { open += 1; window.most = Math.max(window.most, open);
         try { return await plain(...all); } finally { open -= 1; } }; })()",
    );
}

fn text(browser: &mut Browser, id: &str) -> String {
    let said = browser.value(&format!("document.getElementById({}).textContent", json!(id)));
    said.as_str().unwrap().to_owned()
}

/// Plays as a person would, in a world whose pictures are `side` wide.
fn play(browser: &mut Browser, played: &Played, side: u32) {
    browser
        .until("document.getElementById('step').textContent === '0' && document.getElementById('world').naturalWidth");
    assert_eq!(browser.value("document.getElementById('world').naturalWidth"), json!(side), "the picture is shown");
    assert_eq!(browser.value("document.getElementById('imagined').hidden"), json!(true));
    assert_eq!(text(browser, "mind-note"), "eyes open: what it expected, before it looked");

    browser.tap("ArrowUp");
    browser.until("document.getElementById('step').textContent === '1'");
    browser.until("document.getElementById('imagined').naturalWidth");
    assert_eq!(browser.value("document.getElementById('world').src"), played.state()["pictures"]["world"]);

    browser.tap(" ");
    browser.until("document.getElementById('mind-note').textContent === 'eyes shut from the next step on'");
    assert_eq!(text(browser, "eyes-name"), "Open its eyes");
    assert_eq!(browser.value("document.getElementById('eyes').getAttribute('aria-pressed')"), json!("true"));
    for (key, steps) in [("ArrowLeft", "1 step"), ("ArrowRight", "2 steps"), ("ArrowDown", "3 steps")] {
        browser.tap(key);
        browser.until(&format!("document.getElementById('mind-note').textContent === 'eyes shut for {steps}'"));
    }
    assert_eq!(browser.value("document.querySelectorAll('#chart line.moment').length"), json!(1));
    assert!(text(browser, "since").starts_with("Mean since its eyes were shut: "));

    // A held key walks on, one request at a time, until it is let go.
    watch_requests(browser);
    browser.press("ArrowUp");
    browser.until("Number(document.getElementById('step').textContent) >= 9");
    browser.let_go("ArrowUp");
    browser.until("held === null");
    browser.value("requests");
    let steps = played.state()["step"].clone();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(played.state()["step"], steps, "nothing walks on");
    assert_eq!(browser.value("window.most"), json!(1));

    // Buttons, with a pointer; the space bar is the eyes' all the same.
    browser.click("#pad .left");
    browser.until(&format!("document.getElementById('step').textContent === '{}'", steps.as_u64().unwrap() + 1));
    browser.tap(" ");
    browser.until("state.eyes.open");
    browser.click("#eyes");
    browser.until("!state.eyes.open");
    for key in ["ArrowUp", "ArrowLeft", "ArrowUp"] {
        browser.tap(key);
        browser.value("requests");
    }
}

/// A world in which eyes are shut, begun anew by key and by button; and what is said when the program has ended.
fn begin_again(browser: &mut Browser, played: Played) {
    browser.tap("n");
    browser.until(
        "document.getElementById('seed').textContent === '1' && document.getElementById('step').textContent === '0'",
    );
    assert_eq!(browser.value("state.eyes.open"), json!(true));
    browser.tap("ArrowUp");
    browser.until("document.getElementById('step').textContent === '1'");
    browser.click("#again");
    browser.until("document.getElementById('step').textContent === '0'");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    drop(played);
    browser.tap("ArrowUp");
    browser.until("document.getElementById('status').textContent.includes('does not answer')");
}

#[test]
fn digits_are_played_by_keys_and_buttons() {
    let place = Place::new();
    let run = place.digits();
    let played = Played::start(&["--run", &run]);
    let Some(mut browser) = Browser::open(&played.url, DESK) else { return };
    play(&mut browser, &played, 16);
    // Steps of a chosen length, within what the world allows.
    assert_eq!(text(&mut browser, "stride-now"), "3 px a step");
    for _ in 0..4 {
        browser.tap("+");
    }
    assert_eq!(text(&mut browser, "stride-now"), "5 px a step");
    browser.tap("-");
    assert_eq!(text(&mut browser, "stride-now"), "4 px a step");
    let step = played.state()["step"].as_u64().unwrap();
    browser.tap("ArrowRight");
    browser.until(&format!("state.step === {}", step + 1));
    looks_right(&mut browser, "digits");
    begin_again(&mut browser, played);
}

#[test]
fn a_room_is_played_by_keys_and_buttons() {
    let place = Place::new();
    let run = place.blocks();
    let played = Played::start(&["--run", &run]);
    let Some(mut browser) = Browser::open(&played.url, DESK) else { return };
    play(&mut browser, &played, 32);
    assert_eq!(browser.value("document.getElementById('stride').hidden"), json!(true), "turns have no length");
    looks_right(&mut browser, "room");
    begin_again(&mut browser, played);
}

#[test]
fn without_a_model_the_page_says_how_to_get_one() {
    let played = Played::start(&["block-world", "--preset", "tiny"]);
    let Some(mut browser) = Browser::open(&played.url, DESK) else { return };
    browser.until("document.getElementById('step').textContent === '0'");
    assert!(text(&mut browser, "imagined-empty").contains("mindseye train"));
    assert_eq!(browser.value("document.getElementById('eyes').disabled"), json!(true));
    for key in [" ", "ArrowUp"] {
        browser.tap(key);
    }
    browser.until("state.step === 1");
    assert_eq!(browser.value("state.eyes.open"), json!(true));
    looks_right(&mut browser, "alone");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// Draws the README's picture: a trained model, shown around, some steps after its eyes were shut.
#[test]
#[ignore = "draws docs/play.png of the run that MINDSEYE_PLAY_RUN names"]
fn the_picture_of_the_readme() {
    let run = std::env::var("MINDSEYE_PLAY_RUN").expect("MINDSEYE_PLAY_RUN names a trained run");
    let number = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let (seed, context) = (number("MINDSEYE_PLAY_SEED", "0"), number("MINDSEYE_PLAY_CONTEXT", "50"));
    let played = Played::start(&["--run", &run, "--seed", &seed, "--context", &context]);
    let mut browser = Browser::open(&played.url, DESK).expect("a browser");
    browser.until("document.getElementById('world').naturalWidth");
    let moves: Value = browser.value("state.play.kind === 'move'");
    let walk: &[&str] = if moves == json!(true) {
        &["ArrowRight", "ArrowRight", "ArrowDown", "ArrowRight", "ArrowUp"]
    } else {
        &["ArrowUp", "ArrowLeft"]
    };
    browser.tap(" ");
    for key in walk.iter().cycle().take(20) {
        browser.tap(key);
        browser.value("requests");
    }
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/play.png"), browser.picture()).unwrap();
}
