"use strict";
const state = { quantity: 0, step: DATA.steps.length - 1 };
const LAYERS = DATA.layers, TRAINED = DATA.steps.length > 1;
const COLOR = "#0072b2", ADVISED = "#009e73";

function sentence(text) { return text[0].toUpperCase() + text.slice(1); }

function atStep() { return TRAINED ? `, at step ${DATA.steps[state.step]}` : ""; }

/** The axis of layers: their names, the first at the bottom. */
function layerAxis() {
  return axis("", { tickvals: LAYERS.map((_, i) => i), ticktext: LAYERS.map(plain), range: [-0.5, LAYERS.length - 0.5] });
}

function valueAxis(share) {
  return share ? axis("", { range: [-0.03, 1.03], tickformat: ".0%" }) : axis("", LOGARITHMIC);
}

function shown(values, share) { return values.map((v) => (v === null || (!share && v <= 0) ? null : v)); }

/** Low and high of a band as error bars around its middle. */
function bars([low, middle, high], color) {
  const reach = (a, b) => a.map((v, i) => (v === null || b[i] === null ? 0 : v - b[i]));
  return { type: "data", symmetric: false, array: reach(high, middle), arrayminus: reach(middle, low), color };
}

function profileLine(values, share, name, color, band) {
  return {
    x: shown(values, share), y: LAYERS.map((_, i) => i), name, type: "scatter", mode: "lines+markers",
    line: { color: visible(color), width: 2.5 }, marker: { color: visible(color), size: 8 },
    error_x: band ? bars(band, visible(color)) : undefined, customdata: LAYERS.map(plain),
    hovertemplate: "%{customdata}: %{x:.3g}<extra>%{fullData.name}</extra>",
  };
}

function drawProfile() {
  const { title, share, values, band } = DATA.quantities[state.quantity];
  const now = band ? band[1] : values[state.step];
  byId("profile-title").textContent = `${title}${atStep()}`;
  const traces = [profileLine(now, share, TRAINED ? `step ${DATA.steps[state.step]}` : "as it is", COLOR, band)];
  if (TRAINED && state.step > 0) {
    const start = profileLine(values[0], share, `step ${DATA.steps[0]}`, COLOR);
    traces.push({ ...start, mode: "lines", line: { ...start.line, dash: "dot" } });
  }
  const advised = state.quantity === 0 ? DATA.advised : null;
  if (advised) traces.push(profileLine(advised[1], share, "as advised", ADVISED, advised));
  draw("profile", traces, valueAxis(share), layerAxis(), {
    showlegend: traces.length > 1, legend: { orientation: "h", y: 1.12 },
  });
  const spread = DATA.seeds > 1 ? ` Median of ${DATA.seeds} networks, bars: 10th to 90th percentile.` : "";
  describe("profile", `In ${LAYERS[0]} ${short(now[0])}, in ${LAYERS.at(-1)} ${short(now.at(-1))}.${spread}`);
}

function drawImage() {
  if (!TRAINED) return;
  const { title, share, values } = DATA.quantities[state.quantity];
  byId("image-title").textContent = `${title} over training`;
  const z = LAYERS.map((_, layer) => values.map((row) => {
    const v = row[layer];
    return v === null || (!share && v <= 0) ? null : share ? v : Math.log10(v);
  }));
  draw("image", [{
    type: "heatmap", x: DATA.steps, y: LAYERS.map((_, i) => i), z, colorscale: "Viridis", hoverongaps: false,
    colorbar: { title: { text: share ? "share" : "log10" }, thickness: 12 },
  }], axis("step"), layerAxis(), { plot_bgcolor: "#999999" });
  describe("image", "Grey: zero or not finite.");
}

function drawLoss() {
  if (!TRAINED) return;
  draw("loss", [{
    x: DATA.steps, y: shown(DATA.loss, false), type: "scatter", mode: "lines+markers",
    line: { color: visible(COLOR), width: 2.5 }, hovertemplate: "%{y:.3g}<extra></extra>",
  }], axis("step"), axis("", LOGARITHMIC));
  describe("loss", `From ${short(DATA.loss[0])} to ${short(DATA.loss.at(-1))}.`);
}

function makeTable() {
  const head = element("tr");
  const columns = ["layer", "kind", "units", "verdict", ...DATA.quantities.map((q) => q.title)];
  columns.forEach((text) => head.append(element("th", text, { scope: "col" })));
  byId("layers").tHead.replaceChildren(head);
  byId("layers").tBodies[0].replaceChildren(...LAYERS.map((layer, i) => {
    const row = element("tr"), verdict = DATA.verdicts[i];
    const since = verdict === "healthy" || DATA.since[i] === null ? "" : ` since step ${DATA.since[i]}`;
    const numbers = DATA.quantities.map(({ share, values }) => {
      const value = values[state.step][i];
      return value === null ? "–" : share ? percent(value) : short(value);
    });
    [layer, DATA.kinds[i], DATA.units[i], verdict + since, ...numbers].forEach((text) => row.append(element("td", String(text))));
    return row;
  }));
}

function drawAll() { drawProfile(); drawImage(); drawLoss(); makeTable(); }

byId("name").textContent = `${DATA.name}${DATA.seeds > 1 ? `: ${DATA.seeds} networks` : ""}`;
byId("headline").textContent = sentence(DATA.headline);
byId("advice").textContent = `${sentence(DATA.advice)}.`;
byId("notes").textContent = DATA.notes.join("; ");
for (const id of ["profile", "image"]) byId(id).style.height = `${Math.max(340, 90 + 22 * LAYERS.length)}px`;
for (const id of ["image-figure", "loss-figure"]) byId(id).hidden = !TRAINED;
byId("controls").append(choice("quantity", DATA.quantities.map((q) => q.title), 0, (v) => { state.quantity = v; drawAll(); }));
if (TRAINED) {
  byId("controls").append(slider("step", 0, DATA.steps.length - 1, state.step, (v) => {
    state.step = v; drawProfile(); makeTable();
  }, (v) => String(DATA.steps[v])));
}
byId("controls").addEventListener("submit", (event) => event.preventDefault());
drawAll();
onColorScheme(drawAll);
document.body.dataset.ready = "yes";
