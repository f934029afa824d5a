"use strict";
const [HUE, ...AXES] = DATA.axes;
const state = {
  hues: new Set(HUE.values.keys()),
  at: AXES.map((axis) => (axis.name === "depth" ? axis.values.length - 1 : 0)),
  quantity: 0, step: 0, image: Math.min(1, HUE.values.length - 1),
  filter: "", sort: null, down: false, rows: 100, run: null,
};
for (const group of DATA.groups) {
  group.loss = numbers(group.loss, false);
  group.theory = group.theory && numbers(group.theory, false);
  group.decoded = {};
}
const depthAxis = DATA.axes.findIndex((axis) => axis.name === "depth");

function word(name) { return name.replace(/_/g, " "); }

/** The group of a hue under the chosen values of the other axes. */
function groupOf(hue, at = state.at) {
  return DATA.groups.find((g) => g.at[0] === hue && at.every((v, i) => g.at[i + 1] === v));
}

/** What a caption says of the chosen groups. */
function listed(words, between = ", ") { return words.length ? words.join(between) : "nothing is chosen"; }

function shownGroups() {
  return [...state.hues].sort((a, b) => a - b).map((hue) => [hue, groupOf(hue)]).filter(([, g]) => g);
}

/** [low, median, high] over layers at one step, of a quantity. */
function atStep(group, quantity, step) {
  const { name, share } = quantity;
  group.decoded[name] ||= numbers(group.values[name], share);
  const values = group.decoded[name], layers = group.depth + 1, steps = group.steps.length;
  const row = Math.max(0, group.steps.findLastIndex((s) => s <= step));
  return [0, 1, 2].map((part) => {
    const start = (part * steps + row) * layers;
    return values.slice(start, start + layers);
  });
}

function positive(values) { return values.map((v) => (v === null || v <= 0 ? null : v)); }

function line(hue, x, y, name, more = {}) {
  const color = visible(DATA.colors[hue]);
  return {
    x, y, name: plain(name), type: "scatter", mode: "lines+markers",
    line: { color, dash: DATA.dashes[hue], width: 2.5 }, marker: { color, size: 6 },
    hovertemplate: "%{y:.3g}<extra>%{fullData.name}</extra>", ...more,
  };
}

/** Where a logarithmic axis shows no zero: marks at its foot. */
function zerosOf(hue, layers, values, foot) {
  const at = layers.filter((_, i) => values[i] === 0);
  return at.length ? [line(hue, at, at.map(() => foot), `${HUE.values[hue]}: exactly zero`, {
    mode: "markers", marker: { color: visible(DATA.colors[hue]), size: 9, symbol: "triangle-down-open" },
    hovertemplate: "exactly zero<extra>%{fullData.name}</extra>",
  })] : [];
}

function layersChart(id, quantity, step) {
  const traces = [], words = [];
  const all = shownGroups().flatMap(([, group]) => atStep(group, quantity, step)[1]).filter((v) => v > 0);
  const foot = Math.min(...all, 1) / 3;
  for (const [hue, group] of shownGroups()) {
    const layers = Array.from({ length: group.depth + Number(quantity.readout) }, (_, i) => i + 1);
    let [low, middle, high] = atStep(group, quantity, step);
    const wide = [low, high];
    const first = middle[0];
    if (!quantity.share) traces.push(...zerosOf(hue, layers, middle, foot));
    if (!quantity.share) { middle = positive(middle); low = positive(low); high = positive(high); }
    if (wide.every((part) => part.every((v) => v !== null && (quantity.share || v > 0)))) {
      traces.push(band(layers, low, high, DATA.colors[hue]));
    }
    traces.push(line(hue, layers, middle, HUE.values[hue]));
    words.push(`${HUE.values[hue]} ${first === 0 && !quantity.share ? "exactly zero" : short(first)}`);
    if (step === 0 && quantity.name === "delta_norm" && group.theory) {
      const top = group.theory.findLastIndex((v) => v !== null);
      const scale = middle[top] / group.theory[top];
      traces.push({
        x: layers, y: group.theory.map((v) => (v === null ? null : v * scale)), type: "scatter",
        mode: "lines", line: { color: css("--ink"), dash: "dash", width: 1.5 }, name: "theory",
        hovertemplate: "%{y:.3g}<extra>theory</extra>",
      });
    }
  }
  const y = quantity.share ? axis("", { range: [-0.03, 1.03], tickformat: ".0%" }) : axis("", LOGARITHMIC);
  draw(id, traces, axis(quantity.readout ? "weight layer (the last is the readout)" : "hidden layer", { dtick: traces.length && traces[0].x.length < 12 ? 1 : undefined }), y);
  const dashed = traces.some((trace) => trace.name === "theory") ? " Dashed: mean-field theory." : "";
  describe(id, `Median over runs, band: 10th to 90th percentile. In layer 1: ${listed(words)}.${dashed}`);
}

function drawProfile() {
  if (!DATA.quantities.length) return;
  const quantity = DATA.quantities[state.quantity], step = DATA.steps[state.step];
  byId("profile-title").textContent = `${quantity.title}, layer by layer, at step ${step}`;
  layersChart("profile", quantity, step);
}

function drawUnits() {
  const quantity = DATA.quantities.find((q) => q.name === "saturation") || DATA.quantities.find((q) => q.share);
  byId("units-figure").hidden = !quantity;
  if (!quantity) return;
  byId("units-title").textContent = `${quantity.title}, at step ${DATA.steps[state.step]}`;
  layersChart("units", quantity, DATA.steps[state.step]);
}

function drawImage() {
  if (!DATA.quantities.length) return;
  const quantity = DATA.quantities[state.quantity], group = groupOf(state.image);
  byId("image-title").textContent = `${quantity.title} over training: ${HUE.values[state.image]}`;
  if (!group) {
    draw("image", [], axis("step"), axis("layer"));
    return describe("image", `No runs of ${HUE.values[state.image]} here.`);
  }
  const columns = group.steps.map((step) => atStep(group, quantity, step)[1]);
  const z = columns[0].map((_, layer) => columns.map((column) => {
    const v = column[layer];
    return v === null || (!quantity.share && v <= 0) ? null : quantity.share ? v : Math.log10(v);
  }));
  draw("image", [{
    type: "heatmap", x: group.steps, y: z.map((_, i) => i + 1), z, colorscale: "Viridis",
    colorbar: { title: { text: quantity.share ? "share" : "log10" }, thickness: 12 }, hoverongaps: false,
  }], axis("step"), axis("weight layer"), { plot_bgcolor: "#999999" });
  const last = columns.at(-1);
  describe("image", `From step 0 to ${group.steps.at(-1)}: in layer 1 from ${short(columns[0][0])} to ` +
    `${short(last[0])}, in the highest from ${short(columns[0].at(-1) ?? columns[0].at(-2))} to ` +
    `${short(last.at(-1) ?? last.at(-2))}. Grey: zero or not finite.`);
}

function drawLoss() {
  const traces = [], words = [];
  for (const [hue, group] of shownGroups()) {
    const n = group.steps.length;
    const [low, middle, high] = [0, 1, 2].map((i) => group.loss.slice(i * n, (i + 1) * n));
    if ([low, high].every((part) => part.every((v) => v !== null && v > 0))) {
      traces.push(band(group.steps, low, high, DATA.colors[hue]));
    }
    traces.push(line(hue, group.steps, positive(middle), HUE.values[hue], { mode: "lines" }));
    words.push(`${HUE.values[hue]} ${short(middle.at(-1))}`);
  }
  const now = { type: "line", x0: DATA.steps[state.step], x1: DATA.steps[state.step], yref: "paper", y0: 0, y1: 1,
    line: { color: css("--soft"), width: 1, dash: "dot" } };
  draw("loss", traces, axis("step"), axis("", LOGARITHMIC), { shapes: [now] });
  describe("loss", `Median over runs, band: 10th to 90th percentile. At the end: ${listed(words)}.`);
}

function drawSolved() {
  const traces = [], words = [], byDepth = depthAxis > 0;
  const others = AXES.map((axis, i) => [axis, i]).filter(([axis]) => axis.name !== "depth");
  for (const hue of [...state.hues].sort((a, b) => a - b)) {
    const groups = DATA.groups.filter((g) => g.at[0] === hue && others.every(([, i]) => g.at[i + 1] === state.at[i]));
    if (!groups.length) continue;
    const x = groups.map((g) => (byDepth ? AXES[depthAxis - 1].values[g.at[depthAxis]] : plain(HUE.values[hue])));
    const y = groups.map((g) => g.solved[1]);
    traces.push(line(hue, x, y, HUE.values[hue], {
      mode: byDepth ? "lines+markers" : "markers",
      error_y: { type: "data", symmetric: false, array: groups.map((g) => g.solved[2] - g.solved[1]),
        arrayminus: groups.map((g) => g.solved[1] - g.solved[0]), color: visible(DATA.colors[hue]) },
    }));
    words.push(`${HUE.values[hue]} ${y.map(percent).join(", ")}`);
  }
  draw("solved", traces, axis(byDepth ? "depth (hidden layers)" : word(HUE.name), { type: "category" }),
    axis("", { range: [-0.03, 1.03], tickformat: ".0%" }));
  describe("solved", `Bars: Wilson 95 % intervals. Share solved${byDepth ? " by rising depth" : ""}: ${listed(words, "; ")}.`);
}

const CHARTS = [drawProfile, drawImage, drawLoss, drawSolved, drawUnits];
function drawAll() { CHARTS.forEach((chart) => chart()); if (state.run !== null) drawRun(); }

function makeControls() {
  const box = byId("controls");
  const hues = element("fieldset");
  hues.append(element("legend", word(HUE.name)));
  HUE.values.forEach((value, i) => {
    const label = element("label");
    const check = element("input", undefined, { type: "checkbox", value });
    check.checked = true;
    check.addEventListener("change", () => {
      state.hues[check.checked ? "add" : "delete"](i);
      drawAll();
    });
    const swatch = element("span", undefined, { class: "swatch", "aria-hidden": "true" });
    swatch.style.background = visible(DATA.colors[i]);
    label.append(check, swatch, document.createTextNode(value));
    hues.append(label);
  });
  box.append(hues);
  AXES.forEach((axis, i) => box.append(choice(word(axis.name), axis.values, state.at[i], (v) => { state.at[i] = v; drawAll(); })));
  if (DATA.quantities.length) {
    box.append(choice("quantity", DATA.quantities.map((q) => q.title), 0, (v) => { state.quantity = v; drawAll(); }));
  }
  for (const id of ["profile", "image"]) byId(id).closest("figure").hidden = !DATA.quantities.length;
  box.append(choice("image of", HUE.values, state.image, (v) => { state.image = v; drawImage(); }));
  if (DATA.steps.length > 1) {
    box.append(slider("step", 0, DATA.steps.length - 1, 0, (v) => {
      state.step = v; drawProfile(); drawUnits(); drawLoss();
    }, (v) => String(DATA.steps[v])));
  }
  box.addEventListener("submit", (event) => event.preventDefault());
}

// --- runs

const RUNS = DATA.runs, COUNT = RUNS.id.length;
RUNS.loss = numbers(RUNS.loss, false);
const COLUMNS = [
  ...RUNS.names.map((name, i) => ({ name: word(name), get: (run) => RUNS.labels[i][run] })),
  { name: "status", get: (run) => RUNS.status[run] },
  { name: "verdict", get: (run) => RUNS.verdict[run] },
  ...(RUNS.solved_step ? [{ name: "solved at step", get: (run) => RUNS.solved_step[run] }] : []),
  { name: "final loss", get: (run) => RUNS.loss[run], text: short },
];

function chosenRuns() {
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  let runs = [...Array(COUNT).keys()];
  if (words.length) {
    runs = runs.filter((run) => {
      const values = COLUMNS.map((c) => String(c.get(run)).toLowerCase());
      const pairs = COLUMNS.map((c, i) => `${c.name.replace(/ /g, "_")}=${values[i]}`);
      return words.every((w) => (w.includes("=") ? pairs : values).includes(w));
    });
  }
  if (state.sort !== null) {
    const { get } = COLUMNS[state.sort], sign = state.down ? -1 : 1;
    runs.sort((a, b) => {
      const x = get(a), y = get(b);
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (x < y ? -1 : x > y ? 1 : 0);
    });
  }
  return runs;
}

function drawTable() {
  const runs = chosenRuns(), table = byId("runs");
  const head = element("tr");
  COLUMNS.forEach((column, i) => {
    const sorted = state.sort === i ? (state.down ? "descending" : "ascending") : "none";
    const cell = element("th", undefined, { scope: "col", "aria-sort": sorted });
    const button = element("button", column.name + { none: "", ascending: " ↑", descending: " ↓" }[sorted], { type: "button" });
    button.addEventListener("click", () => {
      state.down = state.sort === i && !state.down;
      state.sort = i;
      drawTable();
      byId("runs").querySelectorAll("th button")[i].focus();
    });
    cell.append(button);
    head.append(cell);
  });
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...runs.slice(0, state.rows).map((run) => {
    const row = element("tr", undefined, { tabindex: 0, "aria-selected": run === state.run, "data-run": run });
    COLUMNS.forEach((c) => {
      const value = c.get(run);
      row.append(element("td", c.text ? c.text(value) : value === null ? "–" : String(value)));
    });
    return row;
  }));
  const sampled = COUNT < RUNS.total ? ` (${COUNT} of ${RUNS.total} runs, evenly spread, are listed)` : "";
  byId("runs-note").textContent = `${runs.length} of ${COUNT} runs match${sampled}. Choose one for its layers and its command.`;
  byId("more").hidden = runs.length <= state.rows;
}

function valueOf(run, label) {
  const i = RUNS.names.indexOf(label);
  return i < 0 ? undefined : RUNS.labels[i][run];
}

function configOf(run) {
  return DATA.config.map(({ label, path, value, usual }) => {
    const own = valueOf(run, label);
    return [path, own === undefined ? value : own, usual];
  });
}

function commandOf(run) {
  const differs = ([, value, usual]) => value !== null && JSON.stringify(value) !== JSON.stringify(usual);
  const words = configOf(run).filter(differs).map(([path, value]) => {
    const text = Array.isArray(value) ? `[${value.join(",")}]` : String(value);
    const whole = `${path}=${text}`;
    return /^[\w./=+,-]*$/.test(whole) ? whole : `'${whole.replace(/'/g, "'\\''")}'`;
  });
  return `fadeout train ${words.join(" ")}`.trim();
}

/** The playground's page beside this one, with a run's settings. */
function playgroundOf(run) {
  const config = Object.fromEntries(configOf(run).map(([path, value]) => [path.replace("++", ""), value]));
  const words = { activation: "activation", init: "init", "init.gain": "gain", task: "task", "model.depth": "depth",
    "model.width": "width", optimizer: "optimizer", "optimizer.learning_rate": "rate", "training.loss_function": "loss",
    "model.residual": "residual", "model.residual_scale": "scale", "model.normalization": "normalization" };
  return `playground.html#${Object.entries(words).map(([path, key]) => `${key}=${config[path]}`).join("&")}`;
}

/** The listed runs as text that a spreadsheet reads. */
function csv() {
  const cell = (value) => (/[",\n]/.test(String(value)) ? `"${String(value).replace(/"/g, '""')}"` : String(value ?? ""));
  const rows = chosenRuns().map((run) => [RUNS.id[run], ...COLUMNS.map((c) => c.get(run))]);
  return [["id", ...COLUMNS.map((c) => c.name)], ...rows].map((row) => row.map(cell).join(",")).join("\n");
}

function drawRun() {
  const run = state.run, profiles = RUNS.profiles;
  byId("run").hidden = false;
  byId("run-title").textContent = `Run ${RUNS.id[run]}: ${RUNS.status[run]}, ${RUNS.verdict[run]}`;
  byId("run-command").textContent = commandOf(run);
  byId("play").hidden = !DATA.playground;
  byId("play").href = playgroundOf(run);
  byId("run-config").textContent = configOf(run).map(([path, v]) => `${path.replace("++", "")}: ${v === null ? "–" : v}`).join("\n");
  if (!profiles) return;
  profiles.decoded ||= numbers(profiles.values, false);
  const start = 2 * profiles.layers * run;
  const [first, last] = [0, 1].map((i) =>
    profiles.decoded.slice(start + i * profiles.layers, start + (i + 1) * profiles.layers));
  let depth = profiles.layers;
  while (depth > 1 && first[depth - 1] === null && last[depth - 1] === null) depth -= 1;
  const layers = Array.from({ length: depth }, (_, i) => i + 1);
  const hue = Math.max(0, HUE.values.indexOf(String(valueOf(run, HUE.name) ?? HUE.values[0])));
  byId("run-caption").textContent = profiles.probe;
  draw("run-chart", [["at initialisation", first, "dot"], ["after training", last, "solid"]].map(([name, y, dash]) => ({
    x: layers, y: positive(y.slice(0, depth)), name, type: "scatter", mode: "lines+markers",
    line: { color: visible(DATA.colors[hue]), dash },
  })), axis("weight layer"), axis("", LOGARITHMIC), { showlegend: true, legend: { orientation: "h", y: 1.15 } });
  const head = element("tr");
  ["layer", "at initialisation", "after training"].forEach((text) => head.append(element("th", text)));
  byId("run-layers").replaceChildren(head, ...layers.map((layer) => {
    const row = element("tr");
    [layer, short(first[layer - 1]), short(last[layer - 1])].forEach((text) => row.append(element("td", String(text))));
    return row;
  }));
}

function choose(target) {
  const row = target.closest("tr[data-run]");
  if (!row) return;
  state.run = Number(row.dataset.run);
  byId("runs").querySelectorAll("tr[data-run]").forEach((r) => r.setAttribute("aria-selected", r === row));
  drawRun();
  byId("run").focus();
}

function makeRuns() {
  const label = element("label", "filter: whole values, or column=value", { class: "wide" });
  const input = element("input", undefined, { type: "search", id: "filter", placeholder: "relu depth=16 solved" });
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { state.filter = input.value; state.rows = 100; drawTable(); }, 120);
  });
  label.append(input);
  byId("filters").append(label);
  const body = byId("runs").tBodies[0];
  body.addEventListener("click", (event) => choose(event.target));
  body.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(event.target); }
  });
  byId("csv").addEventListener("click", () => {
    element("a", undefined, { download: "runs.csv", href: `data:text/csv;charset=utf-8,${encodeURIComponent(csv())}` }).click();
  });
  byId("more").addEventListener("click", () => { state.rows += 400; drawTable(); });
  byId("copy").addEventListener("click", () => {
    const range = document.createRange();
    range.selectNodeContents(byId("run-command"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  });
  drawTable();
}

function makeTexts() {
  const [asked, ...rest] = DATA.question.split(/(?<=[.?!])\s+/);
  byId("name").textContent = DATA.name;
  byId("headline").textContent = asked || `${listed(HUE.values.slice(0, 6))}: ${RUNS.total} runs`;
  byId("question").textContent = rest.join(" ");
  const spread = [...DATA.pooled.map(word)].join(", ");
  byId("counts").textContent = `${RUNS.total} runs in ${DATA.groups.length} group${DATA.groups.length === 1 ? "" : "s"}` +
    (spread ? `; bands spread over ${spread}` : "") +
    (DATA.left_out ? `; ${DATA.left_out} runs between the values that are drawn are in no chart` : "");
  byId("verdicts").replaceChildren(...DATA.verdicts.map(({ word: name, share }) => {
    const row = element("tr"), cell = element("td", undefined, { class: "cell" });
    const bar = element("div", undefined, { class: "bar" });
    bar.style.width = `${100 * share[1]}%`;
    cell.append(bar);
    row.append(element("th", name, { scope: "row" }), element("td", `${percent(share[1])}  [${percent(share[0])}, ${percent(share[2])}]`), cell);
    return row;
  }));
  byId("provenance").textContent = Object.entries(DATA.provenance).map(([k, v]) => `${k}: ${v}`).join("\n");
  byId("shared").textContent = DATA.config.filter(({ label, value }) => value !== null && !RUNS.names.includes(label))
    .map(({ path, value }) => `${path.replace("++", "")}: ${value}`).join("\n");
}

/** A button on every panel that fills the screen with it. */
function makeFullScreen() {
  for (const figure of document.querySelectorAll("#charts figure, .charts figure")) {
    const button = element("button", "⤢", { type: "button", class: "full", "aria-label": "full screen", title: "full screen" });
    button.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : figure.requestFullscreen()));
    figure.prepend(button);
  }
}

makeTexts();
makeFullScreen();
makeControls();
drawAll();
makeRuns();
onColorScheme(drawAll);
document.body.dataset.ready = "yes";
