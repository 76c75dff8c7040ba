// The trace viewer, 2 of 3: one trace, its tokens and their numbers.

let current = null; // the trace that is shown
let by = FIRST.by;

function colour(element, value) {
  const scale = SCALES[by];
  if (!known(value)) return element;
  const place = Math.max(-1, Math.min(1, scale.place(value, scale.end)));
  element.classList.add("q", place < 0 ? "below" : "above");
  element.style.setProperty("--t", Math.abs(place).toFixed(3));
  return element;
}

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
  if (by === "weight" && !Array.isArray(trace.weight)) {
    return "All tokens of this trace have the same weight; the colour by surprisal shows where they differ.";
  }
  if (by !== "gap" || trace.teacher_logp) return "";
  return known(trace.teacher_total)
    ? `Of this trace only the sum of the teacher's log-probs is known, ${shown(trace.teacher_total, 1)} nats: the ` +
      "teacher's tokens are others than the student's."
    : "The teacher's log-probs of this trace are not recorded, so there is no gap to show.";
}

function show(trace) {
  current = trace;
  point(null);
  $("shown").hidden = !trace;
  $("empty").hidden = Boolean(trace);
  if (!trace) {
    $("why").textContent = "";
    $("tokens").replaceChildren();
    return;
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
    ["writer", trace.by_student ? "the student itself (teach.source=student)" : ""],
    ["teacher", trace.teacher],
    ["temperature", known(trace.temperature) ? String(Number(trace.temperature.toPrecision(4))) : ""],
    ["top-p", known(trace.top_p) ? String(Number(trace.top_p.toPrecision(4))) : ""],
    ["source", known(trace.source_file) ? `${trace.source_file}, line ${trace.source_line}` : ""],
    ["licence", trace.licence],
    ["trace", trace.id],
    ["prompt", trace.prompt_id],
  ]);
  $("prompt").replaceChildren(...trace.prompt.flatMap(([role, text]) => {
    const said = make("p", text);
    said.tabIndex = 0; // a long one scrolls
    return [make("h4", role), said];
  }));
  $("writer").textContent = trace.by_student ? `The trace, ${BY_STUDENT}` : "The teacher's trace";
  $("size").textContent = `${trace.length} tokens`;
  $("own").replaceChildren(...own(trace));
  draw();
  $("trace").scrollTop = 0;
}

const answered = data.traces.some((trace) => trace.own);

function own(trace) {
  if (!answered) {
    return [
      make("p", "This page holds no answers of the student. To put them beside the traces, let it answer the first " +
        "20 prompts:", "soft"),
      make("code", "dcod inspect SCORES --traces TRACES --student STUDENT --answers 20"),
      make("p", "SCORES, TRACES and STUDENT are the folders that dcod score, dcod ingest and dcod train wrote. With " +
        "--results RESULTS it takes answers that dcod evaluate has recorded instead.", "soft"),
    ];
  }
  if (!trace.own) {
    return [make("p", "The student was not asked this prompt; a larger number at --answers asks it more.", "soft")];
  }
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
  if (!current) return;
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
  $("tip").style.left = `${left}px`; // on a narrow screen it lies along the lower edge instead
  $("tip").style.top = `${below ? box.bottom + 6 : Math.max(4, box.top - tip.height - 6)}px`;
}

function step(by) {
  if (!current) return;
  const here = $("tokens").querySelector(".here");
  const at = here ? Number(here.dataset.at) + by : by > 0 ? 0 : current.length - 1;
  const token = $("tokens").children[Math.max(0, Math.min(current.length - 1, at))];
  token.scrollIntoView({ block: "nearest" });
  point(token);
}

// Marks what was searched for, without touching the texts; a browser without this interface marks nothing.
function mark(text) {
  if (!CSS.highlights) return;
  const texts = document.querySelectorAll("#rows .head, #rows .snip, #prompt p, #own .text");
  CSS.highlights.set("found", new Highlight(...Array.from(texts).flatMap((box) => hits(box, text)).slice(0, HITS)));
  CSS.highlights.set("found-token", new Highlight(...hits($("tokens"), text)));
}

function hits(box, text) {
  const nodes = [];
  for (const walk = document.createTreeWalker(box, NodeFilter.SHOW_TEXT); walk.nextNode();) nodes.push(walk.currentNode);
  const whole = fold(nodes.map((node) => node.data).join(""));
  const found = [];
  let [node, before] = [0, 0]; // the text node that holds a place, and the characters in front of it
  const place = (at) => {
    while (at > before + nodes[node].length) before += nodes[node++].length;
    return [nodes[node], at - before];
  };
  for (let at = text ? whole.indexOf(text) : -1; at >= 0 && found.length < HITS; at = whole.indexOf(text, at + text.length)) {
    const range = new Range();
    range.setStart(...place(at));
    range.setEnd(...place(at + text.length));
    found.push(range);
  }
  return found;
}
