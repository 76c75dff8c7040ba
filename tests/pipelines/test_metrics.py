"""Kubeflow's page, its comparison of runs and its MLflow plugin read the metadata of a Metrics artifact."""

from pathlib import Path

import pytest
from kfp import dsl, local

from dcod import storage
from dcod.config import Config
from dcod.stages import headlines
from dcod.stages.headlines import of_stage
from dcod_components.fetch import fetch
from dcod_components.settle import settle
from tests.tracked import fresh_store


def test_a_stage_puts_its_figures_where_the_page_reads_them(tmp_path: Path, tiny_student: Path) -> None:
    values = {"student": {"model": str(tiny_student)}, "tracking": fresh_store(tmp_path / "store").model_dump()}
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=True)

    @dsl.pipeline
    def one_stage(config: str) -> dsl.Metrics:
        settled = settle(config=config, compiled="", pipeline="p", train_max_length=100)
        fetched = fetch(config=settled.outputs["settled"], pipeline="p", which="start")
        return fetched.outputs["metrics"]  # type: ignore[no-any-return]

    task = one_stage(config=Config.model_validate(values).to_json())
    assert task.output.metadata["bytes"] > 1000
    (settled,) = (tmp_path / "root").rglob("settled")
    assert Config.model_validate_json(settled.read_text()).student.max_length == 100


def test_every_component_of_a_stage_does() -> None:
    folder = Path(__file__).resolve().parents[2] / "components"
    files = [path for path in folder.glob("*.py") if path.stem not in ("__init__", "finish", "look", "settle")]
    assert len(files) >= 12
    assert [path.name for path in files if "metrics.log_metric(" not in path.read_text(encoding="utf-8")] == []


def test_a_glance_has_words_and_units() -> None:
    told = headlines.glance({"accepted": 1200.0, "quarantined": 6.0, "problems": 3.0, "reads": 4.0})
    assert told == "1,200 traces accepted, 6 refused"
    assert headlines.glance({"sums/gate/accuracy": 0.2034, "sums/gate/n": 59.0}) == "sums gate 20.3% right"
    scored = {"traces": 4.0, "mean_student_logprob": -0.3, "mean_student_probability": 0.78}
    assert headlines.glance(scored) == "4 traces, mean student probability of a token 0.78"
    assert headlines.glance({"promoted": 0.0}) == "promote: no"
    assert headlines.glance({"mean_gamma": 0.9679, "mean_ess": 0.5855}) == (
        "correction γ 0.97, effective sample size 59%"
    )
    assert set(headlines._FIRST) >= {"accepted", "mean_gamma", "accuracy", "promoted"}


def test_where_the_refused_rows_lie_is_said_where_they_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "traces" / "quarantine.parquet").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def told(folder: Path, refused: float) -> str:
        return headlines.line("ingest", Config(), folder, {}, {"accepted": 3.0, "quarantined": refused})

    folder = tmp_path / "runs" / "traces"
    assert told(folder, 6.0) == "3 traces accepted, 6 refused: runs/traces/quarantine.parquet"
    assert told(folder, 0.0) == "3 traces accepted, 0 refused"
    assert told(tmp_path / "none", 6.0) == "3 traces accepted, 6 refused"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert told(folder, 6.0).endswith(f": {folder}/quarantine.parquet")


def test_an_evaluation_that_asked_nothing_says_why(tmp_path: Path) -> None:
    """Seen: with examples off, as they are by default, the line of the start with examples ended in nothing."""
    shown, off = Config.model_validate({"evaluate": {"few_shot": 3}}), Config()

    def told(config: Config, asked: object, **options: bool) -> str:
        storage.write_json(tmp_path / "summary.json", {"benchmarks": asked})
        return headlines.line("evaluate", config, tmp_path, options, {})

    assert told(off, {}, few_shot=True) == "not asked: evaluate.few_shot=0"
    assert told(shown, {"sums": {}}, few_shot=True) == "not asked: there is no report problem"
    assert told(shown, {}, few_shot=True) == "not asked: no trace for training is a single exchange"
    assert told(shown, {"sums": {}}, few_shot=False) == ""
    figures = {"sums/report/accuracy": 0.5}
    assert headlines.line("evaluate", shown, tmp_path, {"few_shot": True}, figures) == "sums report 50.0% right"
    assert headlines.line("evaluate", shown, tmp_path / "empty shard", {"few_shot": True}, {}) == ""


def test_the_headlines_come_first_and_are_few() -> None:
    metrics = {f"gsm8k/report/{name}": 1.0 for name in ("low", "mean_tokens", "accuracy")} | {"steps": float("nan")}
    assert list(of_stage(metrics)) == ["gsm8k/report/accuracy", "gsm8k/report/low"]
    assert len(of_stage({f"{n}/accuracy": 0.5 for n in range(100)})) == 30


def test_a_run_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCOD_REVISION", "abc")
    headlines._commit.cache_clear()
    cluster = {
        "image": "registry.example/dcod@sha256:1",
        "kubeflow": "http://localhost:8888",
        "ui": "https://kf.example/",
    }
    found = headlines.tags(Config.model_validate({"cluster": cluster}), "run-7")
    headlines._commit.cache_clear()
    assert found == {
        "mlflow.source.git.commit": "abc",
        "dcod.image": "registry.example/dcod@sha256:1",
        "dcod.kubeflow": "https://kf.example/#/runs/details/run-7",
    }
