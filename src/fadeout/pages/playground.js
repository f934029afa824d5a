"use strict";
/* The page that trains: its settings, how it plays, and what the address says. */
const NAMES = Object.keys(DATA.activations);
const CHOICES = {
  task: Object.keys(DATA.tasks), activation: NAMES, init: Object.keys(DATA.inits), optimizer: Object.keys(DATA.optimizers),
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
const RACED = ["activation", "depth", "width", "init", "gain", "optimizer", "rate", "loss", "residual", "scale", "normalization"];
const SPEEDS = [2, 20, 100, 500, Infinity];
const DEFAULTS = {
  task: "xor", activation: "sigmoid", init: "glorot_normal", gain: 1, depth: 10, width: 16, optimizer: "sgd", rate: 0.1,
  loss: "cross_entropy", residual: 0, scale: "constant", normalization: "none", seed: 1,
};
const state = { ...DEFAULTS }, race = { key: null, value: null };
const view = { playing: false, speed: 2, tour: -1, stop: 0, drawing: 0, rate: 0 };
let labs = []; // the network, and its rival in a race

/** One setting in which a rival differs; without one there is no race. */
function setRace(against = {}) {
  const [key, value] = Object.entries(against)[0] || [null, null];
  Object.assign(race, { key, value });
}

// --- words

/** How an option is called on the page; in Chinese beside what it is called in the command. */
function optionWord(key, value, before = "") {
  const known = WORDS[language].options[value];
  if (known) return before + known;
  return before + (key === "init" && value === "torch" ? "torch (PyTorch)" : String(value));
}

// --- the experiment

/** Draws the networks anew; training starts again. */
function reset() {
  view.playing = false;
  const all = [{ ...state }, ...(race.key ? [{ ...state, [race.key]: race.value }] : [])];
  labs = all.every((settings) => kernelVariance(settings, 1, 1) !== null) ? all.map((settings) => new Experiment(settings)) : [];
  labs.forEach((lab) => lab.compare());
}

/** Some steps of training, fewer if they take longer than so many milliseconds; how many. */
function advance(steps, milliseconds = Infinity) {
  const began = performance.now();
  let done = 0;
  while (done < steps && labs.some((lab) => lab.finite)) {
    for (const lab of labs) if (lab.finite) lab.advance();
    done += 1;
    if (performance.now() - began > milliseconds) break;
  }
  if (done) for (const lab of labs) lab.now = measured(lab.settings, lab.seen);
  return done;
}

/** For the tests: begins with these weights, kernels [in][out] and biases, bottom to top. */
function give(kernels, biases) {
  const [lab] = labs;
  kernels.forEach((k, layer) => lab.net.kernels[layer].set(k.flat()));
  biases.forEach((b, layer) => lab.net.biases[layer].set(b));
  lab.look();
}

// --- playing

let last = 0, owed = 0, drawn = 0, charted = 0, counted = 0, since = 0;
function frame(now) {
  if (!view.playing || !labs.length) return;
  const speed = SPEEDS[view.speed], fastest = speed === Infinity, step = () => Math.max(...labs.map((lab) => lab.step));
  owed += fastest ? 0 : ((now - last) / 1000) * speed;
  last = now;
  const left = limit() - step();
  // as much time for training as drawing takes; what a slow machine cannot keep up with is let go
  const done = advance(Math.min(fastest ? Infinity : Math.floor(owed), left), Math.max(14, view.drawing));
  owed = fastest ? 0 : Math.min(owed - done, speed);
  counted += done;
  if (now - since > 1000) { view.rate = (1000 * counted) / (now - since); counted = 0; since = now; }
  if (!labs.some((lab) => lab.finite) || step() >= limit()) play(false);
  if (now - drawn > 100 || !view.playing) {
    drawn = now;
    const charts = now - charted > 350 || !view.playing, began = performance.now();
    if (charts) charted = now;
    drawNow(charts);
    view.drawing = performance.now() - began;
  }
  if (performance.now() - now > 40) setTimeout(() => requestAnimationFrame(frame), 20); // for whoever clicks
  else requestAnimationFrame(frame);
}

function play(on) {
  const stopped = view.playing && !on;
  view.playing = on && labs.length > 0;
  if (stopped) drawNow();
  byId("play").textContent = t(view.playing ? "pause" : "play");
  byId("tour-run").disabled = view.playing;
  if (view.playing) requestAnimationFrame((now) => { last = since = now; owed = counted = view.rate = 0; frame(now); });
}

/** Trains, or stops; of a tour's stop that has come to its end, again from the start. */
function toggle() {
  if (!view.playing && labs.some((lab) => lab.step >= limit())) reset();
  play(!view.playing);
}

function drawAll() {
  if (!byId("sheet").hidden) return;
  hideAnswers();
  if (!guessing()) drawCurve();
  byId("charts").classList.toggle("impossible", !labs.length);
  if (labs.length) drawNow();
  else byId("status").textContent = t("no_edge", { name: [state.activation, race.value].find((name) => NAMES.includes(name) && DATA.activations[name].critical === null) });
  byId("play").disabled = byId("one").disabled = !labs.length;
  drawAsk();
}

// --- settings

/** What a network's settings are called in fadeout's commands, with what is usual. */
function commandWords(s, branches) {
  const boolean = ["xor", "and", "parity", "noisy_xor"].includes(s.task);
  const own = s.task === "own", options = Object.entries(DATA.tasks[s.task].options);
  return {
    activation: [s.activation, "tanh"], "model.depth": [s.depth, 2], "model.width": [s.width, 8],
    init: [s.init, "glorot_normal"], "init.gain": [s.gain, 1], task: [own ? "table" : s.task, "xor"],
    "task.inputs": [boolean ? "bipolar" : "binary", "binary"], optimizer: [s.optimizer, "adam"],
    "optimizer.learning_rate": [s.rate, 0.01], "training.loss_function": [s.loss, "cross_entropy"],
    "model.residual": [s.residual, 0], "model.residual_scale": [branches ? s.scale : "constant", "constant"],
    "model.normalization": [s.normalization, "none"], ...Object.fromEntries(options.map(([key, value]) => [`task.${key}`, [value, null]])),
  };
}

function command() {
  const both = [{ ...state }, race.key && { ...state, [race.key]: race.value }].filter(Boolean), branches = both.some((s) => s.residual);
  const [own, rival] = both.map((s) => commandWords(s, branches));
  const words = Object.entries(own).filter(([path, [is, usual]]) => is !== usual || (rival && rival[path][0] !== usual))
    .map(([path, [is]]) => (rival && rival[path][0] !== is ? `${path}=${is},${rival[path][0]}` : `${path}=${is}`));
  return [rival ? "fadeout train -m" : "fadeout train", ...words].join(" ");
}

/** Settings in the address, so that a page can be sent on. */
function address() {
  const own = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key] && value !== "own").map(([key, value]) => `${key}=${value}`);
  if (race.key) own.push(`against=${race.key}:${race.value}`);
  if (TOURS[view.tour]) own.splice(0, own.length, `tour=${view.tour + 1}`, `stop=${view.stop + 1}`);
  if (language !== browserLanguage()) own.push(`lang=${language}`);
  const fragment = own.length ? `#${own.join("&")}` : "#";
  if (location.hash !== fragment && !(fragment === "#" && !location.hash)) history.replaceState(null, "", fragment);
  byId("command").textContent = command();
}

/** Begins the tour that the address names. */
function readTour(fragment) {
  const asked = new URLSearchParams(fragment.slice(1)), tour = Number(asked.get("tour")) - 1, stop = Number(asked.get("stop") || 1) - 1;
  if (!TOURS[tour]?.stops[stop]) return;
  Object.assign(view, { tour, stop });
  showStop();
}

/** A value of a setting as it is written, or undefined where the page does not know it. */
function settingOf(key, text) {
  if (Object.hasOwn(CHOICES, key)) return CHOICES[key].includes(text) ? text : undefined;
  return Object.hasOwn(LADDERS, key) ? LADDERS[key].find((value) => value === Number(text)) : undefined;
}

/** What the address says, where it is something that the page knows. */
function read() {
  Object.assign(state, DEFAULTS);
  setRace();
  language = browserLanguage();
  for (const [key, text] of new URLSearchParams(location.hash.slice(1))) {
    const value = settingOf(key, text), [raced, other] = text.split(":");
    if (value !== undefined) state[key] = value;
    else if (key === "lang" && WORDS[text]) language = text;
    else if (key === "seed" && Number.isSafeInteger(Number(text))) state.seed = Number(text);
    else if (key === "against" && RACED.includes(raced) && settingOf(raced, other) !== undefined) setRace({ [raced]: settingOf(raced, other) });
  }
}

function changed() {
  reset();
  play(false);
  address();
  drawAll();
}

/** A list or a slider for a setting. */
function control(key, value, change, title = t(key)) {
  if (CHOICES[key]) return choice(title, CHOICES[key].map((word) => optionWord(key, word)), CHOICES[key].indexOf(value), (i) => change(CHOICES[key][i]));
  return slider(title, 0, LADDERS[key].length - 1, LADDERS[key].indexOf(value), (i) => change(LADDERS[key][i]), (i) => String(LADDERS[key][i]));
}

/** The rival that is proposed: what comes next in the list. */
function rivalOf(key) {
  if (key === "activation") return state.activation === "tanh" ? "sigmoid" : "tanh";
  const values = CHOICES[key] || LADDERS[key], at = values.indexOf(state[key]);
  return values[at + 1 < values.length ? at + 1 : at - 1];
}

function makeControls() {
  const box = byId("controls");
  const set = (key) => (value) => { state[key] = value; leaveTour(); changed(); };
  const own = (key) => control(key, state[key], set(key));
  const group = (title, ...inside) => { const part = element("fieldset"); part.append(element("legend", t(title)), ...inside); return part; };
  const keys = [null, ...RACED];
  const rival = choice(t("race_key"), keys.map((key) => (key ? t(key) : t("no_rival"))), keys.indexOf(race.key), (i) => {
    setRace(keys[i] ? { [keys[i]]: rivalOf(keys[i]) } : {});
    leaveTour();
    makeControls();
    changed();
  });
  const rivals = race.key ? [control(race.key, race.value, (value) => { race.value = value; leaveTour(); changed(); }, t("race_value"))] : [];
  box.replaceChildren(
    group("group_network", own("activation"), own("depth"), own("width")),
    group("group_start", own("init"), own("gain")),
    group("group_training", own("task"), own("optimizer"), own("rate"), own("loss")),
    group("group_remedies", own("residual"), own("scale"), own("normalization")),
    group("group_race", rival, ...rivals),
  );
  byId("speed").replaceChildren(slider(t("speed"), 0, SPEEDS.length - 1, view.speed, (i) => { view.speed = i; owed = 0; },
    (i) => (SPEEDS[i] === Infinity ? t("fastest") : t("a_second", { steps: SPEEDS[i] }))));
}

// --- starting points

const SKETCH = { width: 132, height: 56 };

/** Settings worth a look, each with the gradient over its layers at step 0. */
function makeStarts() {
  byId("starts").replaceChildren(...STARTS.map((start) => {
    const button = element("button", undefined, { type: "button" }), box = element("canvas", undefined, { "aria-hidden": "true", width: 2 * SKETCH.width, height: 2 * SKETCH.height });
    button.append(box, element("span", spoken(start.title)));
    button.addEventListener("click", () => {
      leaveTour();
      Object.assign(state, DEFAULTS, start.set);
      setRace(start.against);
      makeControls();
      changed();
    });
    sketch(box.getContext("2d"), start);
    return button;
  }));
}

function sketch(context, { set, against }) {
  const settings = { ...DEFAULTS, ...set }, decades = 8;
  context.scale(2, 2);
  context.strokeStyle = css("--line");
  context.strokeRect(0.5, 0.5, SKETCH.width - 1, SKETCH.height - 1);
  for (const own of [settings, ...(against ? [{ ...settings, ...against }] : [])]) {
    const { delta } = new Experiment(own).now;
    context.beginPath();
    delta.forEach((v, i) => {
      const power = v > 0 ? Math.log10(v / delta.at(-1)) : -decades;
      const at = Math.max(4, Math.min(SKETCH.height - 4, (SKETCH.height * (4 - power)) / (decades + 6)));
      context.lineTo(6 + ((SKETCH.width - 12) * i) / Math.max(1, delta.length - 1), at);
    });
    context.lineWidth = 2.5;
    context.strokeStyle = visible(DATA.activations[own.activation].color);
    context.stroke();
  }
}

// --- data of one's own

const MOST_ROWS = 500, MOST_COLUMNS = 16;

/** Examples of a table: numbers, and in the last column one of two answers. Columns get mean 0 and variance 1. */
function examplesOf(source) {
  const lines = source.split(/\r?\n/).map((row) => row.trim()).filter(Boolean);
  const separator = [/\t/, /[;；]/, /[,，]/, /\s+/].find((one) => lines.some((row) => one.test(row))) || /,/, commas = [/\t/, /[;；]/].some((one) => one.source === separator.source);
  const rows = lines.map((row) => row.split(separator).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1")).map((cell) => (commas && /^-?\d+,\d+$/.test(cell) ? cell.replace(",", ".") : cell)));
  const number = (cell) => cell !== "" && Number.isFinite(Number(cell));
  if (rows.length && !rows[0].slice(0, -1).every(number)) rows.shift(); // a header
  if (rows.length < 2) throw new Error(t("data_rows"));
  if (rows.length > MOST_ROWS) throw new Error(t("data_many", { most: MOST_ROWS, rows: rows.length }));
  const columns = rows[0].length - 1;
  if (columns < 1 || columns > MOST_COLUMNS) throw new Error(t("data_columns", { most: MOST_COLUMNS }));
  rows.forEach((row, i) => {
    if (row.length !== columns + 1) throw new Error(t("data_width", { row: i + 1, is: row.length, wanted: columns + 1 }));
    row.slice(0, -1).forEach((cell, k) => { if (!number(cell)) throw new Error(t("data_number", { row: i + 1, column: k + 1, cell: cell.slice(0, 20) })); });
  });
  const answers = [...new Set(rows.map((row) => row.at(-1)))].sort((a, b) => (number(a) && number(b) ? a - b : a < b ? -1 : 1));
  if (answers.length !== 2) throw new Error(t("data_answers", { count: answers.length }));
  const values = rows.map((row) => row.slice(0, -1).map(Number));
  for (let k = 0; k < columns; k += 1) {
    const middle = mean(values.map((row) => row[k])), deviation = Math.sqrt(mean(values.map((row) => (row[k] - middle) ** 2)));
    for (const row of values) row[k] = deviation > 0 ? (row[k] - middle) / deviation : 0;
  }
  return { inputs: values, targets: rows.map((row) => answers.indexOf(row.at(-1))), options: { file: "data.csv" }, one: answers[1] };
}

function useData() {
  const box = byId("data-fault");
  try {
    DATA.tasks.own = examplesOf(byId("data-text").value);
  } catch (error) {
    box.textContent = error.message;
    return;
  }
  const { inputs, targets, one } = DATA.tasks.own;
  box.textContent = t("data_taken", { rows: inputs.length, columns: inputs[0].length, ones: targets.reduce((a, b) => a + b), one });
  if (!CHOICES.task.includes("own")) CHOICES.task.push("own");
  state.task = "own";
  leaveTour();
  makeControls();
  changed();
  byId("charts").scrollIntoView();
}

// --- the page

/** All texts, in the language that is chosen. */
function speak() {
  writeTexts();
  document.title = `${t("title")} - fadeout`;
  for (const id of PANELS) byId(`${id}-title`).textContent = t(`${id}_title`);
  for (const id of ["predict", ...PANELS]) byId(`${id}-why`).textContent = t(`${id}_why`);
  byId("controls").setAttribute("aria-label", t("settings"));
  byId("transport").setAttribute("aria-label", t("training"));
  byId("data-text").setAttribute("aria-label", t("data_title"));
  byId("play").textContent = t(view.playing ? "pause" : "play");
  byId("copied").textContent = "";
  makeControls();
  makeTours();
  makeStarts();
  tellStop();
  if (asked) makeGuess();
  if (!byId("sheet").hidden) makeSheet();
  address();
  drawAll();
}

function listen() {
  const on = (id, kind, act) => byId(id).addEventListener(kind, act);
  const go = (by) => () => { view.stop += by; showStop(); };
  on("play", "click", toggle);
  on("tour-run", "click", toggle);
  on("start-tour", "click", () => { Object.assign(view, { tour: 0, stop: 0 }); showStop(); });
  on("one", "click", () => { play(false); advance(1); drawNow(); });
  on("reset", "click", changed);
  on("again", "click", () => { state.seed += 1; changed(); }); // a tour may ask for it
  on("language", "click", () => { switchLanguage(); speak(); lookAtStop(); });
  on("tours", "change", () => { view.tour = Number(byId("tours").value); view.stop = 0; showStop(); });
  on("back", "click", go(-1));
  on("next", "click", go(1));
  on("leave", "click", endTour);
  on("sheet-answers", "click", () => { byId("sheet").classList.toggle("without-answers"); });
  addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -1, PageDown: 1 }[event.key], tour = tours[view.tour];
    if (!by || !tour || event.target.matches?.("input, select, textarea") || !byId("sheet").hidden || !tour.stops[view.stop + by]) return;
    event.preventDefault();
    go(by)();
  });
  on("sheet-button", "click", () => showSheet(true));
  on("sheet-close", "click", () => showSheet(false));
  on("sheet", "keydown", (event) => { if (event.key === "Escape") showSheet(false); });
  on("sheet-print", "click", () => print());
  on("tour-file", "change", async (event) => { const [file] = event.target.files; event.target.value = ""; if (file) addTour(await file.text()); });
  on("data-use", "click", useData);
  on("copy", "click", async () => {
    getSelection().selectAllChildren(byId("command"));
    byId("copied").textContent = t("selected");
    if (await navigator.clipboard?.writeText(command()).then(() => true, () => false)) byId("copied").textContent = t("copied");
  });
  on("controls", "submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => arrive(location.hash));
  addEventListener("resize", () => { if (!view.playing) drawAll(); });
  onColorScheme(() => { makeStarts(); drawAll(); });
  listenToDrawing();
}

/** Begins with what the address says. */
function arrive(fragment) {
  leaveTour();
  read();
  reset();
  speak();
  readTour(fragment);
}

makePanels();
byId("predict").after(element("div", undefined, { id: "guess" }));
arrive(location.hash);
listen();
document.body.dataset.ready = "yes";
