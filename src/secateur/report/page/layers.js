// Which layers each method empties: rows are methods at a sparsity, columns are layers in the order of the network.

function rowsOfLayers() {
  const target = find("layers-sparsity").value;
  const recovery = find("layers-recovery").value;
  return data.layers.rows.filter(({ g }) => {
    const group = groups[g];
    return (target === "all" || String(group.p) === target) && (recovery === "-1" || String(group.r) === recovery);
  });
}

// axis texts by position: cut names may be alike, positions are not
function ticks(names, most, many) {
  const every = Math.ceil(names.length / many);
  const at = names.map((_, i) => i).filter((i) => i % every === 0);
  return { tickmode: "array", tickvals: at, ticktext: at.map((i) => inPlot(shorten(names[i], most))) };
}

const heatBar = (title) => ({
  title: { text: title, side: "top", font: { size: 12 } }, orientation: "h", thickness: 10, len: narrow() ? 0.9 : 0.4,
  x: 0, xanchor: "left", y: 1, yanchor: "bottom", ypad: 8, xpad: 0, outlinewidth: 0, tickformat: ".0%", nticks: 5,
});

// black or white on each cell, whichever reads better; plotly's own choice is too faint on the middle of the scale
function cellTexts(values, textOf) {
  const cells = values.flatMap((row, i) => row.map((v, j) => [i, j, v])).filter(([, , v]) => v !== null);
  return [[(v) => v < 0.47, "#ffffff"], [(v) => v >= 0.47, "#000000"]].map(([fits, color]) => {
    const inside = cells.filter(([, , v]) => fits(v));
    return {
      x: inside.map(([, j]) => j), y: inside.map(([i]) => i), text: inside.map(([i, j]) => textOf(i, j)),
      mode: "text", textfont: { size: narrow() ? 10 : 11.5, color }, hoverinfo: "skip",
    };
  });
}

function drawLayers() {
  const names = data.layers.names;
  const rows = rowsOfLayers();
  const both = several && find("layers-recovery").value === "-1";
  const labels = rows.map(({ g }) => {
    const { s, r, p } = groups[g];
    return `${seriesName(s)}${both ? ` + ${data.recoveries[r]}` : ""} · ${targetName(p)}`;
  });
  const small = narrow();
  const trace = {
    type: "heatmap",
    z: rows.map((row) => row.v),
    x: names.map((_, i) => i),
    y: rows.map((_, i) => i),
    zmin: 0, zmax: 1, colorscale: "Cividis", xgap: 1, ygap: 1,
    hoverinfo: "text",
    hovertext: rows.map((row, i) => row.v.map((v, j) => `<b>${inPlot(names[j])}</b><br>${inPlot(labels[i])}<br>${v === null ? "not pruned" : `${percent(v)} removed`}`)),
    colorbar: heatBar("share of the layer that is removed"),
  };
  const written = names.length <= (small ? 5 : 14) && rows.length <= 60;
  const words = written ? cellTexts(trace.z, (i, j) => digits(100 * trace.z[i][j], 3)) : [];
  const layout = layoutOf({
    height: 120 + Math.max(1, rows.length) * (rows.length > 40 ? 15 : 24) + (small ? 30 : 20),
    margin: { l: 8, r: 12, t: 20, b: 8 },
    xaxis: { ...ticks(names, small ? 12 : 22, small ? 10 : 40), tickangle: names.length > (small ? 3 : 8) ? -45 : 0, range: [-0.5, names.length - 0.5], showgrid: false, ticks: "" },
    yaxis: { ...ticks(labels, small ? 18 : 40, 200), range: [rows.length - 0.5, -0.5], showgrid: false, ticks: "" },
  });
  if (rows.length > 40) layout.yaxis.tickfont = { size: 10 };
  const box = find("layers-plot");
  box.setAttribute("aria-label", `Share removed in each of ${names.length} layers, for ${rows.length} methods and sparsities.`);
  Plotly.react(box, [trace, ...words], layout, plotOptions("layers"));
}

function startLayers() {
  if (!data.layers.rows.length || !data.layers.names.length) return absent("layers", "No saved result tells what it removed from each layer.");
  const targets = [...new Set(data.layers.rows.map(({ g }) => groups[g].p))].sort((a, b) => a - b);
  const many = data.layers.rows.length > 30;
  fill(find("layers-sparsity"), [["all", "all"], ...targets.map((p) => [String(p), targetName(p)])], many ? String(targets.at(-1)) : "all");
  recoveryChoice("layers-recovery", new Set(data.layers.rows.map(({ g }) => groups[g].r)), () => redraw("layers-plot"));
  if (narrow() && several) find("layers-recovery").selectedIndex = 1; // long labels leave no room for cells
  find("layers-sparsity").addEventListener("change", () => redraw("layers-plot"));
  plot("layers-plot", drawLayers);
  onChange((what) => what.theme && redraw("layers-plot"));
}

// a select of recoveries, hidden where there is one
function recoveryChoice(id, present, listener, all = true) {
  const pairs = [...present].sort((a, b) => a - b).map((r) => [r, data.recoveries[r]]);
  const select = find(id);
  fill(select, all ? [[-1, "all"], ...pairs] : pairs);
  select.closest("label").hidden = pairs.length < 2;
  select.addEventListener("change", listener);
}

function absent(section, why) {
  const body = find(section).querySelector(".body");
  body.replaceChildren(make("p", { class: "empty" }, why));
}
