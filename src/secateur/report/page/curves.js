// Training loss against step: one line for each run.

// a small dense model trains from the start, often so long that it would press the others together
const wanted = (run) => data.series[run.s].kind !== "small" || find("curves-small").checked;

function drawCurves() {
  const target = find("curves-sparsity").value;
  const shown = runs.map((_, r) => r).filter((r) => runs[r].curve && visible(runs[r]) && wanted(runs[r]) && String(runs[r].p) === target);
  const order = shown.sort((a, b) => (a === state.run) - (b === state.run)); // the chosen one on top
  const traces = order.map((r) => {
    const run = runs[r];
    const [steps, losses] = run.curve;
    const { colour } = lookOf(run.s);
    const chosen = r === state.run;
    return {
      x: data.texts[steps], y: losses, mode: "lines", customdata: losses.map(() => r),
      line: { color: colour, width: chosen ? 3.5 : 1.5, dash: DASHES[(several && isPruned(run) ? run.r : 0) % DASHES.length] },
      opacity: chosen || state.run === null ? 1 : 0.75,
      name: inPlot(runName(run)),
      hovertemplate: "step %{x}, loss %{y:.4g}<extra>%{fullData.name}</extra>",
      hoverlabel: { namelength: -1 },
    };
  });
  const layout = layoutOf({
    height: narrow() ? 320 : 400,
    xaxis: { title: { text: "Optimizer step", standoff: 8 } },
    yaxis: { title: { text: "Training loss", standoff: 8 }, type: find("curves-log").checked ? "log" : "linear", tickformat: "~g" },
  });
  const box = find("curves-plot");
  box.setAttribute("aria-label", `Training loss of ${shown.length} runs against the step.`);
  find("curves-note").textContent = shown.length ? `${shown.length} runs, one line for each seed.` : "No run that is shown has a curve at this sparsity.";
  Plotly.react(box, traces, layout, plotOptions("curves"));
  if (!box.dataset.listens) {
    box.dataset.listens = "yes";
    box.on("plotly_click", (event) => choose(event.points[0].customdata));
  }
}

function startCurves() {
  const withCurve = runs.filter((run) => run.curve);
  if (!withCurve.length) return absent("curves", "No run has stored its training loss.");
  const targets = sparsities.filter((p) => withCurve.some((run) => isPruned(run) && run.p === p));
  const pairs = targets.map((p) => [String(p), targetName(p)]);
  if (!targets.includes(null) && withCurve.some((run) => !isPruned(run))) pairs.push(["null", "dense start"]);
  fill(find("curves-sparsity"), pairs, pairs.filter(([, name]) => name !== "dense start").at(-1)?.[0]);
  for (const id of ["curves-sparsity", "curves-log", "curves-small"]) find(id).addEventListener("change", () => redraw("curves-plot"));
  find("curves-small").closest("label").hidden = !withCurve.some((run) => data.series[run.s].kind === "small");
  plot("curves-plot", drawCurves);
  onChange((what) => "metric" in what || "cost" in what || redraw("curves-plot"));
}
