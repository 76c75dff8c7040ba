"use strict";
// The values of a plot where one points, by mouse, finger or arrow keys, and the plot as a file. Without this script a
// plot is a picture, with all its values as CSV below. Texts go onto the page as text.

// The rows of a CSV file as Python writes it, without its head: [panel, series, x, y, low, high].
function rowsOf(link) {
  const bytes = Uint8Array.from(atob(link.href.split(",")[1]), (sign) => sign.charCodeAt(0));
  const text = new TextDecoder().decode(bytes);
  const rows = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const row = rows[rows.length - 1];
    if (quoted && text[i] === '"' && text[i + 1] === '"') row[row.length - 1] += text[++i];
    else if (text[i] === '"') quoted = !quoted;
    else if (!quoted && text[i] === ",") row.push("");
    else if (!quoted && text[i] === "\n") rows.push([""]);
    else row[row.length - 1] += text[i];
  }
  return rows.slice(1).filter((row) => row.length > 1);
}

// A mark: what it says, and where it stands, both from 0 to 1.
function marksOf(figure) {
  const places = figure.dataset.at.split(";");
  return rowsOf(figure.querySelector("a[download$='.csv']")).map((row, i) => {
    const [x, y] = places[i] === "-" ? [NaN, NaN] : places[i].split(",").map((part) => part / 10000);
    return { series: `${row[0]}\n${row[1]}`, row, x, y };
  }).filter((mark) => mark.x >= 0);
}

const plain = (text) => text.replace(/^'(?=[=+\-@\t\r])/, "");
const number = (text) => (isFinite(text) && text !== "" ? String(Number(Number(text).toPrecision(4))) : plain(text)).replace(/^-/, "−");

class Plot {
  constructor(figure) {
    this.box = figure.querySelector(".plot");
    this.marks = marksOf(figure);
    this.names = [...new Set(this.marks.map((mark) => mark.series))];
    this.at = -1;
    this.dot = this.box.appendChild(document.createElement("div"));
    this.tip = this.box.appendChild(document.createElement("div"));
    this.dot.className = "dot";
    this.tip.className = "tip";
    this.dot.hidden = true;
    this.tip.setAttribute("role", "status");
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "group");
    this.box.setAttribute("aria-label", "Values of this plot: arrow keys go from one to the next");
    this.box.addEventListener("pointermove", (event) => this.point(event));
    this.box.addEventListener("pointerdown", (event) => this.point(event));
    this.box.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.show(-1));
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("blur", () => this.show(-1));
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "This plot (SVG)";
    button.addEventListener("click", () => save(this.box.querySelector("svg"), `${figure.dataset.name}.svg`));
    figure.querySelector("figcaption").append(button);
  }

  // The mark that is nearest to a place on the screen, of some of them.
  nearest(x, y, of = () => true) {
    const box = this.box.querySelector("svg").getBoundingClientRect();
    let [best, least] = [-1, Infinity];
    this.marks.forEach((mark, i) => {
      const far = Math.hypot(box.left + mark.x * box.width - x, box.top + mark.y * box.height - y);
      if (far < least && of(mark)) [best, least] = [i, far];
    });
    return best;
  }

  point(event) {
    this.show(this.nearest(event.clientX, event.clientY));
  }

  key(event) {
    const last = this.marks.length - 1;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const turn = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    let next;
    if (event.key === "Escape") next = -1;
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = last;
    else if (step || turn) next = this.at < 0 ? 0 : step ? Math.min(Math.max(this.at + step, 0), last) : this.other(turn);
    else return;
    event.preventDefault();
    this.show(next);
  }

  // The mark of the next or the last series that is nearest to this one.
  other(turn) {
    const mark = this.marks[this.at];
    const name = this.names[(this.names.indexOf(mark.series) + turn + this.names.length) % this.names.length];
    const box = this.box.querySelector("svg").getBoundingClientRect();
    return this.nearest(box.left + mark.x * box.width, box.top + mark.y * box.height, (one) => one.series === name);
  }

  show(at) {
    this.at = at;
    this.tip.textContent = "";
    this.dot.hidden = at < 0;
    if (at < 0) return;
    const { row, x, y } = this.marks[at];
    const svg = this.box.querySelector("svg");
    const [left, top] = [x * svg.clientWidth, y * svg.clientHeight];
    const head = this.tip.appendChild(document.createElement("strong"));
    head.textContent = plain(row[1]) || plain(row[0]);
    const range = row[4] === row[5] ? "" : ` (${number(row[4])} to ${number(row[5])})`;
    this.tip.append(isFinite(row[2]) ? `${number(row[3])} at ${number(row[2])}${range}` : `${plain(row[2])}: ${number(row[3])}${range}`);
    Object.assign(this.dot.style, { left: `${left}px`, top: `${top}px` });
    // Whatever its width, it stays within the plot; above the mark, or below one near the top.
    Object.assign(this.tip.style, { left: `${left}px`, top: `${top}px` });
    this.tip.style.transform = `translate(${-100 * x}%, ${y < 0.3 ? ".8rem" : "calc(-100% - .8rem)"})`;
  }
}

// The plot as a file of its own: dark on white, whatever the page is.
function save(svg, name) {
  const copy = svg.cloneNode(true);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("style", "color: #222; background: #fff");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

for (const figure of document.querySelectorAll("figure[data-at]")) new Plot(figure);
