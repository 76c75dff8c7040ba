"""`bench/gpu` itself, without a GPU: its refusals, its order and limits, its pack, and the study on a device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench import device
from bench.device import Device
from bench.gpu import __main__ as gpu
from bench.gpu import card, pack, study, wheels
from bench.gpu.__main__ import PARTS, Part
from bench.pretrained.second import __main__ as pretrained
from bench.study import lab
from bench.study.regimes import Size
from bench.study.second import __main__ as second
from bench.study.second import cells, choice, midsize, plan
from bench.study.second.__main__ import Stage
from bench.study.second.cells import Cell
from bench.study.second.entries import ENTRIES, PRESET, SFT
from bench.study.second.regimes import LATER, REGIMES, find

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30


def with_card(
    monkeypatch: pytest.MonkeyPatch, usable: bool = True, capability: tuple[int, int] = (9, 0), gib: float = 80
) -> None:
    """A machine as it would be with such a card."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card X")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    found = SimpleNamespace(total_memory=gib * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: found)
    monkeypatch.setattr(card, "_smi", lambda what: "470.82.01" if what == "driver_version" else "Card X")


def test_a_card_that_will_do_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_card(monkeypatch)
    assert card.refusal("cuda") == ""
    assert card.refusal("cpu") == ""


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ({"usable": False}, "cannot use the GPU with driver 470.82.01"),
        ({"capability": (7, 5)}, "Card X (compute capability 7.5) lacks bfloat16"),
        ({"gib": 40}, "Card X has 40 GiB of memory, this needs 70"),
    ],
)
def test_a_card_that_will_not_do_is_refused_in_one_line(
    machine: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    with_card(monkeypatch, **machine)
    assert card.main("cuda") == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    with pytest.raises(typer.Exit) as caught:
        gpu.main(out=tmp_path / "out", device="cuda", quick=True, seconds=480, only=[])
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == told
    assert not (tmp_path / "out").exists()  # nothing half-run


def test_without_a_gpu_the_command_ends_in_one_line(tmp_path: Path) -> None:
    """As it is started, in a process that sees no GPU even where there is one."""
    command = [sys.executable, "-m", "bench.gpu", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("bench/gpu: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_steps_stand_in_the_order_of_their_worth() -> None:
    names = [part.name for part in PARTS]
    assert names == [
        *("tests", "training 1.5B", "scoring 1.5B", "training 0.5B", "curves", "noise", "static 1.5B", "study"),
    ]  # fmt: skip
    assert all(0 < part.seconds <= 180 for part in PARTS)
    assert [part.name for part in gpu.chosen(["noise", "tests"])] == ["tests", "noise"]
    with pytest.raises(typer.BadParameter, match="no such step"):
        gpu.chosen(["nothing"])


def test_eight_minutes_are_kept_and_every_step_is_kept_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps that each take all they may: the last have no time left; what was found is there before the next begins."""
    clock, limits = [0.0], dict[str, float]()
    with_card(monkeypatch)
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: clock[0])
    facts = {"date": "2020-01-01", "device": "cuda", "card": "X", "python": "3", "memory_gib": 80, "driver": "1"}
    monkeypatch.setattr(card, "facts", lambda _: {**facts, "cuda": "13", "versions": {}})
    monkeypatch.setattr(card, "matmul_rate", lambda *_: {"flops": 1e15, "bytes_per_second": 1e12})

    def run(part: Part, _: str, quick: bool, out: Path, limit: float) -> dict[str, Any]:
        kept = json.loads((out / "results.json").read_text())
        assert set(kept["steps"]) == set(limits)
        assert (out / "RESULTS.md").exists()
        limits[part.name] = limit
        clock[0] += limit
        return {"ended": f"cut off after {limit:.0f} s", "seconds": limit, "found": {}, "tail": "slow"}

    monkeypatch.setattr(gpu, "run", run)
    gpu.main(out=tmp_path, device="cuda", quick=False, seconds=480, only=[])
    assert clock[0] == 480
    assert limits == {
        "tests": 130,
        "training 1.5B": 180,
        "scoring 1.5B": 50,
        "training 0.5B": 60,
        "curves": 45,
        "noise": 15,
    }
    steps = json.loads((tmp_path / "results.json").read_text())["steps"]
    assert {name for name, row in steps.items() if row["ended"] == "no time was left"} == {"static 1.5B", "study"}
    assert "| study | no time was left | 0.0 |" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "RESULTS.md"}


def test_a_step_that_hangs_is_cut_off_and_what_it_said_is_kept(tmp_path: Path) -> None:
    hangs = ("timeit", "-n1", "-r1", "import time; print('so far', flush=True); time.sleep(600)")
    row = gpu.run(Part("noise", 1, hangs), "cpu", True, tmp_path, 1.5)
    assert row["ended"] == "cut off after 2 s"
    assert row["seconds"] < 30
    assert "so far" in row["tail"]
    assert "===== noise =====" in (tmp_path / "log.txt").read_text()
    fails = gpu.run(Part("noise", 60, ("bench.gpu.nothing",)), "cpu", True, tmp_path, 60)
    assert fails["ended"] == 1
    assert "No module named bench.gpu.nothing" in fails["tail"]


def test_the_list_of_wheels_has_versions_and_reasons_and_nothing_large() -> None:
    found = pack.versions()
    assert set(found) == set(pack.WHEELS)
    assert all(version[0].isdigit() for version in found.values())
    assert all(why for why in pack.WHEELS.values())
    assert {"pydantic", "math-verify", "trl", "liger-kernel"} <= set(found)
    assert not {"torch", "transformers", "triton", "accelerate", "numpy"} & set(found)
    listed = (ROOT / "bench" / "requirements.txt").read_text()
    assert f"trl=={found['trl']}" in listed  # the same comparison as on a CPU


def test_the_pack_is_the_checkout_and_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(folder: Path, python: str) -> None:
        (folder / f"one-1-cp{python.replace('.', '')}-none-any.whl").write_bytes(b"x" * 2**20)

    monkeypatch.setattr(pack, "download", download)
    pack.main(python="3.12", out=tmp_path / "pack")
    said = capsys.readouterr().out
    assert "MiB (wheels 1.0, dcod " in said
    assert float(said.split(": ")[1].split(" MiB")[0]) < pack.MOST_MIB
    code = tmp_path / "pack" / "dcod"
    assert os.access(code / "bench" / "gpu" / "run.sh", os.X_OK)
    assert (code / "dcod_components").is_symlink()
    assert not (code / ".venv").exists()
    lines = (tmp_path / "pack" / "WHEELS").read_text().splitlines()
    assert lines[0] == "for Python 3.12, manylinux, x86_64"
    assert len(lines) == 1 + len(pack.WHEELS)
    monkeypatch.setattr(pack, "MOST_MIB", 1)
    with pytest.raises(SystemExit, match="are more than 1"):
        pack.main(python="3.12", out=tmp_path / "pack")


def test_a_wheel_that_does_not_fit_is_named_before_anything_is_installed(tmp_path: Path) -> None:
    """By `run.sh` of a pack, whose checkout holds no more than it needs for that."""
    code, kept = tmp_path / "dcod" / "bench" / "gpu", tmp_path / "wheels"
    code.mkdir(parents=True)
    kept.mkdir()
    for name in ("run.sh", "wheels.py"):
        (code / name).write_bytes((ROOT / "bench" / "gpu" / name).read_bytes())
    for name in ("fine-1.0-py3-none-any.whl", "old-1.0-cp27-cp27m-manylinux1_x86_64.whl"):
        (kept / name).write_bytes(b"")
    assert wheels.unfit(kept) == ["old-1.0-cp27-cp27m-manylinux1_x86_64.whl"]
    plain = {name: value for name, value in os.environ.items() if name != "GPU_PACK_INSTALLED"}
    done = subprocess.run(
        ["bash", str(code / "run.sh")], env={**plain, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    version = "{}.{}".format(*sys.version_info[:2])
    assert done.returncode == 2
    assert done.stderr == (
        f"gpu-pack: not for this Python {version}: old-1.0-cp27-cp27m-manylinux1_x86_64.whl; make it anew with "
        f"`make gpu-pack GPU_PYTHON={version}`\n"
    )


def needed(names: Iterable[str]) -> set[str]:
    """Packages with all that they need, as they are installed here."""
    found, todo = set[str](), list(names)
    while todo:
        name = canonicalize_name(todo.pop())
        if name not in found:
            found.add(name)
            with suppress(metadata.PackageNotFoundError):  # the build of torch here has no triton
                wanted = [Requirement(line) for line in metadata.requires(name) or []]
                todo += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def test_the_host_and_the_wheels_are_enough() -> None:
    """Whatever is in neither is not to be found: mlflow, kfp and boto3 among it, which no host of a student needs."""
    there = needed(pack.HOST) | set(pack.WHEELS) | {"liger-kernel", "rich"}
    blocked = [
        module
        for module, owners in metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & there and not module.startswith(("dcod", "_"))
    ]
    assert {"mlflow", "kfp", "boto3", "kubernetes", "sklearn"} <= set(blocked)
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "import dcod.train.loop, dcod.score.parts, dcod.evaluate.summaries, dcod.engines.transformers\n"
        "import dcod.stages.train, dcod.stages.score, dcod.stages.evaluate\n"
        "import bench.gpu.training, bench.gpu.scoring, bench.gpu.curves, bench.gpu.noise, bench.gpu.study\n"
        "import tests.gpu.test_kills, tests.gpu.test_memory, tests.gpu.test_noise, tests.gpu.test_trajectories"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_study_runs_where_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with_card(monkeypatch, gib=16)
    assert device.used(Device.CUDA) == device.used(Device.AUTO) == "cuda"
    assert device.beside(tmp_path, "cuda") == tmp_path / "cuda"
    assert device.used(Device.CPU) == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert device.beside(tmp_path, "cpu") == tmp_path
    with_card(monkeypatch, capability=(7, 0))
    assert device.used(Device.AUTO) == "cpu"
    with pytest.raises(typer.Exit) as caught:
        device.used(Device.CUDA)
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err.startswith("--device=cuda: Card X (compute capability 7.0) lacks bfloat16")


@pytest.mark.parametrize("run", [second.study, pretrained.pretrained])
def test_the_studies_refuse_a_gpu_that_is_not_there(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with_card(monkeypatch, usable=False)
    with pytest.raises(typer.Exit) as caught:
        run(stage=Stage.TABLES, device=Device.CUDA, results=tmp_path / "results", work=tmp_path / "work")
    assert caught.value.exit_code == 2
    told = capsys.readouterr()
    assert told.err.startswith("--device=cuda: torch")
    assert (told.err.count("\n"), told.out) == (1, "")
    assert list(tmp_path.iterdir()) == []


def test_the_mid_size_student_has_thirty_million_weights_and_is_none_of_the_protocol() -> None:
    regime = LATER["midsize"]
    with torch.device("meta"):
        count = lab.network(regime.student, 0).num_parameters()
    assert 28e6 < count < 33e6
    assert find("midsize") is regime
    assert "midsize" not in REGIMES
    digests = [
        lab.digest(one) for one in (regime, replace(regime, student=lab.STUDENT), replace(regime, start_batch=0))
    ]
    assert len(set(digests)) == 3


def test_the_mid_size_student_is_made_by_its_own_rate_and_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a tiny size: the start, and a cell of it on a start's traces."""
    small = replace(
        LATER["midsize"], student=Size(32, 2, 64), start_steps=3, start_batch=5, test_problems=7, teacher_steps=2,
        train_problems=8, traces=2, verified=False,
    )  # fmt: skip
    monkeypatch.setitem(LATER, "midsize", small)
    fitted, fit = list[tuple[int, int, int, float]](), lab.fit

    def noted(model: Any, examples: Any, steps: int, batch: int, rate: float, seed: int) -> None:
        fitted.append((len(examples), steps, batch, rate))
        fit(model, examples, steps, batch, rate, seed)

    monkeypatch.setattr(lab, "fit", noted)
    folder = lab.start(small, 0, tmp_path)
    assert fitted == [(15, 3, 5, 3e-4)]
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 32
    row = cells.row_of(Cell("midsize", "sft", 2e-4, 1, 0), tmp_path)
    assert set(row["validation"]) == {"greedy", "0.3", "0.6", "1.0"}


def test_the_mid_size_student_has_the_stages_of_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (midsize, plan, choice):  # narrowed copies: other tests want the whole
        monkeypatch.setattr(module, "REGIMES", dict(REGIMES), raising=False)
        monkeypatch.setattr(module, "ENTRIES", dict(ENTRIES))
    monkeypatch.setattr(choice, "GRID", choice.GRID)
    monkeypatch.setattr(choice, "SHORTLIST", choice.SHORTLIST)
    midsize.narrow()
    assert list(midsize.REGIMES) == ["midsize"]
    assert set(midsize.ENTRIES) == set(midsize.METHODS)
    assert choice.grid((1.0, 2.0)) == ((1.0, 1), (1.0, 2), (1.0, 4), (2.0, 1), (2.0, 2), (2.0, 4))
    monkeypatch.setitem(plan.REGIMES, "midsize", LATER["midsize"])
    cells_of_it = list(plan.tuning([SFT, PRESET], ["midsize"], {}))
    assert {cell.rate for cell in cells_of_it if cell.method == PRESET} == set(midsize.RATES)
    assert len(cells_of_it) == 5 + 2 * 2 * 9


def test_the_step_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study.json"
    for name, value in (("DEVICE", "cpu"), ("QUICK", "1"), ("OUT", str(out))):
        monkeypatch.setenv(f"GPU_BENCH_{name}", value)
    monkeypatch.setitem(REGIMES, study.SMALL, REGIMES[study.SMALL])  # put back afterwards
    threads = torch.get_num_threads()
    study.main()
    torch.set_num_threads(threads)
    found = json.loads(out.read_text())
    assert list(found) == ["mid-size student", "teacher", "start", "traces", "cell of sft", "cell of naturalness"]
    assert found["mid-size student"]["whole_start_seconds"] > 0
    assert found["cell of sft"]["validation"].keys() == {"greedy", "0.3", "0.6", "1.0"}
