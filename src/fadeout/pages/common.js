"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const NOTHING = -32768, ZERO = -32767;
const byId = (id) => document.getElementById(id);

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
}

/** Numbers as they were, from log10 (a zero becomes 0) or shares in parts of a unit; null if not finite. */
function numbers(text, share) {
  const [unit, packed] = text.split(":");
  return Array.from(new Int16Array(bytes(packed)), (v) =>
    v === NOTHING ? null : share ? v / unit : v === ZERO ? 0 : 10 ** (v / unit));
}

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Plotly reads some markup in names; values of configs are text. */
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

// --- words: a page has WORDS, for each language

const browserLanguage = () => (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
let language = browserLanguage();

function t(key, values = {}) {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** Puts the texts of the language where a page has places for them. */
function writeTexts() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const box of document.querySelectorAll("[data-word]")) if (box.id !== "status") box.textContent = t(box.dataset.word);
  byId("language").textContent = t("other_language");
  byId("language").lang = language === "zh" ? "en" : "zh-CN";
}

function switchLanguage() { language = language === "zh" ? "en" : "zh"; }

/** Words in a row: all with a comma between, the last with an and. */
function listing(words) {
  if (language === "zh" || words.length < 2) return words.join(language === "zh" ? "、" : "");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

function short(value) {
  if (value === null || value === undefined) return typeof WORDS === "undefined" ? "not finite" : t("not_finite");
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e4) return String(Number(value.toPrecision(3))).replace("-", "−");
  const [digits, power] = value.toExponential(1).split("e");
  return `${digits.replace("-", "−").replace(/\.0$/, "")}·10${superscript(Number(power))}`;
}

/** A whole number as an exponent. */
function superscript(value) { return String(value).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] || "⁻"); }

function percent(value) { return `${Math.round(100 * value)}${language === "zh" ? "" : "\u00a0"}%`; }

function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

/** On a dark page black and dark blue lines would be lost. */
function visible(color) {
  if (!matchMedia("(prefers-color-scheme: dark)").matches) return color;
  return { "#000000": "#ffffff", "#440154": "#9a6fb0", "#0072b2": "#4aa8e0" }[color] || color;
}

function faint(color) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(visible(color).slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},0.16)`;
}

function axis(title, more = {}) {
  return { title: { text: title }, gridcolor: css("--line"), zeroline: false, automargin: true, ...more };
}

const LOGARITHMIC = { type: "log", exponentformat: "power" };

/** No button of the library's that would send data anywhere. */
const CHARTING = {
  responsive: true, displaylogo: false, displayModeBar: matchMedia("(hover: none)").matches ? false : "hover", showSendToCloud: false,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};

function draw(id, traces, x, y, more = {}) {
  const full = document.fullscreenElement?.contains(byId(id)) ? {
    showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 70, r: 10, t: 60, b: 60 } } : {};
  const layout = {
    margin: { l: 50, r: 10, t: 8, b: 40 }, height: byId(id).clientHeight, xaxis: x, yaxis: y, showlegend: false, hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: css("--ink"), family: "system-ui, sans-serif", size: full.legend ? 18 : 13 }, ...more, ...full,
  };
  return Plotly.react(byId(id), traces, layout, { ...CHARTING, toImageButtonOptions: { format: "svg", filename: id } });
}

function band(x, low, high, color) {
  return {
    x: [...x, ...[...x].reverse()], y: [...high, ...[...low].reverse()], fill: "toself",
    fillcolor: faint(color), line: { width: 0 }, hoverinfo: "skip", mode: "lines", type: "scatter", showlegend: false,
  };
}

function describe(id, text) {
  byId(`${id}-text`).textContent = text;
  byId(id).setAttribute("role", "img");
  byId(id).setAttribute("aria-label", text);
}

function choice(title, options, chosen, change) {
  const label = element("label", title);
  const select = element("select");
  options.forEach((option, i) => select.append(element("option", option, { value: i })));
  select.value = chosen;
  select.addEventListener("change", () => change(Number(select.value)));
  label.append(select);
  return label;
}

function slider(title, least, most, value, change, words = String) {
  const label = element("label", undefined, { class: "wide" });
  const name = element("span", `${title}: ${words(value)}`);
  const input = element("input", undefined, { type: "range", min: least, max: most, step: 1 });
  input.value = value;
  input.setAttribute("aria-label", title);
  input.addEventListener("input", () => {
    name.textContent = `${title}: ${words(Number(input.value))}`;
    input.setAttribute("aria-valuetext", words(Number(input.value)));
    change(Number(input.value));
  });
  label.append(name, input);
  return label;
}

/** A button on every panel that fills the screen with it, and its legend. */
function makeFullScreen(redraw) {
  if (!document.fullscreenEnabled) return;
  for (const figure of document.querySelectorAll(".charts figure")) {
    const button = element("button", "⤢", { type: "button", class: "full", "data-name": "full_screen" });
    button.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : figure.requestFullscreen()));
    figure.prepend(button);
  }
  // the browser lays the panel out first
  addEventListener("fullscreenchange", () => setTimeout(redraw, 100));
}

/** Wilson's 95 % interval of a share. */
function wilson(count, all) {
  const z = 1.959964, share = count / all, below = 1 + z * z / all;
  const middle = (share + z * z / (2 * all)) / below, reach = (z / below) * Math.sqrt(share * (1 - share) / all + z * z / (4 * all * all));
  return [Math.max(0, middle - reach), Math.min(1, middle + reach)];
}

// --- canvases: 0 is blue, 1 orange, what lies between them the page's own colour

const BLUE = [0, 114, 178], ORANGE = [230, 159, 0];
function mix(a, b, part) { return a.map((v, i) => Math.round(v + (b[i] - v) * part)); }
const rgb = (c, alpha = 1) => `rgba(${c[0]},${c[1]},${c[2]},${alpha})`;
const paper = () => (matchMedia("(prefers-color-scheme: dark)").matches ? [22, 22, 26] : [255, 255, 255]);

/** A canvas as large as it is shown, in CSS pixels. */
function canvas(id, letters = 13) {
  const box = byId(id), ratio = devicePixelRatio || 1, { width, height } = box.getBoundingClientRect();
  box.width = Math.round(width * ratio);
  box.height = Math.round(height * ratio);
  const context = box.getContext("2d");
  context.scale(ratio, ratio);
  context.font = `${letters}px system-ui, sans-serif`;
  return { context, width, height };
}

function onColorScheme(redraw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
