"use strict";
const NAMES = Object.keys(DATA.activations), INITS = Object.keys(DATA.inits);
const NETWORKS = 12, STEP = (2 * DATA.reach) / (DATA.points - 1);
const CORNERS = [[-1, -1, 0], [-1, 1, 1], [1, -1, 1], [1, 1, 0]];
const state = { activation: NAMES.indexOf("sigmoid"), depth: 10, width: 16, init: INITS.indexOf("glorot_normal"), gain: 0, seed: 1 };
for (const table of Object.values(DATA.activations)) {
  table.value = new Float32Array(bytes(table.value));
  table.slope = new Float32Array(bytes(table.slope));
}

/** phi or phi' from its table, and a straight line beyond its ends. Kinks lie on its points: beside
 *  one the slope is that of the values, which tells the sides apart however small z is. */
function look(table, kind, z) {
  if (table.beyond === "periodic") z -= 2 * Math.PI * Math.round(z / (2 * Math.PI));
  const place = (z + DATA.reach) / STEP, last = DATA.points - 1;
  if (place < 0 || place > last) {
    const end = place < 0 ? 0 : last;
    const power = table.beyond, farther = Math.abs(z) / DATA.reach;
    if (power > 1) return table[kind][end] * farther ** (kind === "slope" ? power - 1 : power);
    if (kind === "slope") return table.slope[end];
    return table.value[end] + table.slope[end] * (z - (end ? DATA.reach : -DATA.reach));
  }
  const i = Math.min(last - 1, Math.floor(place)), part = place - i, values = table[kind];
  const rise = table.value[i + 1] - table.value[i];
  if (Math.abs(rise) > 0.5) return values[part > 0 ? i + 1 : i];
  if (kind === "slope" && Math.abs(values[i + 1] - values[i]) > 0.05) return rise / STEP;
  return values[i] + part * (values[i + 1] - values[i]);
}

/** Random numbers that repeat (mulberry32), and a standard normal of two of them. */
function generator(seed) {
  let a = seed >>> 0;
  const uniform = () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

function weightVariance() {
  const known = DATA.inits[INITS[state.init]] ?? DATA.activations[NAMES[state.activation]].critical;
  return known === null ? null : known * (10 ** (state.gain / 20)) ** 2;
}

/** The variance of a kernel's weights; Glorot's looks at both of its sides. */
function kernelVariance(inputs, outputs) {
  const glorot = INITS[state.init].startsWith("glorot");
  return weightVariance() * (glorot ? 2 / (inputs + outputs) : 1 / inputs);
}

/** One network: sizes of z and of dL/dz at every hidden layer, over the four corners of XOR. */
function network(table, depth, width, normal) {
  const kernels = [];
  for (let layer = 0; layer <= depth; layer += 1) {
    const inputs = layer ? width : 2, outputs = layer < depth ? width : 1;
    const scale = Math.sqrt(kernelVariance(inputs, outputs));
    kernels.push(Array.from({ length: outputs }, () => Float64Array.from({ length: inputs }, () => scale * normal())));
  }
  const signal = new Float64Array(depth), gradient = new Float64Array(depth);
  for (const [x, y, target] of CORNERS) {
    let below = [x, y];
    const sums = [];
    for (let layer = 0; layer < depth; layer += 1) {
      const z = kernels[layer].map((row) => row.reduce((sum, w, i) => sum + w * below[i], 0));
      sums.push(z);
      z.forEach((v) => { signal[layer] += (v * v) / (4 * width); });
      below = z.map((v) => look(table, "value", v));
    }
    const output = kernels[depth][0].reduce((sum, w, i) => sum + w * below[i], 0);
    const wrong = (1 / (1 + Math.exp(-output)) - target) / 4;
    let back = Array.from(kernels[depth][0], (w) => w * wrong);
    for (let layer = depth - 1; layer >= 0; layer -= 1) {
      const delta = back.map((v, i) => v * look(table, "slope", sums[layer][i]));
      delta.forEach((v) => { gradient[layer] += v * v; });
      back = Array.from({ length: layer ? width : 2 }, (_, i) => delta.reduce((sum, v, j) => sum + v * kernels[layer][j][i], 0));
    }
  }
  return { signal: signal.map(Math.sqrt), gradient: gradient.map(Math.sqrt) };
}

/** Mean field: the variance of every layer and the gain of the squared gradient there. */
function theory(table, depth, width, variance) {
  const signal = [], gains = [];
  let q = 2 * kernelVariance(2, width);
  for (let layer = 0; layer < depth; layer += 1) {
    let square = 0, slope = 0, total = 0;
    for (let k = -800; k < 800; k += 1) {
      const z = (k + 0.5) / 100, weight = Math.exp((-z * z) / 2), u = Math.sqrt(q) * z;
      square += weight * look(table, "value", u) ** 2;
      slope += weight * look(table, "slope", u) ** 2;
      total += weight;
    }
    signal.push(Math.sqrt(q));
    gains.push((variance * slope) / total);
    q = (variance * square) / total;
  }
  const gradient = Array(depth).fill(1);
  for (let layer = depth - 2; layer >= 0; layer -= 1) gradient[layer] = gradient[layer + 1] * Math.sqrt(gains[layer]);
  return { signal, gradient };
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), n = sorted.length;
  return n % 2 ? sorted[(n - 1) / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

const positive = (values) => values.map((v) => (v > 0 && Number.isFinite(v) ? v : null));

function measure() {
  const table = DATA.activations[NAMES[state.activation]], variance = weightVariance();
  if (variance === null) return null;
  const normal = generator(state.seed);
  const drawn = Array.from({ length: NETWORKS }, () => network(table, state.depth, state.width, normal));
  for (const one of drawn) {
    const top = one.gradient.at(-1);
    one.gradient = Array.from(one.gradient, (v) => (top > 0 ? v / top : 0));
  }
  return { drawn, expected: theory(table, state.depth, state.width, variance), variance };
}

function drawAll() {
  const name = NAMES[state.activation], table = DATA.activations[name], color = visible(table.color);
  const found = measure();
  drawCurve(name, table, color);
  if (!found) {
    for (const id of ["gradient", "signal"]) {
      draw(id, [], axis("layer"), axis(""));
      describe(id, `${name} has no edge of chaos without biases: choose another initialisation.`);
    }
    return;
  }
  const layers = Array.from({ length: state.depth }, (_, i) => i + 1);
  for (const id of ["gradient", "signal"]) {
    const middle = layers.map((_, i) => median(found.drawn.map((one) => one[id][i])));
    const traces = found.drawn.map((one) => ({
      x: layers, y: positive(Array.from(one[id])), type: "scatter", mode: "lines", hoverinfo: "skip",
      line: { color: faint(table.color).replace("0.16", "0.35"), width: 1 },
    }));
    traces.push({ x: layers, y: positive(middle), type: "scatter", mode: "lines+markers", name: "median", line: { color, width: 3 } });
    traces.push({ x: layers, y: positive(found.expected[id]), type: "scatter", mode: "lines", name: "theory",
      line: { color: css("--ink"), dash: "dash", width: 2 } });
    draw(id, traces, axis("hidden layer"), axis("", LOGARITHMIC));
    found[id] = middle;
  }
  const dead = found.drawn.filter((one) => one.gradient[0] === 0).length;
  const factor = found.gradient[0];
  describe("gradient", `Thin: ${NETWORKS} networks; thick: their median; dashed: theory for infinite width. ` +
    `Of the gradient at the top, layer 1 gets ${short(factor)} (theory: ${short(found.expected.gradient[0])}).` +
    (dead ? ` Through ${dead} of ${NETWORKS} networks nothing passes at all.` : ""));
  describe("signal", `From ${short(found.signal[0])} in layer 1 to ${short(found.signal.at(-1))} in layer ${state.depth}; ` +
    `weight variance ${short(found.variance)} times 1 / fan-in.`);
}

function drawCurve(name, table, color) {
  const z = Array.from({ length: 401 }, (_, i) => (i - 200) / 40);
  draw("curve", ["value", "slope"].map((kind) => ({
    x: z, y: z.map((v) => look(table, kind, v)), type: "scatter", mode: "lines", name: kind === "value" ? "phi" : "slope",
    line: { color, dash: kind === "value" ? "solid" : "dash", width: 2.5 },
  })), axis("z"), axis("", { range: [-1.8, 3.2] }));
  describe("curve", `${name}: its largest slope is ${short(Math.max(...table.slope.map(Math.abs)))}.`);
}

function makeControls() {
  const box = byId("controls"), set = (key) => (value) => { state[key] = value; drawAll(); };
  box.append(
    choice("activation", NAMES, state.activation, set("activation")),
    choice("initialisation", INITS, state.init, set("init")),
    slider("depth", 1, 50, state.depth, set("depth")),
    slider("width", 2, 64, state.width, set("width")),
    slider("gain", -20, 20, state.gain, set("gain"), (v) => short(10 ** (v / 20))),
  );
  const again = element("button", "draw again", { type: "button" });
  again.addEventListener("click", () => { state.seed += 1; drawAll(); });
  box.append(again);
  box.addEventListener("submit", (event) => event.preventDefault());
}

makeControls();
drawAll();
onColorScheme(drawAll);
document.body.dataset.ready = "yes";
