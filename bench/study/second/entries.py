"""What is compared: one entry a method; README.md says why each is there."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from bench.study.regimes import Regime
from dcod.config import TrainConfig

START, SFT, SUPPORT, PRESET = "start", "sft", "support_4", "surprisal"
Data = Literal["plain", "cross", "own", "own_unverified", "own_success", "own_success_within", "manner"]


@dataclass(frozen=True)
class Entry:
    """One method.

    Attributes:
        train: what it sets of a :class:`dcod.config.TrainConfig`.
        data: the traces as scored by the start; scored by students of the other half of the prompts (`cross`); with
            the start's own answers beside them, or with weights from the success of these (:mod:`.success`); or, of
            the pre-trained student alone, with the chance of success in the manner of each trace (`manner`).
        control: whether it only shows that another does more.
        negatives: whether a short second stage makes wrong traces less likely (:mod:`.negatives`).
    """

    train: Mapping[str, Any] = field(default_factory=dict)
    data: Data = "plain"
    control: bool = False
    negatives: bool = False


def _live(name: str, **knobs: object) -> dict[str, Any]:
    return {"correction": {"name": name, "weights": "live", **knobs}}


def _stored(name: str, **knobs: object) -> dict[str, Any]:
    return {"correction": {"name": name, "weights": "stored", **knobs}}


def _loss(name: str, **knobs: object) -> dict[str, Any]:
    return {"loss": {"name": name, **knobs}}


_GCE = _loss("gce", power=0.25)
_NATURAL: dict[str, Any] = {"gamma_max": 4.0}

ENTRIES: dict[str, Entry] = {
    SFT: Entry(),
    "support_1": Entry(_live("support", temperature=1.0)),
    "support_2": Entry(_live("support", temperature=2.0)),
    SUPPORT: Entry(_live("support", temperature=4.0)),
    "support_8": Entry(_live("support", temperature=8.0)),
    "support_4_plain": Entry(_live("support", temperature=4.0, normalise=False)),
    "support_4_stored": Entry(_stored("support", temperature=4.0)),
    "support_4_cross": Entry(_stored("support", temperature=4.0), data="cross"),
    "support_4_skew_kl": Entry({**_live("support", temperature=4.0), **_loss("skew_kl", skew=0.5)}),
    "support_4_todi": Entry({**_live("support", temperature=4.0), **_loss("todi", cross_entropy=0.5)}),
    "support_text_2": Entry(_live("support_text", temperature=2.0)),
    "support_text_4": Entry(_live("support_text", temperature=4.0)),
    "support_text_4_cross": Entry(_stored("support_text", temperature=4.0), data="cross"),
    PRESET: Entry(_live("surprisal")),
    "surprisal_strong": Entry(_live("surprisal", gamma_max=4.0)),
    "surprisal_stored": Entry(_stored("surprisal")),
    "surprisal_cross": Entry(_stored("surprisal"), data="cross"),
    "naturalness": Entry(_live("naturalness", **_NATURAL)),
    "naturalness_stored": Entry(_stored("naturalness", **_NATURAL)),
    "naturalness_cross": Entry(_stored("naturalness", **_NATURAL), data="cross"),
    "naturalness_gce": Entry({**_live("naturalness", **_NATURAL), **_GCE}),
    "naturalness_gce_cross": Entry({**_stored("naturalness", **_NATURAL), **_GCE}, data="cross"),
    "naturalness_deft": Entry({**_live("naturalness", **_NATURAL), **_loss("deft")}),
    "naturalness_batch": Entry(_live("naturalness", group="batch", **_NATURAL)),
    "naturalness_length": Entry(_live("naturalness", group="length", **_NATURAL)),
    "naturalness_local": Entry(_stored("local_naturalness", **_NATURAL)),
    "gce_25": Entry(_GCE),
    "gce_50": Entry(_loss("gce", power=0.5)),
    "deft": Entry(_loss("deft")),
    "dft": Entry({"focus": 1.0}),
    "token_support_mass": Entry(_stored("token_support", rule="mass", threshold=0.5)),
    "token_support_probability": Entry(_stored("token_support", rule="probability")),
    "token_support_threshold": Entry(_stored("token_support", rule="threshold", threshold=0.4)),
    "idft": Entry(_live("idft", normalise=False)),
    "rsr": Entry(_stored("rsr", **_NATURAL)),
    "iw_opd": Entry(_live("iw_opd")),
    "iw_sft": Entry(_live("iw_sft")),
    "prefix": Entry(_live("prefix")),
    "trace": Entry(_live("trace")),
    "trace_mean": Entry(_live("trace_mean")),
    "mixed": Entry(_live("mixed")),
    "trace_one_sided": Entry(_live("trace", one_sided=True)),
    "forward_kl": Entry(_loss("forward_kl")),
    "reverse_kl": Entry(_loss("reverse_kl")),
    "jsd": Entry(_loss("jsd")),
    "skew_kl_10": Entry(_loss("skew_kl", skew=0.1)),
    "skew_kl_50": Entry(_loss("skew_kl", skew=0.5)),
    "todi": Entry(_loss("todi", cross_entropy=0.5)),
    "own_answers": Entry(data="own"),
    "own_answers_gce": Entry(_GCE, data="own"),
    "own_unverified": Entry(data="own_unverified", control=True),
    "own_success": Entry(_stored("given"), data="own_success"),
    "own_success_within": Entry(_stored("given"), data="own_success_within"),
    "negatives": Entry(negatives=True),
    "shuffled": Entry(_live("shuffled"), control=True),
    "length_only": Entry(_live("length_only"), control=True),
    "student_likelihood_only": Entry(_live("student_likelihood_only"), control=True),
    "position_decay": Entry(_live("position_decay"), control=True),
}


def config(name: str, regime: Regime, rate: float, epochs: int) -> TrainConfig:
    """The training of an entry; everything but the entry is the same for all."""
    return TrainConfig.model_validate(
        {
            "learning_rate": rate,
            "epochs": epochs,
            "traces_per_step": regime.traces_per_step,
            "micro_batch_tokens": 16384,
            "layout": "padded",  # a fifth cheaper here than packed
            **ENTRIES[name].train,
        }
    )


@functools.cache
def unknown() -> tuple[str, ...]:
    """Entries that this dcod has not got yet."""
    out = []
    for name, entry in ENTRIES.items():
        try:
            TrainConfig.model_validate(dict(entry.train))
        except ValidationError:
            out.append(name)
    return tuple(out)


@functools.cache
def idle(name: str, regime: Regime) -> bool:
    """Whether an entry is SFT to the last bit there: it compares the traces of a prompt, which has one."""
    from dcod.objective.corrections import group_of

    if name in (START, SFT, *unknown()) or ENTRIES[name].data != "plain" or regime.traces > 1:
        return False
    made = config(name, regime, 1e-3, 1)
    plain = made.loss.name == "log" and made.focus == 0.0
    return plain and made.correction.name != "none" and group_of(made.correction) == "prompt"
