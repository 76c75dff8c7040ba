"""What hides passwords and keys: nothing of them is left, and nothing else is touched."""

from __future__ import annotations

import pytest

from dcod.config import Config, parse_config
from dcod.errors import UserError, hidden, holds_secret, one_line

SECRETS = [  # text, what must not be left of it
    ("http://me:PLANTED@host:5000/path", "PLANTED"),
    ("http://PLANTED@host", "PLANTED"),
    ("https://me:PLANTED/slash@host/v1", "PLANTED"),
    ("https://me:PL@NTED@host/v1", "NTED"),
    ("https://me:PLANTED%40x@[::1]:80/v1", "PLANTED"),
    ("postgresql+psycopg2://dcod:PLANTED@db/mlflow", "PLANTED"),
    ("s3://KEY:PLANTED@bucket/prefix", "PLANTED"),
    ("s3:/KEY:PLANTED@bucket/prefix", "PLANTED"),
    ("socks5://u:PLANTED@proxy:1080", "PLANTED"),
    ("https://h:80/x?to=https://u:PLANTED@other", "PLANTED"),
    ("Max retries exceeded with url: http://a:PLANTED@h/ (Caused by x)", "PLANTED"),
    ("https://h/x?token=PLANTED&kind=boxed", "PLANTED"),
    ("https://h/x?a=1&api_key=PLANTED", "PLANTED"),
    ("https://h/x?key=PLANTED", "PLANTED"),
    ("https://h/x#access_token=PLANTED", "PLANTED"),
    ("https://b.s3.amazonaws.com/o?X-Amz-Credential=PLANTED%2F2026&X-Amz-Signature=PLANTED", "PLANTED"),
    ("https://b.blob.core.windows.net/c?sv=1&sig=PLANTED", "PLANTED"),
    ("host=db user=dcod password=PLANTED", "PLANTED"),
    ("Authorization: Bearer PLANTED-PLANTED", "PLANTED"),
    ("Authorization: Basic bWU6UExBTlRFRA==", "bWU6UExBTlRFRA"),
    ("Incorrect API key provided: sk-proj-PLANTEDPLANTEDPLANTED0", "PLANTED"),
    ("hf_PLANTEDPLANTEDPLANTEDPLANTED", "PLANTED"),
    ("ghp_PLANTEDPLANTEDPLANTEDPLANTED0123", "PLANTED"),
    ("AKIAPLANTEDPLANTED99", "PLANTED"),
    ("eyJPLANTEDaa.eyJPLANTEDaa.PLANTED", "PLANTED"),
]
PLAIN = [
    "",
    "http://mlflow.dcod:5000/path@v1",
    "https://hub.example.org/@somebody/model",
    "http://[::1]:5000/a@b",
    "https://host:443/x@y",
    "sqlite:///runs/a@b.db",
    "postgresql://dcod@127.0.0.1:5432/mlflow",
    "models:/dcod-student@champion",
    "owner/name@main",
    "s3://bucket/pre@fix/traces.jsonl",
    "problems.jsonl?problem=question&answer=gold&kind=number",
    "reasoning-gym://chain_sum?problems=6&seed=5&min_terms=2&max_tokens=2",
    "teach.max_new_tokens=30 set teach.logprobs=false, HF_TOKEN is not set",
    "risk-of-a-long-name-that-goes-on-and-on and task-based-learning-for-models",
    "Bearer of bad news; the Basic idea",
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_no_secret_is_left(text: str, secret: str) -> None:
    shown = hidden(text)
    assert secret not in shown
    assert "***" in shown
    assert hidden(shown) == shown
    assert holds_secret(text)
    assert secret not in str(UserError(f"x: {text}"))
    assert secret not in one_line(ValueError(text))


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hidden(text) == text
    assert not holds_secret(text)


def test_the_rest_of_an_address_stays() -> None:
    assert (
        hidden("at https://me:x@host:5000/v1?a=1&token=y&b=2 now")
        == "at https://***@host:5000/v1?a=1&token=***&b=2 now"
    )


def test_values_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may say in its answer what it was sent."""
    names = ["OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "DCOD_WEBHOOK_URL"]
    names += ["MLFLOW_TRACKING_TOKEN", "DCOD_WEBHOOK_SECRET", "KUBEFLOW_TOKEN", "AWS_SESSION_TOKEN"]
    for number, name in enumerate(names):
        monkeypatch.setenv(name, f"planted value {number}")
        assert hidden(f"you sent 'planted value {number}'") == "you sent '***'"
    monkeypatch.setenv("OPENAI_API_KEY", "short")
    monkeypatch.setenv("KUBECONFIG", "/home/me/long/path")
    assert hidden("short, /home/me/long/path") == "short, /home/me/long/path"


PLACES = [
    "tracking.uri",
    "tracking.artifacts",
    "cluster.tracking",
    "cluster.kubeflow",
    "cluster.ui",
    "cluster.s3_endpoint",
    "cluster.image",
    "student.model",
    "student.revision",
    "promote.lease",
    "train.checkpoints.uri",
    "score.checkpoints.uri",
    "teach.work",
    "teach.model",
    "ingest.sources",
    "teach.prompts",
    "notify.url",
    "evaluate.engine.endpoint",
    "teach.engine.endpoint",
    "teach.engine.model",
    "cluster.gpu.node_selector",
]


def _set(place: str, value: str) -> str:
    """An override that puts a text into a place, as the type there wants it."""
    in_a_list = f"['{value}']"
    told = {"ingest.sources": in_a_list, "teach.prompts": in_a_list, "cluster.gpu.node_selector": f"{{a: '{value}'}}"}
    return f"{place}={told.get(place, value)}"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", ["https://me:PLANTED@host/v1", "https://host/?token=PLANTED", "sk-PLANTED" * 4])
def test_a_configuration_holds_none(place: str, secret: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config("{}", [_set(place, secret)])
    assert "PLANTED" not in str(caught.value)
    assert "environment" in str(caught.value)


def test_every_place_was_tried() -> None:
    """All texts of the configuration that may hold an address, but for those that allow a few words only."""
    assert len(PLACES) == 21
    whole = Config().model_dump()
    for place in PLACES:
        section = whole
        for part in place.split("."):
            section = section[part]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["notify=https://hooks.example.org/PLANTED"], "{}"),
        (["notify.url=[https://hooks.example.org/PLANTED]"], "{}"),
        (["nowhere https://me:PLANTED@h/"], "{}"),
        (["seed.x=https://me:PLANTED@h/"], "seed: 1"),
        (["seed=https://me:PLANTED@h/"], "{}"),
        (["teach.engine={name: openai, endpoint: 'ftp://me:PLANTED@h', model: m}"], "{}"),
        ([], "tracking: {uri: 'http://me:PLANTED@h', [}"),
        ([], "tracking: {uri: 'http://me:PLANTED@h', uri: 'http://me:PLANTED@h'}"),
    ],
)
def test_no_message_of_a_configuration_shows_one(overrides: list[str], text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(text, overrides)
    assert "PLANTED" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_pydantic_s_own_message_shows_none() -> None:
    with pytest.raises(ValueError, match="password or key") as caught:
        Config.model_validate({"tracking": {"uri": "http://me:PLANTED@h"}})
    assert "PLANTED" not in str(caught.value)
