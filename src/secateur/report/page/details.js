// Everything that is known of one run, and the command that makes it again.

let cameFrom = null;

function choose(r) {
  if (r === undefined || r === null) return;
  if (find("details").hidden) cameFrom = document.activeElement;
  change({ run: r });
}

function closeDetails() {
  change({ run: null });
  if (cameFrom && cameFrom.isConnected) cameFrom.focus({ preventScroll: true });
  cameFrom = null;
}

// by the clipboard of the browser, or by a selection where a page from a file has none
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { class: "away", readonly: true });
    area.value = text;
    find("details").append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function commandBlock(command) {
  if (command === null) {
    return make("p", { class: "quiet" }, "It ran from Python objects, so no command makes it again: repeat it with the recipe below.");
  }
  const button = make("button", { type: "button", class: "small", id: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    const done = await copyText(command);
    button.textContent = done ? "Copied" : "Copy failed";
    find("said").textContent = done ? "command copied" : "the command could not be copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return make("div", { class: "command" }, make("pre", { tabindex: "0" }, make("code", {}, command)), button);
}

function pairsList(pairs) {
  const known = pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return make("dl", { class: "pairs" }, ...known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function jsonBlock(title, value, open = false) {
  if (value === undefined || value === null || value === "") return null;
  const body = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  return make("details", { open }, make("summary", {}, title), make("pre", { tabindex: "0" }, body));
}

function seedButtons(r) {
  const group = groups[groupOf.get(r)];
  if (!group || group.runs.length < 2) return null;
  const buttons = group.runs.map((other) => make("button", {
    type: "button", class: "small", "aria-pressed": String(other === r), onclick: () => choose(other),
  }, String(runs[other].seed)));
  return make("div", { class: "seeds", role: "group", "aria-label": "Seed" }, make("span", {}, "Seed"), ...buttons);
}

function figuresOf(run) {
  const fact = run.f;
  const before = fact.train_steps_before ? ` (and ${human(fact.train_steps_before)} of the dense start)` : "";
  return pairsList([
    ...data.metrics.map((metric, i) => [metric.name, figure(run.m[i])]),
    ["sparsity", fact.real_sparsity === undefined ? "" : `${percent(fact.real_sparsity)} of the prunable weights`],
    ["zeros", fact.sparsity_all === undefined ? "" : `${percent(fact.sparsity_all)} of all parameters`],
    ...data.costs.map((cost, i) => [cost.name, withUnit(run.c[i], cost)]),
    ["training steps", fact.train_steps === undefined ? "" : human(fact.train_steps) + before],
    ["training MACs", human(fact.train_macs)],
    ["processor time", fact.cpu_seconds === undefined ? "" : `${digits(fact.cpu_seconds, 3)} s`],
    ["structure", data.series[run.s].structure],
    ["recovery", data.series[run.s].kind === "pruned" ? data.recoveries[run.r] : ""],
    ["settings from", { defaults: "the paper", given: "whoever ran it" }[run.tuned] ?? run.tuned],
  ]);
}

function showDetails() {
  const panel = find("details");
  const run = state.run === null ? null : runs[state.run];
  panel.hidden = run === null;
  document.body.classList.toggle("with-details", run !== null);
  if (run === null) return;
  const about = Object.fromEntries(Object.entries(run.about).map(([key, at]) => [key, data.texts[at]]));
  find("details-title").textContent = runName(run);
  const link = run.link === null ? null : make("p", {}, make("a", { href: run.link }, "Folder of the saved result"));
  find("details-body").replaceChildren(
    ...[
      seedButtons(state.run),
      run.error ? make("pre", { class: "error", tabindex: "0" }, run.error) : null,
      figuresOf(run),
      make("h3", {}, "Make it again"),
      commandBlock(run.cmd),
      link,
      jsonBlock("Settings", about.settings),
      jsonBlock("Recipe", about.recipe),
      jsonBlock("Training", about.training),
      jsonBlock("Versions", about.versions && { ...about.versions, date: about.date }),
      make("p", { class: "quiet" }, `${data.sources[data.series[run.s].source]} / ${run.name}`),
    ].filter((node) => node !== null),
  );
}

function startDetails() {
  find("close").addEventListener("click", closeDetails);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !find("details").hidden) closeDetails();
  });
  onChange((what) => {
    if (!("run" in what)) return;
    const fresh = find("details").hidden;
    showDetails();
    if (fresh && state.run !== null) find("details-title").focus({ preventScroll: true });
  });
}
