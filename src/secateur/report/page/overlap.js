// How alike the masks of two methods are, beside what chance would give.

function matrixShown() {
  const target = find("overlap-sparsity").value;
  const recovery = Number(find("overlap-recovery").value);
  const fitting = data.overlap.filter((m) => `${m.source}|${m.p}` === target);
  return fitting.find((m) => m.r === recovery) || fitting[0];
}

function drawOverlap() {
  const matrix = matrixShown();
  const names = matrix.groups.map((g) => seriesName(groups[g].s));
  const small = narrow();
  const cell = (i, j) => {
    const chance = matrix.chance[i][j].toFixed(2);
    return `<b>${matrix.iou[i][j].toFixed(2)}</b><br>${names.length > (small ? 2 : 8) ? "" : "chance "}${chance}`;
  };
  const hover = (i, j) => {
    const pair = `<b>${inPlot(names[i])}</b><br><b>${inPlot(names[j])}</b>`;
    if (i === j) return `<b>${inPlot(names[i])}</b><br>the same mask`;
    if (matrix.iou[i][j] === null) return `${pair}<br>no seed in common`;
    return `${pair}<br>intersection over union ${figure(matrix.iou[i][j])}<br>by chance ${figure(matrix.chance[i][j])}`;
  };
  const table = (value) => names.map((_, i) => names.map((__, j) => value(i, j)));
  const trace = {
    type: "heatmap",
    z: table((i, j) => (i === j ? null : matrix.iou[i][j])),
    x: names.map((_, i) => i), y: names.map((_, i) => i),
    zmin: 0, zmax: 1, colorscale: "Cividis", xgap: 2, ygap: 2,
    hoverinfo: "text", hovertext: table(hover),
    colorbar: { ...heatBar("intersection over union of what is kept"), tickformat: ".1f" },
  };
  const words = names.length <= (small ? 4 : 12) ? cellTexts(trace.z, cell) : [];
  const most = small ? 14 : 26;
  const layout = layoutOf({
    height: Math.min(760, 190 + names.length * (small ? 52 : 58)),
    margin: { l: 8, r: 12, t: 20, b: 8 },
    xaxis: { ...ticks(names, most, 60), range: [-0.5, names.length - 0.5], showgrid: false, ticks: "", tickangle: names.length > (small ? 2 : 4) ? -40 : 0 },
    yaxis: { ...ticks(names, most, 60), showgrid: false, ticks: "", range: [names.length - 0.5, -0.5] },
  });
  const box = find("overlap-plot");
  box.setAttribute("aria-label", `Overlap of the masks of ${names.length} methods at ${targetName(matrix.p)}.`);
  const limited = matrix.seeds < matrix.of ? ` Only the first ${matrix.seeds} of ${matrix.of} seeds were compared, because there are so many weights.` : "";
  find("overlap-note").textContent = `Means over ${matrix.seeds === 1 ? "one seed" : `${matrix.seeds} seeds`}, masks of the same seed against each other.${limited}`;
  Plotly.react(box, [trace, ...words], layout, plotOptions("overlap"));
}

function startOverlap() {
  if (!data.overlap.length) return absent("overlap", "Two methods with saved masks at the same sparsity are needed.");
  for (const matrix of data.overlap) matrix.source = data.series[groups[matrix.groups[0]].s].source;
  const targets = new Map(data.overlap.map((m) => [`${m.source}|${m.p}`, targetName(m.p) + (data.sources.length > 1 ? ` · ${data.sources[m.source]}` : "")]));
  fill(find("overlap-sparsity"), [...targets], [...targets.keys()].at(-1));
  recoveryChoice("overlap-recovery", new Set(data.overlap.map((m) => m.r)), () => redraw("overlap-plot"), false);
  find("overlap-sparsity").addEventListener("change", () => redraw("overlap-plot"));
  plot("overlap-plot", drawOverlap);
  onChange((what) => what.theme && redraw("overlap-plot"));
}
