// The legend, which is also the filter of methods; then everything in its order, the table before the plots.

function legendOf(box) {
  const draw = () => {
    const buttons = data.series.map((series, s) => make("button", {
      type: "button", class: "chip", "aria-pressed": String(!state.hidden.has(s)), title: "show or hide",
      onclick: () => {
        const hidden = new Set(state.hidden);
        if (!hidden.delete(s)) hidden.add(s);
        change({ hidden, legend: s });
      },
    }, swatch(s), make("span", {}, series.name)));
    const keys = several ? data.recoveries.slice(0, data.choices).map((name, i) => make("span", { class: "key" }, dashSample(i), name)) : [];
    const held = [...box.querySelectorAll("button")].indexOf(document.activeElement);
    box.replaceChildren(...buttons, ...keys);
    if (held >= 0) buttons[held].focus();
  };
  draw();
  onChange((what) => (what.theme || "legend" in what) && draw());
}

function dashSample(i) {
  const pattern = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "11 4" }[DASHES[i % DASHES.length]];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("width", 34);
  svg.setAttribute("height", 10);
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", "M1 5h32");
  line.setAttribute("stroke", "currentColor");
  line.setAttribute("stroke-width", 2);
  line.setAttribute("stroke-dasharray", pattern);
  svg.append(line);
  return svg;
}

startTheme();
startDetails();
startTable();
document.querySelectorAll(".legend").forEach(legendOf);
// plotly comes behind this script, so that the table need not wait for it
addEventListener("DOMContentLoaded", () => {
  if (data.metrics.length && data.costs.length && groups.length) startTradeoff();
  else absent("tradeoff", "No run has a metric yet.");
  startLayers();
  startOverlap();
  startCurves();
});
addEventListener("beforeprint", drawAll);
let wasNarrow = narrow();
addEventListener("resize", () => {
  if (wasNarrow === narrow()) return;
  wasNarrow = narrow();
  redraw();
});
window.secateurReport = { data, state, pareto };
