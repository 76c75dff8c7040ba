"""Typical mistakes and what is answered, as tests/golden/messages.txt: one line each, with the way out.

The file is to be read as a newcomer reads it. `make golden` rewrites it; look at what changed.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from dcod import cli
from tests.check.test_checks import lines, rows

GOLDEN = Path(__file__).parents[1] / "golden" / "messages.txt"
MISTAKES = r"""
run
run --preset quick
run --preset quickstart --config mine.yaml
run --config nofile.yaml
run --config broken.yaml
run --config list.yaml
run --config mine.yaml ingest.sources=[gone.jsonl]
run --config mine.yaml evaluate.benchmarks.0.source=gone.jsonl
presets gsm9k
config nonsense
config ingest.kep=correct
config trian.epochs=3
config train.lr=1e-4
config train.learning_rate=fast
config train.epochs=0
config student=tiny
config train.correction=surprisal
config train.correction.name=suprisal
config train.correction.name=shuffled
config train.focus=1 train.loss.name=gce
config ingest.sources=traces.jsonl
config evaluate.benchmarks.0.name=gsm8k
config 'evaluate.benchmarks=[{name: gsm8k, samples: 4, temperature: 0}]'
config evaluate.engine.name=openai
config cluster.train.num_nodes=2
config tracking.uri=http://me:hunter2hunter2@host
init gone.jsonl
init traces.jsonl --out mine.yaml
init odd.jsonl --student ./student --out new.yaml
init wrong.jsonl --student ./student --out new.yaml
init ragged.csv --student ./student --out new.yaml
init picture.png --student ./student --out new.yaml
init traces.jsonl --hold-out 0.1 --student ./student --out new.yaml
init bare.jsonl --hold-out 0.3 --student ./student --out new.yaml
init traces.jsonl --benchmark picture.png --student ./student --out new.yaml
init traces.jsonl --benchmark odd.jsonl --student ./student --out new.yaml
check --config mine.yaml student.model=./gone
check --config mine.yaml student.max_length=9999
check --config mine.yaml ingest.sources=[lone.jsonl]
check --config mine.yaml train.correction.name=prefix
check --config mine.yaml train.loss.name=forward_kl
check --config mine.yaml train.arms=auto
check --config mine.yaml evaluate.benchmarks.0.limit=8 promote.min_problems=1
check --config mine.yaml evaluate.benchmarks.0.limit=20
check --config mine.yaml 'evaluate.benchmarks=[{name: gsm9k}]'
check --config mine.yaml evaluate.benchmarks=[]
ingest --traces gone.jsonl --student ./student --out out
ingest --traces wrong.jsonl --student ./student --out out
ingest --traces bare.jsonl --student ./student --out out
ingest --traces traces.jsonl --student ./student --out out student.max_length=16
ingest --traces traces.jsonl --student ./student --out full
ingest --traces traces.jsonl --replay out --student ./student --out out
score --traces full --student ./student --out out
train --scores full --student ./student --out out
evaluate --student ./student --responses answers.jsonl --out out
schedule nightly
"""
PLANTED = {  # what a machine or a version says otherwise
    r"at 0x[0-9a-f]+": "at 0x…",
    r"(about [\d.]+ GiB needed), [\d.]+ GiB": r"\1, … GiB",
}


@pytest.fixture
def folder(tmp_path: Path, tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("student").symlink_to(tiny_student)
    lines(Path("traces.jsonl"), rows(60, each=2))
    lines(Path("lone.jsonl"), rows(60))
    lines(Path("wrong.jsonl"), ({**row, "gold": "x"} for row in rows(3)))
    lines(Path("bare.jsonl"), ({k: v for k, v in row.items() if k != "gold"} for row in rows(3)))
    lines(Path("problems.jsonl"), ({"problem": f"{n} + 7?", "answer": str(n + 7)} for n in range(130)))
    lines(Path("odd.jsonl"), [{"frage": "1 + 1?", "antwort": "2"}])
    Path("ragged.csv").write_text("prompt;completion;gold\n1 + 1?;It is 2\n")
    Path("picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\n\n")
    Path("broken.yaml").write_text("train: {epochs: 3\n")
    Path("list.yaml").write_text("- a\n- b\n")
    Path("full").mkdir()
    Path("full/thesis.txt").write_text("years of work")
    config = {
        "student": {"model": "./student", "max_length": 400},
        "ingest": {"sources": ["traces.jsonl"]},
        "train": {"correction": {"name": "surprisal"}},
        "evaluate": {"benchmarks": [{"name": "custom", "source": "problems.jsonl"}]},
        "tracking": {"uri": "sqlite:///mlflow.db"},
    }
    Path("mine.yaml").write_text(json.dumps(config))
    return tmp_path


def answered(
    folder: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The line that a mistake is answered with; of `dcod check` those that failed."""
    monkeypatch.setattr("sys.argv", ["dcod", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2, words
    out, error = capsys.readouterr()
    told = [line for line in out.splitlines() if line.startswith("failed")] if words[0] == "check" else []
    told = told or [line for line in error.splitlines() if line.startswith("dcod: ")]
    text = " / ".join(told).replace(str(folder), "").replace("dcod: ", "")
    for pattern, instead in PLANTED.items():
        text = re.sub(pattern, instead, text)
    return text


def test_typical_mistakes_are_answered_as_written_down(
    folder: Path, update_golden: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mistakes = MISTAKES.strip().splitlines()
    assert len(mistakes) >= 40
    written = ""
    for mistake in mistakes:
        text = answered(folder, shlex.split(mistake), monkeypatch, capsys)
        assert text, mistake
        assert "Traceback" not in text
        assert "hunter2" not in text
        written += f"$ dcod {mistake}\n  {text}\n"
    assert (folder / "full" / "thesis.txt").read_text() == "years of work"
    assert not (folder / "out").exists()
    if update_golden:
        GOLDEN.write_text(written, encoding="utf-8")
    assert written == GOLDEN.read_text(encoding="utf-8"), "messages changed; if they should, `make golden`"
