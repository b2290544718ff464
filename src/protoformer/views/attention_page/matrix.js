// ---- the matrix

function layOut() {
  const one = panel(), box = $("matrix-box"), rows = one.queries.length, columns = one.keys.length;
  const width = box.parentElement.clientWidth - 24, tall = Math.max(320, window.innerHeight - 300 - Math.min(110, $("tokens-card").offsetHeight));
  const names = Math.min(96, longest(one.queries)), heads = Math.min(96, longest(one.keys));
  const fit = Math.min((width - names - 8) / columns, (tall - heads - 8) / rows, 28);
  const named = fit >= 9, cell = state.zoom && !named ? 13 : named ? Math.floor(fit) : fitSmall(width, tall);
  const labels = named || state.zoom;
  const left = labels ? names + 8 : 30, top = labels ? heads + 8 : 22;
  geometry.matrix = { cell, left, top, labels, width, scrolls: state.zoom && !named, whole: named };
  return { full: [left + columns * cell, top + rows * cell], seen: [width, tall] };
}

function fitSmall(width, tall) {
  const ratio = window.devicePixelRatio || 1, rows = panel().queries.length, columns = panel().keys.length;
  const space = Math.min((width - 32) / columns, (tall - 24) / rows);
  return Math.max(1, Math.floor(space * ratio)) / ratio;
}

function longest(tokens) {
  const pen = $("matrix").getContext("2d");
  pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return Math.ceil(Math.max(...tokens.map((token) => pen.measureText(token[0]).width)));
}

function drawMatrix() {
  const one = panel(), box = $("matrix-box"), { full, seen } = layOut(), g = geometry.matrix;
  const spacer = $("matrix").parentElement;
  const width = Math.min(full[0], seen[0]), height = Math.min(full[1], seen[1]);
  box.style.height = `${height}px`;
  spacer.style.width = `${full[0]}px`;
  spacer.style.height = `${full[1]}px`;
  const pen = sized($("matrix"), width, height);
  const x = g.left - box.scrollLeft, y = g.top - box.scrollTop;
  Object.assign(g, { x, y });
  pen.save();
  pen.beginPath();
  pen.rect(g.left, g.top, width - g.left, height - g.top);
  pen.clip();
  pen.imageSmoothingEnabled = false;
  pen.drawImage(geometry.image, x, y, one.keys.length * g.cell, one.queries.length * g.cell);
  shade(pen, x, y, g.cell);
  grid(pen, x, y, g.cell);
  cross(pen, x, y, g.cell);
  pen.restore();
  pen.strokeStyle = colors.edge;
  pen.strokeRect(g.left - 0.5, g.top - 0.5, width - g.left, height - g.top);
  axis(pen, width, height);
  $("zoom").hidden = g.whole;
  $("zoom").textContent = state.zoom ? "Whole" : "Zoom";
}

function shade(pen, x, y, cell) {
  const one = panel(), allowed = shownAllowed(), columns = one.keys.length;
  const patterns = [hatch(pen, colors.hatch), hatch(pen, colors["padding-hatch"])];
  for (let q = 0; q < one.queries.length; q++) for (let k = 0; k < columns; ) {
    if (allowed[q * columns + k]) { k++; continue; }
    const pads = hidden(q, k);
    let end = k;
    while (end < columns && !allowed[q * columns + end] && hidden(q, end) === pads) end++;
    pen.fillStyle = patterns[pads ? 1 : 0];
    pen.fillRect(x + k * cell, y + q * cell, (end - k) * cell, cell);
    k = end;
  }
}

function grid(pen, x, y, cell) {
  const one = panel(), rows = one.queries.length, columns = one.keys.length;
  pen.strokeStyle = colors.edge;
  pen.lineWidth = 0.5;
  pen.beginPath();
  for (let k = 1; k < columns; k++) if (cell >= 9) { pen.moveTo(x + k * cell, y); pen.lineTo(x + k * cell, y + rows * cell); }
  for (let q = 1; q < rows; q++) if (cell >= 9) { pen.moveTo(x, y + q * cell); pen.lineTo(x + columns * cell, y + q * cell); }
  pen.stroke();
  pen.lineWidth = 1;
}

function cross(pen, x, y, cell) {
  const at = focus(), one = panel();
  if (!at) return;
  pen.strokeStyle = colors.second;
  pen.lineWidth = cell >= 9 ? 2 : 1;
  const side = Math.max(cell, 3);
  if (at.q !== undefined && at.q !== null) pen.strokeRect(x - 1, y + at.q * cell, one.keys.length * cell + 2, side);
  if (at.k !== undefined && at.k !== null) pen.strokeRect(x + at.k * cell, y - 1, side, one.queries.length * cell + 2);
  pen.lineWidth = 1;
}

function axis(pen, width, height) {
  const one = panel(), g = geometry.matrix, at = focus() || {};
  const every = g.labels ? 1 : Math.max(1, Math.ceil(26 / g.cell / 5) * 5);
  const size = g.labels ? Math.min(12, g.cell - 1) : 10;
  pen.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  const put = (tokens, chosen, upright) => tokens.forEach((token, number) => {
    const from = (upright ? g.x : g.y) + (number + 0.5) * g.cell;
    if (from < (upright ? g.left : g.top) || from > (upright ? width : height)) return;
    if (!g.labels && number !== chosen && ((number + 1) % every || from > (upright ? width : height) - 12)) return;
    if (!g.labels && chosen !== undefined && chosen !== null && number !== chosen && Math.abs(number - chosen) * g.cell < 24) return;
    pen.save();
    pen.fillStyle = number === chosen ? colors.second : g.labels ? inkOf(token) : colors.quiet;
    const text = g.labels ? ellipsized(pen, token[0], (upright ? g.top : g.left) - 8) : `${number + 1}`;
    if (upright) { pen.translate(from, g.top - 5); if (g.labels) pen.rotate(-Math.PI / 2); } else pen.translate(g.left - 5, from);
    pen.textAlign = upright ? (g.labels ? "left" : "center") : "right";
    pen.fillText(text, 0, upright && !g.labels ? -6 : 0);
    pen.restore();
  });
  put(one.queries, at.q, false);
  put(one.keys, at.k, true);
}
