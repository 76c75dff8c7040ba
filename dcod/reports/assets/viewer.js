"use strict";
// The trace viewer. Everything from a trace reaches the page by textContent or as a number, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const spelled = new Set(data.spelled);
const PAGE = 50; // traces in the list at once
const STRIP = 60; // cells of a trace's strip
const MARKS = { correct: "✓ correct", wrong: "✗ wrong", unparseable: "? no answer", unverified: "– unverified" };
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

// 1. Once: the figures of every trace, and the ends of the scales.

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

for (const scale of Object.values(SCALES)) scale.end = end(scale);
data.traces.forEach((trace, index) => {
  trace.index = index;
  trace.length = trace.tokens.length;
  for (const [name, scale] of Object.entries(SCALES)) {
    trace[`mean_${name}`] = mean(trace.tokens.map((_, i) => scale.of(trace, i)).filter(known));
  }
  const said = trace.tokens.map((piece) => data.pieces[piece]).join("");
  const own = trace.own ? trace.own.text : "";
  const asked = trace.prompt.map((message) => message[1]).join("\n");
  trace.searched = [trace.id, trace.prompt_id, asked, said, own].join("\n").toLowerCase();
  trace.head = trace.prompt.at(-1)[1].trim().slice(0, 300);
});

// 2. The list: filters, order, one page of rows.

let matching = [];
let first = 0;
let current = null;
let by = "weight";

function colour(element, value) {
  const scale = SCALES[by];
  if (!known(value)) return element;
  const place = Math.max(-1, Math.min(1, scale.place(value, scale.end)));
  element.classList.add("q", place < 0 ? "below" : "above");
  element.style.setProperty("--t", Math.abs(place).toFixed(3));
  return element;
}

function strip(trace) {
  const box = make("span", undefined, "strip");
  const cells = Math.min(STRIP, trace.length);
  for (let cell = 0; cell < cells; cell++) {
    const values = [];
    const stop = Math.ceil(((cell + 1) * trace.length) / cells);
    for (let i = Math.floor((cell * trace.length) / cells); i < stop; i++) values.push(SCALES[by].of(trace, i));
    box.append(colour(make("i"), mean(values.filter(known))));
  }
  return box;
}

function row(trace) {
  const button = make("button");
  button.type = "button";
  button.dataset.index = trace.index;
  button.setAttribute("aria-current", trace === current);
  const meta = make("span", undefined, "meta");
  if (trace.verdict) meta.append(make("span", MARKS[trace.verdict] ?? trace.verdict, trace.verdict));
  meta.append(make("span", known(trace.mean_weight) ? `weight ${shown(trace.mean_weight)}` : "held back"));
  meta.append(make("span", `surprisal ${shown(trace.mean_surprisal)}`), make("span", `${trace.length} tokens`));
  button.append(make("span", trace.head, "head"), meta, strip(trace));
  button.addEventListener("click", () => open(trace));
  const item = make("li");
  item.append(button);
  return item;
}

function list() {
  const page = matching.slice(first, first + PAGE);
  $("rows").replaceChildren(...page.map(row));
  $("back").disabled = first === 0;
  $("more").disabled = first + PAGE >= matching.length;
  const range = matching.length ? `${first + 1}–${first + page.length} of ` : "";
  $("count").textContent = `${range}${matching.length.toLocaleString("en")} traces`;
}

function filter() {
  const wanted = Object.fromEntries(new FormData($("filters")));
  const text = wanted.text.trim().toLowerCase();
  const number = (name, otherwise) => (wanted[name] === "" ? otherwise : Number(wanted[name]));
  const [least, most] = [number("least", null), number("most", null)];
  matching = data.traces.filter((trace) =>
    (!text || trace.searched.includes(text)) &&
    (!wanted.verdict || trace.verdict === wanted.verdict) &&
    (!wanted.split || trace.split === wanted.split) &&
    (!wanted.source || trace.source_file === wanted.source) &&
    (least === null || (known(trace.mean_weight) && trace.mean_weight >= least)) &&
    (most === null || (known(trace.mean_weight) && trace.mean_weight <= most)));
  if (wanted.order) {
    const sign = wanted.order.startsWith("-") ? -1 : 1;
    const name = wanted.order.replace("-", "");
    const value = (trace) => (name === "length" ? trace.length : trace[`mean_${name}`]);
    const place = (trace) => (known(value(trace)) ? sign * value(trace) : Infinity); // the unknown come last
    matching.sort((a, b) => (place(a) === place(b) ? a.index - b.index : place(a) - place(b)));
  }
  first = 0;
  list();
}

function turn(pages) {
  first += pages * PAGE;
  list();
  $("rows").scrollTop = 0;
}

// 3. One trace.

function pairs(list, entries) {
  list.replaceChildren(...entries.filter(([, value]) => known(value)).map(([name, value]) => {
    const box = make("div");
    box.append(make("dt", name), make("dd", value));
    return box;
  }));
}

function missing(trace) {
  if (by === "weight" && !known(trace.weight)) {
    return "This trace is held back to select checkpoints: it is not trained on, and has no weight.";
  }
  if (by !== "gap" || trace.teacher_logp) return "";
  return known(trace.teacher_total)
    ? `Of this trace only the sum of the teacher's log-probs is known, ${shown(trace.teacher_total, 1)} nats: the ` +
      "teacher's tokens are others than the student's."
    : "The teacher's log-probs of this trace are not recorded, so there is no gap to show.";
}

function open(trace) {
  current = trace;
  history.replaceState(null, "", `#${encodeURIComponent(trace.id)}`);
  for (const button of $("rows").querySelectorAll("button")) {
    button.setAttribute("aria-current", Number(button.dataset.index) === trace.index);
  }
  $("name").textContent = `Trace ${trace.index + 1} of ${data.traces.length}`;
  pairs($("facts"), [
    ["verdict", MARKS[trace.verdict] ?? trace.verdict],
    ["answer", trace.answer],
    ["reference", trace.gold],
    ["split", trace.split],
    ["mean weight", known(trace.mean_weight) ? shown(trace.mean_weight) : ""],
    ["mean surprisal", `${shown(trace.mean_surprisal)} nats`],
    ["mean gap", known(trace.mean_gap) ? `${shown(trace.mean_gap)} nats` : ""],
    ["teacher", trace.teacher],
    ["temperature", known(trace.temperature) ? String(trace.temperature) : ""],
    ["top-p", known(trace.top_p) ? String(trace.top_p) : ""],
    ["source", known(trace.source_file) ? `${trace.source_file}, line ${trace.source_line}` : ""],
    ["licence", trace.licence],
    ["trace", trace.id],
    ["prompt", trace.prompt_id],
  ]);
  $("prompt").replaceChildren(...trace.prompt.flatMap(([role, text]) => [make("h4", role), make("p", text)]));
  $("size").textContent = `${trace.length} tokens`;
  $("own").replaceChildren(...own(trace));
  draw();
  $("trace").scrollTop = 0;
}

function own(trace) {
  if (!trace.own) return [make("p", "None is known. `dcod inspect --answers N` lets the student answer.", "soft")];
  const verdict = MARKS[trace.own.outcome] ?? trace.own.outcome;
  const answer = known(trace.own.answer) ? `, answer ${trace.own.answer}` : "";
  const text = make("p", trace.own.text, "text");
  text.tabIndex = 0;
  return [make("p", `${verdict}${answer}`, trace.own.outcome), text, make("p", trace.own.from, "soft")];
}

function draw() {
  $("trace").dataset.by = $("rows").dataset.by = by;
  const scale = SCALES[by];
  const signs = { weight: "×", surprisal: "", gap: "" };
  $("ramp").replaceChildren(...scale.ticks(scale.end).map((tick, index, ticks) => {
    const text = Number(tick.toPrecision(2)).toString().replace("-", "−") + signs[by];
    const open = index === ticks.length - 1 ? "≥ " : index === 0 && by !== "surprisal" ? "≤ " : "";
    return colour(make("span", open + text), tick);
  }));
  $("unit").textContent = scale.unit;
  $("why").textContent = missing(current);
  $("tokens").replaceChildren(...current.tokens.map((piece, i) => {
    const token = colour(make("span", data.pieces[piece]), scale.of(current, i));
    if (spelled.has(piece)) token.classList.add("spelled");
    if (/^\s*\n/.test(data.pieces[piece])) token.classList.add("line");
    if (i === current.length - 1) token.classList.add("end");
    token.dataset.at = i;
    return token;
  }));
  point(null);
}

function point(token) {
  $("tokens").querySelector(".here")?.classList.remove("here");
  $("tip").hidden = !token;
  if (!token) return;
  token.classList.add("here");
  const i = Number(token.dataset.at);
  const nats = (value) => (known(value) ? `${shown(value)} nats` : "not known");
  const rows = [
    ["position", `${i + 1} of ${current.length}`],
    ["weight", known(current.weight) ? shown(SCALES.weight.of(current, i), 4) : "none, held back"],
    ["student surprisal −log π", nats(SCALES.surprisal.of(current, i))],
    ["student entropy", nats(current.entropy[i])],
    ["teacher log μ", nats(current.teacher_logp ? current.teacher_logp[i] : null)],
    ["gap log π − log μ", nats(SCALES.gap.of(current, i))],
  ];
  const table = make("table");
  for (const [name, value] of rows) {
    const line = table.insertRow();
    line.append(make("td", name), make("td", value));
  }
  $("tip").replaceChildren(make("b", JSON.stringify(token.textContent)), table);
  const box = token.getClientRects()[0] ?? token.getBoundingClientRect();
  const tip = $("tip").getBoundingClientRect();
  const left = Math.max(4, Math.min(box.left, document.documentElement.clientWidth - tip.width - 8));
  const below = box.bottom + 6 + tip.height < window.innerHeight;
  $("tip").style.left = `${left}px`;
  $("tip").style.top = `${below ? box.bottom + 6 : Math.max(4, box.top - tip.height - 6)}px`;
}

function step(by) {
  const here = $("tokens").querySelector(".here");
  const at = here ? Number(here.dataset.at) + by : by > 0 ? 0 : current.length - 1;
  const token = $("tokens").children[Math.max(0, Math.min(current.length - 1, at))];
  token.scrollIntoView({ block: "nearest" });
  point(token);
}

function next(by) {
  const at = matching.indexOf(current) + by;
  if (at < 0 || at >= matching.length) return;
  if (at < first || at >= first + PAGE) {
    first = PAGE * Math.floor(at / PAGE);
    list();
  }
  open(matching[at]);
  $("rows").querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest" });
}

// 4. Wiring.

pairs($("about"), Object.entries(data.about));
for (const [name, field] of [["verdict", "verdict"], ["split", "split"], ["source", "source_file"]]) {
  const select = $("filters").elements[name];
  const values = [...new Set(data.traces.map((trace) => trace[field]).filter(known))].sort();
  select.append(...values.map((value) => new Option(value, value)));
  select.disabled = values.length === 0;
}
const gapless = data.traces.every((trace) => !trace.teacher_logp);
for (const radio of document.querySelectorAll("[name=by]")) {
  radio.checked = radio.value === by;
  radio.disabled = radio.value === "gap" && gapless;
  if (radio.disabled) radio.parentElement.append(" (the teacher's log-probs are not known token by token)");
  radio.addEventListener("change", () => {
    by = radio.value;
    draw();
    list();
  });
}
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("input", filter);
$("back").addEventListener("click", () => turn(-1));
$("more").addEventListener("click", () => turn(1));
$("tokens").addEventListener("pointerover", (event) => point(event.target.closest("[data-at]")));
$("tokens").addEventListener("pointerleave", () => point(null));
$("tokens").addEventListener("blur", () => point(null));
$("tokens").addEventListener("keydown", (event) => {
  const moves = { ArrowRight: 1, ArrowLeft: -1 };
  if (event.key === "Escape") point(null);
  if (!(event.key in moves)) return;
  event.preventDefault();
  step(moves[event.key]);
});
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "n") next(1);
  if (event.key === "p") next(-1);
});

const asked = decodeURIComponent(location.hash.slice(1));
$("rows").dataset.by = by;
current = data.traces.find((trace) => trace.id === asked) ?? data.traces.find((trace) => known(trace.weight)) ??
  data.traces[0];
filter();
open(current);
