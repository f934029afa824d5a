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

function short(value) {
  if (value === null || value === undefined) return "not finite";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e4 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
}

function percent(value) { return `${Math.round(100 * value)} %`; }

function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

/** On a dark page black and dark blue lines would be lost. */
function visible(color) {
  if (!matchMedia("(prefers-color-scheme: dark)").matches) return color;
  return { "#000000": "#ffffff", "#440154": "#9a6fb0" }[color] || color;
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
  responsive: true, displaylogo: false, displayModeBar: "hover", showSendToCloud: false,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};

function draw(id, traces, x, y, more = {}) {
  const layout = {
    margin: { l: 50, r: 10, t: 8, b: 40 }, height: byId(id).clientHeight, xaxis: x, yaxis: y, showlegend: false, hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: css("--ink"), family: "system-ui, sans-serif", size: 13 }, ...more,
  };
  return Plotly.react(byId(id), traces, layout, { ...CHARTING, toImageButtonOptions: { format: "svg", filename: id } });
}

function band(x, low, high, color) {
  return {
    x: [...x, ...[...x].reverse()], y: [...high, ...[...low].reverse()], fill: "toself",
    fillcolor: faint(color), line: { width: 0 }, hoverinfo: "skip", mode: "lines", type: "scatter",
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

function onColorScheme(redraw) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
