"use strict";
/* Tours: what is told, asked and shown, stop by stop; and a sheet for whoever teaches them. docs/teaching.md has the format. */
const tours = [...TOURS], NETWORKS = 20;
const MEASURES = ["profile", "decades", "solved", "dead_layer"], USUAL_RANGE = [-12, 2];
let asked = null;

/** A text of a tour: in the language that is spoken, or the only one. */
function spoken(text) { return typeof text === "string" ? text : text[language] ?? Object.values(text)[0]; }

function showStop() {
  const tour = tours[view.tour], stop = tour?.stops[view.stop];
  if (!tour) { endTour(); return; }
  asked = null;
  document.body.classList.add("touring");
  byId("tour-steps").hidden = byId("sheet-button").hidden = false;
  byId("start-tour").hidden = true;
  byId("predict-panel").hidden = !stop.ask;
  tellStop();
  Object.assign(state, DEFAULTS, ...tour.stops.slice(0, view.stop + 1).map((s) => s.set || {}));
  setRace(stop.against);
  if (stop.steps) view.speed = SPEEDS.indexOf(100);
  makeControls();
  if (stop.ask) beginAsk(stop.ask);
  changed();
  lookAtStop();
}

/** The step at which the stop of a tour ends its training. */
function limit() { return tours[view.tour]?.stops[view.stop].steps ?? Infinity; }

/** Whether a guess is waited for, so that nothing may give the answer away. */
function guessing() { return asked !== null && asked.found === null; }

function lookAtStop() {
  const stop = tours[view.tour]?.stops[view.stop];
  lookAt(stop ? (stop.ask ? "predict" : stop.look) : null);
}

/** The words of a stop, and where one may go from it. */
function tellStop() {
  const tour = tours[view.tour];
  byId("tours").value = view.tour;
  byId("tour-text").textContent = tour ? spoken(tour.stops[view.stop].text) : "";
  if (!tour) return;
  byId("tour-place").textContent = `${view.stop + 1} / ${tour.stops.length}`;
  byId("back").disabled = view.stop === 0;
  byId("next").disabled = view.stop === tour.stops.length - 1;
  const { steps, against } = tour.stops[view.stop];
  byId("tour-run").hidden = !steps;
  byId("tour-run").textContent = t(against ? "race_steps" : "train_steps", { steps });
}

/** Frames a panel, and brings it between what stands at the top and the tour's words. */
function lookAt(id) {
  for (const box of document.querySelectorAll(".looked")) box.classList.remove("looked");
  if (!id) return;
  const panel = byId(`${id}-panel`), top = byId("transport").offsetHeight, below = innerHeight - byId("tour").offsetHeight;
  panel.classList.add("looked");
  const { top: at, height } = panel.getBoundingClientRect();
  scrollBy(0, at - top - Math.max(4, (below - top - height) / 2));
}

/** A text must not stand beside what it is not of. */
function leaveTour() {
  view.tour = -1;
  asked = null;
  document.body.classList.remove("touring", "asking");
  byId("start-tour").hidden = false;
  byId("tours").value = -1;
  byId("tour-steps").hidden = byId("sheet-button").hidden = byId("predict-panel").hidden = true;
  byId("tour-text").textContent = "";
  lookAt(null);
}

/** Leaves a tour for the page as it stands. */
function endTour() {
  leaveTour();
  address();
  drawAll();
}

function makeTours() {
  const list = byId("tours");
  list.replaceChildren(element("option", t("no_tour"), { value: -1 }), ...tours.map((tour, i) => element("option", spoken(tour.title), { value: i })));
  list.value = view.tour;
}

// --- first a guess, then twenty networks

const ofLayers = (ask) => ask.measure === "profile" || ask.measure === "decades";

function beginAsk(ask) {
  asked = { range: USUAL_RANGE, ...ask, settings: { ...state }, found: null, running: false };
  byId("predict").dataset.done = "no";
  byId("predict").style.touchAction = asked.measure === "profile" ? "none" : "auto";
  asked.guess = ofLayers(asked) ? Array(state.depth).fill(0) : NETWORKS / 4;
  makeGuess();
}

/** A straight line from the highest layer, which has 0, to the lowest. */
function straight(decades, depth) {
  return Array.from({ length: depth }, (_, i) => (depth === 1 ? 0 : (decades * (depth - 1 - i)) / (depth - 1)));
}

function makeGuess() {
  byId("predict-title").textContent = t(`predict_${asked.measure}`);
  const { range, settings } = asked, layers = ofLayers(asked);
  const input = layers
    ? slider(t("guess_decades"), 2 * range[0], 2 * range[1], Math.round(2 * asked.guess[0]), (v) => { asked.guess = straight(v / 2, settings.depth); drawAsk(); }, (v) => String(v / 2))
    : slider(t(`guess_${asked.measure}`), 0, NETWORKS, asked.guess, (v) => { asked.guess = v; drawAsk(); }, (v) => `${v} / ${NETWORKS}`);
  const answered = asked.found !== null, button = element("button", t(answered ? "guess_again" : "run_twenty"), { type: "button", class: "main", id: "run-twenty" });
  button.disabled = asked.running;
  input.querySelector("input").disabled = asked.running || answered;
  button.addEventListener("click", answered ? () => { beginAsk(asked); drawNow(); lookAtStop(); } : runTwenty);
  byId("guess").replaceChildren(input, button);
  drawAsk();
}

/** Trains twenty networks, a few milliseconds at a time, and shows what became of them. */
async function runTwenty() {
  const own = asked, found = [];
  own.running = true;
  play(false);
  makeGuess();
  for (let n = 1; n <= NETWORKS; n += 1) {
    const lab = new Experiment(own.settings, 1000 + n), start = lab.now;
    for (let began = performance.now(); lab.step < (own.steps || 0) && lab.finite; lab.advance()) {
      if (performance.now() - began < 30) continue;
      await new Promise((resume) => setTimeout(resume));
      if (asked !== own) return;
      began = performance.now();
    }
    found.push({ profile: start.delta.map((v) => Math.log10(v / start.delta.at(-1))), solved: lab.solved, dead_layer: start.dead.some((v) => v === 1) });
    if (asked !== own) return;
    describe("predict", t("running", { done: n, all: NETWORKS }));
    if (n % 4 === 0) await new Promise((resume) => setTimeout(resume));
  }
  if (asked !== own) return;
  Object.assign(own, { found, running: false });
  byId("predict").dataset.done = "yes";
  makeGuess();
  drawNow();
  lookAtStop();
}

/** What was measured, beside the guess. */
function answerOf({ measure, guess, found, settings }) {
  if (ofLayers({ measure })) {
    const none = found.filter((own) => !Number.isFinite(own.profile[0])).length;
    if (none) return { words: t("answer_none", { none, all: NETWORKS }), middle: NaN, distance: NaN };
    const { middle, low, high } = medianOfTwenty(found.map((own) => own.profile[0])), middles = middleProfile(found);
    const distance = measure === "decades" ? Math.abs(guess[0] - middle) : mean(guess.slice(0, -1).map((v, i) => Math.abs(v - middles[i])));
    return { words: t(settings.depth > 1 && measure === "profile" ? "answer_profile" : "answer_decades", { guess: power(guess[0]), middle: power(middle),
      low: power(low), high: power(high), distance: distance.toFixed(1) }), middle, distance };
  }
  const count = found.filter((own) => own[measure]).length, [low, high] = wilson(count, NETWORKS), distance = Math.abs(guess - count);
  return { words: t(`answer_${measure}`, { guess, count, all: NETWORKS, low: percent(low), high: percent(high), distance }), middle: count, distance };
}

/** A power of ten with one digit of its exponent. */
function power(exponent) { return `10^${exponent.toFixed(1)}`.replace("-", "−"); }

function middleProfile(found) {
  return found[0].profile.map((_, i) => medianOfTwenty(found.map((own) => own.profile[i])).middle);
}

/** While a guess is waited for, the other panels are away. */
function hideAnswers() { document.body.classList.toggle("asking", guessing()); }

function drawAsk() {
  hideAnswers();
  if (!asked) return;
  const { context, width, height } = canvas("predict");
  if (width < 40) return; // the sheet stands before it
  context.fillStyle = context.strokeStyle = css("--ink");
  (ofLayers(asked) ? paintProfiles : paintCounts)(context, width, height);
  describe("predict", asked.found ? answerOf(asked).words : t(asked.measure === "profile" ? "draw_it" : "slide_it"));
}

/** Where a layer and a number of decades lie on the canvas, and back. */
function profileScale(width, height) {
  const { range, settings: { depth } } = asked, left = 46, right = 12, top = 10, bottom = 40;
  const [low, high] = [range[0], range[1]], wide = width - left - right, tall = height - top - bottom;
  return {
    x: (i) => left + (depth === 1 ? 0 : (wide * i) / (depth - 1)), y: (v) => top + (tall * (high - Math.max(low, Math.min(high, v)))) / (high - low),
    layer: (x) => Math.max(0, Math.min(depth - 1, Math.round(((x - left) / wide) * (depth - 1)))),
    decades: (y) => Math.max(low, Math.min(high, high - ((y - top) / tall) * (high - low))),
  };
}

function paintProfiles(context, width, height) {
  const { range, settings: { depth, activation }, guess, found } = asked, { x, y } = profileScale(width, height);
  const path = (values, color, thick, dash = []) => {
    context.beginPath();
    values.forEach((v, i) => (i ? context.lineTo(x(i), y(v)) : context.moveTo(x(i), y(v))));
    context.setLineDash(dash);
    context.lineWidth = thick;
    context.strokeStyle = color;
    context.stroke();
    context.setLineDash([]);
  };
  for (let v = Math.ceil(range[0] / 2) * 2; v <= range[1]; v += 2) {
    path(Array(depth).fill(v), css("--line"), 1);
    context.textAlign = "right";
    context.fillText(v === 0 ? "1" : `10${superscript(v)}`, x(0) - 6, y(v) + 4);
  }
  context.textAlign = "center";
  for (const i of new Set([0, depth - 1])) context.fillText(String(i + 1), x(i), height - 22);
  context.fillText(t("layer"), (x(0) + x(depth - 1)) / 2, height - 6);
  context.textAlign = "left";
  if (found) {
    const color = visible(DATA.activations[activation].color);
    for (const own of found) path(own.profile, faint(color).replace("0.16", "0.4"), 1);
    path(middleProfile(found), color, 3);
  }
  path(guess, css("--ink"), 2.5, [6, 4]);
}

/** Two rows of twenty circles: as many filled as were guessed, and as there were. */
function paintCounts(context, width, height) {
  const { guess, found, measure } = asked, rows = [[t("your_guess"), guess]];
  if (found) rows.push([t("measured"), found.filter((own) => own[measure]).length]);
  const radius = Math.max(1, Math.min(9, width / NETWORKS / 2 - 2));
  rows.forEach(([name, count], row) => {
    const y = height * (0.25 + 0.45 * row);
    context.fillStyle = css("--ink");
    context.fillText(name, 8, y - radius - 10);
    for (let n = 0; n < NETWORKS; n += 1) {
      context.beginPath();
      context.arc(8 + radius + n * (2 * radius + 3), y, radius, 0, 7);
      context.fillStyle = css(n < count ? (row ? "--mark" : "--soft") : "--paper");
      context.fill();
      context.lineWidth = 1.2;
      context.strokeStyle = css("--soft");
      context.stroke();
    }
  });
}

/** A line is drawn by dragging over it. */
function listenToDrawing() {
  const box = byId("predict");
  let before = null;
  const bend = (event) => {
    if (asked?.measure !== "profile" || asked.found || asked.running || (event.type === "pointermove" && before === null)) return;
    const { left, top, width, height } = box.getBoundingClientRect(), scale = profileScale(width, height);
    const i = scale.layer(event.clientX - left), v = scale.decades(event.clientY - top), from = before ?? [i, v];
    for (let k = Math.min(i, from[0]); k <= Math.max(i, from[0]); k += 1)
      asked.guess[k] = i === from[0] ? v : from[1] + ((v - from[1]) * (k - from[0])) / (i - from[0]);
    before = [i, v];
    drawAsk();
    event.preventDefault();
  };
  box.addEventListener("pointerdown", (event) => { box.setPointerCapture(event.pointerId); bend(event); });
  box.addEventListener("pointermove", bend);
  for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, () => { if (before !== null) makeGuess(); before = null; });
}

// --- tours of one's own

const MOST_STEPS = 20_000;

const isText = (value) => (typeof value === "string" ? value.trim() !== "" : value !== null && typeof value === "object" && !Array.isArray(value)
  && Object.values(value).length > 0 && Object.values(value).every((v) => typeof v === "string" && v.trim()));

function isSetting(key, value) {
  return key === "seed" ? Number.isSafeInteger(value) : typeof value !== "object" && settingOf(key, value) === value;
}

/** What is wrong with a tour, or null. */
function tourFault(tour) {
  if (!tour || typeof tour !== "object" || !isText(tour.title)) return t("fault_title");
  if (!Array.isArray(tour.stops) || !tour.stops.length) return t("fault_stops");
  const settings = { ...DEFAULTS };
  for (const [i, stop] of tour.stops.entries()) {
    const fault = stopFault(stop, settings, { stop: i + 1 });
    if (fault) return fault;
  }
  const lists = { objectives: isText, questions: (item) => isText(item?.ask) && isText(item?.answer), claims: (item) => typeof item === "string" };
  for (const [key, good] of Object.entries(lists)) if (tour[key] !== undefined && !(Array.isArray(tour[key]) && tour[key].every(good))) return t("fault_list", { key });
  for (const key of ["before", "beware"]) if (tour[key] !== undefined && !isText(tour[key])) return t("fault_list_text", { key });
  return null;
}

/** What is wrong with a stop, or null; what it sets stays set. */
function stopFault(stop, settings, at) {
  if (!isText(stop?.text)) return t("fault_text", at);
  const { set = {}, against = {}, look, steps, ask } = stop, rivals = Object.entries(against);
  for (const [key, value] of [...Object.entries(set), ...rivals]) {
    if (isSetting(key, value)) continue;
    const known = Object.hasOwn(CHOICES, key) ? CHOICES[key] : Object.hasOwn(LADDERS, key) ? LADDERS[key] : Object.keys({ ...CHOICES, ...LADDERS });
    return t("fault_setting", { ...at, key, value: JSON.stringify(value), known: known.join(", ") });
  }
  Object.assign(settings, set);
  if (rivals.length > 1 || rivals.some(([key]) => !RACED.includes(key))) return t("fault_against", { ...at, known: RACED.join(", ") });
  if ([settings, { ...settings, ...against }].some((own) => kernelVariance(own, 1, 1) === null)) return t("fault_edge", at);
  if (look !== undefined && !PANELS.includes(look)) return t("fault_look", { ...at, known: PANELS.join(", ") });
  for (const count of [steps, ask?.steps]) if (count !== undefined && !(Number.isInteger(count) && count > 0 && count <= MOST_STEPS)) return t("fault_steps", { ...at, most: MOST_STEPS });
  if (ask === undefined) return null;
  if (!MEASURES.includes(ask?.measure) || (ask.answer !== undefined && !isText(ask.answer))) return t("fault_ask", { ...at, known: MEASURES.join(", ") });
  const range = ask.range ?? USUAL_RANGE;
  if (!Array.isArray(range) || range.length !== 2 || !range.every(Number.isInteger) || range[0] > 0 || range[1] < 0 || range[0] >= range[1]) return t("fault_range", at);
  return ofLayers(ask) && settings.depth === 1 ? t("fault_one", at) : null;
}

/** Adds a tour of a JSON text, and begins it. */
function addTour(source) {
  let tour, fault;
  try { tour = JSON.parse(source); fault = tourFault(tour); } catch (error) { fault = `${t("fault_json")} ${error.message}`; }
  byId("tour-fault").textContent = fault || "";
  if (fault) return;
  tours.push(tour);
  makeTours();
  Object.assign(view, { tour: tours.length - 1, stop: 0 });
  showStop();
}

// --- the sheet of a tour

/** One page to print: what it is for, how it goes, what to ask, and what to beware of. */
function makeSheet() {
  const tour = tours[view.tour], sheet = byId("sheet-page");
  const list = (kind, items, words) => { const box = element(kind); box.append(...(items || []).map((item) => element("li", words(item)))); return box; };
  const part = (title, ...inside) => [element("h2", t(title)), ...inside];
  const steps = element("ol");
  for (const stop of tour.stops) {
    const item = element("li", spoken(stop.text)), doing = [stop.look && t("sheet_look", { panel: t(`${stop.look}_title`) }), stop.steps && t(stop.against ? "race_steps" : "train_steps", { steps: stop.steps })];
    if (doing.some(Boolean)) item.append(element("span", ` [${doing.filter(Boolean).join("; ")}]`, { class: "soft" }));
    if (stop.ask?.answer) item.append(element("em", ` ${t("sheet_answer")} ${spoken(stop.ask.answer)}`));
    steps.append(item);
  }
  const questions = element("ol");
  for (const { ask, answer } of tour.questions || []) {
    const item = element("li", spoken(ask));
    item.append(element("em", ` ${t("sheet_answer")} ${spoken(answer)}`));
    questions.append(item);
  }
  sheet.replaceChildren(element("h1", spoken(tour.title)), element("p", t("sheet_lead", { minutes: tour.minutes || 10 }), { class: "soft" }),
    ...(tour.objectives ? part("sheet_objectives", list("ul", tour.objectives, spoken)) : []),
    ...(tour.before ? part("sheet_before", element("p", spoken(tour.before))) : []),
    ...part("sheet_steps", steps),
    ...(tour.questions ? part("sheet_questions", questions) : []),
    ...(tour.beware ? part("sheet_beware", element("p", spoken(tour.beware))) : []),
    ...(tour.claims ? part("sheet_claims", element("p", t("sheet_claims_text")), element("pre", `fadeout claims ${tour.claims.join(" ")}`)) : []));
}

function showSheet(on) {
  if (on) { play(false); makeSheet(); }
  byId("sheet").hidden = !on;
  document.body.classList.toggle("sheet", on);
  byId(on ? "sheet-close" : "sheet-button").focus();
  if (on) scrollTo(0, 0);
  else { drawAll(); lookAtStop(); }
}
