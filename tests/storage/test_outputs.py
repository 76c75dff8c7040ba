"""Nothing of a user's is deleted: any verb onto any target, random trees, races, dead scratch, and no room to write."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dcod import storage
from dcod.cli import app
from dcod.errors import UserError
from dcod.storage import marks, outputs, room
from dcod.storage import temporary as scratch

PAGE = f"<!doctype html>\n<!-- {marks.FILE_MARK} -->\n"
# Every verb that writes, with inputs of the right kind; {out} is where.
VERBS = {
    "teach": ("teach", "--prompts", "data/traces.jsonl", "--teacher", "./model", "--out"),
    "ingest": ("ingest", "--traces", "data/traces.jsonl", "--student", "./model", "--out"),
    "score": ("score", "--traces", "traces", "--student", "./model", "--out"),
    "train": ("train", "--scores", "scores", "--student", "./model", "--out"),
    "evaluate": ("evaluate", "--student", "./model", "--out"),
    "promote": (
        "promote", "--results", "results", "--start-results", "results", "--student", "./model", "--start", "./model",
        "--out",
    ),
    "export": ("export", "models:/m@champion", "--out"),
    "inspect": ("inspect", "scores", "--student", "./model", "--no-open", "--out"),
    "compile": ("compile", "--preset", "quickstart", "--out"),
    "init": ("init", "data/traces.jsonl", "--student", "./model", "--force", "--out"),
}  # fmt: skip
FILES = ("inspect", "compile", "init")  # they write one file, the others a folder
TARGETS = (
    "foreign", "data", "PARENT", "notes.txt", "notes.yaml", "data/traces.jsonl", "to_file", "to_folder", "loop",
    "dangling", "model", "runs", "runs/artifacts", ".", "..", "", "/", "a[/red]", "mixed",
)  # fmt: skip
OWN = {"score": "traces", "train": "scores", "promote": "results"}  # a folder of dcod's that the verb reads


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: files of their own, a model, outputs of dcod, links."""
    home = tmp_path / "home"
    for name in ("foreign/a.txt", "data/traces.jsonl", "notes.txt", "notes.yaml", "runs/mlflow.db", "a[/red]/b.txt",
                 "model/config.json", "model/model.safetensors", "runs/artifacts/1/x"):  # fmt: skip
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"a user's {name}\n")
    for name in ("traces", "scores", "results", "mixed"):
        with storage.output_folder(home / name) as folder:
            (folder / "manifest.json").write_text("{}")
    (home / "mixed" / "mine.txt").write_text("put here later")
    (home / "to_file").symlink_to("notes.txt")
    (home / "to_folder").symlink_to("foreign")
    (home / "loop").symlink_to("loop")
    (home / "dangling").symlink_to("gone")
    monkeypatch.chdir(home)
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
    return home


def content(folder: Path) -> dict[str, object]:
    """All that is in a folder, byte for byte."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


def test_every_verb_onto_every_target_loses_nothing(world: Path) -> None:
    trials = 0
    before = content(world)
    for verb, arguments in VERBS.items():
        targets = [*TARGETS, OWN[verb]] if verb in OWN else [*TARGETS]
        for target in targets:
            given = str(world) if target == "PARENT" else target
            if verb in FILES and target == "dangling":
                continue  # a link to nothing may become a file: nothing is lost
            found = CliRunner().invoke(app, [*arguments, given])
            told = found.exception
            assert isinstance(told, UserError), (verb, given, told, found.output)
            assert "\n" not in str(told)
            assert content(world) == before, (verb, given)
            trials += 1
    assert trials >= 46, trials
    assert trials == len(VERBS) * len(TARGETS) + len(OWN) - len(FILES)


NAMES = st.sampled_from(["a", "b.txt", ".hidden", "traces.parquet", "manifest.json", "out", "model", ".out.abcdefgh"])
TREES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=20), min_size=1, max_size=6
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, pick=st.integers(0, 10_000), verb=st.sampled_from(sorted(VERBS)), up=st.booleans())
def test_a_random_tree_survives_any_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: dict[str, bytes], pick: int, verb: str, up: bool
) -> None:
    """Onto any path of the tree, by any verb; and by an output itself, which may come into being beside it."""
    root = tmp_path / "tree"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    monkeypatch.chdir(tmp_path)
    for name, data in tree.items():
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        except OSError:  # a file stands in the way, or a folder
            continue
    there = sorted(path for path in root.rglob("*"))
    before = content(root)
    chosen = root if up else there[pick % len(there)]
    files = {path for path in there if path.is_file()}
    if any(inner.is_relative_to(chosen) for inner in files):
        found = CliRunner().invoke(app, [*VERBS[verb], str(chosen)])
        assert found.exit_code != 0
        assert content(root) == before
    for out in (chosen, chosen / "new", root / "a" / "out"):
        try:
            with storage.output_folder(out) as folder:
                (folder / "made.txt").write_text("made")
        except UserError:
            continue
    for name, was in before.items():
        if was != "folder":
            assert (root / name).read_bytes() == was
    assert not list(tmp_path.rglob("*.dcod-*"))


def test_what_dcod_made_is_replaced_and_what_came_into_it_is_not(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for text in ("one", "two"):
        with storage.output_folder(out, later=["sub"]) as folder:
            (folder / "a.txt").write_text(text)
            (folder / "empty").mkdir()
        with storage.output_folder(out / "sub") as folder:
            (folder / "b.txt").write_text(text)
    assert (out / "a.txt").read_text() == "two"
    for foreign in ("mine.txt", "sub/mine.txt", "new/deep.txt", "empty/x"):
        (out / foreign).parent.mkdir(exist_ok=True)
        (out / foreign).write_text("mine")
        with pytest.raises(UserError, match=rf"out: holds .*{foreign.partition('/')[0]}.* did not write"):
            outputs.check_folder(out)
        (out / foreign).unlink()
        if foreign.startswith("new"):
            (out / "new").rmdir()
    outputs.check_folder(out)
    (out / marks.MARK).write_text('{"made_by": "another tool", "files": ["a.txt"], "later": []}')
    with pytest.raises(UserError, match="did not write"):
        outputs.check_folder(out)


def test_what_comes_while_dcod_works_stays_and_so_does_the_output(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def slow() -> None:
        with storage.output_folder(out) as folder:
            (folder / "made.txt").write_text("made")
            out.mkdir()
            (out / "mine.txt").write_text("mine")

    with pytest.raises(UserError, match=r"it came while dcod worked, so the output is .*out\.new-"):
        slow()
    assert (out / "mine.txt").read_text() == "mine"
    (kept,) = tmp_path.glob("out.new-*")
    assert (kept / "made.txt").read_text() == "made"
    assert {path.name for path in tmp_path.iterdir()} == {"out", kept.name}


@pytest.mark.parametrize("swaps", [True, False])
def test_two_runs_at_once_leave_one_whole_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool) -> None:
    if not swaps:
        monkeypatch.setattr(outputs, "_renameat2", lambda *_: False)
    out = tmp_path / "out"
    with storage.output_folder(out) as first:
        (first / "1.txt").write_text("1")
        with storage.output_folder(out) as second:
            (second / "2.txt").write_text("2")
        assert (out / "2.txt").is_file()
    assert sorted(path.name for path in out.iterdir()) == [marks.MARK, "1.txt"]
    file = tmp_path / "page.html"
    for text in ("old", "new"):
        outputs.write_file(file, PAGE + text)
    assert file.read_text() == PAGE + "new"
    file.write_text("mine")
    with pytest.raises(UserError, match="did not write it"):
        outputs.write_file(file, PAGE)
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "page.html"]


def test_an_output_between_two_renames_is_brought_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system cannot swap, a kill may come when the old output has gone and the new one has not come."""
    out = tmp_path / "out"
    with storage.output_folder(out) as folder:
        (folder / "old.txt").write_text("old")
    with scratch.held(tmp_path, scratch.beside(out)) as holder:
        out.rename(holder / "aside")
    assert (out / "old.txt").read_text() == "old"


def test_an_output_through_a_link_replaces_its_folder_and_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    for text in ("one", "two"):
        with storage.output_folder(tmp_path / "out") as folder:
            (folder / "a.txt").write_text(text)
    assert (tmp_path / "out").readlink() == Path("disk")
    assert (tmp_path / "disk" / "a.txt").read_text() == "two"


def test_an_output_takes_no_input_away_and_changes_none(tmp_path: Path) -> None:
    traces, inner = tmp_path / "traces", tmp_path / "traces" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "link").symlink_to("traces")
    for out, told in ((traces, "is"), (tmp_path, "holds"), (tmp_path / "link", "is"), (inner / "out", "lies in")):
        with pytest.raises(UserError, match=f": {told} its input traces"):
            outputs.check_apart(out, {"its input traces": traces}, {})
    outputs.check_apart(tmp_path / "out", {"its input traces": traces}, {"the cache": tmp_path / "cache"})
    with pytest.raises(UserError, match="holds the cache"):
        outputs.check_apart(tmp_path / "out", {}, {"the cache": tmp_path / "out" / "cache"})


def test_a_sweep_takes_dead_scratch_alone(tmp_path: Path) -> None:
    """Not what lives, and nothing of a user's that looks like it."""
    begin = scratch.beside(tmp_path / "out")
    for name in (f"{begin}0123456789abcdef", "dcod-0123456789abcdef", ".out.abcdefgh", "dcod-projects"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dcod-scratch.lock").write_text("")
        (tmp_path / name / "mine.txt").write_text("mine")
    before = content(tmp_path)
    code = f"""
        import os, sys
        from pathlib import Path
        from dcod.storage import temporary as scratch
        with scratch.held(Path(sys.argv[1]), {begin!r}) as one, scratch.scratch(Path(sys.argv[1])) as two:
            one.joinpath("new").mkdir()
            two.joinpath("left.txt").write_text("left")
            print(len(os.listdir(sys.argv[1])), flush=True)
            os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "6", done.stderr
    assert len(list(tmp_path.iterdir())) == 6
    with scratch.held(tmp_path, begin) as alive:
        scratch.sweep(tmp_path)
        assert alive.is_dir()
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EFBIG, "ulimit -f"),
    ],
)
def test_no_room_is_one_line_with_the_place_and_a_way_out(tmp_path: Path, number: int, told: str) -> None:
    def fill(error: Exception) -> None:
        with storage.output_folder(tmp_path / "out"):
            raise error

    raised = [OSError(number, os.strerror(number)), RuntimeError(f"I/O error (os error {number})")]
    for error in raised[: 2 if number != errno.EPERM else 1]:
        with pytest.raises(UserError, match=rf"out: .*{told}.*; .*run it again: what was there before is intact"):
            fill(error)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="unrelated"):
        fill(FileNotFoundError(errno.ENOENT, "unrelated"))


def test_a_database_without_room_is_named_by_who_knows_it() -> None:
    error = RuntimeError("(sqlite3.OperationalError) database or disk is full [SQL: …]")
    with pytest.raises(RuntimeError), room.writing("out"):
        raise error
    with (
        pytest.raises(UserError, match=r"^tracking\.uri sqlite:///x: there is no space left"),
        room.writing("out", database="tracking.uri sqlite:///x"),
    ):
        raise error


FILL = """
    import os, resource, signal, sqlite3, sys
    from pathlib import Path
    import pyarrow as pa, pyarrow.parquet as pq, torch
    from safetensors.torch import save_file
    from dcod import storage
    from dcod.storage import outputs, room
    from dcod.storage import parts as stores
    from dcod.score import parts
    from dcod.teach.attempts import SCHEMA, Attempts, Tally
    from dcod.train.checkpoints import Checkpoints
    from dcod.train.state import TrainState
    from dcod.errors import UserError
    from dcod.traces.scored import ScoredTrace

    here, much = Path(sys.argv[1]), os.urandom(100_000).hex()
    (here / "work").mkdir()
    tensors = {"x": torch.zeros(50_000)}
    model = torch.nn.Linear(300, 300)
    optimizer = torch.optim.SGD(model.parameters())
    long = list(range(1, 30_000))
    floats = torch.randn(len(long)).tolist()
    example = ScoredTrace("t", "p", [1], long, floats, floats, None)

    def folder(name, write):
        with storage.output_folder(here / name) as out:
            write(out)

    def attempts():
        kept = Attempts(stores.Parts(str(here / "work"), "attempts.parquet"), here, 1, 0)
        kept.tallies = {"q": Tally()}
        kept.add([dict.fromkeys(SCHEMA.names) | {"question": "q", "attempt": 0, "completion": much}])

    def temporary():
        with storage.scratch() as out:
            (out / "x").write_text(much)

    def database():
        with room.writing("out", database="tracking.uri sqlite:///m.db"):
            try:
                with sqlite3.connect(here / "work" / "m.db") as opened:
                    opened.execute("create table t (x)")
                    opened.execute("insert into t values (?)", [much])
            except sqlite3.OperationalError as error:
                raise RuntimeError(f"(sqlite3.OperationalError) {error}") from error

    def artifact():
        import shutil
        with room.writing("tracking.artifacts"):
            shutil.copy2(here / "big", here / "work" / "copied")

    (here / "big").write_text(much)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    table = pa.table({"x": [much]})
    trials = {
        "scores": lambda: folder("scores", lambda out: pq.write_table(table, out / "scores.parquet")),
        "part": lambda: parts.Parts(str(here / "parts")).put(3, [example], ["train"]),
        "checkpoint": lambda: Checkpoints(str(here / "kept")).save(TrainState(step=1), model, optimizer),
        "best": lambda: Checkpoints(str(here / "kept")).save_best(1, model),
        "student": lambda: folder("student", lambda out: save_file(tensors, out / "model.safetensors")),
        "results": lambda: folder("results", lambda out: storage.write_json(out / "summary.json", much)),
        "attempts": attempts,
        "artifacts": artifact,
        "page": lambda: outputs.write_file(here / "page.html", f"<!-- {outputs.marks.FILE_MARK} -->{much}"),
        "temporary": temporary,
        "database": database,
    }
    for name, trial in trials.items():
        try:
            trial()
            print(name, "no error")
        except UserError as error:
            print(name, error)
"""


def test_eleven_places_without_room(tmp_path: Path) -> None:
    """Under a limit on the size of files, which any user can set; each says its place, and leaves nothing half."""
    place, temporary = tmp_path / "here", tmp_path / "tmp"
    place.mkdir()
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FILL), str(place)],
        capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 11, done.stdout + done.stderr
    where = {
        "scores": "here/scores", "part": "here/parts/part-00000003", "checkpoint": "here/kept/step-00000001",
        "best": "here/kept/best-00000001",
        "student": "here/student", "results": "here/results/summary.json", "attempts": "here/work",
        "artifacts": "here/work/copied", "page": "here/page.html", "temporary": "tmp", "database": "sqlite:///m.db",
    }  # fmt: skip
    for line in lines:
        name, told = line.split(" ", 1)
        assert f"{where[name]}: a file would be larger than" in told, line
        assert told.endswith("and run it again: what was there before is intact"), line
    assert {path.name for path in place.iterdir()} <= {"big", "work", "parts", "kept"}
    assert not list(temporary.glob("dcod-*"))
    assert not list(place.rglob("*.dcod-*"))
