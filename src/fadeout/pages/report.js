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

/** How a config value, a quantity or a verdict is called. */
function word(name) { return WORDS[language].names[name] || name.replace(/_/g, " "); }

function titleOf(quantity) { return WORDS[language].names[quantity.name] || quantity.title; }

/** The group of a hue under the chosen values of the other axes. */
function groupOf(hue, at = state.at) {
  return DATA.groups.find((g) => g.at[0] === hue && at.every((v, i) => g.at[i + 1] === v));
}

/** What a caption says of the chosen groups. */
function listed(words, between = ", ") { return words.length ? words.join(between) : t("nothing_chosen"); }

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

/** What bands are, where a line is of several runs. */
function bandWords() { return shownGroups().some(([, group]) => group.runs > 1) ? t("bands_text") : ""; }

function positive(values) { return values.map((v) => (v === null || v <= 0 ? null : v)); }

/** The first lines are the widest, so that those that coincide are all seen. */
function widthOf(hue) { return 2 + (2.5 * (HUE.values.length - 1 - hue)) / Math.max(1, HUE.values.length - 1); }

function line(hue, x, y, name, more = {}) {
  const color = visible(DATA.colors[hue]);
  return {
    x, y, name: plain(name), type: "scatter", mode: "lines+markers",
    line: { color, dash: DATA.dashes[hue], width: widthOf(hue) }, marker: { color, size: 6 },
    hovertemplate: "%{y:.3g}<extra>%{fullData.name}</extra>", ...more,
  };
}

const LEAST = -8;

/** Where a logarithmic axis shows no zero: marks at its foot. */
function zerosOf(hue, layers, values, foot) {
  const at = layers.filter((_, i) => values[i] === 0);
  return at.length ? [line(hue, at, at.map(() => foot), `${HUE.values[hue]}: ${t("zero")}`, {
    mode: "markers", marker: { color: visible(DATA.colors[hue]), size: 9, symbol: "triangle-down-open" },
    hovertemplate: `${t("zero")}<extra>%{fullData.name}</extra>`,
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
    words.push(first === 0 && !quantity.share ? t("exactly_zero", { name: HUE.values[hue] }) : `${HUE.values[hue]} ${quantity.share ? percent(first) : short(first)}`);
    if (step === 0 && quantity.name === "delta_norm" && group.theory) {
      const top = group.theory.findLastIndex((v) => v !== null);
      const scale = middle[top] / group.theory[top];
      traces.push({
        x: layers, y: group.theory.map((v) => (v === null ? null : v * scale)), type: "scatter",
        mode: "lines", line: { color: css("--ink"), dash: "dash", width: 1.5 }, name: t("theory"),
        hovertemplate: `%{y:.3g}<extra>${t("theory")}</extra>`,
      });
    }
  }
  const y = quantity.share ? axis("", { range: [-0.03, 1.03], tickformat: ".0%" }) : axis("", LOGARITHMIC);
  draw(id, traces, axis(t(quantity.readout ? "weight_layer" : "hidden_layer"), { dtick: traces.length && traces[0].x.length < 12 ? 1 : undefined }), y);
  const zeros = traces.some((trace) => trace.mode === "markers"), dashed = traces.some((trace) => trace.name === t("theory"));
  describe(id, [bandWords(), t("in_layer_1", { list: listed(words) }), zeros ? t("triangles") : "", dashed ? t("dashed_theory") : ""].filter(Boolean).join(" "));
}

function drawProfile() {
  if (!DATA.quantities.length) return;
  const quantity = DATA.quantities[state.quantity], step = DATA.steps[state.step];
  byId("profile-title").textContent = t("profile_title", { title: titleOf(quantity), step });
  layersChart("profile", quantity, step);
}

function drawUnits() {
  const quantity = DATA.quantities.find((q) => q.name === "saturation") || DATA.quantities.find((q) => q.share);
  byId("units-panel").hidden = !quantity;
  if (!quantity) return;
  byId("units-title").textContent = t("units_title", { title: titleOf(quantity), step: DATA.steps[state.step] });
  layersChart("units", quantity, DATA.steps[state.step]);
}

function drawImage() {
  if (!DATA.quantities.length) return;
  const quantity = DATA.quantities[state.quantity], group = groupOf(state.image);
  byId("image-title").textContent = t("image_title", { title: titleOf(quantity), name: HUE.values[state.image] });
  if (!group) {
    draw("image", [], axis(t("step")), axis(t("layer")));
    return describe("image", t("no_runs_here", { name: HUE.values[state.image] }));
  }
  const columns = group.steps.map((step) => atStep(group, quantity, step)[1]);
  const z = columns[0].map((_, layer) => columns.map((column) => {
    const v = column[layer];
    return v === null || (!quantity.share && v <= 0) ? null : quantity.share ? v : Math.log10(v);
  }));
  draw("image", [{
    type: "heatmap", x: group.steps, y: z.map((_, i) => i + 1), z, colorscale: "Viridis",
    colorbar: { title: { text: quantity.share ? t("share") : "log10" }, thickness: 12 }, hoverongaps: false,
  }], axis(t("step")), axis(t("weight_layer")), { plot_bgcolor: "#999999" });
  const last = columns.at(-1);
  describe("image", t("image_text", { last: group.steps.at(-1), a: short(columns[0][0]), b: short(last[0]),
    c: short(columns[0].at(-1) ?? columns[0].at(-2)), d: short(last.at(-1) ?? last.at(-2)) }));
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
  const logs = traces.filter((trace) => trace.name).flatMap((trace) => trace.y).filter((v) => v > 0).map(Math.log10);
  const low = Math.max(LEAST, Math.min(...logs)), high = Math.max(...logs, low + 1); // what is nearly 0 does not squash the others
  draw("loss", traces, axis(t("step")), axis("", { ...LOGARITHMIC, range: [low - 0.1, high + 0.2] }), { shapes: [now] });
  describe("loss", [bandWords(), t("loss_text", { list: listed(words) })].filter(Boolean).join(" "));
}

/** The share of runs that solve the task, with its interval; hues stand beside each other. */
function drawSolved() {
  const traces = [], words = [], byDepth = depthAxis > 0, hues = [...state.hues].sort((a, b) => a - b);
  const others = AXES.map((axis, i) => [axis, i]).filter(([axis]) => axis.name !== "depth");
  const places = byDepth ? AXES[depthAxis - 1].values : HUE.values;
  hues.forEach((hue, k) => {
    const groups = DATA.groups.filter((g) => g.at[0] === hue && others.every(([, i]) => g.at[i + 1] === state.at[i]));
    if (!groups.length) return;
    const apart = byDepth ? (k - (hues.length - 1) / 2) * Math.min(0.09, 0.6 / hues.length) : 0;
    const x = groups.map((g) => (byDepth ? g.at[depthAxis] : hue) + apart), y = groups.map((g) => g.solved[1]);
    traces.push(line(hue, x, y, HUE.values[hue], {
      mode: byDepth ? "lines+markers" : "markers", hovertemplate: "%{y:.0%}<extra>%{fullData.name}</extra>",
      error_y: { type: "data", symmetric: false, array: groups.map((g) => g.solved[2] - g.solved[1]),
        arrayminus: groups.map((g) => g.solved[1] - g.solved[0]), color: visible(DATA.colors[hue]) },
    }));
    words.push(`${HUE.values[hue]} ${y.map(percent).join(", ")}`);
  });
  const ticks = { tickvals: places.map((_, i) => i), ticktext: places.map(plain), range: [-0.5, places.length - 0.5] };
  draw("solved", traces, axis(byDepth ? t("depth_axis") : word(HUE.name), ticks), axis("", { range: [-0.03, 1.03], tickformat: ".0%" }));
  describe("solved", t(byDepth ? "solved_by_depth" : "solved_text", { list: listed(words, "; ") }));
}

const TONES = { healthy: "#009e73", partly_dead: "#56b4e9", saturated: "#e69f00", vanishing: "#d55e00", exploding: "#cc79a7", no_gradient: "#5a5a66",
  dead: "#1b1b1f", diverged: "#7a1f5c", failed: "#999999", solved: "#009e73", unsolved: "#e69f00", trained: "#56b4e9", unknown: "#bbbbbb" };

/** How the verdicts share the runs that the table lists, by what the colours tell apart. */
function drawVerdicts() {
  const runs = chosenRuns(), names = DATA.verdicts.map((v) => v.word);
  const rows = HUE.values.length > 1 ? HUE.values.map((value, hue) => [value, runs.filter((run) => RUNS.hue[run] === hue)]) : [];
  rows.push([t("all"), runs]);
  byId("verdicts").replaceChildren(...rows.filter(([, own]) => own.length).map(([name, own]) => {
    const row = element("tr"), cell = element("td", undefined, { class: "cell" }), bar = element("div", undefined, { class: "stack" }), words = [];
    for (const verdict of names) {
      const count = own.filter((run) => RUNS.verdict[run] === verdict).length;
      if (!count) continue;
      const part = element("div", undefined, { title: `${word(verdict)} ${percent(count / own.length)}` });
      part.style.width = `${(100 * count) / own.length}%`;
      part.style.background = TONES[verdict];
      bar.append(part);
      const told = own.length === RUNS.total ? DATA.verdicts.find((v) => v.word === verdict).share : null;
      words.push(`${word(verdict)} ${percent(count / own.length)}${told && name === t("all") ? ` [${percent(told[0])}, ${percent(told[2])}]` : ""}`);
    }
    cell.append(bar, element("span", words.join(", "), { class: "soft" }));
    row.append(element("th", name, { scope: "row" }), cell);
    return row;
  }));
}

const CHARTS = [drawFinding, drawProfile, drawImage, drawLoss, drawSolved, drawUnits];
function drawAll() { CHARTS.forEach((chart) => chart()); if (state.run !== null) drawRun(); }

function makeControls() {
  const box = byId("controls");
  box.replaceChildren();
  box.setAttribute("aria-label", t("controls"));
  const hues = element("fieldset");
  hues.append(element("legend", word(HUE.name)));
  HUE.values.forEach((value, i) => {
    const label = element("label");
    const check = element("input", undefined, { type: "checkbox", value });
    check.checked = state.hues.has(i);
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
    box.append(choice(t("quantity"), DATA.quantities.map(titleOf), state.quantity, (v) => { state.quantity = v; drawAll(); }));
  }
  for (const id of ["profile", "image"]) byId(id).closest("figure").hidden = !DATA.quantities.length;
  box.append(choice(t("image_of"), HUE.values, state.image, (v) => { state.image = v; drawImage(); }));
  if (DATA.steps.length > 1) {
    box.append(slider(t("step"), 0, DATA.steps.length - 1, state.step, (v) => {
      state.step = v; drawProfile(); drawUnits(); drawLoss();
    }, (v) => String(DATA.steps[v])));
  }
}

const PANELS = ["profile", "image", "loss", "solved", "units"];

function makePanels() {
  for (const id of [...PANELS, "verdicts"]) {
    const figure = element("figure", undefined, { id: `${id}-panel`, "aria-labelledby": `${id}-title` }), why = element("details", undefined, { class: "why" });
    why.append(element("summary", "?"), element("p", undefined, { "data-word": `${id}_why` }));
    const chart = id === "verdicts" ? element("table") : element("div", undefined, { class: "chart", id });
    if (id === "verdicts") chart.append(element("tbody", undefined, { id }));
    const known = ["loss", "solved", "verdicts"].includes(id) ? { "data-word": `${id}_title` } : {};
    figure.append(element("figcaption", undefined, { id: `${id}-title`, ...known }), why, chart,
      element("p", undefined, id === "verdicts" ? { class: "soft", "data-word": "verdicts_text" } : { class: "soft", id: `${id}-text` }));
    byId("charts").append(figure);
  }
  byId("profile-text").setAttribute("aria-live", "polite");
}

// --- runs

const RUNS = DATA.runs, COUNT = RUNS.id.length;
RUNS.loss = numbers(RUNS.loss, false);
const COLUMNS = [
  ...RUNS.names.map((name, i) => ({ name: name.replace(/_/g, " "), title: () => word(name), get: (run) => RUNS.labels[i][run] })),
  { name: "status", title: () => t("status"), get: (run) => RUNS.status[run], text: word },
  { name: "verdict", title: () => t("verdict"), get: (run) => RUNS.verdict[run], text: word },
  ...(RUNS.solved_step ? [{ name: "solved at step", title: () => t("solved_step"), get: (run) => RUNS.solved_step[run] }] : []),
  { name: "final loss", title: () => t("final_loss"), get: (run) => RUNS.loss[run], text: short },
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
    const button = element("button", column.title() + { none: "", ascending: " ↑", descending: " ↓" }[sorted], { type: "button" });
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
  const sampled = COUNT < RUNS.total ? t("sampled", { listed: COUNT, total: RUNS.total }) : "";
  byId("runs-note").textContent = t("runs_note", { shown: runs.length, all: COUNT, sampled });
  byId("more").hidden = runs.length <= state.rows;
  drawVerdicts();
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
  byId("run-title").textContent = t("run_title", { id: RUNS.id[run], status: word(RUNS.status[run]), verdict: word(RUNS.verdict[run]) });
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
  const hue = Math.max(0, RUNS.hue[run]);
  byId("run-caption").textContent = profiles.probe;
  draw("run-chart", [[t("start"), first, "dot"], [t("end"), last, "solid"]].map(([name, y, dash]) => ({
    x: layers, y: positive(y.slice(0, depth)), name, type: "scatter", mode: "lines+markers",
    line: { color: visible(DATA.colors[hue]), dash },
  })), axis(t("weight_layer")), axis("", LOGARITHMIC), { showlegend: true, legend: { orientation: "h", y: 1.15 } });
  const head = element("tr");
  [t("layer"), t("start"), t("end")].forEach((text) => head.append(element("th", text)));
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
  const label = element("label", undefined, { class: "wide" });
  const input = element("input", undefined, { type: "search", id: "filter", placeholder: "relu depth=16 solved" });
  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { state.filter = input.value; state.rows = 100; drawTable(); }, 120);
  });
  label.append(element("span", undefined, { "data-word": "filter" }), input);
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
}

/** What the chosen groups have found, in a sentence: with whom the gradient vanishes, explodes or gets through. */
function finding() {
  const [vanishing, exploding] = DATA.limits, all = found(), depth = Math.max(...all.map((own) => own.depth));
  const own = all.filter((f) => f.depth === depth && (f.zero || f.decades !== null));
  if (!own.length) return t("many_runs", { names: listing(few(HUE.values.map(named))), runs: RUNS.total });
  const decades = (f) => Math.abs(f.decades).toFixed(1), kinds = [
    ["vanishes", (f) => !f.zero && f.decades < vanishing, (f) => t("lost", { name: named(f.name), decades: decades(f) })],
    ["explodes", (f) => !f.zero && f.decades > exploding, (f) => t("gained", { name: named(f.name), decades: decades(f) })],
    ["is_zero", (f) => f.zero, (f) => named(f.name)],
    ["gets_through", (f) => !f.zero && f.decades >= vanishing && f.decades <= exploding, (f) => named(f.name)],
  ];
  const parts = kinds.map(([kind, of, words]) => [kind, own.filter(of).map(words)]).filter(([, names]) => names.length)
    .map(([kind, names]) => t(kind, { names: listing(few(names)) }));
  const others = AXES.map((axis, i) => [axis, axis.values[state.at[i]]]).filter(([axis]) => axis.name !== "depth").map(([axis, value]) => `${word(axis.name)} ${value}`);
  const where = others.length ? t("where", { axes: others.join(", ") }) : "";
  return t("finding", { depth, where, parts: language === "zh" ? parts.join("，") : listing(parts) });
}

/** The chosen groups with the names of their colours, whatever colours are shown. */
function found() {
  return HUE.values.map((name, hue) => ({ name, ...groupOf(hue) })).filter((group) => group.at);
}

function drawFinding() {
  byId("headline").textContent = finding();
  byId("outcome").textContent = outcome();
}

/** At most five words, and how many more there are. */
function few(words) { return words.length > 5 ? [...words.slice(0, 4), t("more_names", { count: words.length - 4 })] : words; }

/** A value of the colours' axis; a number says what it is of. */
function named(value) { return value !== "" && Number.isFinite(Number(value)) ? `${word(HUE.name)} ${value}` : value; }

function outcome() {
  if (!DATA.classes) return "";
  const ranked = found().sort((a, b) => b.solved[1] - a.solved[1]).map((f) => t("outcome_of", { share: percent(f.solved[1]), name: named(f.name) }));
  return ranked.length ? t("outcome", { parts: listing(few(ranked)) }) : "";
}

function makeTexts() {
  byId("name").textContent = DATA.name;
  byId("question").replaceChildren(...DATA.question.flatMap((text) => [document.createTextNode(text), element("br")]));
  const spread = listing(DATA.pooled.map(word)), several = DATA.groups.some((group) => group.runs > 1);
  byId("counts").textContent = [t("counts", { runs: RUNS.total, groups: DATA.groups.length }),
    several && spread ? t("bands_spread", { names: spread }) : several ? "" : t("one_run"),
    DATA.left_out ? t("left_out", { count: DATA.left_out }) : ""].filter(Boolean).join(language === "zh" ? "；" : "; ");
  byId("provenance").textContent = Object.entries(DATA.provenance).map(([k, v]) => `${k}: ${v}`).join("\n");
  byId("shared").textContent = DATA.config.filter(({ label, value }) => value !== null && !RUNS.names.includes(label))
    .map(({ path, value }) => `${path.replace("++", "")}: ${value}`).join("\n");
  for (const button of document.querySelectorAll("[data-name]")) { button.title = t(button.dataset.name); button.setAttribute("aria-label", t(button.dataset.name)); }
  const link = byId("open-playground");
  link.hidden = !DATA.playground;
  link.firstElementChild.href = playgroundOf(0);
}

/** All texts and charts, in the language that is chosen. */
function speak() {
  writeTexts();
  makeTexts();
  makeControls();
  drawAll();
  drawTable();
}

makePanels();
makeFullScreen(drawAll);
makeRuns();
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("language").addEventListener("click", () => { switchLanguage(); speak(); });
onColorScheme(drawAll);
speak();
document.body.dataset.ready = "yes";
