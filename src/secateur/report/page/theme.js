// Light and dark, and what plots take from the page's style.

const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "x", "pentagon"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const COLOURS = 9;
const darkByDefault = matchMedia("(prefers-color-scheme: dark)");
const narrow = () => innerWidth < 640;

const isDark = () => (document.documentElement.dataset.theme || (darkByDefault.matches ? "dark" : "light")) === "dark";
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// the first methods differ in colour and symbol; beyond nine the pairs of both do
function lookOf(s) {
  const at = pruned.indexOf(s);
  if (at < 0) return { colour: style("muted"), symbol: data.series[s].kind === "dense" ? "star" : "hexagram" };
  const turn = Math.floor(at / COLOURS);
  return { colour: style(`series-${at % COLOURS}`), symbol: SYMBOLS[(at + turn) % SYMBOLS.length] };
}

function startTheme() {
  const button = find("theme");
  const tell = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    document.querySelector("meta[name=theme-color]").content = style("ground");
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    tell();
    change({ theme: true });
  });
  darkByDefault.addEventListener("change", () => {
    tell();
    change({ theme: true });
  });
  tell();
}

// the layout that all plots share
function layoutOf(more) {
  const axis = {
    gridcolor: style("grid"), zeroline: false, linecolor: style("line"), ticks: "outside", tickcolor: style("line"),
    ticklen: 4, automargin: true, title: { standoff: 8 },
  };
  return {
    font: { family: style("font"), size: narrow() ? 11 : 13, color: style("text") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false,
    hovermode: "closest",
    dragmode: narrow() ? false : "zoom",
    margin: { l: 8, r: 12, t: 12, b: 8 },
    hoverlabel: {
      bgcolor: style("card"), bordercolor: style("line"), align: "left",
      font: { family: style("font"), color: style("text"), size: 13 },
    },
    ...more,
    xaxis: { ...axis, ...more.xaxis },
    yaxis: { ...axis, ...more.yaxis },
  };
}

const plotOptions = (name) => ({
  displaylogo: false,
  responsive: true,
  displayModeBar: narrow() ? false : "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  toImageButtonOptions: { format: "svg", filename: name },
});

// a plot draws when it comes near the screen, and again when something that it shows changes
const plots = new Map();

function plot(id, draw) {
  const entry = { draw, drawn: false };
  plots.set(id, entry);
  const watch = new IntersectionObserver((seen) => {
    if (!seen.some((s) => s.isIntersecting)) return;
    watch.disconnect();
    entry.drawn = true;
    draw();
  }, { rootMargin: "200px" });
  watch.observe(find(id));
}

function redraw(...ids) {
  for (const id of ids.length ? ids : plots.keys()) {
    const entry = plots.get(id);
    if (entry && entry.drawn) entry.draw();
  }
}

function drawAll() {
  for (const entry of plots.values()) {
    entry.drawn = true;
    entry.draw();
  }
}
