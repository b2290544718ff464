// ---- keys, panels, start

function openPanel(number) {
  Object.assign(state, { panel: (number + panels.length) % panels.length, hover: null, pin: null });
  for (const [at, tab] of [...$("panels").children].entries()) tab.setAttribute("aria-selected", at === state.panel);
  const one = panel();
  $("from").textContent = one.cross_attention ? "queries: target (each produces the next)" : "queries";
  $("to").textContent = one.cross_attention ? "keys: source" : "keys";
  if (!one.statistics[state.sort]) state.sort = null;
  buildOverview();
  drawOverview();
  buildStatistics();
  buildLegend();
  buildColoring();
  buildTokens();
  choose(state.layer, state.head);
}

function pinNeighbour(step) {
  const at = state.pin || state.hover, count = panel().queries.length;
  const q = at && (at.q ?? null) !== null ? at.q + step : step > 0 ? 0 : count - 1;
  Object.assign(state, { pin: { q: Math.max(0, Math.min(count - 1, q)) }, hover: null });
  drawDetail();
}

function nextTheme() {
  const root = document.documentElement, order = ["", "light", "dark"];
  const next = order[(order.indexOf(root.dataset.theme || "") + 1) % 3];
  if (next) root.dataset.theme = next; else delete root.dataset.theme;
  $("theme").textContent = next ? { light: "Light", dark: "Dark" }[next] : "Theme";
  redraw();
}

function redraw() {
  readColors();
  drawOverview();
  buildLegend();
  buildTokensLegend();
  drawHead();
}

function zoom() {
  state.zoom = !state.zoom;
  drawMatrix();
}

const ACTIONS = {
  ArrowUp: (event) => (event.shiftKey ? pinNeighbour(-1) : choose(state.layer - 1, state.head)),
  ArrowDown: (event) => (event.shiftKey ? pinNeighbour(1) : choose(state.layer + 1, state.head)),
  ArrowLeft: () => choose(state.layer, state.head - 1),
  ArrowRight: () => choose(state.layer, state.head + 1),
  Home: () => choose(state.layer, 0),
  End: () => choose(state.layer, panel().heads - 1),
  Escape: () => { Object.assign(state, { hover: null, pin: null }); drawDetail(); },
  "?": () => $("help").showModal(),
  "[": () => openPanel(state.panel - 1),
  "]": () => openPanel(state.panel + 1),
  c: nextColoring,
  t: nextTheme,
  z: () => { if (!$("zoom").hidden) zoom(); },
};

function listen() {
  document.addEventListener("keydown", (event) => {
    if ($("help").open || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(ACTIONS, event.key)) return;
    ACTIONS[event.key](event);
    event.preventDefault();
  });
  for (const [id, find] of [["lines", inLines], ["matrix", inMatrix]]) {
    $(id).addEventListener("pointermove", (event) => hover(find(event)));
    $(id).addEventListener("pointerleave", () => hover(null));
    $(id).addEventListener("click", (event) => { state.pin = find(event); drawDetail(); });
  }
  $("matrix-box").addEventListener("scroll", () => requestAnimationFrame(drawMatrix));
  window.addEventListener("resize", () => requestAnimationFrame(drawDetail));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  $("ask").addEventListener("click", () => $("help").showModal());
  $("theme").addEventListener("click", nextTheme);
  $("zoom").addEventListener("click", zoom);
}

function buildHeader() {
  $("model").textContent = data.model;
  data.texts.forEach((text, number) => {
    if (number) $("texts").append(element("b", "/"));
    $("texts").append(element("span", text));
  });
  if (data.prediction) $("texts").append(element("b", "→"), element("span", data.prediction));
  if (panels.length > 1) $("panels").replaceChildren(...panels.map((one, number) => {
    const tab = element("button", one.name);
    tab.setAttribute("role", "tab");
    tab.addEventListener("click", () => openPanel(number));
    return tab;
  }));
}

async function start() {
  panels = await Promise.all(data.panels.map(read));
  readColors();
  buildHeader();
  buildHelp();
  const first = Math.max(0, panels.findIndex((one) => one.cross_attention));  // the telling one of a translation
  [state.layer, state.head] = panels[first].opening;
  openPanel(first);
  listen();
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  $("readout").textContent = `This browser cannot show the page (${error.message}); use a newer one.`;
  throw error;
});
