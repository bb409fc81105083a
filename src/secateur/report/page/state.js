// The data, and what the reader has chosen. A part asks to be told with `onChange` and changes things with `change`.

const data = JSON.parse(find("data").textContent);
const runs = data.runs;
const groups = data.groups;

const state = {
  metric: 0,
  cost: 0,
  recovery: -1, // all of them
  hidden: new Set(), // numbers of series
  run: null,
};
const listeners = [];
const onChange = (listener) => listeners.push(listener);

function change(what) {
  Object.assign(state, what);
  for (const listener of listeners) listener(what);
}

const groupOf = new Map();
groups.forEach((group, g) => group.runs.forEach((r) => groupOf.set(r, g)));

const pruned = data.series.map((_, s) => s).filter((s) => data.series[s].kind === "pruned");
const sparsities = [...new Set(runs.filter((r) => data.series[r.s].kind === "pruned").map((r) => r.p))].sort(
  (a, b) => (a ?? 2) - (b ?? 2),
);
const several = data.choices > 1; // recoveries

const seriesName = (s) => data.series[s].name;
const targetName = (p) => (p === null ? "own sparsity" : percent(p));

function runName(run) {
  const series = data.series[run.s];
  if (series.kind === "dense") return `${series.name}, seed ${run.seed}`;
  const recovery = several && series.kind === "pruned" ? ` + ${data.recoveries[run.r]}` : "";
  const target = series.kind === "pruned" ? ` at ${targetName(run.p)}` : run.p === null ? "" : `, the size of ${percent(run.p)}`;
  return `${series.name}${recovery}${target}, seed ${run.seed}`;
}

const groupName = (group) => runName(runs[group.runs[0]]).replace(/, seed [^,]*$/, "");
const visible = (item) => !state.hidden.has(item.s) && (state.recovery < 0 || item.r === state.recovery || !isPruned(item));
const isPruned = (item) => data.series[item.s].kind === "pruned";
