"use strict";
// The trace viewer, 1 of 3: scales, the figures of every trace, and what is worth a first look. The three files are one
// script. Everything from a trace reaches the page by textContent or as a number, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const spelled = new Set(data.spelled);
const PAGE = 50; // traces in the list at once
const STRIP = 60; // cells of a trace's strip
const HITS = 1000; // places in one text that a search marks
const MARKS = { correct: "✓ correct", wrong: "✗ wrong", unparseable: "? no answer", unverified: "– unverified" };
const BY_STUDENT = "written by the student itself"; // the mark of such a trace, and a search for it
const NARROW = window.matchMedia("(max-width: 56rem)"); // as in viewer.css
const $ = (id) => document.getElementById(id);

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

const known = (value) => value !== null && value !== undefined && value !== "";
const shown = (value, digits = 3) => (known(value) ? value.toFixed(digits).replace("-", "−") : "not known");
const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

// Lower case of the same length, so that a place in it is a place in the text.
function fold(text) {
  const lower = text.toLowerCase();
  if (lower.length === text.length) return lower;
  return Array.from(text, (one) => (one.toLowerCase().length === one.length ? one.toLowerCase() : one)).join("");
}

// What a token can be coloured by. `steps` are ends of a scale, the smallest that holds 99 % of the tokens is taken;
// `place` puts a value on it, from -1 to 1.
const SCALES = {
  weight: {
    of: (trace, i) => (Array.isArray(trace.weight) ? trace.weight[i] : trace.weight),
    steps: [1.25, 1.5, 2, 4, 8],
    size: (value) => Math.abs(Math.log2(Math.max(value, 1e-3))),
    ends: (end) => Math.log2(end),
    ticks: (end) => [1 / end, end ** -0.5, 1, end ** 0.5, end],
    place: (value, end) => Math.log2(Math.max(value, 1e-3)) / Math.log2(end),
    unit: "weight in the loss; 1 as in plain fine-tuning (no unit)",
  },
  surprisal: {
    of: (trace, i) => (known(trace.logp[i]) ? -trace.logp[i] : null),
    steps: [1, 2, 4, 8, 16],
    size: (value) => value,
    ends: (end) => end,
    ticks: (end) => [0, end / 4, end / 2, (3 * end) / 4, end],
    place: (value, end) => value / end,
    unit: "surprisal of the student, −log π, in nats",
  },
  gap: {
    of: (trace, i) => (trace.teacher_logp && known(trace.teacher_logp[i]) && known(trace.logp[i])
      ? trace.logp[i] - trace.teacher_logp[i] : null),
    steps: [0.5, 1, 2, 4, 8],
    size: Math.abs,
    ends: (end) => end,
    ticks: (end) => [-end, -end / 2, 0, end / 2, end],
    place: (value, end) => value / end,
    unit: "gap, log π − log μ, in nats; below 0 the student finds it less likely than the teacher",
  },
};

function end(scale) {
  const sizes = [];
  for (const trace of data.traces) {
    for (let i = 0; i < trace.tokens.length; i++) {
      const value = scale.of(trace, i);
      if (known(value)) sizes.push(scale.size(value));
    }
  }
  const most = Float64Array.from(sizes).sort()[Math.floor(0.99 * (sizes.length - 1))] ?? 0;
  return scale.steps.find((step) => scale.ends(step) >= most - 1e-9) ?? scale.steps.at(-1);
}

function texts(trace) {
  const said = trace.tokens.map((piece) => data.pieces[piece]).join("");
  const asked = trace.prompt.map((message) => message[1]).join("\n");
  const writer = trace.by_student ? BY_STUDENT : "";
  return [asked, said, trace.own ? trace.own.text : "", writer, trace.id, trace.prompt_id].join("\n");
}

for (const scale of Object.values(SCALES)) scale.end = end(scale);
data.traces.forEach((trace, index) => {
  trace.index = index;
  trace.length = trace.tokens.length;
  for (const [name, scale] of Object.entries(SCALES)) {
    trace[`mean_${name}`] = mean(trace.tokens.map((_, i) => scale.of(trace, i)).filter(known));
  }
  const weights = [trace.weight].flat().filter(known);
  trace.mean_far = mean(weights.map(SCALES.weight.size)); // how far its weights are from 1, either way
  trace.searched = fold(texts(trace));
  trace.head = trace.prompt.at(-1)[1].trim().slice(0, 300);
});

// What is worth a first look: the weights where tokens of a trace differ in theirs by a visible amount, else the
// surprisal; first the traces whose weight is furthest from 1, or, where all weigh the same, the most surprising ones.
const weighted = data.traces.filter((trace) => known(trace.mean_weight));
const within = weighted.filter((trace) => Array.isArray(trace.weight));
const visible = (trace) => trace.weight.filter((value) => known(value) &&
  Math.abs(SCALES.weight.place(value, SCALES.weight.end)) >= 0.15).length;
const total = (values) => values.reduce((sum, value) => sum + value, 0);
const inside = total(within.map(visible)) > 0.02 * total(within.map((trace) => trace.length));
const between = weighted.some((trace) => Math.abs(trace.mean_far - weighted[0].mean_far) > 1e-3 ||
  Math.abs(trace.mean_weight - weighted[0].mean_weight) > 1e-3);
const gapless = data.traces.every((trace) => !known(trace.mean_gap));
const FIRST = { by: inside ? "weight" : "surprisal", order: between ? "far" : "-surprisal" };
const equal = weighted.length ? "every trace weighs the same" : "no trace here has a weight";
const WANTING = { // why an order or a colour has nothing to go by
  weight: between ? "" : equal,
  far: between ? "" : equal,
  gap: gapless ? "the teacher's log-probs are not known token by token" : "",
};
