"use strict";
/* Single runs, step by step: what they answer, their layers and their loss. Drawn without a library, for a notebook. */
const state = { run: 0, frame: 0, playing: null };
const PANELS = ["surface", "delta", "signal", "units", "loss"];
const CLASSES = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [213, 94, 0], [90, 90, 102], [240, 228, 66]];

const shown = () => DATA.runs[state.run];

function makePanels() {
  for (const id of PANELS) {
    const figure = element("figure", undefined, { id: `${id}-panel` });
    figure.append(element("figcaption", t(`${id}_title`)), element("canvas", undefined, { class: "chart", id }), element("p", undefined, { class: "soft", id: `${id}-text` }));
    byId("charts").append(figure);
  }
}

/** Round places of an axis. */
function ticksOf(low, high, log) {
  if (log) {
    const step = Math.max(1, Math.ceil((high - low) / 5)), found = [];
    for (let v = Math.ceil(low); v <= high; v += step) found.push(v);
    return found;
  }
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9; v += step) found.push(Number(v.toPrecision(6)));
  return found;
}

/** Lines over an axis; a logarithmic one leaves out what is not above 0. */
function drawLines(id, x, series, { log = false, range, cursor, label }) {
  const { context, width, height } = canvas(id, 12), left = 46, right = 10, top = 8, bottom = 34;
  const scaled = series.map(({ y }) => y.map((v) => (v === null || (log && v <= 0) ? null : log ? Math.log10(v) : v)));
  const all = scaled.flat().filter((v) => v !== null);
  let [low, high] = range || [Math.min(...all), Math.max(...all)];
  if (!all.length) [low, high] = [0, 1];
  if (!range) { const pad = Math.max((high - low) * 0.06, log ? 0.4 : 1e-9); low -= pad; high += pad; }
  const first = Math.min(...x), last = Math.max(...x), px = (v) => (last === first ? (left + width - right) / 2 : left + ((width - left - right) * (v - first)) / (last - first));
  const py = (v) => top + ((height - top - bottom) * (high - v)) / (high - low);
  context.fillStyle = css("--ink");
  context.strokeStyle = css("--line");
  context.textAlign = "right";
  for (const v of ticksOf(low, high, log)) {
    context.beginPath(); context.moveTo(left, py(v)); context.lineTo(width - right, py(v)); context.stroke();
    context.fillText(log ? short(10 ** v) : range ? percent(v) : short(v), left - 5, py(v) + 4);
  }
  context.textAlign = "center";
  for (const v of ticksOf(first, last, false).filter(Number.isInteger)) context.fillText(String(v), px(v), height - bottom + 15);
  context.fillText(label, (left + width - right) / 2, height - 4);
  if (cursor !== undefined) {
    context.setLineDash([3, 3]);
    context.strokeStyle = css("--soft");
    context.beginPath(); context.moveTo(px(cursor), top); context.lineTo(px(cursor), height - bottom); context.stroke();
    context.setLineDash([]);
  }
  series.forEach(({ color, dash = [], wide = 2.5, dots }, k) => {
    context.strokeStyle = context.fillStyle = color;
    context.lineWidth = wide;
    context.setLineDash(dash);
    context.beginPath();
    let open = false;
    scaled[k].forEach((v, i) => {
      if (v === null) { open = false; return; }
      if (open) context.lineTo(px(x[i]), py(v)); else context.moveTo(px(x[i]), py(v));
      open = true;
    });
    context.stroke();
    context.setLineDash([]);
    if (dots) scaled[k].forEach((v, i) => { if (v !== null) { context.beginPath(); context.arc(px(x[i]), py(v), 3, 0, 7); context.fill(); } });
  });
}

function drawSurface() {
  const { context, width, height } = canvas("surface", 12), { surface, features, classes, examples } = shown();
  if (!surface) {
    context.fillStyle = css("--soft");
    context.fillText(t(features === 2 ? "no_surface_batch" : "no_surface", { features }), 8, height / 2, width - 16);
    return describe("surface", t(features === 2 ? "no_surface_batch" : "no_surface", { features }));
  }
  const side = Math.min(width, height), left = (width - side) / 2, cell = side / surface.points, tone = (v) =>
    (v < 0 ? [128, 128, 128] : classes > 2 ? mix(paper(), CLASSES[v % CLASSES.length], 0.45) : v > 50 ? mix(paper(), ORANGE, v / 50 - 1) : mix(paper(), BLUE, 1 - v / 50));
  surface.frames[state.frame].forEach((v, k) => {
    context.fillStyle = rgb(tone(v));
    context.fillRect(left + (k % surface.points) * cell, Math.floor(k / surface.points) * cell, cell + 0.7, cell + 0.7);
  });
  const place = (v, [low, high]) => (v - low) / (high - low);
  for (const [x, y, target] of examples) {
    context.beginPath();
    context.arc(left + side * place(x, surface.x), side * (1 - place(y, surface.y)), examples.length > 8 ? 4 : 8, 0, 7);
    context.fillStyle = rgb(classes > 2 ? CLASSES[target % CLASSES.length] : mix(BLUE, ORANGE, Math.min(1, Math.max(0, target))));
    context.fill();
    context.lineWidth = 1.5;
    context.strokeStyle = css("--ink");
    context.stroke();
  }
  const [low, high] = shown().levels.map(short);
  describe("surface", t(classes > 2 ? "surface_classes" : classes ? "surface_text" : "surface_numbers", { low, high }));
}

function drawLayers(id) {
  const own = shown(), now = own.layers[id][state.frame], start = own.layers[id][0], color = visible(own.color), layers = now.map((_, i) => i + 1);
  drawLines(id, layers, [{ y: start, color: css("--soft"), dash: [2, 4], wide: 2 }, { y: now, color, wide: 3, dots: true }], { log: true, label: t("layer") });
  describe(id, t("layers_text", { first: short(now[0]), top: short(now.at(-1)) }));
}

function drawUnits() {
  const { dead, saturated } = shown().layers, layers = dead[0].map((_, i) => i + 1);
  drawLines("units", layers, [{ y: saturated[state.frame], color: "#e69f00", dots: true }, { y: dead[state.frame], color: "#d55e00", dash: [6, 4], dots: true }],
    { range: [-0.03, 1.03], label: t("layer") });
  describe("units", t("units_text"));
}

function drawLoss() {
  const own = shown(), step = own.steps[state.frame];
  drawLines("loss", own.every, [{ y: own.loss.map((v) => (v === null ? null : Math.max(v, 1e-8))), color: visible(own.color) }], { log: true, cursor: step, label: t("step") });
  const at = own.every.indexOf(step), accuracy = own.accuracy[at];
  describe("loss", t("loss_text", { step, loss: short(own.loss[at]) }) + (accuracy === null ? "" : t("right", { share: percent(accuracy) })));
}

function drawAll() { drawSurface(); drawLayers("delta"); drawLayers("signal"); drawUnits(); drawLoss(); }

function stop() {
  clearInterval(state.playing);
  state.playing = null;
  byId("film").textContent = t("play");
}

function makeControls() {
  const box = byId("controls"), { steps } = shown(), film = element("button", t("play"), { type: "button", class: "main", id: "film" });
  const move = (frame) => { state.frame = frame; drawAll(); };
  const moved = slider(t("step"), 0, steps.length - 1, state.frame, (v) => { stop(); move(v); }, (v) => String(steps[v]));
  film.addEventListener("click", () => {
    if (state.playing) { stop(); return; }
    if (state.frame === steps.length - 1) state.frame = 0;
    film.textContent = t("pause");
    state.playing = setInterval(() => {
      const input = moved.querySelector("input");
      if (state.frame >= steps.length - 1) { stop(); return; }
      move(state.frame + 1);
      input.value = state.frame;
      moved.querySelector("span").textContent = `${t("step")}: ${steps[state.frame]}`;
    }, 150);
  });
  const runs = DATA.runs.length > 1 ? [choice(t("run"), DATA.runs.map((run) => run.name), state.run, (v) => {
    stop();
    Object.assign(state, { run: v, frame: Math.min(state.frame, DATA.runs[v].steps.length - 1) });
    makeControls();
    drawAll();
  })] : [element("strong", DATA.runs[0].name)];
  box.replaceChildren(...runs, ...(steps.length > 1 ? [film, moved] : []));
}

document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
makePanels();
makeControls();
byId("controls").addEventListener("submit", (event) => event.preventDefault());
drawAll();
addEventListener("resize", drawAll);
onColorScheme(drawAll);
document.body.dataset.ready = "yes";
