"""The plots and the page: complete, self-contained, honest about what is missing, inert."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod.config import Config, CorrectionConfig, TrainConfig
from dcod.evaluate.results import ModelRef, Results, load_results, of_summary
from dcod.promote import rules
from dcod.promote.compare import Comparison
from dcod.promote.decision import Decision, Reason
from dcod.reports import figures, report
from dcod.reports import sections as parts
from dcod.reports.arms import answer
from dcod.reports.run_page import RunPage
from dcod.reports.sections import Cost
from dcod.traces import Trace, write_traces
from dcod.tracking.lineage import Origin
from dcod.tracking.runs import Tracker
from tests.tracked import fresh_store

HOSTILE = "<script>alert(1)</script> & \"x\" <img src=x onerror='y'> $\\frac{"
DRIFT = {
    "positions": list(range(40)),
    "count": [50 - i for i in range(40)],
    "mean_surprisal": [0.02 * i for i in range(40)],
    "mean_abs_log_ratio": [0.5 - 0.01 * i for i in range(40)],
}
HISTORY: list[dict[str, float]] = [
    {
        "step": step,
        "loss": 1.0 / step,
        "gamma": 0.5,
        "ess": 0.4,
        "ess_at_gamma_max": 0.1,
        "clipped_share": 0.25,
        "ess_bucket_000": 0.9,
        "ess_bucket_001": 0.4,
        "staleness": 0.01 * step,
        "weight_spread": 0.1 * step,
        "weight_length_correlation": -0.01 * step,
        "tokens": 30.0,
        **{f"abs_log_ratio_{16 * i:05d}_{16 * i + 15:05d}": 0.1 * i for i in range(8)},
        **({"selection_nll": 2.0 / step} if step % 5 == 0 else {}),
    }
    for step in range(1, 31)
]


class Strict(HTMLParser):
    """Collects tags and attributes, and checks that they close."""

    void = frozenset({"meta", "br", "img", "input", "link", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def summary(accuracy: float, prompting: str = "zero_shot") -> dict[str, Any]:
    split = {
        "n": 40,
        "samples": 1,
        "accuracy": accuracy,
        "low": accuracy - 0.1,
        "high": accuracy + 0.1,
        "detectable": 0.21,
        "at_k": {"maj@4": [0.431, 0.3, 0.5]},
        "stability": {"looping": 0.125, "tokens_p50": 17.0, HOSTILE: 1.0},
        "figures": {"prompt_loose": 0.777},
        "outcomes": {"correct": round(40 * accuracy), "wrong": 40 - round(40 * accuracy), "unparseable": 0},
        "mean_tokens": 20.0,
    }
    entry = {"fingerprint": "f", "role": "primary", "version": "1", "prompting": {prompting: {"report": split}}}
    return {"model": {"digest": "d", "uri": "u"}, "benchmarks": {"sums": entry, "odd$<b>": entry}}


def write_results(folder: Path, accuracy: float, right: set[int], prompting: str = "zero_shot") -> Results:
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(summary(accuracy, prompting)))
    rows = [
        {
            "benchmark": "sums",
            "problem_id": f"p{i}{HOSTILE}",
            "problem": f"The problem {i} {HOSTILE}",
            "split": "report",
            "prompting": prompting,
            "sample": 0,
            "response": HOSTILE * (100 if i == 0 else 1),
            "answer": None,
            "gold": HOSTILE,
            "outcome": "correct" if i in right else "wrong",
            "tokens": 3,
            **dict.fromkeys(("truncated", "looping", "contradicting"), False),
        }
        for i in range(10)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    return load_results(folder)


WEIGHTS = {"edges": [0.0, 1.0, 2.0], "counts": {"0-15": [1, 2], "16-31": [2, 0]}}


def decision(promote: bool = True) -> Decision:
    found = Comparison("sums", "primary", 40, 1, 0.6, 0.4, 10, 2, 0.2, 0.05, 0.35, 0.019, 0.08, 0.17)
    hostile = replace(found, benchmark=f"sums {HOSTILE}")
    reasons = [rules.improves(hostile, 0.019 if promote else 0.19, 0.05, ""), rules.holds(found, 0.02)]
    reasons.append(rules.share("sums", "truncated", 0.0, 0.5))
    return Decision(
        promote, tuple(reasons), (found,), ModelRef("a" * 64, "u", 2), ModelRef("b" * 64, "u", 1), 0.05, 0.02, "student"
    )


def parse(text: str) -> Strict:
    parser = Strict()
    parser.feed(text)
    parser.close()
    return parser


@pytest.fixture
def full_page(tmp_path: Path) -> str:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in HISTORY))
    (tmp_path / "student" / "weights.json").write_text(json.dumps(WEIGHTS))
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "drift.json").write_text(json.dumps(DRIFT))
    (tmp_path / "traces").mkdir()
    config = Config(train=TrainConfig(correction=CorrectionConfig(name="surprisal", gamma_max=0.5)))
    sections = {name: getattr(config, name).model_dump(mode="json") for name in ("student", "train")}
    manifest = {"stage": "train", "config": sections, "seed": 11}
    (tmp_path / "student" / "manifest.json").write_text(json.dumps(manifest))
    prompt = [{"role": "user", "content": "p"}]
    licences = [None, None, "MIT"]
    found = [
        Trace(prompt, f"c{i}", licence=one, teacher=HOSTILE, source_file="f.jsonl") for i, one in enumerate(licences)
    ]
    write_traces(tmp_path / "traces" / "traces.parquet", found)
    (tmp_path / "traces" / "counts.json").write_text(
        json.dumps({"read": 1203, "accepted": 1200, "quarantined": {HOSTILE: 3}})
    )
    return report.page(
        RunPage(
            title=HOSTILE,
            decision=decision(),
            results={
                "start": write_results(tmp_path / "a", 0.3, {0, 1}),
                "start, few-shot": write_results(tmp_path / "b", 0.4, set(), "few_shot"),
                "student": write_results(tmp_path / "c", 0.6, {1, 2, 3, 4, 5}),
            },
            training=tmp_path / "student",
            scores=tmp_path / "scores",
            ingest=tmp_path / "traces",
            lineage={"student": "a" * 64, "code": HOSTILE},
            origin=Origin({"e" * 64: HOSTILE, "d" * 64: "night.jsonl"}, untraced=1),
            costs=[Cost("train", 100.0, False), Cost(f"evaluate {HOSTILE}", 7384.0, True), Cost("gate", None, False)],
            viewer="traces.html",
            date="2026-11-28",
        )
    )


def test_a_hostile_trace_stays_text(full_page: str) -> None:
    parsed = parse(full_page)
    assert not {"img", "iframe", "object", "link", "b"} & set(parsed.tags)
    assert parsed.tags.count("script") == 1  # of the plots; tests/reports/test_html.py
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert "&lt;script&gt;" in full_page
    assert parsed.open == []


def test_the_page_needs_no_network(full_page: str) -> None:
    outside = [value for _, value in parse(full_page).attributes if value and re.match(r"\s*(https?:)?//", value)]
    assert {value for value in outside if "www.w3.org" not in value} == set()
    assert "url(" not in re.sub(r"url\(#", "", full_page)
    assert "prefers-color-scheme: dark" in full_page
    assert "#31363b" not in full_page  # plots take the colour of the text


def test_the_page_says_what_a_reader_asks(full_page: str) -> None:
    for text in (
        "How steady the answers are",
        "maj@4 43.1% (30.0% to 50.0%); prompt loose 77.7%",
        '<td data-of="loops">12.5%</td>',
        "detectable (points)",
        "<strong>Promoted</strong>",
        '<span class="points">+20.0 points</span>',
        "sums, on the gate problems, which decide: 60.0% against 40.0%; 95 % interval +5.0 to +35.0, p = 0.019, ",
        "sums, on the report problems, which decided nothing: 60.0% against 30.0% of the start (+30.0 points); 40",
        '<th scope="row">spread of the weights of traces</th><td>0.20 in the first tenth of the steps, 2.90 in',
        "<td>−0.02 in the first tenth of the steps, −0.29 in the last</td>",
        "Correction surprisal: mean γ 0.50, effective sample size 40%.",
        "What the correction brought against plain fine-tuning was not measured",
        "<dt>date</dt><dd>2026-11-28</dd>",
        "<dt>traces</dt><dd>1,200</dd>",
        "<dt>student</dt><dd>student version 2 against version 1</dd>",
        "3 checks hold",
        '<th scope="row" data-of="check"><span class="yes">✓ holds</span> answers cut off: sums</th>'
        '<td data-of="measured">0.0% of the answers truncated</td><td data-of="limit">at most 50% allowed</td>',
        '<td data-of="limit">−2.0 points; detectable 17.0 points</td>',
        "version 2 against version 1",
        "60.0%",
        "50.0% to 70.0%",
        "+5.0 to +35.0",
        "few-shot",
        "4 answers better, 1 worse than the start",
        "1,200",
        "best on the selection split",
        "25.0%",
        "a" * 64,
        f'<th scope="row" data-of="file">night.jsonl</th><td data-of="SHA-256">{"d" * 64}</td>',
        "1 of these files are known from the traces alone",
        "The problem 2 &lt;script&gt;",
        "surprisal, stored weights (scope trace, gamma_max 0.5",
        '<th scope="row" data-of="licence">not said</th><td data-of="traces">2</td>',
        '<th scope="row" data-of="licence">MIT</th><td data-of="traces">1</td>',
        '<td data-of="of those read">0.2%</td>',
        "2 h 03 min",
        "until this page",
        "9 a second",
        '<a href="traces.html">',
        '<a href="#part-11">Cost</a>',
    ):
        assert text in full_page, text
    assert full_page.count("<svg") == 7  # accuracy, loss, gamma, drift over steps, ess by bucket, weights, drift


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    text = report.page(
        RunPage(title="run", decision=None, results={}, training=tmp_path, scores=tmp_path, ingest=tmp_path)
    )
    parse(text)
    assert "<svg" not in text
    assert text.count('class="missing"') == 14
    assert "No results on the report split" in text


def test_costs_are_those_of_the_pipeline_run(tmp_path: Path) -> None:
    tracker = Tracker(fresh_store(tmp_path / "store"))
    parent = tracker.parent("p1", "run", Config())
    other = tracker.parent("p2", "run", Config())
    with tracker.stage("ingest", other, digest="x"), tracker.stage("train", parent, digest="a") as log:
        log.tag("dcod.reused_from", "r")
    with tracker.stage("gate", None, digest="c") as alone:
        assert parts.costs(alone) == []
    with tracker.stage("gate", parent, digest="b") as log:
        trained, running = parts.costs(log)
    assert (trained.stage, trained.reused) == ("train", True)
    assert trained.seconds is not None
    assert trained.seconds >= 0.0
    assert running == Cost("gate", None, False)


def test_a_refusal_is_shown_with_what_failed() -> None:
    text = report.page(RunPage(title="run", decision=decision(promote=False), results={}))
    assert "Refused" in text
    assert text.count("✗ fails") == 1
    assert text.count("✓ holds") == 2
    assert text.index("✗ fails") < text.index("2 checks hold") < text.index("✓ holds")  # what failed is not folded


def test_the_sentences_of_an_older_decision_stand_in_one_cell() -> None:
    reasons = (Reason("truncated", f"sums: 60.0% {HOSTILE}", False), Reason("improves", "sums: improved", True))
    text = report.page(RunPage(title="run", decision=replace(decision(), reasons=reasons), results={}))
    assert '✗ fails</span> truncated</th><td data-of="measured">sums: 60.0% &lt;script&gt;' in text
    assert '<td data-of="measured">sums: improved</td></tr>' in text
    assert 'data-of="limit"' not in text


def test_a_figure_of_stability_without_a_title_is_shown_by_its_name(tmp_path: Path) -> None:
    found = write_results(tmp_path / "student", 0.6, set())
    rows = tuple(replace(row, stability={"looping": 0.125, "second_thoughts": 2.34567}) for row in found.rows)
    text = report.page(RunPage(title="run", decision=None, results={"student": replace(found, rows=rows)}))
    assert '<td data-of="loops">12.5%</td><td data-of="second thoughts">2.346</td>' in text


def test_the_first_screen_says_what_the_correction_brought(full_page: str, tmp_path: Path) -> None:
    assert full_page.index("<header") < full_page.index("<nav")
    twin = replace(decision().comparisons[0], role="twin", difference=-0.05, low=-0.1, high=-0.01)
    given = answer(plain=False, full=[twin])
    text = report.page(
        RunPage(title="run", decision=decision(), results={}, training=tmp_path / "student", answer=given)
    )
    assert "The correction cost −5.0 points against plain fine-tuning (95 % interval −10.0 to −1.0; sums" in text
    assert "plain fine-tuning was not measured" not in text
    assert "plain fine-tuning was not measured" in report.page(RunPage(title="run", decision=decision(), results={}))


def test_the_way_on_is_linked(tmp_path: Path) -> None:
    write_traces(tmp_path / "traces.parquet", [])
    (tmp_path / "counts.json").write_text(json.dumps({"read": 3, "accepted": 3, "quarantined": {}}))
    links = {"MLflow run": "https://mlflow/#/experiments/1/runs/0123456789abcdef", "odd": "javascript:alert(1)"}
    text = report.page(RunPage(title="run", decision=None, results={}, ingest=tmp_path, card="card.html", links=links))
    assert '<a href="card.html">card.html</a>, beside this page' in text
    assert '<a href="https://mlflow/#/experiments/1/runs/0123456789abcdef">0123456789ab</a>' in text
    assert "<dt>odd</dt><dd>javascript:alert(1)</dd>" in text
    assert "card.html" not in report.page(RunPage(title="run", decision=None, results={}, ingest=tmp_path))


def test_a_start_that_is_the_champion_is_shown_once(tmp_path: Path) -> None:
    start, champion = (write_results(tmp_path / name, 0.3, set()) for name in ("a", "b"))
    other = write_results(tmp_path / "c", 0.6, set())
    results = {"start": start, "champion": champion, "student": other}
    text = report.page(RunPage(title="run", decision=None, results=results))
    assert text.count('<td data-of="model">start, the champion so far</td>') == 4  # two benchmarks, two tables
    assert '<td data-of="model">champion</td>' not in text
    results["champion"] = replace(champion, model=replace(champion.model, digest="other"))
    assert '<td data-of="model">champion</td>' in report.page(RunPage(title="run", decision=None, results=results))


def test_the_plots_come_before_the_settings_and_bring_their_values(full_page: str) -> None:
    assert full_page.count('download="') == 7
    assert full_page.index('download="ess_buckets.csv"') < full_page.index("Settings of the training")
    file = re.search(r'download="loss.csv" href="data:text/csv;charset=utf-8;base64,([^"]+)"', full_page)
    assert file
    assert base64.b64decode(file[1]).decode().startswith("panel,series,x,y,low,high\nLoss,")


def test_numbers_have_signs_not_hyphens(full_page: str) -> None:
    worse = replace(decision().comparisons[0], difference=-0.2, low=-0.35, high=-0.05)
    text = report.page(RunPage(title="run", decision=replace(decision(), comparisons=(worse,)), results={}))
    assert "−35.0 to −5.0" in text
    seen = re.sub(r"<(style|script)>.*?</(style|script)>|<svg.*?</svg>|<[^>]+>", " ", full_page + text, flags=re.DOTALL)
    assert not re.findall(r"(?<![\w-])-\d", seen)


def test_colours_are_seen_on_white() -> None:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len(figures.PALETTE) == 6
    assert min(1.05 / (light(colour) + 0.05) for colour in figures.PALETTE) >= 3.0


def test_every_plot_has_labels_and_units() -> None:
    made = {
        "drift": figures.drift_figure(DRIFT),
        "weights": figures.weight_figure({"edges": [0.0, 1.0, 2.0], "counts": {f"{i}": [1, 0 + i] for i in range(9)}}),
        "accuracy": figures.accuracy_figure({"start": of_summary(summary(0.3)), "student": of_summary(summary(0.6))}),
        **figures.training_figures(HISTORY),
    }
    assert set(made) == {"drift", "weights", "accuracy", "loss", "gamma_ess", "drift_steps", "ess_buckets"}
    for name, figure in made.items():
        figure.canvas.draw()
        assert figure.axes[-1].get_xlabel() or figure.axes[0].get_xlabel(), name
        assert figure.axes[0].get_title(loc="left"), name
        assert all(axes.get_ylabel() or name == "accuracy" for axes in figure.axes), name
    assert "nats" in made["drift"].axes[0].get_ylabel()
    assert len(made["drift_steps"].axes[0].get_legend().get_texts()) == 6
    assert len(made["weights"].axes[0].get_legend().get_texts()) == 6


def test_intervals_are_drawn_where_they_are() -> None:
    figure = figures.accuracy_figure({"student": of_summary(summary(0.6))})
    (bars,) = figure.axes[0].containers
    segments = bars[2][0].get_segments()
    assert [round(float(x), 6) for x, _ in segments[0]] == [50.0, 70.0]


def test_svg_is_the_same_every_time() -> None:
    assert figures.svg(figures.drift_figure(DRIFT), "d") == figures.svg(figures.drift_figure(DRIFT), "d")


def test_short_and_uncorrected_runs_are_drawn() -> None:
    made = figures.training_figures([{"step": 1, "loss": 2.0, "gamma": 0.0, "ess": 1.0}])
    assert set(made) == {"loss", "gamma_ess"}
    for figure in made.values():
        figures.svg(figure, "x")
    figures.svg(figures.drift_figure({"positions": [0], "count": [1], "mean_surprisal": [0.1]}), "x")
