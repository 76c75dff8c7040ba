"""A page in a real browser: what it complains about and asks for, its contrast, its faults of accessibility."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMES = ("light", "dark")
PAPER = 718  # pixels of an A4 page between its margins
# The contrast of every element's text against what lies behind it, at least 4.5 to be readable (WCAG 2, AA).
CONTRAST = """(selector) => {
  const parse = (text) => {
    const parts = text.match(/[\\d.e-]+/g).map(Number);
    const whole = text.startsWith("color(") ? parts.slice(0, 3) : parts.slice(0, 3).map((part) => part / 255);
    return [...whole, parts[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((part, i) => part * top[3] + below[i] * (1 - top[3]));
  const light = (rgb) => rgb.map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  return [...document.querySelectorAll(selector)].map((element) => {
    const layers = [];
    for (let node = element; node; node = node.parentElement) {
      layers.push(parse(getComputedStyle(node).backgroundColor));
    }
    const ground = layers.reverse().reduce((below, top) => over(top, below), [1, 1, 1]);
    const ink = parse(getComputedStyle(element).color).slice(0, 3);
    const pair = [light(ink), light(ground)].sort((a, b) => a - b);
    return (pair[1] + 0.05) / (pair[0] + 0.05);
  });
}"""
# Everything that reaches beyond the page; what only a screen reader is meant to get does not count.
CUT = """() => {
  const hidden = (one) => one && (getComputedStyle(one).clipPath !== 'none' || hidden(one.parentElement));
  return [...document.querySelectorAll('body *')].filter((element) => {
    const box = element.getBoundingClientRect();
    if (!box.width || !box.height || element.closest('svg *') || hidden(element)) return false;
    return box.right > document.documentElement.clientWidth + 1;
  }).map((element) => element.outerHTML.slice(0, 120));
}"""


def faults(page: Any) -> list[str]:
    """What axe-core finds serious or critical on a page as it stands, as ``rule: element``."""
    import axe_playwright_python

    script = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)  # not as an element: the page's own policy would refuse it
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) > 10, "axe looked at nothing"
    return [
        f"{rule['id']}: {node['html'][:160]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


class Opened:
    """A page in the browser, with all that it complained about or asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def count(self) -> int:
        """What the list says it holds."""
        return int(self.page.inner_text("#count").split(" of ")[-1].split()[0].replace(",", ""))

    def choose(self, by: str) -> None:
        self.page.check(f"[name=by][value={by}]")

    def processor_seconds(self) -> Iterator[float]:
        """What the page's thread computed since the last time, or the beginning: a busy machine does not count."""
        session = self.page.context.new_cdp_session(self.page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = 0.0
        while True:
            found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
            yield found["TaskDuration"] - before
            before = found["TaskDuration"]

    def state(self) -> dict[str, Any]:
        """What the trace viewer shows, and by which choices."""
        names = ("text", "verdict", "split", "source", "least", "most", "order")
        found: dict[str, Any] = {name: self.page.input_value(f"[name={name}]") for name in names}
        by = self.page.evaluate("document.querySelector('[name=by]:checked').value")
        return found | {"by": by, "name": self.page.inner_text("#name"), "count": self.count()}
