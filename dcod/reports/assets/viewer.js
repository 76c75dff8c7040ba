// The trace viewer, 3 of 3: the list with its filters, the address, keys, and who listens to what.

const form = $("filters");
const NAMES = ["text", "verdict", "split", "source", "least", "most"]; // the filters; the order is none
let matching = [];
let first = 0;
let chosen = null; // the trace that was opened last; it is shown while it fits the filters
const query = () => fold(form.elements.text.value.trim());

// 1. The list: filters, order, one page of rows.

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

// Where the searched text stands, if the head of the row does not show it.
function snippet(trace, text) {
  if (!text || fold(trace.head).includes(text)) return [];
  const at = trace.searched.indexOf(text);
  const start = Math.max(0, at - 40);
  const piece = texts(trace).slice(start, at + text.length + 60).replace(/\s+/g, " ");
  return [make("span", `${start ? "…" : ""}${piece}…`, "snip")];
}

function row(trace) {
  const button = make("button");
  button.type = "button";
  button.dataset.index = trace.index;
  const meta = make("span", undefined, "meta");
  if (trace.by_student) meta.append(make("span", BY_STUDENT));
  if (trace.verdict) meta.append(make("span", MARKS[trace.verdict] ?? trace.verdict, trace.verdict));
  meta.append(make("span", known(trace.mean_weight) ? `weight ${shown(trace.mean_weight)}` : "held back"));
  meta.append(make("span", `surprisal ${shown(trace.mean_surprisal)}`), make("span", `${trace.length} tokens`));
  button.append(make("span", trace.head, "head"), ...snippet(trace, query()), meta, strip(trace));
  button.addEventListener("click", () => {
    open(trace);
    if (NARROW.matches) toTrace();
  });
  const item = make("li");
  item.append(button);
  return item;
}

const buttons = () => Array.from($("rows").querySelectorAll("button"));
const wanting = () => NAMES.some((name) => form.elements[name].value !== "");

function list() {
  const page = matching.slice(first, first + PAGE);
  const held = $("rows").contains(document.activeElement);
  $("rows").replaceChildren(...page.map(row));
  $("back").disabled = first === 0;
  $("more").disabled = first + PAGE >= matching.length;
  const range = matching.length ? `${first + 1}–${first + page.length} of ` : "";
  $("count").textContent = `${range}${matching.length.toLocaleString("en")} traces`;
  $("none").hidden = matching.length > 0;
  $("clear").hidden = !wanting() || matching.length === 0;
  current_row();
  if (held) buttons().find((button) => button.tabIndex === 0)?.focus();
}

// The open trace is marked; it, or the first one, is where Tab enters the list.
function current_row() {
  const all = buttons();
  for (const button of all) {
    const here = current !== null && Number(button.dataset.index) === current.index;
    button.setAttribute("aria-current", here);
    button.tabIndex = here ? 0 : -1;
  }
  if (all.length && all.every((button) => button.tabIndex < 0)) all[0].tabIndex = 0;
}

function filter() {
  const wanted = Object.fromEntries(new FormData(form));
  const text = query();
  const number = (name) => (known(wanted[name]) ? Number(wanted[name]) : null);
  const [least, most] = [number("least"), number("most")];
  matching = data.traces.filter((trace) =>
    (!text || trace.searched.includes(text)) &&
    (!wanted.verdict || trace.verdict === wanted.verdict) &&
    (!wanted.split || trace.split === wanted.split) &&
    (!wanted.source || trace.source_file === wanted.source) &&
    (least === null || (known(trace.mean_weight) && trace.mean_weight >= least)) &&
    (most === null || (known(trace.mean_weight) && trace.mean_weight <= most)));
  if (wanted.order) {
    const sign = wanted.order.startsWith("-") || wanted.order === "far" ? -1 : 1;
    const name = wanted.order.replace("-", "");
    const value = (trace) => (name === "length" ? trace.length : trace[`mean_${name}`]);
    const place = (trace) => (known(value(trace)) ? sign * value(trace) : Infinity); // the unknown come last
    matching.sort((a, b) => (place(a) === place(b) ? a.index - b.index : place(a) - place(b)));
  }
  first = 0;
  const fits = chosen !== null && matching.includes(chosen) ? chosen : null;
  if (fits !== current) show(fits);
  $("unfit").textContent = matching.length ? "The open trace does not fit the filters." : "No trace fits the filters.";
  list();
  mark(text);
  save();
}

function turn(pages) {
  first += pages * PAGE;
  list();
  mark(query());
  $("rows").scrollTop = 0;
}

function clear() {
  for (const name of NAMES) form.elements[name].value = "";
  filter();
  form.elements.text.focus();
}

function open(trace) {
  chosen = trace;
  show(trace);
  current_row();
  mark(query());
  save();
}

function toTrace() {
  $("trace").scrollIntoView();
  $("trace").focus({ preventScroll: true });
}

function next(by) {
  const at = current ? matching.indexOf(current) + by : 0;
  if (at < 0 || at >= matching.length) return;
  open(matching[at]);
  if (at < first || at >= first + PAGE) {
    first = PAGE * Math.floor(at / PAGE);
    list();
    mark(query());
  }
  const here = $("rows").querySelector("[aria-current=true]");
  if ($("rows").contains(document.activeElement)) here?.focus();
  else if (NARROW.matches) $("trace").scrollIntoView();
  if (!NARROW.matches) here?.scrollIntoView({ block: "nearest" });
}

// 2. The address: what differs from the first look, and the open trace.

function save() {
  const told = new URLSearchParams();
  for (const name of NAMES) if (form.elements[name].value) told.set(name, form.elements[name].value);
  if (form.elements.order.value !== FIRST.order) told.set("order", form.elements.order.value);
  if (by !== FIRST.by) told.set("by", by);
  if (chosen) told.set("trace", chosen.id);
  try {
    history.replaceState(null, "", `#${told}`);
  } catch { /* some browsers refuse many changes within seconds; a later one gets through */ }
}

function restore() {
  const hash = location.hash.slice(1);
  const told = new URLSearchParams(hash.includes("=") ? hash : `trace=${hash}`);
  for (const name of [...NAMES, "order"]) {
    const field = form.elements[name];
    const otherwise = name === "order" ? FIRST.order : "";
    const value = told.get(name) ?? otherwise;
    field.value = field.type === "number" && !Number.isFinite(Number(value)) ? otherwise : value;
    if (field.options && (field.selectedIndex < 0 || field.selectedOptions[0].disabled)) field.value = otherwise;
  }
  const asked = Object.hasOwn(SCALES, told.get("by")) && !(told.get("by") === "gap" && gapless);
  by = asked ? told.get("by") : FIRST.by;
  for (const radio of document.querySelectorAll("[name=by]")) radio.checked = radio.value === by;
  draw();
  chosen = data.traces.find((trace) => trace.id === told.get("trace")) ?? null;
  const named = chosen !== null;
  filter();
  if (!named && matching.length) open(matching[0]);
}

// 3. What has nothing to go by is off, and says why.

for (const [name, field] of [["verdict", "verdict"], ["split", "split"], ["source", "source_file"]]) {
  const select = form.elements[name];
  const values = [...new Set(data.traces.map((trace) => trace[field]).filter(known))].sort();
  select.append(...values.map((value) => new Option(value, value)));
  select.disabled = values.length === 0;
  if (select.disabled) select.options[0].text = "not known: made without --traces";
}
for (const option of form.elements.order.options) {
  const why = WANTING[option.value.replace("-", "")];
  option.disabled = Boolean(why);
  if (why) option.text += ` (${why})`;
}
for (const name of ["least", "most"]) form.elements[name].disabled = weighted.length === 0;
for (const radio of document.querySelectorAll("[name=by]")) {
  radio.disabled = radio.value === "gap" && gapless;
  if (radio.disabled) radio.parentElement.append(` (${WANTING.gap})`);
  radio.addEventListener("change", () => {
    by = radio.value;
    draw();
    list();
    mark(query());
    save();
  });
}

// 4. Pointer and keys.

$("sides").classList.toggle("alone", !answered);
pairs($("about"), Object.entries(data.about));
form.addEventListener("submit", (event) => event.preventDefault());
form.elements.text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !matching.length) return;
  event.preventDefault();
  buttons()[0].focus();
});
form.addEventListener("input", filter);
$("back").addEventListener("click", () => turn(-1));
$("more").addEventListener("click", () => turn(1));
for (const button of document.querySelectorAll(".clear")) button.addEventListener("click", clear);
$("previous").addEventListener("click", () => next(-1));
$("next").addEventListener("click", () => next(1));
$("to-list").addEventListener("click", () => {
  $("list").scrollIntoView();
  buttons().find((button) => button.tabIndex === 0)?.focus({ preventScroll: true });
});
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address holds the state
  toTrace();
});
$("ask").addEventListener("click", () => $("help").showModal());
$("tokens").addEventListener("pointerover", (event) => {
  if (event.pointerType !== "touch") point(event.target.closest("[data-at]"));
});
$("tokens").addEventListener("pointerleave", (event) => {
  if (event.pointerType !== "touch") point(null);
});
$("tokens").addEventListener("pointerup", (event) => { // a tap; a finger that scrolls ends in pointercancel
  if (event.pointerType !== "touch") return;
  const token = event.target.closest("[data-at]");
  point(token?.classList.contains("here") ? null : token);
});
$("tokens").addEventListener("blur", () => point(null));
$("tokens").addEventListener("keydown", (event) => {
  const moves = { ArrowRight: 1, ArrowLeft: -1 };
  if (event.key === "Escape") point(null);
  if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  step(moves[event.key]);
});
$("rows").addEventListener("keydown", (event) => {
  const all = buttons();
  const at = all.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined || at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (to === all.length && !$("more").disabled) return turn(1);
  if (to < 0 && !$("back").disabled) return turn(-1);
  if (!all[to]) return;
  all[at].tabIndex = -1;
  all[to].tabIndex = 0;
  all[to].focus();
});
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input:not([type=radio]), select, dialog")) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "n" || event.key === "j") next(1);
  if (event.key === "p" || event.key === "k") next(-1);
  if (event.key === "?") $("help").showModal();
  if (event.key === "/") {
    event.preventDefault();
    form.elements.text.focus();
    form.elements.text.select();
  }
});
window.addEventListener("hashchange", restore);

restore();
$("fold").open = !NARROW.matches || NAMES.slice(1).some((name) => form.elements[name].value !== "");
