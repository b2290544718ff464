// ---- overview

function buildOverview() {
  const one = panel(), box = $("overview"), space = Math.floor(400 / one.heads) - 3;
  const side = Math.max(14, Math.min(58, space));
  box.replaceChildren();
  box.style.gridTemplateColumns = `22px repeat(${one.heads}, ${side}px)`;
  box.append(element("span"), ...Array.from({ length: one.heads }, (_, head) => element("span", `${head + 1}`, "top")));
  one.layers.forEach((number, layer) => {
    box.append(element("span", `${number}`, "row"));
    for (let head = 0; head < one.heads; head++) {
      const cell = element("button", "", "cell");
      cell.style.height = `${side}px`;
      cell.tabIndex = -1;
      cell.setAttribute("aria-label", `layer ${number}, head ${head + 1}`);
      cell.addEventListener("click", () => choose(layer, head));
      box.append(cell);
    }
  });
  $("size").textContent = `${one.layers.length} layers × ${one.heads} heads`;
}

function drawOverview() {
  const one = panel(), cells = $("overview").querySelectorAll(".cell");
  const most = Math.max(16, Math.round(parseFloat(cells[0].style.height) * (window.devicePixelRatio || 1)));
  cells.forEach((cell, at) => cell.replaceChildren(picture(
    codesOf(Math.floor(at / one.heads), at % one.heads), allowedIn(Math.floor(at / one.heads)), most)));
}

// ---- statistics

const shownColumns = () => COLUMNS.filter(([name]) => panel().statistics[name]);
const valueOf = (name, layer, head) => panel().statistics[name][layer][head];

function formatted(unit, value) {
  if (value === null) return "–";
  return unit === "fraction" ? percent(value) : value.toFixed(unit === "bits" ? 2 : 1);
}

function buildStatistics() {
  const head = $("statistics").querySelector("thead tr");
  head.replaceChildren(sorter("head", null, "layer and head"));
  for (const [name, title, , meaning] of shownColumns()) head.append(sorter(title, name, meaning));
  fillStatistics();
}

function sorter(title, name, meaning) {
  const cell = element("th"), button = element("button", title);
  button.title = meaning;
  button.addEventListener("click", () => {
    state.down = state.sort === name ? !state.down : name !== null;
    state.sort = name;
    fillStatistics();
  });
  cell.dataset.name = name || "";
  cell.append(button);
  return cell;
}

function ordered() {
  const one = panel(), heads = [];
  one.layers.forEach((_, layer) => { for (let head = 0; head < one.heads; head++) heads.push([layer, head]); });
  const sign = state.down ? -1 : 1;
  if (state.sort) return heads.sort((a, b) => sign * ((valueOf(state.sort, ...a) ?? -1) - (valueOf(state.sort, ...b) ?? -1)));
  return state.down ? heads.reverse() : heads;
}

function fillStatistics() {
  const one = panel(), columns = shownColumns(), body = $("statistics").querySelector("tbody");
  const top = columns.map(([name, , unit]) => (unit === "fraction" ? 1 : Math.max(1e-9, ...one.statistics[name].flat())));
  for (const cell of $("statistics").querySelectorAll("th"))
    if ((cell.dataset.name || null) === state.sort) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  body.replaceChildren(...ordered().map(([layer, head]) => {
    const row = element("tr");
    row.append(element("td", `${one.layers[layer]}-${head + 1}`));
    columns.forEach(([name, , unit], at) => {
      const value = valueOf(name, layer, head), cell = element("td", formatted(unit, value));
      cell.style.backgroundSize = `${(100 * (value ?? 0)) / top[at]}% 100%`;
      row.append(cell);
    });
    row.dataset.at = `${layer} ${head}`;
    row.addEventListener("click", () => choose(layer, head));
    return row;
  }));
  markChosen();
}

// ---- one head

function choose(layer, head) {
  const one = panel();
  state.layer = Math.max(0, Math.min(one.layers.length - 1, layer));
  state.head = Math.max(0, Math.min(one.heads - 1, head));
  markChosen();
  drawHead();
}

function markChosen() {
  const one = panel(), at = state.layer * one.heads + state.head;
  const focused = $("overview").contains(document.activeElement);
  $("overview").querySelectorAll(".cell").forEach((cell, number) => {
    cell.setAttribute("aria-pressed", number === at);
    cell.tabIndex = number === at ? 0 : -1;
    if (number !== at) return;
    if (focused) cell.focus({ preventScroll: true });
    scrollIntoBox($("overview"), cell, 22);
  });
  for (const row of $("statistics").querySelectorAll("tbody tr")) {
    const chosen = row.dataset.at === `${state.layer} ${state.head}`;
    row.setAttribute("aria-selected", chosen);
    if (chosen) scrollIntoBox($("statistics"), row, 34);
  }
}

// Not by scrollIntoView: that would move the page too, and where Tab goes on from.
function scrollIntoBox(box, cell, above) {
  const outer = box.getBoundingClientRect(), inner = cell.getBoundingClientRect();
  box.scrollTop += Math.min(0, inner.top - outer.top - above) + Math.max(0, inner.bottom - outer.bottom + 6);
  box.scrollLeft += Math.min(0, inner.left - outer.left - 6) + Math.max(0, inner.right - outer.right + 6);
}

function drawHead() {
  const one = panel();
  $("chosen").textContent = byRollout() ? `Rollout up to layer ${one.layers[state.layer]}`
    : `Layer ${one.layers[state.layer]}, head ${state.head + 1}`;
  $("summary").replaceChildren(...(byRollout() ? [rolloutSummary()] : shownColumns().map(summaryOf)));
  geometry.image = picture(shownCodes(), shownAllowed(), Infinity);
  drawDetail();
}

function summaryOf([name, title, unit, meaning]) {
  const pair = element("div"), value = valueOf(name, state.layer, state.head);
  pair.title = meaning;
  const unitWord = unit === "fraction" || value === null ? "" : ` ${unit}`;
  pair.append(element("dt", title), element("dd", formatted(unit, value) + unitWord));
  return pair;
}

function rolloutSummary() {
  const pair = element("div");
  pair.append(element("dt", "all heads averaged; half of each layer is its residual connection"));
  return pair;
}

const focus = () => state.hover || state.pin;

function drawDetail() {
  colorTokens();
  drawLines();
  drawMatrix();
  showReadout();
}
