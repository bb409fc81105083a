// All runs: sorted by a click on a head, filtered, saved as CSV.

const facts = { real_sparsity: "real sparsity", train_steps: "training steps", cpu_seconds: "processor time (s)" };

// head, the figure to sort and save by, the text to show; text columns have no `text`
function columnsOf() {
  const known = (get) => runs.some((run) => get(run) !== null && get(run) !== undefined);
  const all = [
    { name: "method", get: (run) => seriesName(run.s), words: true },
    { name: "sparsity", get: (run) => run.p, text: percent },
    { name: "recovery", get: (run) => (isPruned(run) ? data.recoveries[run.r] : ""), words: true },
    { name: "seed", get: (run) => run.seed, text: String },
    ...data.metrics.map((metric, i) => ({ name: metric.name, get: (run) => run.m[i], text: figure })),
    { name: facts.real_sparsity, get: (run) => run.f.real_sparsity, text: percent },
    ...data.costs.map((cost, i) => ({ name: cost.name, get: (run) => run.c[i], text: (v) => withUnit(v, cost) })),
    { name: facts.train_steps, get: (run) => run.f.train_steps, text: human },
    { name: facts.cpu_seconds, get: (run) => run.f.cpu_seconds, text: (v) => digits(v, 3) },
    { name: "state", get: (run) => (run.error ? "failed" : "done"), words: true },
  ];
  return all.filter((column) => known(column.get));
}

const columns = columnsOf();
const rowNodes = [];
let order = runs.map((_, r) => r);
let sorting = { column: -1, down: false };
let shownRows = order;

function swatch(s, size = 14) {
  const { colour, symbol } = lookOf(s);
  const shapes = {
    circle: "M7 2a5 5 0 1 0 .01 0z", square: "M2.5 2.5h9v9h-9z", diamond: "M7 1l6 6-6 6-6-6z",
    "triangle-up": "M7 1.5l6 10.5H1z", "triangle-down": "M7 12.5L1 2h12z", cross: "M5 1.5h4V5h3.5v4H9v3.5H5V9H1.5V5H5z",
    x: "M2 4.2L4.2 2 7 4.8 9.8 2 12 4.2 9.2 7 12 9.8 9.8 12 7 9.2 4.2 12 2 9.8 4.8 7z",
    pentagon: "M7 1l6 4.5-2.3 7H3.3L1 5.500z", star: "M7 .8l1.9 4.1 4.4.5-3.300 3 .9 4.400L7 10.600l-3.900 2.200.9-4.400-3.300-3 4.400-.5z",
    hexagram: "M7 1l1.700 3h3.500L10.500 7l1.700 3H8.700L7 13l-1.700-3H1.800l1.700-3-1.700-3h3.500z",
  };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 14 14");
  svg.setAttribute("width", size);
  svg.setAttribute("height", size);
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "swatch");
  path.setAttribute("d", shapes[symbol]);
  path.setAttribute("fill", colour);
  svg.append(path);
  return svg;
}

function rowOf(run, r) {
  const cells = columns.map((column) => {
    const value = column.get(run);
    if (column.name === "method") {
      const button = make("button", { type: "button", class: "row", tabindex: "-1" }, swatch(run.s), make("span", {}, value));
      return make("th", { scope: "row" }, button, run.error ? make("small", { class: "error" }, run.error.split("\n")[0]) : null);
    }
    if (column.words) return make("td", run.error && column.name === "state" ? { class: "error" } : {}, value);
    const bare = value === null || value === undefined;
    return make("td", bare ? { class: "number" } : { class: "number", title: String(value) }, bare ? "" : column.text(value));
  });
  return make("tr", { "data-run": r }, ...cells);
}

function compareRuns(a, b) {
  const get = columns[sorting.column].get;
  const [x, y] = [get(runs[a]), get(runs[b])];
  const [noX, noY] = [x === null || x === undefined, y === null || y === undefined];
  if (noX || noY) return noX - noY || a - b; // what is not known is last either way
  const found = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
  return (sorting.down ? -found : found) || a - b;
}

function sortBy(column) {
  sorting = { column, down: sorting.column === column && !sorting.down };
  order = [...order].sort(compareRuns);
  find("table").tHead.rows[0].querySelectorAll("th").forEach((head, i) => {
    head.setAttribute("aria-sort", i !== column ? "none" : sorting.down ? "descending" : "ascending");
  });
  find("said").textContent = `sorted by ${columns[column].name}, ${sorting.down ? "descending" : "ascending"}`;
  showRows();
}

function passes(run) {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [method, sparsity, recovery, outcome] = ["method", "sparsity", "recovery", "state"].map((id) => find(`by-${id}`).value);
  if (method !== "all" && String(run.s) !== method) return false;
  if (sparsity !== "all" && !(data.series[run.s].kind !== "dense" && String(run.p) === sparsity)) return false;
  if (recovery !== "all" && !(isPruned(run) && String(run.r) === recovery)) return false;
  if (outcome !== "all" && (run.error ? "failed" : "done") !== outcome) return false;
  const whole = `${runName(run)} ${data.recoveries[run.r]} ${run.name} ${run.error}`.toLowerCase();
  return words.every((word) => whole.includes(word));
}

function showRows() {
  shownRows = order.filter((r) => passes(runs[r]));
  const body = find("table").tBodies[0];
  body.replaceChildren(...shownRows.map((r) => rowNodes[r]));
  find("count").textContent = `${shownRows.length} of ${runs.length} runs`;
  markRow();
}

function markRow() {
  for (const row of find("table").tBodies[0].querySelectorAll("tr.chosen")) row.classList.remove("chosen");
  const first = shownRows.includes(state.run) ? state.run : shownRows[0];
  for (const r of shownRows) rowNodes[r].querySelector("button").tabIndex = r === first ? 0 : -1;
  if (state.run !== null) rowNodes[state.run].classList.add("chosen");
}

// a spreadsheet must not take a name for a formula
function csvCell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function saveCsv() {
  const heads = [...columns.map((column) => column.name), "error", "folder"];
  const lines = shownRows.map((r) => [...columns.map((column) => column.get(runs[r])), runs[r].error, runs[r].link]);
  const content = [heads, ...lines].map((line) => line.map(csvCell).join(",")).join("\r\n");
  const url = URL.createObjectURL(new Blob([`${content}\r\n`], { type: "text/csv" }));
  const link = make("a", { href: url, download: "runs.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  find("said").textContent = `${shownRows.length} rows saved as runs.csv`;
}

function moveFocus(event) {
  const row = event.target.closest("tbody tr");
  const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
  if (!row || !step) return;
  const at = shownRows.indexOf(Number(row.dataset.run)) + step;
  const next = rowNodes[shownRows[Math.max(0, Math.min(shownRows.length - 1, at))]];
  event.preventDefault();
  row.querySelector("button").tabIndex = -1;
  next.querySelector("button").tabIndex = 0;
  next.querySelector("button").focus();
}

function startTable() {
  const table = find("table");
  const heads = columns.map((column, i) => make("th", { scope: "col", "aria-sort": "none", class: column.words ? "" : "number" },
    make("button", { type: "button", onclick: () => sortBy(i) }, upper(column.name))));
  table.tHead.rows[0].replaceChildren(...heads);
  runs.forEach((run, r) => rowNodes.push(rowOf(run, r)));
  fill(find("by-method"), [["all", "all"], ...data.series.map((series, s) => [s, series.name])]);
  fill(find("by-sparsity"), [["all", "all"], ...sparsities.map((p) => [String(p), targetName(p)])]);
  fill(find("by-recovery"), [["all", "all"], ...data.recoveries.slice(0, data.choices).map((name, i) => [i, name])]);
  find("by-recovery").closest("label").hidden = !several;
  fill(find("by-state"), [["all", "all"], ["done", "done"], ["failed", "failed"]]);
  find("by-state").closest("label").hidden = !runs.some((run) => run.error);
  for (const id of ["by-method", "by-sparsity", "by-recovery", "by-state"]) find(id).addEventListener("change", showRows);
  find("filter").addEventListener("input", showRows);
  find("csv").addEventListener("click", saveCsv);
  table.addEventListener("keydown", moveFocus);
  table.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !String(getSelection())) choose(Number(row.dataset.run));
  });
  onChange((what) => {
    if ("run" in what) markRow();
    if (what.theme) recolour();
  });
  showRows();
  performance.mark("table-ready");
}

function recolour() {
  runs.forEach((run, r) => rowNodes[r].querySelector("svg").replaceWith(swatch(run.s)));
}
