"use strict";
/* The panels: each draws one network, or two that race. */
const PANELS = ["gradient", "network", "surface", "loss", "image", "weights", "units", "signal", "curve"];
const CANVASES = ["predict", "network", "surface", "image"];
const RIVAL = "#cc79a7";
const LEGEND = { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 };
CHARTING.displayModeBar = false;

function makePanels() {
  for (const id of ["predict", ...PANELS]) {
    const figure = element("figure", undefined, { id: `${id}-panel` }), caption = element("figcaption", undefined, { id: `${id}-title` });
    const why = element("details", undefined, { class: "why" });
    why.append(element("summary", "?"), element("p", undefined, { id: `${id}-why` }));
    const chart = element(CANVASES.includes(id) ? "canvas" : "div", undefined, { class: "chart", id });
    figure.append(caption, why, chart, element("p", undefined, { class: "soft", id: `${id}-text` }));
    byId("charts").append(figure);
  }
  byId("predict-text").setAttribute("aria-live", "polite");
}

// --- words and colours

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const positive = (values) => Array.from(values, (v) => (v > 0 && Number.isFinite(v) ? v : null));
const racing = () => labs.length > 1;

/** The colour of a network: its activation's, and another for a rival that has the same. */
function colorOf(lab) {
  const own = DATA.activations[lab.settings.activation].color;
  const rival = lab !== labs[0] && own === DATA.activations[labs[0].settings.activation].color;
  return visible(rival ? RIVAL : own);
}

/** What tells the networks of a race apart. */
function nameOf(lab) {
  return optionWord(race.key, lab.settings[race.key], ["activation", "init", "optimizer"].includes(race.key) ? "" : `${t(race.key)} `);
}

/** A text of every network, after its name where there are two. */
function describeEach(id, words) {
  describe(id, labs.map((lab) => (racing() ? `${nameOf(lab)} – ` : "") + words(lab)).join(" "));
}

// --- charts

function line(x, y, name, style, more = {}) {
  return { x, y, type: "scatter", mode: "lines", name: plain(name), line: style, hovertemplate: "%{y:.3g}", ...more };
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

const layersOf = (values) => values.map((_, i) => i + 1);
const layerAxis = (title, most) => axis(title, { dtick: most > 12 ? 5 : 1 });
const deepest = () => Math.max(...labs.map((lab) => lab.settings.depth));

/** Every network's values over layers; of one alone also those of other draws, of the start, and what is expected. */
function layered(id, pick, expectedOf, others) {
  const traces = [];
  for (const lab of labs) {
    const now = pick(lab.now), start = pick(lab.start), expected = racing() ? null : expectedOf(lab), at = layersOf(now);
    if (others && !racing() && !lab.step) {
      const look = { color: faint(colorOf(lab)).replace("0.16", "0.3"), width: 1 };
      for (const own of lab.others) traces.push(line(at, positive(pick(own)), "", look, { hoverinfo: "skip", hovertemplate: undefined, showlegend: false }));
    }
    if (lab.step && !racing()) traces.push(line(at, positive(start), t("start"), { color: css("--soft"), width: 2, dash: "dot" }));
    if (expected) traces.push(line(at, positive(expected), t("theory"), { color: css("--ink"), width: 2, dash: "dash" }));
    traces.push(line(at, positive(now), racing() ? nameOf(lab) : t("now"), { color: colorOf(lab), width: 3 }, { mode: "lines+markers" }));
  }
  draw(id, traces, layerAxis(t(id === "weights" ? "weight_layer" : "layer"), deepest()), axis("", logarithmic(traces.map((own) => own.y))),
    { showlegend: true, legend: LEGEND });
}

function gradientWords(lab) {
  const { delta } = lab.now;
  if (!lab.passes) return t("nothing");
  if (delta.length === 1) return t("one_layer");
  const factors = delta.slice(0, -1).map((v, i) => short(v / delta[i + 1])).reverse(), shown = racing() ? 3 : 11;
  const list = (factors.length > shown + 1 ? [...factors.slice(0, shown), "…"] : factors).join(" × ");
  const smaller = lab.seen.loss < 0.5 * lab.records[0].loss && delta.at(-1) < 0.3 * lab.start.delta.at(-1);
  return t("factors", { list, product: short(delta[0] / delta.at(-1)), first: short(delta[0]), top: short(delta.at(-1)), highest: delta.length }) + (smaller ? ` ${t("small_loss")}` : "");
}

function drawCharts() {
  layered("gradient", (seen) => seen.delta, ({ expected, start }) => expected && start.delta.at(-1) > 0 && expected.delta.map((v) => v * start.delta.at(-1)), true);
  describeEach("gradient", gradientWords);
  layered("weights", (seen) => seen.weights, () => null);
  describeEach("weights", ({ now }) => t("weights_text", { first: short(now.weights[0]), top: short(now.weights.at(-1)) }));
  layered("signal", (seen) => seen.signal, ({ expected }) => expected && expected.signal);
  describeEach("signal", ({ now }) => t("signal_text", { first: short(now.signal[0]), top: short(now.signal.at(-1)) }));
  drawUnits();
  drawLoss();
}

function drawUnits() {
  const traces = labs.flatMap((lab) => {
    const at = layersOf(lab.now.dead), more = { mode: "lines+markers", hovertemplate: "%{y:.0%}" }, of = racing() ? `${nameOf(lab)}, ` : "";
    return [
      line(at, lab.now.saturated, of + t("saturated"), { color: racing() ? colorOf(lab) : "#e69f00", width: 3 }, more),
      line(at, lab.now.dead, of + t("dead"), { color: racing() ? colorOf(lab) : "#d55e00", width: 3, dash: "dash" }, more),
    ];
  });
  draw("units", traces, layerAxis(t("layer"), deepest()), axis("", { range: [-0.03, 1.03], tickformat: ".0%" }), { showlegend: true, legend: LEGEND });
  describeEach("units", ({ now }) => t("units_text", { dead: percent(mean(now.dead)), saturated: percent(mean(now.saturated)) }));
}

function drawLoss() {
  const traces = labs.flatMap((lab) => {
    const steps = lab.records.map((r) => r.step), of = racing() ? `${nameOf(lab)}, ` : "", mode = steps.length > 1 ? "lines" : "markers";
    return [
      line(steps, positive(lab.records.map((r) => r.loss)), of + t("loss"), { color: colorOf(lab), width: 3 }, { mode }),
      line(steps, lab.records.map((r) => r.accuracy), of + t("accuracy"), { color: racing() ? colorOf(lab) : css("--soft"), width: 2, dash: "dot" },
        { yaxis: "y2", hovertemplate: "%{y:.0%}", showlegend: !racing() }),
    ];
  });
  const losses = labs.map((lab) => positive(lab.records.map((r) => Math.max(r.loss, 1e-8)))), undecided = labs[0].settings.loss === "cross_entropy" ? Math.LN2 : 0.25;
  const level = { type: "line", xref: "paper", x0: 0, x1: 1, y0: undecided, y1: undecided, line: { color: css("--soft"), width: 1, dash: "dash" } };
  const label = { xref: "paper", x: 1, xanchor: "right", y: Math.log10(undecided), yanchor: "bottom", showarrow: false, font: { size: 11, color: css("--soft") },
    text: t("undecided", { loss: labs[0].settings.loss === "cross_entropy" ? "ln 2 = 0.693" : "0.25" }) };
  draw("loss", traces, axis(t("steps"), { range: [0, Math.max(10, ...labs.map((lab) => lab.step))] }), axis("", { ...logarithmic(losses), title: { text: t("loss") } }), {
    showlegend: true, legend: LEGEND, margin: { l: 50, r: 50, t: 8, b: 40 }, shapes: [level], annotations: [label],
    yaxis2: { overlaying: "y", side: "right", range: [-0.06, 2.2], tickvals: [0, 0.5, 1], tickformat: ".0%", showgrid: false },
  });
  describeEach("loss", ({ seen, targets }) => t("loss_text", { loss: short(seen.loss), right: Math.round(seen.accuracy * targets.length), all: targets.length }));
}

/** The activations of all networks; those that need no network to be drawn. */
function drawCurve() {
  const n = 401, z = Float64Array.from({ length: n }, (_, i) => (i - 200) / 40), names = labs.map((lab) => lab.settings.activation);
  const shown = names.length ? [...new Set(names)] : [state.activation], traces = [];
  for (const name of shown) {
    const h = new Float64Array(n), s = new Float64Array(n), color = visible(DATA.activations[name].color), of = shown.length > 1 ? `${name}, ` : "";
    PHI[name](z, h, s);
    traces.push(line(Array.from(z), Array.from(h), of + t("value"), { color, width: 3 }), line(Array.from(z), Array.from(s), of + t("slope"), { color, width: 2, dash: "dash" }));
  }
  draw("curve", traces, axis("z"), axis("", { range: [-1.8, 3.2] }), { showlegend: true, legend: LEGEND });
  describe("curve", shown.map((name) => t("curve_text", { name, slope: short(DATA.activations[name].steepest) })).join(" "));
}

// --- canvases

/** Draws every network into its part of a canvas, side by side, under its name where there are two. */
function drawEach(id, paint) {
  const { context, width, height } = canvas(id), gap = 12, each = (width - gap * (labs.length - 1)) / labs.length, head = racing() ? 20 : 0;
  labs.forEach((lab, i) => {
    context.save();
    context.translate(i * (each + gap), head);
    if (racing()) {
      context.fillStyle = colorOf(lab);
      context.fillText(nameOf(lab), 2, -6, each);
    }
    paint(context, lab, each, height - head);
    context.restore();
  });
}

/** What the network answers everywhere: 0 blue, 1 orange, undecided the page's own colour. */
function paintSurface(context, lab, width, height) {
  const { settings: s, features, targets } = lab;
  if (features !== 2) {
    context.fillStyle = css("--soft");
    context.fillText(t("no_surface", { features }), 8, height / 2, width - 16);
    return;
  }
  const cost = s.depth * s.width ** 2, n = Math.max(12, Math.min(48, Math.floor(Math.sqrt(1e7 / cost))));
  const reach = 1.25 * Math.max(...lab.x.map(Math.abs)), grid = new Float64Array(n * n * 2);
  for (let i = 0; i < n; i += 1) for (let j = 0; j < n; j += 1) {
    grid[2 * (i * n + j)] = reach * ((2 * (j + 0.5)) / n - 1);
    grid[2 * (i * n + j) + 1] = reach * (1 - (2 * (i + 0.5)) / n);
  }
  const side = Math.max(1, Math.min(width - 36, height - 18)), left = (width - side) / 2, cell = side / n;
  const answer = (y) => (s.loss === "cross_entropy" ? 1 / (1 + Math.exp(-y)) : Math.min(1, Math.max(0, y)));
  if (s.normalization !== "batch") forward(s, lab.net, grid).output.forEach((y, k) => {
    const p = answer(y), tint = p > 0.5 ? mix(paper(), ORANGE, 2 * p - 1) : mix(paper(), BLUE, 1 - 2 * p);
    context.fillStyle = Number.isFinite(p) ? rgb(tint) : css("--soft");
    context.fillRect(left + (k % n) * cell, Math.floor(k / n) * cell, cell + 0.7, cell + 0.7);
  });
  context.fillStyle = css("--soft");
  context.fillText("x₁", left + side / 2, side + 15);
  context.fillText("x₂", left - 18, side / 2);
  targets.forEach((target, e) => {
    const x = left + (side * (lab.x[2 * e] / reach + 1)) / 2, y = (side * (1 - lab.x[2 * e + 1] / reach)) / 2;
    context.beginPath();
    context.arc(x, y, targets.length > 8 ? 5 : 9, 0, 7);
    context.fillStyle = rgb(target > 0.5 ? ORANGE : BLUE);
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = css("--ink");
    context.stroke();
  });
}

const MOST_UNITS = 16, SHOWN_DECADES = 4;

/** How strong a line is for a gradient, beside the largest of step 0: 1, and 0 four decades below. */
function strength(gradient, lab) {
  const part = Math.abs(gradient) / lab.strongest;
  return part > 0 ? Math.min(1, Math.max(0, 1 + Math.log10(part) / SHOWN_DECADES)) : 0;
}

/** Units by their mean activation, edges by their weight's sign and the size of its gradient. */
function paintNetwork(context, lab, width, height) {
  const { net: { sizes, kernels }, seen, settings } = lab, shown = sizes.map((n) => Math.min(n, MOST_UNITS)), columns = sizes.length;
  const foot = 30, tall = Math.max(1, height - foot);
  const x = (column) => 18 + ((width - 36) * column) / (columns - 1);
  const y = (column, unit) => (tall * (unit + 0.5)) / shown[column];
  const edge = (layer, i, o) => { context.moveTo(x(layer), y(layer, i)); context.lineTo(x(layer + 1), y(layer + 1, o)); };
  context.beginPath(); // what hardly has a gradient is still there
  for (let layer = 0; layer < columns - 1; layer += 1)
    for (let i = 0; i < shown[layer]; i += 1) for (let o = 0; o < shown[layer + 1]; o += 1) edge(layer, i, o);
  context.globalAlpha = 0.09;
  context.lineWidth = 0.4;
  context.strokeStyle = css("--ink");
  context.stroke();
  context.globalAlpha = 1;
  for (let layer = 0; layer < columns - 1; layer += 1) {
    const kernel = kernels[layer], gradient = seen.gradients.kernels[layer];
    for (let i = 0; i < shown[layer]; i += 1) for (let o = 0; o < shown[layer + 1]; o += 1) {
      const at = i * sizes[layer + 1] + o, strong = strength(gradient[at], lab);
      if (strong < 0.03) continue;
      context.strokeStyle = rgb(kernel[at] > 0 ? ORANGE : BLUE, strong);
      context.lineWidth = 0.4 + 1.6 * strong;
      context.beginPath();
      edge(layer, i, o);
      context.stroke();
    }
  }
  const deadIn = [null, ...seen.layers.map((layer) => deadUnits(layer.slope, settings.width))];
  const radius = Math.max(2.5, Math.min(8, (width - 36) / columns / 3, tall / 40));
  context.fillStyle = css("--soft");
  context.textAlign = "center";
  const sparse = (width - 36) / columns < 18;
  for (let column = 0; column < columns; column += 1) {
    if (sparse && column > 1 && column < columns - 2) continue;
    context.fillText(column === 0 ? t("in") : column === columns - 1 ? t("out") : String(column), x(column), tall + 13);
  }
  context.fillText(t("arrow"), width / 2, tall + 28, width);
  context.textAlign = "left";
  for (let column = 0; column < columns; column += 1) {
    const values = column === 0 ? lab.x : column === columns - 1 ? seen.output : seen.layers[column - 1].h;
    const scale = values.reduce((m, v) => Math.max(m, Math.abs(v)), 0) || 1;
    for (let unit = 0; unit < shown[column]; unit += 1) {
      let sum = 0;
      for (let e = unit; e < values.length; e += sizes[column]) sum += values[e];
      const part = (sum * sizes[column]) / values.length / scale, dead = deadIn[column]?.[unit];
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
}

const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function ramp(part) {
  const at = Math.min(RAMP.length - 1.0001, Math.max(0, part * (RAMP.length - 1))), i = Math.floor(at);
  return rgb(mix(RAMP[i], RAMP[i + 1], at - i));
}

const logsOf = ({ records }) => records.map((r) => r.delta.map((v) => (v > 0 && Number.isFinite(v) ? Math.log10(v) : null)));

/** The gradient over layers, from the top down, and over time, to the right; one scale for all networks. */
function paintImage([low, high]) {
  return (context, lab, width, height) => {
    const { settings: { depth }, records } = lab;
    const left = 34, bottom = 22, wide = (width - left) / Math.max(records.length, 40), tall = (height - bottom) / depth;
    logsOf(lab).forEach((column, k) => column.forEach((v, i) => {
      context.fillStyle = v === null ? css("--paper") : ramp(high > low ? (v - low) / (high - low) : 1);
      context.fillRect(left + k * wide, (depth - 1 - i) * tall, wide + 0.7, tall + 0.7);
    }));
    context.fillStyle = css("--ink");
    context.textAlign = "right";
    for (const layer of new Set([1, depth])) context.fillText(String(layer), left - 6, (depth - layer + 0.5) * tall + 5);
    context.textAlign = "left";
    context.fillText("0", left, height - 6);
    const last = String(lab.step), room = context.measureText(last).width;
    if (lab.step) context.fillText(last, Math.min(width - room, left + records.length * wide - room / 2), height - 6);
  };
}

function drawPictures() {
  drawEach("surface", paintSurface);
  const [lab] = labs, batch = labs.some((own) => own.settings.normalization === "batch");
  describe("surface", lab.features !== 2 ? t("no_surface", { features: lab.features }) : t(batch ? "surface_batch" : "surface_text"));
  drawEach("network", paintNetwork);
  describeEach("network", (own) => t(own.strongest ? "network_text" : "network_none", {
    shown: Math.min(own.settings.width, MOST_UNITS), width: own.settings.width, most: short(own.strongest), least: short(own.strongest / 10 ** SHOWN_DECADES) }));
  const all = labs.flatMap(logsOf).flat().filter((v) => v !== null), reach = [Math.min(...all), Math.max(...all)];
  drawEach("image", paintImage(reach));
  describe("image", all.length ? t("image_text", { low: short(10 ** reach[0]), high: short(10 ** reach[1]) }) : t("nothing"));
}

/** All panels of the networks; charts take longest. */
function drawNow(charts = true) {
  if (!labs.length) return;
  hideAnswers();
  drawStatus();
  if (guessing()) return; // what is asked for is not shown yet
  if (charts) drawCharts();
  drawPictures();
}

function drawStatus() {
  const box = byId("status");
  const words = labs.map((lab) => t(racing() ? "status_of" : "status", { name: racing() ? nameOf(lab) : "", step: lab.step, loss: short(lab.seen.loss), word: t(lab.state) }));
  if (racing()) words.unshift(t("race_step", { step: Math.max(...labs.map((lab) => lab.step)) }));
  if (guessing()) words.splice(0, words.length, t("guess_first"));
  if (view.playing && view.rate) words.push(t("true_speed", { steps: short(view.rate) }));
  box.textContent = words.join(" · ");
  box.dataset.word = labs[0].state;
}
