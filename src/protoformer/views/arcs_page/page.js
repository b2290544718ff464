"use strict";
// A sentence and one head. All text goes in as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const heads = data.layers.flatMap(([layer, count]) => Array.from({ length: count }, (_, head) => `${layer}-${head + 1}`));
const state = { sentence: 0, head: 0, best: null };
const sentence = () => data.sentences[state.sentence];
const GAP = 36, LEVEL = 26, TIP = 5, WORD = 22;
const pen = document.createElement("canvas").getContext("2d");

function element(tag, text = "", name = "") {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  if (name) node.className = name;
  return node;
}

function drawn(tag, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  return node;
}

// relation between two words of the sentence, in whatever direction
function arcBetween(one, a, b) {
  return one.arcs.find(([dependent, head]) => (dependent === a && head === b) || (dependent === b && head === a));
}

function hits(one, head) {
  let right = 0, all = 0;
  one.attended[head].forEach((key, query) => {
    if (key < 0) return;
    all++;
    if (arcBetween(one, query, key)) right++;
  });
  return all ? right / all : 0;
}

// the lowest level at which each arc crosses none that lies within it
function levels(pairs) {
  const order = pairs.map(([a, b], index) => ({ index, low: Math.min(a, b), high: Math.max(a, b) }));
  order.sort((x, y) => x.high - x.low - (y.high - y.low));
  const result = new Array(pairs.length).fill(1), done = [];
  for (const each of order) {
    const inside = done.filter((other) => other.low < each.high && other.high > each.low);
    result[each.index] = 1 + Math.max(0, ...inside.map((other) => result[other.index]));
    done.push(each);
  }
  return result;
}

function places(one) {
  pen.font = '14px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';
  let x = 24;
  return one.words.map((word) => {
    const wide = Math.max(pen.measureText(word).width, 16), middle = x + wide / 2;
    x += wide + GAP;
    return { middle, wide, end: x };
  });
}

// a bow from x1 to x2 with its tip at x2; `sign` -1 above the baseline, 1 below
function bow(picture, x1, x2, base, height, sign, kind, width, strength) {
  const top = base + sign * height, bend = Math.min(Math.abs(x2 - x1) / 2, 26) * Math.sign(x2 - x1);
  const path = `M${x1} ${base} C${x1} ${top} ${x1} ${top} ${x1 + bend} ${top} L${x2 - bend} ${top} C${x2} ${top} ${x2} ${top} ${x2} ${base + sign * TIP}`;
  const tip = `${x2 - TIP * 0.8},${base + sign * TIP * 1.6} ${x2 + TIP * 0.8},${base + sign * TIP * 1.6} ${x2},${base}`;
  picture.append(drawn("path", { d: path, class: kind, "stroke-width": width, "stroke-opacity": strength }));
  picture.append(drawn("polygon", { points: tip, class: kind, "fill-opacity": strength }));
}

function label(picture, text, x, y, kind) {
  const wide = text.length * 6.2 + 6;
  picture.append(drawn("rect", { x: x - wide / 2, y: y - 8, width: wide, height: 15, class: "plate" }));
  picture.append(drawn("text", { x, y: y + 3.5, "text-anchor": "middle", class: `relation ${kind}` }, text));
}

// where on a word an arc ends: arcs to the left on its left half, so that they do not lie on each other
const dock = (place, other) => place.middle + Math.sign(other.middle - place.middle) * Math.min(place.wide / 4, 9);

function drawSentence() {
  const one = sentence(), at = places(one);
  const gold = one.arcs.map(([dependent, head]) => [head, dependent]), above = levels(gold);
  const attends = one.attended[state.head].map((key, query) => [key, query]).filter(([key]) => key >= 0);
  const below = levels(attends);
  const high = (Math.max(1, ...above) + 0.7) * LEVEL, deep = (Math.max(1, ...below) + 0.7) * LEVEL;
  const width = at.at(-1).end, height = high + deep + 2 * WORD;
  const picture = drawn("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  const labels = [];
  gold.forEach(([head, dependent], index) => {
    const from = dock(at[head], at[dependent]), to = dock(at[dependent], at[head]);
    const meant = state.best === null || [one.arcs[index][2], "any"].includes(data.best[state.best].relation);
    bow(picture, from, to, high, above[index] * LEVEL, -1, "gold", meant ? 1.7 : 1.2, meant ? 1 : 0.35);
    labels.push([one.arcs[index][2], (from + to) / 2, high - above[index] * LEVEL, ""]);
  });
  one.words.forEach((word, index) => {
    const kind = index === one.root ? "root" : "";
    picture.append(drawn("text", { x: at[index].middle, y: high + WORD * 0.95, "text-anchor": "middle", class: kind }, word));
  });
  const base = high + WORD * 1.5;
  attends.forEach(([key, query], index) => {
    const arc = arcBetween(one, query, key), weight = one.weights[state.head][query] / 100;
    const from = dock(at[query], at[key]), to = dock(at[key], at[query]);
    bow(picture, from, to, base, below[index] * LEVEL, 1, arc ? "hit" : "miss", 0.8 + 2.6 * weight, 0.45 + 0.55 * weight);
    if (arc) labels.push([arc[2], (from + to) / 2, base + below[index] * LEVEL, "hit"]);
  });
  for (const each of labels) label(picture, ...each);
  $("picture").replaceChildren(picture);
  const right = attends.filter(([key, query]) => arcBetween(one, query, key)).length;
  $("chosen").textContent = `Head ${heads[state.head]}`;
  $("readout").textContent = `${right} of ${attends.length} words attend most to a word that an arc joins them with`;
}

function drawOverview() {
  const box = $("overview"), most = Math.max(...data.layers.map(([, count]) => count));
  box.style.gridTemplateColumns = `22px repeat(${most}, minmax(14px, 30px))`;
  box.replaceChildren(element("span"), ...Array.from({ length: most }, (_, head) => element("span", `${head + 1}`, "top")));
  let index = 0;
  for (const [layer, count] of data.layers) {
    box.append(element("span", `${layer}`, "row"));
    for (let head = 0; head < most; head++) {
      if (head >= count) { box.append(element("span")); continue; }
      const own = index++, fraction = hits(sentence(), own), cell = element("button", "", "cell");
      cell.style.background = `color-mix(in srgb, var(--w3) ${Math.round(100 * fraction)}%, var(--w0))`;
      cell.dataset.dark = fraction > 0.55 ? "yes" : "no";
      cell.textContent = `${Math.round(100 * fraction)}`;
      cell.setAttribute("aria-label", `head ${heads[own]}`);
      cell.setAttribute("aria-pressed", own === state.head);
      cell.tabIndex = -1;
      cell.addEventListener("click", () => show({ head: own, best: null }));
      box.append(cell);
    }
  }
}

function drawBest() {
  $("statistics").querySelector("tbody").replaceChildren(...data.best.map((each, index) => {
    const row = element("tr");
    row.setAttribute("aria-selected", state.best === index);
    const cells = [each.relation, each.direction, heads[each.head], each.accuracy.toFixed(1), each.offset_accuracy.toFixed(1)];
    row.append(...cells.map((text) => element("td", text)));
    row.addEventListener("click", () => show({ head: each.head, best: index }));
    return row;
  }));
}

function show(changes) {
  Object.assign(state, changes);
  $("sentence").value = `${state.sentence}`;
  drawOverview();
  drawBest();
  drawSentence();
}

const move = (step) => show({ sentence: (state.sentence + step + data.sentences.length) % data.sentences.length });
const turn = (step) => show({ head: (state.head + step + heads.length) % heads.length, best: null });

function nextTheme() {
  const root = document.documentElement, order = ["", "light", "dark"];
  const next = order[(order.indexOf(root.dataset.theme || "") + 1) % 3];
  if (next) root.dataset.theme = next; else delete root.dataset.theme;
}

const ACTIONS = {
  PageUp: () => move(-1), PageDown: () => move(1), ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), t: nextTheme,
};

function start() {
  $("model").textContent = data.model;
  $("treebank").textContent = data.treebank;
  $("note").textContent = data.note;
  $("sentence").replaceChildren(...data.sentences.map((one, index) => {
    const option = element("option", one.words.join(" "));
    option.value = `${index}`;
    return option;
  }));
  $("sentence").addEventListener("change", (event) => show({ sentence: Number(event.target.value) }));
  $("before").addEventListener("click", () => move(-1));
  $("after").addEventListener("click", () => move(1));
  $("theme").addEventListener("click", nextTheme);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.id === "sentence" || !Object.hasOwn(ACTIONS, event.key)) return;
    ACTIONS[event.key]();
    event.preventDefault();
  });
  show(data.best.length ? { head: data.best[0].head, best: 0 } : {});
  document.documentElement.dataset.ready = "yes";
}

start();
