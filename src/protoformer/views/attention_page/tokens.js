// ---- the text, its tokens coloured by one of three measures

const COLORINGS = [
  ["attention", "attention", "Weights of the chosen head: from the pinned token, or the mean over all queries."],
  ["rollout", "attention rollout", "How much of each token a position of this layer draws on, by the mean weights of the heads of all layers up to it and the residual connections (Abnar and Zuidema 2020)."],
  ["gradients", "integrated gradients", "What each token adds to a logit, or takes from it, from a baseline without the text on; the sum is the difference of the two logits (Sundararajan et al. 2017)."],
];

// "" where there is one, else why there is none
function missing(name) {
  const one = panel();
  if (name === "rollout" && !one.rollout) return "this model has attention that no rollout is defined of";
  if (name !== "gradients" || one.attributed) return "";
  return data.gradients.reason || "the tokens of the other text are attributed; see another panel";
}

function buildColoring() {
  if (missing(state.coloring)) state.coloring = "attention";
  $("coloring").replaceChildren(...COLORINGS.map(([name, title, meaning]) => {
    const button = element("button", title), reason = missing(name);
    button.dataset.name = name;
    button.title = reason ? `Not available: ${reason}` : `${meaning} (c)`;
    button.disabled = Boolean(reason);
    button.addEventListener("click", () => setColoring(name));
    return button;
  }));
  markColoring();
}

function markColoring() {
  for (const button of $("coloring").children) button.setAttribute("aria-pressed", button.dataset.name === state.coloring);
  buildTokensLegend();
}

function setColoring(name) {
  state.coloring = name;
  markColoring();
  drawHead();
}

function nextColoring() {
  const names = COLORINGS.map(([name]) => name).filter((name) => !missing(name));
  setColoring(names[(names.indexOf(state.coloring) + 1) % names.length]);
}

// ---- chips

function buildTokens() {
  const one = panel(), self = !one.cross_attention;
  $("tokens").replaceChildren(...one.keys.map((token, at) => {
    const chip = element("button", "", "token"), place = self ? { q: at } : { k: at };
    chip.append(element("span", token[0] || " "), element("small"));
    chip.addEventListener("pointerenter", () => hover(place));
    chip.addEventListener("pointerleave", () => hover(null));
    chip.addEventListener("click", () => { state.pin = place; drawDetail(); });
    return chip;
  }));
}

// Of each key a number, and a sentence about all of them.
function tokenValues() {
  const one = panel(), columns = one.keys.length;
  if (state.coloring === "gradients")
    return { values: one.keys.map((_, at) => data.gradients.values[at] ?? 0), note: gradientsNote() };
  const at = focus(), row = at ? at.q ?? null : null, codes = shownCodes();
  const queries = one.queries.map((_, q) => q).filter((q) => (row === null ? one.queries[q][2] !== PADDING : q === row));
  const values = one.keys.map((_, k) => queries.reduce((sum, q) => sum + weight(codes[q * columns + k]), 0) / queries.length);
  const whose = row === null ? "mean over all queries" : `of “${clipped(one.queries[row][0])}” (${row + 1})`;
  const what = byRollout() ? `Rollout up to layer ${one.layers[state.layer]}` : `Weights of layer ${one.layers[state.layer]}, head ${state.head + 1}`;
  const rest = byRollout() && data.panels.length > 1 && one.name !== "encoder self-attention" ? "; the targets and the sources, in two panels, sum to 100%" : "";
  return { values, note: `${what}, ${whose}${rest}.` };
}

function gradientsNote() {
  const { target, logit, baseline, sum, error, steps } = data.gradients, two = (value) => value.toFixed(2).replace("-", "−");
  return `Logit of ${target}: ${two(logit)}; of the baseline, with zero vectors in place of the tokens of the text: ${two(baseline)}. `
    + `Difference ${two(logit - baseline)}, tokens sum to ${two(sum)}: completeness error ${Number((100 * error).toPrecision(2))}% with ${steps} steps.`;
}

function colorTokens() {
  const one = panel(), { values, note } = tokenValues(), signed = state.coloring === "gradients", at = focus() || {};
  const most = mostOf(values), chips = $("tokens").children;
  const chosen = at.q ?? null, pinned = (place) => (one.cross_attention ? place.k : place.q) ?? null;
  const stop = state.pin ? pinned(state.pin) ?? 0 : 0;
  $("tokens-note").textContent = note;
  for (let k = 0; k < chips.length; k++) {
    const chip = chips[k], token = one.keys[k], pads = token[2] === PADDING;
    const rgb = pads ? colors.padding : signed ? signedColor(values[k] / most) : rampColor(values[k]);
    const shown = signed ? signedText(values[k]) : percent(values[k]);
    chip.style.background = `rgb(${rgb.join(",")})`;
    chip.style.color = pads ? colors.faint : inkOn(rgb);
    chip.lastChild.textContent = signed && !pads ? (values[k] ? shown : "0") : "";
    chip.setAttribute("aria-label", pads ? `${token[0]}, padding` : `${token[0]}, ${shown}`);
    chip.title = pads ? "padding" : shown;
    chip.tabIndex = k === stop ? 0 : -1;
    const marked = k === (one.cross_attention ? at.k ?? null : chosen);
    chip.classList.toggle("chosen", marked);
    chip.setAttribute("aria-pressed", state.pin !== null && k === pinned(state.pin));
    if (marked && state.pin && $("tokens").contains(document.activeElement)) chip.focus({ preventScroll: true });
  }
}

// two significant digits of the largest attribution at least
function signedText(value) {
  const most = mostOf(data.gradients.values), digits = most >= 100 ? 0 : Math.min(9, Math.max(2, 1 - Math.floor(Math.log10(most / 5))));
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
}
const mostOf = (values) => Math.max(1e-12, ...values.map(Math.abs));

function rampColor(value) {
  const code = Math.round(Math.sqrt(Math.min(1, Math.max(0, value))) * 255);
  return [...colors.ramp.subarray(3 * code, 3 * code + 3)];
}

function signedColor(fraction) {
  const [ground, positive, negative] = colors.signed, end = fraction < 0 ? negative : positive, part = Math.min(1, Math.abs(fraction));
  return ground.map((value, c) => Math.round(value * (1 - part) + end[c] * part));
}

// black or white, by which has the larger contrast (WCAG 2)
function inkOn(rgb) {
  const [r, g, b] = rgb.map((value) => (value / 255 <= 0.03928 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return (luminance + 0.05) ** 2 > 0.0525 ? "#000000" : "#ffffff";
}

function buildTokensLegend() {
  const signed = state.coloring === "gradients", bar = element("canvas"), pen = sized(bar, 120, 10);
  for (let x = 0; x < 120; x++) {
    pen.fillStyle = `rgb(${(signed ? signedColor((x / 119) * 2 - 1) : rampColor((x / 119) ** 2)).join(",")})`;
    pen.fillRect(x, 0, 1, 10);
  }
  const most = signed ? signedText(mostOf(data.gradients.values)).slice(1) : "";
  const ends = signed ? [`−${most} lowers the logit`, `+${most} raises it`] : ["0", "100% (square-root scale)"];
  $("tokens-legend").replaceChildren(labelled(element("span", ends[0]), bar, element("span", ends[1])));
}
