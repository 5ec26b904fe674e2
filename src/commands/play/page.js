// The page: keys and buttons become actions, one request at a time; every reply is the whole state, which is then shown.
"use strict";

const $ = (id) => document.getElementById(id);
const PAUSE_MS = 110; // between two steps of a held key
const FIRST_PAUSE_MS = 260; // after its first, so that a tap is one step
const ARROWS = { ArrowUp: "up", ArrowLeft: "left", ArrowRight: "right", ArrowDown: "down" };
const SIGNS = { ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", ArrowDown: "↓" };

let state = null;
let stride = 3; // pixels of a move
let held = null; // the control that is held down, and by what
let requests = Promise.resolve();

function request(path, body) {
  const send = async () => {
    try {
      const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
      const reply = await fetch(path, body === undefined ? {} : post);
      const said = await reply.json();
      if (reply.ok) {
        state = said;
        show();
        report("");
      } else {
        report(said.error);
      }
      return reply.ok;
    } catch {
      report("The program does not answer: it may have been stopped. Start it again, then reload this page.");
      return false;
    }
  };
  requests = requests.then(send);
  return requests;
}

function report(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function act(control) {
  const action = state.play.kind === "move" ? control.action.map((pixels) => pixels * stride) : control.action;
  return request("/act", { action });
}

// Walks for as long as the key or button is held.
async function hold(control, by) {
  if (!state || held) release();
  if (!state) return;
  const mine = { control, by };
  held = mine;
  for (let first = true; held === mine; first = false) {
    const begin = performance.now();
    if (!(await act(control))) break;
    await wait(Math.max(0, (first ? FIRST_PAUSE_MS : PAUSE_MS) - (performance.now() - begin)));
  }
  if (held === mine) held = null;
}

function release(by) {
  if (held && (by === undefined || held.by === by)) held = null;
}

function turnEyes() {
  if (state && state.model) request("/eyes", { open: !state.eyes.open });
}

function begin(seed) {
  if (state) request("/reset", { seed });
}

function widen(by) {
  if (!state || state.play.kind !== "move") return;
  stride = Math.min(Math.max(stride + by, 1), state.play.most);
  showStride();
}

function showStride() {
  $("stride-now").textContent = `${stride} px a step`;
  $("less").disabled = stride <= 1;
  $("more").disabled = stride >= state.play.most;
}

function buildPad() {
  for (const control of state.play.controls) {
    const [key] = control.keys;
    const button = document.createElement("button");
    button.type = "button";
    button.className = ARROWS[key] || "extra";
    button.dataset.key = key;
    button.setAttribute("aria-label", control.name);
    if (ARROWS[key]) {
      const sign = document.createElement("b");
      sign.textContent = SIGNS[key];
      button.append(sign, control.name);
    } else {
      const cap = document.createElement("kbd");
      cap.textContent = key.toUpperCase();
      button.append(control.name, " ", cap);
    }
    button.addEventListener("pointerdown", (event) => {
      if (event.button === 0) hold(control, "pointer");
    });
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
      button.addEventListener(end, () => release("pointer"));
    }
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    // By keyboard; a pointer has walked already.
    button.addEventListener("click", (event) => event.detail === 0 && act(control));
    $("pad").append(button);
  }
  stride = Math.min(stride, state.play.most || 1);
  $("stride").hidden = state.play.kind !== "move";
  if (state.play.kind === "move") showStride();
}

const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;
const number = (x) => (x === null || x === undefined ? "–" : x === 0 ? "0" : x >= 0.001 ? x.toFixed(4) : x.toExponential(1));

function picture(id, address) {
  const image = $(id);
  image.hidden = !address;
  if (address) image.src = address;
  const empty = image.parentElement.querySelector(".empty");
  if (empty) empty.hidden = Boolean(address);
}

function show() {
  if (!$("pad").children.length) buildPad();
  const { model, eyes, pictures, mse } = state;
  document.title = `${state.env} · Mindseye`;
  $("about").textContent = model ? `${state.env} and a ${model.kind} (${model.run})` : `${state.env}: ${state.about}`;
  for (const id of ["world", "imagined", "error", "map"]) picture(id, pictures[id]);
  $("world-note").textContent = state.over ? "the episode is over: R begins it again" : "what the agent sees";
  $("imagined-empty").textContent = model
    ? "It has seen the first frame. Take a step: it says what it expects before it looks."
    : "There is no model yet. Train one with `mindseye train`, then start with `mindseye play --run RUN`.";
  $("error-figure").querySelector(".empty").textContent = model ? "no step yet" : "no model";
  $("mind-note").textContent = model ? sight(eyes) : "no model";
  document.body.classList.toggle("shut", !eyes.open);
  $("eyes").disabled = !model;
  $("eyes").setAttribute("aria-pressed", String(!eyes.open));
  $("eyes-name").textContent = eyes.open ? "Shut its eyes" : "Open its eyes";
  $("seed").textContent = state.seed;
  $("step").textContent = state.step;
  $("return-row").hidden = state.return === 0;
  $("return").textContent = state.return.toFixed(2);
  $("now-model").textContent = number(mse.now && mse.now.model);
  $("now-copy").textContent = number(mse.now && mse.now.copy);
  $("since").textContent = since();
  drawChart(state.history);
}

// With what eyes the picture that is shown was made, and the next will be.
function sight({ open, shut_for: steps }) {
  if (open) return steps ? "eyes open from the next step on" : "eyes open: what it expected, before it looked";
  return steps ? `eyes shut for ${count(steps, "step", "steps")}` : "eyes shut from the next step on";
}

function since() {
  if (state.not_finite) return `${count(state.not_finite, "value", "values")} of the model's picture are no numbers; they count as black or white.`;
  const mean = state.mse.since_shut;
  if (!mean) return "Mean squared error of pixels from 0 to 1.";
  const share = mean.copy > 0 ? `, which is ${Math.round((100 * mean.model) / mean.copy)} % of the copy's ${number(mean.copy)}` : "";
  return `Mean since its eyes were shut: ${number(mean.model)}${share}.`;
}

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Lines of both errors, shaded where eyes were shut, with the step at which they were.
function drawChart(history) {
  const [left, right, top, bottom] = [48, 592, 14, 130];
  const parts = [];
  const values = history.flatMap(({ model, copy }) => [model ?? 0, copy]);
  const highest = niceAbove(Math.max(...values, 1e-6));
  const first = history.length ? history[0].step : 0;
  const span = Math.max(history.length ? history[history.length - 1].step - first : 0, 20);
  const x = (step) => left + ((right - left) * (step - first)) / span;
  const y = (value) => bottom - ((bottom - top) * Math.min(value, highest)) / highest;
  let from = null;
  history.forEach((moment, i) => {
    if (!moment.open && from === null) from = moment.step - 1;
    const next = history[i + 1];
    if (from !== null && (moment.open || !next)) {
      const [begin, end] = [x(Math.max(from, first)), x(moment.open ? moment.step - 1 : moment.step)];
      parts.push(element("rect", { class: "dark", x: begin, y: top, width: Math.max(end - begin, 1), height: bottom - top }));
      if (from >= first) {
        parts.push(element("line", { class: "moment", x1: begin, x2: begin, y1: top - 2, y2: bottom }));
        const flip = begin > right - 80;
        parts.push(element("text", { class: "moment-name", x: begin + (flip ? -4 : 4), y: top + 12, "text-anchor": flip ? "end" : "start" }, "eyes shut"));
      }
      from = null;
    }
  });
  for (const share of [0, 0.5, 1]) {
    const at = y(share * highest);
    parts.push(element("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    parts.push(element("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, share ? String(Number((share * highest).toPrecision(3))) : "0"));
  }
  parts.push(element("text", { x: left, y: bottom + 15 }, `step ${first}`));
  parts.push(element("text", { x: right, y: bottom + 15, "text-anchor": "end" }, String(first + span)));
  for (const line of ["copy", "model"]) {
    const points = history.filter((moment) => moment[line] !== null).map((moment) => `${x(moment.step).toFixed(1)},${y(moment[line]).toFixed(1)}`);
    if (points.length > 1) parts.push(element("polyline", { class: line, points: points.join(" ") }));
    if (points.length && line === "model") {
      const [cx, cy] = points[points.length - 1].split(",");
      parts.push(element("circle", { class: "dot", cx, cy, r: 3 }));
    }
  }
  $("chart").replaceChildren(...parts);
}

// The next of 1, 2, 5 times a power of ten.
function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= value * 0.999);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !state) return;
  const { key } = event;
  // A button that has the focus is pressed by the space bar and by nothing else that walks.
  if ((key === " " || key === "Enter") && event.target instanceof HTMLButtonElement) return;
  const control = state.play.controls.find(({ keys }) => keys.includes(key) || keys.includes(key.toLowerCase()));
  const commands = {
    " ": turnEyes,
    r: () => begin(state.seed),
    n: () => begin(state.seed + 1),
    "+": () => widen(1),
    "=": () => widen(1),
    "-": () => widen(-1),
  };
  const command = commands[key] || commands[key.toLowerCase()];
  if (!control && !command) return;
  event.preventDefault();
  if (event.repeat) return;
  if (control) hold(control, key);
  else command();
});
document.addEventListener("keyup", (event) => release(event.key));
window.addEventListener("blur", () => release());
document.addEventListener("click", (event) => {
  // A click leaves the space bar to the eyes.
  const button = event.target.closest("button");
  if (button && event.detail > 0) button.blur();
});
$("eyes").addEventListener("click", turnEyes);
$("again").addEventListener("click", () => state && begin(state.seed));
$("next").addEventListener("click", () => state && begin(state.seed + 1));
$("less").addEventListener("click", () => widen(-1));
$("more").addEventListener("click", () => widen(1));
request("/state");
