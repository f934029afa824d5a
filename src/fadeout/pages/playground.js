"use strict";
const NAMES = Object.keys(DATA.activations), TASKS = Object.keys(DATA.tasks);
const CHOICES = {
  task: TASKS, activation: NAMES, init: Object.keys(DATA.inits), optimizer: Object.keys(DATA.optimizers),
  loss: ["cross_entropy", "squared_error"], normalization: ["none", "layer", "rms", "batch"],
  scale: ["constant", "sqrt_depth", "zero"],
};
const LADDERS = {
  depth: Array.from({ length: 30 }, (_, i) => i + 1),
  width: [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64],
  gain: [0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.5, 2, 3, 5, 10],
  rate: [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3],
  residual: [0, 0.1, 0.2, 0.3, 0.5, 0.7, 1],
};
const SPEEDS = [2, 20, 100, 500, Infinity];
const DEFAULTS = {
  task: "xor", activation: "sigmoid", init: "glorot_normal", gain: 1, depth: 10, width: 16, optimizer: "sgd", rate: 0.1,
  loss: "cross_entropy", residual: 0, scale: "constant", normalization: "none", seed: 1,
};
const state = { ...DEFAULTS }, view = { language: "en", playing: false, speed: 2, tour: -1, stop: 0 };
const MOST_RECORDS = 400;
let lab = null;

// --- words

function t(key, values = {}) {
  return WORDS[view.language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// --- the experiment

/** Draws a network anew; training starts again. */
function reset() {
  const task = DATA.tasks[state.task], features = task.inputs[0].length;
  const x = Float64Array.from(task.inputs.flat()), targets = Float64Array.from(task.targets);
  const size = x.reduce((sum, v) => sum + v * v, 0) / x.length;
  view.playing = false;
  if (kernelVariance(state, 1, 1) === null) { lab = null; return; }
  const net = drawNetwork(state, features, generator(state.seed)), seen = see(state, net, x, targets);
  const start = measured(state, seen);
  lab = { net, x, targets, features, seen, start, now: start, memory: begin(net), step: 0, every: 1, records: [],
    expected: theory(state, features, size), others: othersOf(features, x, targets) };
  record();
}

/** The deltas and signals of other draws, as many as take no time. */
function othersOf(features, x, targets) {
  const cost = state.depth * state.width ** 2 * targets.length, count = Math.max(2, Math.min(11, Math.floor(2e6 / cost)));
  const normal = generator(state.seed + 1000);
  return Array.from({ length: count }, () => measured(state, see(state, drawNetwork(state, features, normal), x, targets)));
}

function record() {
  lab.records.push({ step: lab.step, loss: lab.seen.loss, accuracy: lab.seen.accuracy, delta: lab.now.delta });
  if (lab.records.length > MOST_RECORDS) {
    lab.records = lab.records.filter((_, i) => i % 2 === 0);
    lab.every *= 2;
  }
}

/** Some steps of training, fewer if they take longer than so many milliseconds; how many. */
function advance(steps, milliseconds = Infinity) {
  const began = performance.now();
  let done = 0;
  while (done < steps && Number.isFinite(lab.seen.loss)) {
    update(state, lab.net, lab.memory, lab.seen.gradients);
    lab.seen = see(state, lab.net, lab.x, lab.targets);
    lab.step += 1;
    done += 1;
    if (lab.step % lab.every === 0) { lab.now = measured(state, lab.seen); record(); }
    if (performance.now() - began > milliseconds) break;
  }
  if (done) lab.now = measured(state, lab.seen);
  return done;
}

/** For the tests: begins with these weights, kernels [in][out] and biases, bottom to top. */
function give(kernels, biases) {
  kernels.forEach((k, layer) => lab.net.kernels[layer].set(k.flat()));
  biases.forEach((b, layer) => lab.net.biases[layer].set(b));
  lab.seen = see(state, lab.net, lab.x, lab.targets);
}

// --- playing

let last = 0, owed = 0, drawn = 0, charted = 0;
function frame(now) {
  if (!view.playing || !lab) return;
  const speed = SPEEDS[view.speed], fastest = speed === Infinity;
  owed += fastest ? 0 : ((now - last) / 1000) * speed;
  last = now;
  const wanted = fastest ? Infinity : Math.floor(owed), left = (view.until ?? Infinity) - lab.step;
  owed = Math.min(owed - advance(Math.min(wanted, left), 14), speed); // what a slow machine cannot keep up with is let go
  if (fastest) owed = 0;
  if (!Number.isFinite(lab.seen.loss) || lab.step >= (view.until ?? Infinity)) play(false);
  // charts take longest: half of the time is left for training
  if (now - drawn > 100 || !view.playing) {
    drawn = now;
    const charts = now - charted > 350 || !view.playing;
    if (charts) charted = now;
    drawNow(charts);
  }
  const spent = performance.now() - now; // a large network leaves as much time to whoever clicks
  if (spent > 40) setTimeout(() => requestAnimationFrame(frame), spent);
  else requestAnimationFrame(frame);
}

function play(on) {
  if (view.playing && !on) drawNow();
  view.playing = on && lab !== null;
  byId("play").textContent = t(view.playing ? "pause" : "play");
  if (view.playing) requestAnimationFrame((now) => { last = now; owed = 0; frame(now); });
}

// --- panels

const PANELS = ["gradient", "network", "surface", "loss", "image", "weights", "units", "signal", "curve"];
const CANVASES = ["network", "surface", "image"];

function makePanels() {
  for (const id of PANELS) {
    const figure = element("figure"), caption = element("figcaption", undefined, { id: `${id}-title` });
    const why = element("details", undefined, { class: "why" });
    why.append(element("summary", "?"), element("p", undefined, { id: `${id}-why` }));
    const chart = CANVASES.includes(id) ? element("canvas", undefined, { class: "chart", id }) : element("div", undefined, { class: "chart", id });
    figure.append(caption, why, chart, element("p", undefined, { class: "soft", id: `${id}-text` }));
    byId("charts").append(figure);
  }
}

const positive = (values) => Array.from(values, (v) => (v > 0 && Number.isFinite(v) ? v : null));
const color = () => visible(DATA.activations[state.activation].color);

function line(x, y, name, style, more = {}) {
  return { x, y, type: "scatter", mode: "lines", name, line: style, hovertemplate: "%{y:.3g}", ...more };
}

/** An axis that a factor of two or less does not fill. */
function logarithmic(series) {
  const all = series.flat().filter((v) => v !== null && v > 0).map(Math.log10);
  if (!all.length) return { type: "linear", range: [0, 1], showticklabels: false };
  const low = Math.min(...all), high = Math.max(...all), pad = Math.max(0.15, (1 - (high - low)) / 2, (high - low) * 0.05);
  const range = [low - pad, high + pad];
  if (high - low > 1.3) return { type: "log", exponentformat: "power", range, dtick: high - low > 6 ? undefined : 1 };
  const ticks = [];
  for (let k = Math.floor(range[0]); k <= range[1]; k += 1) ticks.push(...[1, 2, 5].map((digit) => digit * 10 ** k));
  return { type: "log", range, tickvals: ticks, ticktext: ticks.map(short) };
}

function layered(id, now, start, expected, others = []) {
  const at = now.map((_, i) => i + 1), series = [now, start, expected || [], ...others].map(positive);
  const traces = others.map((own) => line(at, positive(own), "", { color: faint(color()).replace("0.16", "0.3"), width: 1 }, { hoverinfo: "skip", hovertemplate: undefined, showlegend: false }));
  if (lab.step) traces.push(line(at, positive(start), t("start"), { color: css("--soft"), width: 2, dash: "dot" }));
  if (expected) traces.push(line(at, positive(expected), t("theory"), { color: css("--ink"), width: 2, dash: "dash" }));
  traces.push(line(at, positive(now), t("now"), { color: color(), width: 3 }, { mode: "lines+markers" }));
  draw(id, traces, axis(t(id === "weights" ? "weight_layer" : "layer"), { dtick: now.length > 12 ? 5 : 1 }), axis("", logarithmic(series)), { showlegend: true, legend: LEGEND });
}

const LEGEND = { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 };

function drawCharts() {
  const { now, start, expected } = lab, top = start.delta.at(-1), passes = now.delta.some((v) => v > 0);
  layered("gradient", now.delta, start.delta, expected && top > 0 && expected.delta.map((v) => v * top), lab.step ? [] : lab.others.map((o) => o.delta));
  const low = now.delta[0], high = now.delta.at(-1), ratio = low / high;
  const factors = now.delta.slice(0, -1).map((v, i) => v / now.delta[i + 1]).reverse();
  const product = factors.length > 8 ? [...factors.slice(0, 7).map(short), "…"] : factors.map(short);
  describe("gradient", !passes ? t("nothing") : state.depth === 1 ? t("one_layer")
    : t("factors", { list: product.join(" × "), product: short(ratio), first: short(low) }));
  layered("weights", now.weights, start.weights, null);
  describe("weights", t("weights_text", { first: short(now.weights[0]), top: short(now.weights.at(-1)) }));
  layered("signal", now.signal, start.signal, expected && expected.signal);
  describe("signal", t("signal_text", { first: short(now.signal[0]), top: short(now.signal.at(-1)) }));
  const at = now.dead.map((_, i) => i + 1);
  draw("units", [
    line(at, now.saturated, t("saturated"), { color: "#e69f00", width: 3 }, { mode: "lines+markers", hovertemplate: "%{y:.0%}" }),
    line(at, now.dead, t("dead"), { color: "#d55e00", width: 3, dash: "dash" }, { mode: "lines+markers", hovertemplate: "%{y:.0%}" }),
  ], axis(t("layer"), { dtick: at.length > 12 ? 5 : 1 }), axis("", { range: [-0.03, 1.03], tickformat: ".0%" }), { showlegend: true, legend: LEGEND });
  describe("units", t("units_text", { dead: percent(mean(now.dead)), saturated: percent(mean(now.saturated)) }));
  const steps = lab.records.map((r) => r.step);
  draw("loss", [
    line(steps, positive(lab.records.map((r) => r.loss)), t("loss"), { color: color(), width: 3 }, { mode: steps.length > 1 ? "lines" : "markers" }),
    line(steps, lab.records.map((r) => r.accuracy), t("accuracy"), { color: css("--soft"), width: 2, dash: "dot" }, { yaxis: "y2", hovertemplate: "%{y:.0%}" }),
  ], axis(t("steps"), { range: [0, Math.max(10, lab.step)] }), axis("", { ...logarithmic([positive(lab.records.map((r) => Math.max(r.loss, 1e-8)))]), title: { text: t("loss") } }), {
    showlegend: true, legend: LEGEND, margin: { l: 50, r: 50, t: 8, b: 40 },
    yaxis2: { overlaying: "y", side: "right", range: [-0.03, 1.03], tickvals: [0, 0.5, 1], tickformat: ".0%", showgrid: false },
  });
  describe("loss", t("loss_text", { loss: short(lab.seen.loss), right: Math.round(lab.seen.accuracy * lab.targets.length), all: lab.targets.length }));
}

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

function drawCurve() {
  const n = 401, z = Float64Array.from({ length: n }, (_, i) => (i - 200) / 40), h = new Float64Array(n), s = new Float64Array(n);
  PHI[state.activation](z, h, s);
  draw("curve", [
    line(Array.from(z), Array.from(h), t("value"), { color: color(), width: 3 }),
    line(Array.from(z), Array.from(s), t("slope"), { color: color(), width: 2, dash: "dash" }),
  ], axis("z"), axis("", { range: [-1.8, 3.2] }), { showlegend: true, legend: LEGEND });
  describe("curve", t("curve_text", { name: state.activation, slope: short(DATA.activations[state.activation].steepest) }));
}

/** A canvas as large as it is shown, in CSS pixels. */
function canvas(id) {
  const box = byId(id), ratio = devicePixelRatio || 1, { width, height } = box.getBoundingClientRect();
  box.width = Math.round(width * ratio);
  box.height = Math.round(height * ratio);
  const context = box.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "13px system-ui, sans-serif";
  return { context, width, height };
}

const BLUE = [0, 114, 178], ORANGE = [230, 159, 0];
function mix(a, b, part) { return a.map((v, i) => Math.round(v + (b[i] - v) * part)); }
const rgb = (c, alpha = 1) => `rgba(${c[0]},${c[1]},${c[2]},${alpha})`;
const paper = () => (matchMedia("(prefers-color-scheme: dark)").matches ? [22, 22, 26] : [255, 255, 255]);

/** What the network answers everywhere: 0 blue, 1 orange, undecided the page's own colour. */
function drawSurface() {
  const { context, width, height } = canvas("surface");
  if (lab.features !== 2) {
    context.fillStyle = css("--soft");
    context.fillText(t("no_surface", { features: lab.features }), 8, height / 2);
    describe("surface", t("no_surface", { features: lab.features }));
    return;
  }
  const cost = state.depth * state.width ** 2, n = Math.max(12, Math.min(48, Math.floor(Math.sqrt(1e7 / cost))));
  const reach = 1.25 * Math.max(...lab.x.map(Math.abs)), grid = new Float64Array(n * n * 2);
  for (let i = 0; i < n; i += 1) for (let j = 0; j < n; j += 1) {
    grid[2 * (i * n + j)] = reach * ((2 * (j + 0.5)) / n - 1);
    grid[2 * (i * n + j) + 1] = reach * (1 - (2 * (i + 0.5)) / n);
  }
  // of a batch's statistics a point elsewhere would be a part
  const { output } = forward(state.normalization === "batch" ? { ...state, normalization: "none" } : state, lab.net, grid);
  const side = Math.min(width, height), left = (width - side) / 2, cell = side / n;
  const answer = (y) => (state.loss === "cross_entropy" ? 1 / (1 + Math.exp(-y)) : Math.min(1, Math.max(0, y)));
  if (state.normalization !== "batch") output.forEach((y, k) => {
    const p = answer(y), tint = p > 0.5 ? mix(paper(), ORANGE, 2 * p - 1) : mix(paper(), BLUE, 1 - 2 * p);
    context.fillStyle = Number.isFinite(p) ? rgb(tint) : css("--soft");
    context.fillRect(left + (k % n) * cell, Math.floor(k / n) * cell, cell + 0.7, cell + 0.7);
  });
  lab.targets.forEach((target, e) => {
    const x = left + (side * (lab.x[2 * e] / reach + 1)) / 2, y = (side * (1 - lab.x[2 * e + 1] / reach)) / 2;
    context.beginPath();
    context.arc(x, y, lab.targets.length > 8 ? 5 : 9, 0, 7);
    context.fillStyle = rgb(target > 0.5 ? ORANGE : BLUE);
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = css("--ink");
    context.stroke();
  });
  describe("surface", t(state.normalization === "batch" ? "surface_batch" : "surface_text"));
}

const MOST_UNITS = 16;

/** Units by their mean activation, edges by their weight's sign and the size of its gradient. */
function drawNetworkPicture() {
  const { context, width, height } = canvas("network");
  const sizes = lab.net.sizes, shown = sizes.map((n) => Math.min(n, MOST_UNITS)), columns = sizes.length;
  const x = (column) => 18 + ((width - 36) * column) / (columns - 1);
  const y = (column, unit) => (height * (unit + 0.5)) / shown[column];
  const largest = Math.max(...lab.seen.gradients.kernels.map((g) => g.reduce((m, v) => Math.max(m, Math.abs(v)), 0)));
  for (let layer = 0; layer < columns - 1; layer += 1) {
    const kernel = lab.net.kernels[layer], gradient = lab.seen.gradients.kernels[layer];
    for (let i = 0; i < shown[layer]; i += 1) for (let o = 0; o < shown[layer + 1]; o += 1) {
      const at = i * sizes[layer + 1] + o, part = Math.abs(gradient[at]) / largest;
      const seen = part > 0 ? Math.max(0, 1 + Math.log10(part) / 4) : 0; // four decades
      if (seen < 0.03) continue;
      context.strokeStyle = rgb(kernel[at] > 0 ? ORANGE : BLUE, seen);
      context.lineWidth = 0.4 + 1.6 * seen;
      context.beginPath();
      context.moveTo(x(layer), y(layer, i));
      context.lineTo(x(layer + 1), y(layer + 1, o));
      context.stroke();
    }
  }
  const deadIn = [null, ...lab.seen.layers.map((layer) => deadUnits(layer.slope, state.width))];
  const radius = Math.max(2.5, Math.min(8, (width - 36) / columns / 3, height / 40));
  for (let column = 0; column < columns; column += 1) {
    const values = column === 0 ? lab.x : column === columns - 1 ? lab.seen.output : lab.seen.layers[column - 1].h;
    const scale = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0) || 1;
    for (let unit = 0; unit < shown[column]; unit += 1) {
      let sum = 0;
      for (let e = unit; e < values.length; e += sizes[column]) sum += values[e];
      const part = (sum * sizes[column]) / values.length / scale;
      const dead = deadIn[column]?.[unit];
      context.beginPath();
      context.arc(x(column), y(column, unit), radius, 0, 7);
      context.fillStyle = rgb(mix(paper(), part > 0 ? ORANGE : BLUE, Math.min(1, Math.abs(part))));
      context.fill();
      context.lineWidth = 1.3;
      context.strokeStyle = dead ? css("--soft") : css("--ink");
      context.stroke();
      if (dead) {
        context.beginPath();
        context.moveTo(x(column) - radius, y(column, unit) - radius);
        context.lineTo(x(column) + radius, y(column, unit) + radius);
        context.stroke();
      }
    }
  }
  describe("network", t("network_text", { shown: Math.min(state.width, MOST_UNITS), width: state.width }));
}

const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function ramp(part) {
  const at = Math.min(RAMP.length - 1.0001, Math.max(0, part * (RAMP.length - 1))), i = Math.floor(at);
  return rgb(mix(RAMP[i], RAMP[i + 1], at - i));
}

/** The gradient over layers, from the top down, and over time, to the right. */
function drawImage() {
  const { context, width, height } = canvas("image"), records = lab.records;
  const logs = records.map((r) => r.delta.map((v) => (v > 0 ? Math.log10(v) : null)));
  const all = logs.flat().filter((v) => v !== null && Number.isFinite(v)), low = Math.min(...all), high = Math.max(...all);
  const left = 34, bottom = 22, wide = (width - left) / Math.max(records.length, 40), tall = (height - bottom) / state.depth;
  logs.forEach((column, k) => column.forEach((v, i) => {
    context.fillStyle = v === null || !Number.isFinite(v) ? css("--paper") : ramp(high > low ? (v - low) / (high - low) : 1);
    context.fillRect(left + k * wide, (state.depth - 1 - i) * tall, wide + 0.7, tall + 0.7);
  }));
  context.fillStyle = css("--ink");
  context.textAlign = "right";
  for (const layer of new Set([1, state.depth])) context.fillText(String(layer), left - 6, (state.depth - layer + 0.5) * tall + 5);
  context.textAlign = "left";
  context.fillText("0", left, height - 6);
  const last = String(lab.step), room = context.measureText(last).width;
  if (lab.step) context.fillText(last, Math.min(width - room, left + records.length * wide - room / 2), height - 6);
  describe("image", all.length ? t("image_text", { low: short(10 ** low), high: short(10 ** high) }) : t("nothing"));
}

function drawNow(charts = true) {
  if (!lab) return;
  if (charts) drawCharts();
  drawSurface();
  drawNetworkPicture();
  drawImage();
  const top = lab.now.delta.at(-1), passes = lab.now.delta.some((v) => v > 0), solved = lab.seen.accuracy > 1 - 1e-9;
  const word = !Number.isFinite(lab.seen.loss) ? "diverged" : solved ? (passes ? "solved" : "solved_above") : !passes ? "no_gradient"
    : Math.max(...lab.now.delta) > DATA.exploding * top ? "exploding" : lab.now.delta[0] < DATA.vanishing * top ? "vanishing"
    : lab.step >= 500 && lab.seen.loss > 0.95 * lab.records[0].loss ? "stuck" : "learning";
  byId("status").textContent = t("status", { step: lab.step, loss: short(lab.seen.loss), word: t(word) });
  byId("status").dataset.word = word;
}

CHARTING.displayModeBar = false;

function drawAll() {
  drawCurve();
  byId("charts").classList.toggle("impossible", !lab);
  if (lab) drawNow();
  else byId("status").textContent = t("no_edge", { name: state.activation });
  byId("play").disabled = byId("one").disabled = !lab;
}

// --- settings

function command() {
  const task = DATA.tasks[state.task], boolean = ["xor", "and", "parity", "noisy_xor"].includes(state.task);
  const words = {
    activation: [state.activation, "tanh"], "model.depth": [state.depth, 2], "model.width": [state.width, 8],
    init: [state.init, "glorot_normal"], "init.gain": [state.gain, 1], task: [state.task, "xor"],
    "task.inputs": [boolean ? "bipolar" : "binary", "binary"], optimizer: [state.optimizer, "adam"],
    "optimizer.learning_rate": [state.rate, 0.01], "training.loss_function": [state.loss, "cross_entropy"],
    "model.residual": [state.residual, 0], "model.residual_scale": [state.residual ? state.scale : "constant", "constant"],
    "model.normalization": [state.normalization, "none"],
  };
  const options = Object.entries(task.options).map(([key, value]) => `task.${key}=${value}`);
  return ["fadeout train", ...Object.entries(words).filter(([, [is, usual]]) => is !== usual).map(([key, [is]]) => `${key}=${is}`), ...options].join(" ");
}

/** Settings in the address, so that a page can be sent on. */
function address() {
  const own = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]).map(([key, value]) => `${key}=${value}`);
  if (view.language !== browserLanguage()) own.push(`lang=${view.language}`);
  const fragment = own.length ? `#${own.join("&")}` : "#";
  if (location.hash !== fragment && !(fragment === "#" && !location.hash)) history.replaceState(null, "", fragment);
  byId("command").textContent = command();
}

function browserLanguage() { return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"; }

/** What the address says, where it is something that the page knows. */
function read() {
  Object.assign(state, DEFAULTS);
  view.language = browserLanguage();
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
    if (key === "lang" && WORDS[value]) view.language = value;
    else if (CHOICES[key]?.includes(value)) state[key] = value;
    else if (LADDERS[key]?.includes(Number(value))) state[key] = Number(value);
    else if (key === "seed" && Number.isSafeInteger(Number(value))) state.seed = Number(value);
  }
}

function changed() {
  delete view.until;
  reset();
  play(false);
  address();
  drawAll();
}

function makeControls() {
  const box = byId("controls");
  box.replaceChildren();
  const set = (key, value) => { state[key] = value; leaveTour(); changed(); };
  const pick = (key) => choice(t(key), CHOICES[key].map((word) => (key === "init" && word === "torch" ? "torch (PyTorch)" : word)),
    CHOICES[key].indexOf(state[key]), (i) => set(key, CHOICES[key][i]));
  const slide = (key) => slider(t(key), 0, LADDERS[key].length - 1, LADDERS[key].indexOf(state[key]),
    (i) => set(key, LADDERS[key][i]), (i) => String(LADDERS[key][i]));
  const group = (title, ...inside) => { const set = element("fieldset"); set.append(element("legend", t(title)), ...inside); return set; };
  box.append(
    group("group_network", pick("activation"), slide("depth"), slide("width")),
    group("group_start", pick("init"), slide("gain")),
    group("group_training", pick("task"), pick("optimizer"), slide("rate"), pick("loss")),
    group("group_remedies", slide("residual"), pick("scale"), pick("normalization")),
  );
  byId("speed").replaceChildren(slider(t("speed"), 0, SPEEDS.length - 1, view.speed, (i) => { view.speed = i; owed = 0; },
    (i) => (SPEEDS[i] === Infinity ? t("fastest") : t("a_second", { steps: SPEEDS[i] }))));
}

// --- tours

function showStop() {
  const tour = TOURS[view.tour];
  byId("tour-steps").hidden = !tour;
  byId("tour-text").textContent = "";
  if (!tour) return;
  const stop = tour.stops[view.stop];
  Object.assign(state, DEFAULTS, ...tour.stops.slice(0, view.stop + 1).map((s) => s.set));
  makeControls();
  changed();
  byId("tour-text").textContent = stop[view.language];
  byId("tour-place").textContent = `${view.stop + 1} / ${tour.stops.length}`;
  byId("back").disabled = view.stop === 0;
  byId("next").disabled = view.stop === tour.stops.length - 1;
  if (stop.steps) { view.until = stop.steps; view.speed = 3; makeControls(); play(true); }
}

/** A text must not stand beside what it is not of. */
function leaveTour() {
  view.tour = -1;
  byId("tours").value = -1;
  byId("tour-steps").hidden = true;
  byId("tour-text").textContent = "";
}

function makeTours() {
  const list = byId("tours");
  list.replaceChildren(element("option", t("no_tour"), { value: -1 }), ...TOURS.map((tour, i) => element("option", tour[view.language], { value: i })));
  list.value = view.tour;
}

/** All texts, in the language that is chosen. */
function speak() {
  document.documentElement.lang = view.language === "zh" ? "zh-CN" : "en";
  document.title = `${t("title")} - fadeout`;
  for (const box of document.querySelectorAll("[data-word]")) if (box.id !== "status") box.textContent = t(box.dataset.word);
  for (const id of PANELS) { byId(`${id}-title`).textContent = t(`${id}_title`); byId(`${id}-why`).textContent = t(`${id}_why`); }
  byId("language").textContent = t("other_language");
  byId("language").lang = view.language === "zh" ? "en" : "zh-CN";
  byId("controls").setAttribute("aria-label", t("settings"));
  byId("transport").setAttribute("aria-label", t("training"));
  byId("play").textContent = t(view.playing ? "pause" : "play");
  byId("copied").textContent = "";
  makeControls();
  makeTours();
  if (TOURS[view.tour]) byId("tour-text").textContent = TOURS[view.tour].stops[view.stop][view.language];
  address();
  drawAll();
}

function listen() {
  const on = (id, kind, act) => byId(id).addEventListener(kind, act);
  on("play", "click", () => { delete view.until; play(!view.playing); });
  on("one", "click", () => { play(false); advance(1); drawNow(); });
  on("reset", "click", changed);
  on("again", "click", () => { state.seed += 1; changed(); }); // a tour may ask for it
  on("language", "click", () => { view.language = view.language === "zh" ? "en" : "zh"; speak(); });
  on("tours", "change", () => { view.tour = Number(byId("tours").value); view.stop = 0; showStop(); });
  on("back", "click", () => { view.stop -= 1; showStop(); });
  on("next", "click", () => { view.stop += 1; showStop(); });
  on("copy", "click", async () => {
    getSelection().selectAllChildren(byId("command"));
    byId("copied").textContent = t("selected");
    if (await navigator.clipboard?.writeText(command()).then(() => true, () => false)) byId("copied").textContent = t("copied");
  });
  on("controls", "submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => { leaveTour(); read(); reset(); speak(); });
  addEventListener("resize", () => { if (!view.playing) drawAll(); });
  onColorScheme(drawAll);
}

read();
makePanels();
reset();
speak();
listen();
document.body.dataset.ready = "yes";
