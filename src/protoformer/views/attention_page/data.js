"use strict";
// One panel at a time: an overview of its heads, one head in detail. All text goes in as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const COLUMNS = [
  ["entropy", "entropy", "bits", "How spread out the weights are: 0 bits on one token, log2 n equally on n tokens."],
  ["distance", "distance", "tokens", "The mean distance to the attended tokens."],
  ["special", "special", "fraction", "The weight on special tokens, such as [SEP], where many heads put it when they do nothing."],
  ["first", "first", "fraction", "The weight on the first token."],
  ["current", "current", "fraction", "The weight of a token on itself."],
  ["previous", "previous", "fraction", "The weight on the token just before."],
  ["next", "next", "fraction", "The weight on the token just after; 0 where the mask hides what comes later."],
];
const KEYS = [
  ["← → ↑ ↓", "neighbouring head or layer"],
  ["Home End", "first and last head of the layer"],
  ["Shift ↑ ↓", "pin the previous or next token"],
  ["click", "pin a token; Escape releases it"],
  ["[ ]", "another kind of attention, where there are several"],
  ["c", "colour the tokens by attention, attention rollout or integrated gradients"],
  ["z", "zoom the matrix, so that every token has its label"],
  ["t", "light, dark, or as the system is"],
  ["Tab Enter", "move between the controls"],
  ["?", "this page"],
];
const SPECIAL = 1, PADDING = 2;
const state = { panel: 0, layer: 0, head: 0, hover: null, pin: null, zoom: false, sort: null, down: false,
  coloring: "attention" };
let panels = [], colors = {}, geometry = {};

// ---- data

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new DecompressionStream("deflate"), writer = stream.writable.getWriter();
  writer.write(bytes);
  writer.close();
  return new Uint8Array(await new Response(stream.readable).arrayBuffer());
}

async function read(raw) {
  const [weights, ...masks] = await Promise.all([raw.weights, ...raw.masks].map(inflate));
  const size = raw.queries.length * raw.keys.length;
  const flagsOf = (bits) => {
    const flags = new Uint8Array(size);
    for (let i = 0; i < size; i++) flags[i] = (bits[i >> 3] >> (7 - (i & 7))) & 1;
    return flags;
  };
  const rollout = raw.rollout && { codes: await inflate(raw.rollout.weights), allowed: flagsOf(await inflate(raw.rollout.mask)) };
  return { ...raw, size, codes: weights, allows: masks.map(flagsOf), rollout };
}

const panel = () => panels[state.panel];
const codesOf = (layer, head) => {
  const one = panel(), at = (layer * one.heads + head) * one.size;
  return one.codes.subarray(at, at + one.size);
};
const allowedIn = (layer) => panel().allows[panel().mask_index[layer]];
// what is shown in detail: the chosen head, or the rollout up to its layer
const byRollout = () => state.coloring === "rollout" && panel().rollout !== null;
const shownCodes = () => {
  const one = panel();
  return byRollout() ? one.rollout.codes.subarray(state.layer * one.size, (state.layer + 1) * one.size) : codesOf(state.layer, state.head);
};
const shownAllowed = () => (byRollout() ? panel().rollout.allowed : allowedIn(state.layer));
const weight = (code) => (code / 255) ** 2;
const percent = (value) => `${(100 * value).toFixed(value >= 0.0995 ? 0 : 1)}%`;
const hidden = (q, k) => panel().queries[q][2] === PADDING || panel().keys[k][2] === PADDING;

// ---- colours and canvases

function hex(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

function readColors() {
  const css = getComputedStyle(document.documentElement);
  const stops = ["--w0", "--w1", "--w2", "--w3", "--w4"].map(hex);
  const ramp = new Uint8ClampedArray(256 * 3);
  for (let code = 0; code < 256; code++) {
    const index = Math.min((code / 255) * 4, 3.999), low = Math.floor(index), fraction = index - low;
    for (let c = 0; c < 3; c++) ramp[3 * code + c] = stops[low][c] * (1 - fraction) + stops[low + 1][c] * fraction;
  }
  colors = { ramp, masked: hex("--masked"), padding: hex("--padding"), signed: ["--card", "--positive", "--negative"].map(hex) };
  for (const name of ["ink", "quiet", "faint", "accent", "second", "edge", "card", "pair", "hatch", "padding-hatch", "bar", "line"])
    colors[name] = css.getPropertyValue(`--${name}`).trim();
}

function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

function hatch(pen, color) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const inside = tile.getContext("2d");
  inside.strokeStyle = color;
  inside.lineWidth = 1;
  inside.beginPath();
  for (const at of [-3, 3, 9]) { inside.moveTo(at - 4, 7); inside.lineTo(at + 4, -1); }
  inside.stroke();
  return pen.createPattern(tile, "repeat");
}

function picture(codes, allowed, most) {
  const one = panel();
  const rows = one.queries.length, columns = one.keys.length;
  const step = Math.max(1, Math.ceil(Math.max(rows, columns) / most));
  const high = Math.ceil(rows / step), wide = Math.ceil(columns / step);
  const image = new ImageData(wide, high);
  for (let y = 0; y < high; y++) for (let x = 0; x < wide; x++) {
    let top = -1, pads = true;  // the maximum of the cells that become this one
    for (let q = y * step; q < Math.min(rows, (y + 1) * step); q++)
      for (let k = x * step; k < Math.min(columns, (x + 1) * step); k++) {
        if (allowed[q * columns + k]) top = Math.max(top, codes[q * columns + k]);
        pads = pads && hidden(q, k);
      }
    const from = top < 0 ? (pads ? colors.padding : colors.masked) : colors.ramp.subarray(3 * top, 3 * top + 3);
    image.data.set([from[0], from[1], from[2], 255], 4 * (y * wide + x));
  }
  const canvas = document.createElement("canvas");
  canvas.width = wide;
  canvas.height = high;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function ellipsized(pen, text, space) {
  if (pen.measureText(text).width <= space) return text;
  let low = 0, high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pen.measureText(`${text.slice(0, middle)}…`).width <= space) low = middle; else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

const inkOf = (token) => (token[2] === PADDING ? colors.faint : token[2] === SPECIAL ? colors.quiet : colors.ink);

function element(tag, text = "", name = "") {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  if (name) node.className = name;
  return node;
}

