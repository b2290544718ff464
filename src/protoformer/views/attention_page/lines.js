// ---- lines from token to token

const LINES = 600;  // drawn at once, at most

function drawLines() {
  const one = panel(), box = $("lines"), rows = Math.max(one.queries.length, one.keys.length);
  const width = box.parentElement.clientWidth - 24, ratio = window.devicePixelRatio || 1;
  const step = Math.min(rows <= 32 ? 22 : rows <= 64 ? 17 : 14, 16000 / ratio / rows);
  const pen = sized(box, width, rows * step + 2);
  pen.font = `${Math.min(13, step - 3)}px ${getComputedStyle(document.body).fontFamily}`;
  const wide = Math.max(...[...one.queries, ...one.keys].map((token) => pen.measureText(token[0]).width));
  const label = Math.min(130, width * 0.34, Math.max(56, Math.ceil(wide) + 16));
  geometry.lines = { step, width, label };
  pen.textBaseline = "middle";
  strokes(pen, step, label + 8, width - label - 8);
  one.queries.forEach((token, q) => writeEnd(pen, token, q, step, label, true));
  one.keys.forEach((token, k) => writeEnd(pen, token, k, step, label, false));
}

function strokes(pen, step, left, right) {
  const one = panel(), codes = shownCodes(), allowed = shownAllowed();
  const columns = one.keys.length, least = focus() ? 1 : leastDrawn(codes), buckets = new Map();
  for (let q = 0; q < one.queries.length; q++) for (let k = 0; k < columns; k++) {
    const code = codes[q * columns + k];
    if (code < least || !allowed[q * columns + k] || !inFocus(q, k)) continue;
    const bucket = Math.ceil(code / 12);
    if (!buckets.has(bucket)) buckets.set(bucket, new Path2D());
    const path = buckets.get(bucket);
    path.moveTo(left, (q + 0.5) * step);
    path.lineTo(right, (k + 0.5) * step);
  }
  for (const [bucket, path] of [...buckets].sort((a, b) => a[0] - b[0])) {
    const value = weight(Math.min(255, bucket * 12 - 6));
    pen.strokeStyle = `rgba(${colors.line}, ${Math.min(1, Math.max(0.035, value ** 0.8) + (focus() ? 0.12 : 0))})`;
    pen.lineWidth = (0.9 + 2.2 * value) * Math.min(1, step / 22);
    pen.stroke(path);
  }
}

// Only the strongest lines are drawn, so that a long text stays readable; all ties with the last one are drawn too.
function leastDrawn(codes) {
  const counts = new Uint32Array(256);
  for (const code of codes) counts[code]++;
  let drawn = 0, least = 255;
  for (; least > 1 && drawn + counts[least] <= LINES; least--) drawn += counts[least];
  return Math.max(1, drawn ? least + 1 : least);
}

function inFocus(q, k) {
  const at = focus();
  if (!at) return true;
  return at.q !== undefined && at.q !== null ? q === at.q : k === at.k;
}

function writeEnd(pen, token, at, step, label, isQuery) {
  const width = geometry.lines.width, left = isQuery ? 0 : width - label, active = focus();
  const isFocus = active && (isQuery ? active.q === at : active.k === at && (active.q ?? null) === null);
  const value = active && !isFocus ? weightIn(active, at, isQuery) : 0;
  if (value > 0) {
    pen.fillStyle = `rgba(${colors.line}, ${0.1 + 0.5 * Math.sqrt(value)})`;
    const long = Math.max(3, label * Math.sqrt(value));
    pen.fillRect(isQuery ? label - long : left, at * step + 1, long, step - 2);
  }
  if (isFocus) {
    pen.fillStyle = colors.second;
    pen.fillRect(left, at * step, label, step - 1);
  }
  if (token[1]) {
    pen.fillStyle = colors.pair;
    pen.fillRect(isQuery ? 0 : width - 2, at * step, 2, step);
  }
  pen.fillStyle = isFocus ? colors.card : inkOf(token);
  pen.textAlign = isQuery ? "right" : "left";
  pen.fillText(ellipsized(pen, token[0], label - 14), isQuery ? label - 6 : left + 6, (at + 0.5) * step);
}

function weightIn(active, at, isQuery) {
  const one = panel(), codes = shownCodes(), columns = one.keys.length;
  const row = active.q ?? null;
  if (row !== null) return isQuery ? 0 : weight(codes[row * columns + at]);
  return isQuery && one.queries[at][2] !== PADDING ? weight(codes[at * columns + active.k]) : 0;
}
