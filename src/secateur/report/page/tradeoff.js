// Metric against cost: means with intervals, seeds behind them, references, and the front that nothing beats.

// indices of points that no other point beats: not worse on both axes and better on one
function pareto(points, lower) {
  const sign = lower ? 1 : -1;
  const order = points.map((_, i) => i).filter((i) => points[i].every((v) => v !== null));
  order.sort((i, j) => points[i][0] - points[j][0] || sign * (points[i][1] - points[j][1]));
  const front = [];
  let best = Infinity;
  let last = null;
  for (const i of order) {
    const value = sign * points[i][1];
    const twin = last !== null && points[i][0] === points[last][0] && points[i][1] === points[last][1];
    if (value < best || twin) {
      front.push(i);
      best = value;
      last = i;
    }
  }
  return front;
}

const costAt = (item) => item.c[state.cost];
const meanAt = (group) => (group.m[state.metric] ? group.m[state.metric][0] : null);

function meanText(group) {
  const [mean, low, high] = group.m[state.metric];
  const count = group.runs.length;
  const interval = low === null ? "one seed: no interval" : `95 % interval ${range(low, high)}, ${count} seeds`;
  const cost = data.costs[state.cost];
  return [
    `<b>${inPlot(groupName(group))}</b>`,
    `${inPlot(data.metrics[state.metric].name)} ${figure(mean)}`,
    interval,
    `${cost.name} ${withUnit(costAt(group), cost)}`,
    "click for the runs",
  ].join("<br>");
}

function runText(r) {
  const run = runs[r];
  const cost = data.costs[state.cost];
  const metric = inPlot(data.metrics[state.metric].name);
  return `<b>${inPlot(runName(run))}</b><br>${metric} ${figure(run.m[state.metric])}<br>${cost.name} ${withUnit(costAt(run), cost)}`;
}

// one line: a series with one recovery
function linesOf(shown) {
  const lines = new Map();
  for (const g of shown) {
    const key = `${groups[g].s}/${groups[g].r}`;
    lines.set(key, [...(lines.get(key) || []), g]);
  }
  return [...lines.values()].map((members) => members.sort((a, b) => (groups[a].p ?? 0) - (groups[b].p ?? 0)));
}

function meanTrace(members) {
  const first = groups[members[0]];
  const { colour, symbol } = lookOf(first.s);
  const kind = data.series[first.s].kind;
  const means = members.map((g) => groups[g].m[state.metric]);
  const recovery = isPruned(first) && several ? first.r : 0;
  return {
    x: members.map((g) => costAt(groups[g])),
    y: means.map((m) => m[0]),
    error_y: {
      array: means.map((m) => (m[2] === null ? 0 : m[2] - m[0])),
      arrayminus: means.map((m) => (m[1] === null ? 0 : m[0] - m[1])),
      symmetric: false, thickness: 1.2, width: 4, color: colour,
    },
    mode: kind === "dense" ? "markers" : "lines+markers",
    line: { color: colour, width: 2, dash: kind === "small" ? "dot" : DASHES[recovery % DASHES.length] },
    marker: {
      color: colour, size: kind === "pruned" ? 9 : 13, symbol: symbol + (recovery % 2 ? "-open" : ""),
      line: { color: recovery % 2 ? colour : style("card"), width: recovery % 2 ? 2 : 1 },
    },
    hovertext: members.map((g) => meanText(groups[g])),
    hoverinfo: "text",
    customdata: members.map((g) => groups[g].runs[0]),
  };
}

function seedTrace(members) {
  const { colour } = lookOf(groups[members[0]].s);
  const inside = members.flatMap((g) => groups[g].runs);
  return {
    x: inside.map((r) => costAt(runs[r])),
    y: inside.map((r) => runs[r].m[state.metric]),
    mode: "markers",
    marker: { color: colour, size: 5, opacity: 0.4 },
    hovertext: inside.map(runText),
    hoverinfo: "text",
    customdata: inside,
  };
}

function frontTrace(shown) {
  const points = shown.map((g) => [costAt(groups[g]), meanAt(groups[g])]);
  const front = pareto(points, data.metrics[state.metric].lower);
  return {
    x: front.map((i) => points[i][0]),
    y: front.map((i) => points[i][1]),
    mode: "lines",
    line: { color: style("front"), width: 9, shape: "hv" },
    hoverinfo: "skip",
  };
}

function chosenTrace() {
  const run = state.run === null ? null : runs[state.run];
  if (!run || run.error || !visible(run)) return { x: [], y: [], hoverinfo: "skip" };
  const group = groups[groupOf.get(state.run)];
  return {
    x: [costAt(group)],
    y: [meanAt(group)],
    mode: "markers",
    marker: { symbol: "circle-open", size: 20, color: style("accent"), line: { width: 2.5 } },
    hoverinfo: "skip",
  };
}

// a dashed line at the height of the dense model
function denseLines(shown) {
  const dense = shown.filter((g) => data.series[groups[g].s].kind === "dense");
  const shapes = dense.map((g) => ({
    type: "line", xref: "paper", x0: 0, x1: 1, y0: meanAt(groups[g]), y1: meanAt(groups[g]), layer: "below",
    line: { color: style("muted"), width: 1, dash: "dash" },
  }));
  // several labels would lie above each other; then the stars tell
  const annotations = (dense.length > 1 ? [] : dense).map((g) => ({
    xref: "paper", x: 0, xanchor: "left", y: meanAt(groups[g]), yanchor: "bottom", showarrow: false,
    text: `${inPlot(shorten(seriesName(groups[g].s), 24))} ${figure(meanAt(groups[g]))}`,
    font: { size: 11, color: style("muted") }, bgcolor: style("card"), opacity: 0.85, borderpad: 1,
  }));
  return { shapes, annotations };
}

function costNote(shown) {
  const values = shown.filter((g) => isPruned(groups[g])).map((g) => costAt(groups[g]));
  const key = data.costs[state.cost].key;
  if (key.startsWith("latency")) {
    return "Latency is measured, so it scatters. Zeros under a mask make no dense kernel faster.";
  }
  if (values.length > 1 && new Set(values).size === 1) {
    return `Masked weights stay in their tensors, so all have the same ${data.costs[state.cost].name}: points lie above each other.`;
  }
  if (key === "macs_nonzero") return "MACs non-zero: multiplications by weights that stayed. A dense kernel runs all MACs.";
  return "";
}

// ticks at 1, 2 and 5, or at whole decades where there are many
function logAxis(shown) {
  const values = shown.map((g) => costAt(groups[g])).filter((v) => v > 0);
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.ceil(Math.log10(Math.max(...values)));
  const steps = high - low > 3 ? [1] : [1, 2, 5];
  const tickvals = [];
  for (let k = low; k <= high && tickvals.length < 60; k++) tickvals.push(...steps.map((step) => step * 10 ** k));
  return { type: "log", tickmode: "array", tickvals };
}

function drawTradeoff() {
  const metric = data.metrics[state.metric];
  const cost = data.costs[state.cost];
  if (!metric || !cost) return;
  const shown = groups.map((_, g) => g).filter((g) => visible(groups[g]) && meanAt(groups[g]) !== null && costAt(groups[g]) !== null);
  const lines = linesOf(shown);
  const traces = [
    find("front").checked ? frontTrace(shown) : { x: [], y: [] },
    ...(find("seeds").checked ? lines.map(seedTrace) : []),
    ...lines.map(meanTrace),
    chosenTrace(),
  ];
  const counts = !cost.key.startsWith("latency");
  const layout = layoutOf({
    height: narrow() ? 360 : 480,
    margin: { l: 8, r: 16, t: 28, b: 8 },
    ...denseLines(shown),
    xaxis: {
      title: { text: upper(cost.name) + (cost.unit ? ` (${cost.unit})` : ""), standoff: 8 },
      tickformat: counts ? "~s" : "~g", nticks: narrow() ? 5 : 10, ...(find("log").checked ? logAxis(shown) : {}),
    },
    yaxis: { title: { text: `${inPlot(upper(metric.name))} (${metric.lower ? "less" : "more"} is better)`, standoff: 8 } },
  });
  const box = find("tradeoff-plot");
  box.setAttribute("aria-label", `${metric.name} against ${cost.name}: ${shown.length} means over seeds. All figures are in the table of runs.`);
  find("tradeoff-note").textContent = shown.length ? costNote(shown) : "No run that is shown has both figures.";
  Plotly.react(box, traces, layout, plotOptions("trade-off"));
  if (!box.dataset.listens) {
    box.dataset.listens = "yes";
    box.on("plotly_click", (event) => choose(event.points[0].customdata));
    performance.mark("first-plot");
  }
}

// logarithmic where the costs of what is shown span most of a decade
function suitLog() {
  const values = groups.map(costAt).filter((v) => v !== null);
  const low = Math.min(...values);
  find("log").checked = low > 0 && Math.max(...values) / low > 6;
}

function startTradeoff() {
  fill(find("metric"), data.metrics.map((m, i) => [i, m.name]), state.metric);
  fill(find("cost"), data.costs.map((c, i) => [i, c.name + (c.unit === "ms" ? " (ms)" : "")]), state.cost);
  find("metric").addEventListener("change", (event) => change({ metric: Number(event.target.value) }));
  find("cost").addEventListener("change", (event) => {
    state.cost = Number(event.target.value);
    suitLog();
    change({ cost: state.cost });
  });
  for (const id of ["front", "seeds", "log"]) find(id).addEventListener("change", () => redraw("tradeoff-plot"));
  const choice = find("recovery");
  fill(choice, [[-1, "all"], ...data.recoveries.slice(0, data.choices).map((r, i) => [i, r])], -1);
  choice.closest("label").hidden = !several;
  choice.addEventListener("change", () => change({ recovery: Number(choice.value) }));
  suitLog();
  plot("tradeoff-plot", drawTradeoff);
  onChange(() => redraw("tradeoff-plot"));
}
