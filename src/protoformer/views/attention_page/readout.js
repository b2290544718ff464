// ---- what is under the pointer

function showReadout() {
  const at = focus(), box = $("readout");
  if (!at) {
    box.replaceChildren(element("span", "Point at a token or a cell to see its weights; click to pin it.", "quiet"));
    return;
  }
  const one = panel(), codes = shownCodes(), columns = one.keys.length;
  const byRow = at.q !== undefined && at.q !== null;
  const token = byRow ? one.queries[at.q] : one.keys[at.k];
  const lead = [element("b", token[0]), element("span", ` (${(byRow ? at.q : at.k) + 1}) `, "quiet")];
  if (token[2] === PADDING) {
    box.replaceChildren(...lead, element("span", "is padding: masked as a query and as a key."));
    return;
  }
  const others = (byRow ? one.keys : one.queries).map((other, number) => {
    const code = byRow ? codes[at.q * columns + number] : other[2] === PADDING ? 0 : codes[number * columns + at.k];
    return [other[0], weight(code), number];
  });
  const top = others.filter(([, value]) => value > 0).sort((a, b) => b[1] - a[1]).slice(0, 8);
  const cell = byRow && at.k !== undefined && at.k !== null ? cellReadout(at) : [element("span", byRow ? (byRollout() ? "draws on " : "attends to ") : byRollout() ? "is drawn on by " : "is attended to by ")];
  box.replaceChildren(...lead, ...cell, ...top.flatMap(([text, value]) => [element("i", `${clipped(text)} ${percent(value)}`), " "]));
}

function cellReadout(at) {
  const one = panel(), index = at.q * one.keys.length + at.k;
  const key = [element("span", "→ "), element("b", clipped(one.keys[at.k][0])), element("span", ` (${at.k + 1}) `, "quiet")];
  if (shownAllowed()[index])
    return [...key, element("b", percent(weight(shownCodes()[index]))), element("span", "; most at ", "quiet")];
  return [...key, element("span", hidden(at.q, at.k) ? "padding, masked; most at " : "masked; most at ", "quiet")];
}

const clipped = (text) => (text.length > 18 ? `${text.slice(0, 17)}…` : text);

function hover(next) {
  if (JSON.stringify(next) === JSON.stringify(state.hover)) return;
  state.hover = next;
  requestAnimationFrame(drawDetail);
}

function inLines(event) {
  const { step, width, label } = geometry.lines, one = panel(), box = $("lines").getBoundingClientRect();
  const x = event.clientX - box.left, at = Math.floor((event.clientY - box.top) / step);
  const isQuery = x < width / 2;
  if (at < 0 || at >= (isQuery ? one.queries : one.keys).length || (x > label + 30 && x < width - label - 30)) return null;
  return isQuery ? { q: at } : { k: at };
}

function inMatrix(event) {
  const g = geometry.matrix, one = panel(), box = $("matrix").getBoundingClientRect();
  const k = Math.floor((event.clientX - box.left - g.x) / g.cell), q = Math.floor((event.clientY - box.top - g.y) / g.cell);
  const column = event.clientX - box.left >= g.left && k >= 0 && k < one.keys.length;
  const row = event.clientY - box.top >= g.top && q >= 0 && q < one.queries.length;
  return row && column ? { q, k } : row ? { q } : column ? { k } : null;
}

// ---- legend and help

function buildLegend() {
  const one = panel(), later = one.allows.some((flags) => flags.some((flag, at) =>
    !flag && !hidden(Math.floor(at / one.keys.length), at % one.keys.length)));
  const pads = [...one.queries, ...one.keys].some((token) => token[2] === PADDING);
  const ramp = element("canvas"), pen = sized(ramp, 120, 10);
  for (let x = 0; x < 120; x++) {
    const c = Math.round((x / 119) * 255);
    pen.fillStyle = `rgb(${colors.ramp.subarray(3 * c, 3 * c + 3).join(",")})`;
    pen.fillRect(x, 0, 1, 10);
  }
  const parts = [labelled(element("span", "0"), ramp, element("span", "100% (square-root scale)"))];
  if (later) parts.push(labelled(swatch(colors.masked, colors.hatch), element("span", "masked: not visible to the query")));
  if (pads) parts.push(labelled(swatch(colors.padding, colors["padding-hatch"]), element("span", "masked: padding")));
  if (one.queries.some((token) => token[1]) || one.keys.some((token) => token[1])) {
    const bar = element("canvas", "", "tip"), tip = sized(bar, 3, 12);
    tip.fillStyle = colors.pair;
    tip.fillRect(0, 0, 3, 12);
    parts.push(labelled(bar, element("span", "second text")));
  }
  $("legend").replaceChildren(...parts);
}

function swatch(ground, line) {
  const canvas = element("canvas"), pen = sized(canvas, 18, 12);
  pen.fillStyle = `rgb(${ground.join(",")})`;
  pen.fillRect(0, 0, 18, 12);
  pen.fillStyle = hatch(pen, line);
  pen.fillRect(0, 0, 18, 12);
  return canvas;
}

function labelled(...parts) {
  const box = element("span");
  box.append(...parts);
  return box;
}

function buildHelp() {
  const row = (first, second) => {
    const line = element("tr"), name = element("td");
    name.append(...first);
    line.append(name, element("td", second));
    return line;
  };
  $("keys").replaceChildren(...KEYS.map(([keys, what]) =>
    row(keys.split(" ").flatMap((key) => [element("kbd", key), element("span", " ")]), what)));
  const all = "Each is a mean over the queries of the text, without padding.";
  $("meanings").replaceChildren(...COLUMNS.map(([, title, , meaning]) => row([element("span", title)], meaning)), row([], all),
    ...COLORINGS.map(([, title, meaning]) => row([element("span", title)], meaning)));
  $("note").textContent = `Weights are quantised to one byte, with an error of at most 0.004. ${data.note}`;
}

