// Small things that all parts use. Text only ever enters the page as text, never as markup.

const find = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// plotly reads a few tags and entities in its texts
const inPlot = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

function shorten(text, most) {
  if (text.length <= most) return text;
  const head = Math.ceil((most - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (most - 1 - head))}`;
}

const digits = (value, count) => String(Number(value.toPrecision(count)));

// 1234567 -> 1.23M
function human(value) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  for (const [unit, scale] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (size >= scale) return digits(value / scale, 3) + unit;
  }
  return digits(value, 4);
}

// a figure of a cost with its unit: 28.7 kB, 0.41 ms
function withUnit(value, cost) {
  if (value === null || value === undefined) return "";
  if (cost.unit === "B") {
    const text = human(value);
    return /\D$/.test(text) ? `${text.slice(0, -1)} ${text.slice(-1)}B` : `${text} B`;
  }
  if (cost.unit === "ms") return `${digits(value, 3)} ms`;
  return cost.key === "latency_ratio" ? value.toFixed(2) : human(value);
}

const figure = (value) => (value === null || value === undefined ? "" : digits(value, 4));
const percent = (share) => (share === null || share === undefined ? "" : `${digits(100 * share, 4)} %`);
const range = (low, high) => (low === null || low === undefined ? "" : `${figure(low)} to ${figure(high)}`);
const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// <option>s from [value, text] pairs
function fill(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => make("option", { value }, text)));
  if (chosen !== undefined) select.value = String(chosen);
}
