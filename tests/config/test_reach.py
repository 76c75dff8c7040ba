"""What a run on the cluster gets for what exists here only, and that the rest is refused at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dcod.config import Config, parse_config
from dcod.config.cluster import ClusterConfig, GpuConfig
from dcod.config.reach import for_cluster
from dcod.errors import UserError

CLUSTER: dict[str, Any] = {"tracking": "http://mlflow:5000", "storage": "s3://dcod/work/"}


def there(cluster: dict[str, Any], **values: Any) -> Config:
    return for_cluster(Config.model_validate(values | {"cluster": cluster}))


def test_places_of_this_machine_move_and_those_that_pods_reach_stay() -> None:
    moved = there(CLUSTER, student={"model": "owner/name"})
    assert moved.tracking.uri == "http://mlflow:5000"
    assert moved.promote.lease == "s3://dcod/work/promotion.lease"
    assert moved.teach.work == "s3://dcod/work/teach"
    assert moved.train.checkpoints.uri == moved.score.checkpoints.uri == "s3://dcod/work/checkpoints"
    checkpoints = {"checkpoints": {"uri": "/mnt/dcod/steps"}}
    reached = there(
        {"storage": "s3://dcod/work"},
        tracking={"uri": "https://elsewhere"},
        promote={"lease": "s3://other/lease"},
        train=checkpoints,
        score={"checkpoints": {"uri": ""}},
        ingest={
            "sources": [
                "/mnt/dcod/traces/*.jsonl",
                "s3://dcod/*.jsonl",
                "hub://someone/traces",
                "file:///mnt/dcod/x.jsonl",
            ]
        },
        student={"model": "/mnt/dcod/student"},
        evaluate={"benchmarks": [{"name": "gsm8k"}, {"name": "math500", "source": "s3://dcod/math.jsonl"}]},
    )
    assert (reached.tracking.uri, reached.promote.lease) == ("https://elsewhere", "s3://other/lease")
    assert (reached.train.checkpoints.uri, reached.score.checkpoints.uri) == ("/mnt/dcod/steps", "")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ingest": {"sources": ["traces/*.jsonl"]}}, r"traces/\*\.jsonl: a file of this machine"),
        (
            {"ingest": {"sources": ["s3://dcod/a.jsonl", "absent.jsonl"]}},
            "cluster: absent.jsonl: a file",
        ),
        ({"ingest": {"sources": ["file:///home/traces.jsonl"]}}, "file:///home/traces.jsonl: a file of this machine"),
        ({"evaluate": {"benchmarks": [{"name": "custom", "source": "own.jsonl?problem=q&answer=a"}]}}, r"own\.jsonl\?"),
        ({"student": {"model": "~/student"}}, "student.model ~/student: a folder of this machine"),
        ({"student": {"model": "owner/here"}}, "student.model owner/here: a folder of this machine"),
        ({"notify": {"url": "environment"}}, r"cluster\.secrets\.webhook"),
        ({"teach": {"model": "~/teacher", "enough": 2}}, "teach.model ~/teacher: a folder of this machine"),
    ],
)
def test_what_no_pod_reaches_is_refused(
    values: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        there(CLUSTER, **values)


def test_a_teacher_is_looked_for_where_a_run_asks_it() -> None:
    there(CLUSTER, teach={"model": "~/teacher"})
    asked = {"teach": {"model": "owner/teacher", "enough": 2}, "promote": {"lease": "s3://dcod/lease"}}
    with pytest.raises(UserError, match=r"where a teacher's attempts are kept \(teach\.work\)"):
        there({"tracking": "http://mlflow:5000"}, **asked)


def test_a_webhook_on_a_cluster_needs_its_secret() -> None:
    notify = {"url": "environment"}
    with pytest.raises(UserError, match=r"cluster\.secrets\.webhook"):
        there(CLUSTER, notify=notify)
    assert there(CLUSTER | {"secrets": {"webhook": "dcod-webhook"}}, notify=notify).notify.url == "environment"


def test_the_guide_names_every_setting_and_its_example_is_good() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(# mine.yaml.*?)```", guide, re.DOTALL)
    sent = for_cluster(parse_config(example))
    assert sent.promote.lease == "s3://dcod/work/promotion.lease"
    assert sent.train.checkpoints.uri == sent.score.checkpoints.uri == "s3://dcod/work/checkpoints"
    named = set(re.findall(r"[a-z_0-9]+", guide))
    assert named >= ClusterConfig.model_fields.keys()
    assert named >= GpuConfig.model_fields.keys()
