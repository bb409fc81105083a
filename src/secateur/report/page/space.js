const data = JSON.parse(document.getElementById("data").textContent);
const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(name).trim();

function layoutOf(x, y, more = {}) {
  const axis = (text) => ({ title: { text, standoff: 8 }, gridcolor: colour("--grid"), linecolor: colour("--line"), zeroline: false });
  return {
    height: 380, margin: { l: 60, r: 20, t: 10, b: 50 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--text") }, xaxis: axis(x), yaxis: axis(y), legend: { orientation: "h", y: 1.08 }, ...more,
  };
}

const options = { responsive: true, displaylogo: false };
const curves = Object.entries(data.distributions).map(([name, [errors, shares]], i) => ({
  x: errors, y: shares, mode: "lines", name: `${name} space`, line: { shape: "hv", color: colour(`--series-${i}`), width: 2.5 },
  hovertemplate: "error %{x:.4g}: %{y:.0%}<extra>%{fullData.name}</extra>",
}));
Plotly.newPlot("distribution-plot", curves, layoutOf("Error", "Share of samples"), options);

const samples = {
  x: data.ratios, y: data.errors, mode: "markers", name: "samples", marker: { color: colour("--series-0"), size: 8 },
  hovertemplate: "ratio %{x:.4g}, error %{y:.4g}<extra></extra>",
};
const line = (x, dash, name) => ({ type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour(name), width: 1.5, dash } });
const band = {
  type: "rect", x0: data.best * (1 - data.width), x1: data.best * (1 + data.width), yref: "paper", y0: 0, y1: 1,
  fillcolor: colour("--front"), line: { width: 0 }, layer: "below",
};
const shapes = [band, line(data.best, "solid", "--accent"), line(data.dense, "dot", "--muted")];
Plotly.newPlot("ratio-plot", [samples], layoutOf("MACs for each parameter", "Error", { shapes }), options);
