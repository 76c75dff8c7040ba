"""The sections ``train.correction`` and ``train.loss``: the weights of the supervision, and what is matched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticKnownError

from dcod.config.base import Positive, Section, Share

_START, _NOTHING = "what the start alone thinks", "nothing that the student thinks"
_NOT_CROSSED = {
    **dict.fromkeys(("token_support", "rsr", "local_naturalness"), _START),
    "success": "the answers of a student of its own",
    **dict.fromkeys(("given", "position_decay", "length_only"), _NOTHING),
}


_CONTROL = "is a control of the study, no correction: Python alone takes it (CorrectionConfig); use none"


def _withdrawn(points: str, successor: str) -> str:
    brought = f"{points} points against plain fine-tuning in the mean over the study's situations"
    return f"is withdrawn: {brought} (docs/method.md, section 6.1); use {successor}"


WITHDRAWN = {  # names that no configuration file takes any more, and what to use instead
    "iw_sft": _withdrawn("+1.3", "naturalness"),
    "local_naturalness": _withdrawn("-3.5", "naturalness"),
    "rsr": _withdrawn("-2.8", "naturalness"),
    "mixed": _withdrawn("-4.9", "trace"),
    "iw_opd": _withdrawn("+1.6", "trace_mean"),
    "token_support": _withdrawn("at best -2.7", "support_text"),
    "idft": _withdrawn("-45.9", "none (with train.loss.name=gce)"),
    **dict.fromkeys(("position_decay", "shuffled", "length_only", "student_likelihood_only"), _CONTROL),
}


_FAMILY = (  # on one page, dcod/objective/corrections/_family.py
    *("none", "support", "support_text", "prefix", "trace", "trace_mean", "mixed", "surprisal"),
    *("naturalness", "local_naturalness", "rsr", "success", "iw_sft", "iw_opd", "idft", "token_support", "given"),
    *("position_decay", "shuffled", "length_only", "student_likelihood_only"),
)
_FOLDER = Path(__file__).parents[1] / "objective" / "corrections"  # any other: a file of its own, by its name
_NAMES = (*_FAMILY, *sorted(path.stem for path in _FOLDER.glob("[!_]*.py")))
_OFFERED = [name for name in _NAMES if name not in WITHDRAWN]
if TYPE_CHECKING:
    CorrectionName = str
else:
    CorrectionName = Literal[_NAMES]


class CorrectionConfig(Section):
    """Which weights the supervision gets; see docs/method.md for the symbols."""

    name: CorrectionName = Field(
        "none",
        description="The correction; `none` is plain fine-tuning (SFT).",
        examples=["surprisal"],
        json_schema_extra={"enum": [*_OFFERED]},
    )
    scope: Literal["token", "trace"] = Field(
        "trace", description="`surprisal` only: the running sum before each token, or the sum of the trace."
    )
    rho: Share = Field(0.5, description="Of `mixed`, withdrawn: the share of the log-ratios from t on.")
    base: Literal["prefix", "trace", "mixed", "surprisal"] = Field(
        "trace", description="Of the study's control `shuffled`: whose weights go to another trace of the prompt."
    )
    group: Literal["auto", "prompt", "position", "length", "batch"] = Field(
        "auto", description="What weights are compared within; `auto` is the correction's own."
    )
    weights: Literal["stored", "live", "cross"] = Field(
        "stored",
        description="From the score stage; from the same forward pass with statistics lagged one step; or, frozen, "
        "from students fine-tuned on half of the prompts each, which score the other half: twice the training.",
    )
    gamma_max: Annotated[float, Field(ge=0.0, le=4.0)] = Field(
        1.0, description="gamma, the strength of the correction, is at most this; 0 switches it off.", examples=[4.0]
    )
    ess_floor: Share = Field(
        0.3, description="gamma is lowered until the effective sample size is this share of the traces or tokens."
    )
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="lambda, of the running sums.", examples=[0.99]
    )
    clip: Annotated[float, Field(gt=0.0)] = Field(2.0, description="c, on each per-token log-ratio.")
    one_sided: bool = Field(False, description="Clip log-ratios to <= 0, so that no slip of the teacher is raised.")
    clip_high: Annotated[float, Field(ge=0.0)] | Literal["clip"] = Field(
        "clip",
        description="The upper end of the clip; `clip`: c, too. A narrow one raises little and lowers freely.",
        examples=[0.2],
    )
    prefix_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0,
        description="Ratios of this first share of a trace count; behind it `prefix` stays what it was.",
        examples=[0.5],
    )
    truncate: Annotated[float, Field(ge=1.0)] = Field(4.0, description="C, on the normalised weight.")
    floor: Share = Field(0.1, description="eta, so that no trace loses all supervision.")
    bucket_width: Positive = Field(16, description="Positions (or tokens of length) per normalisation bucket.")
    tau: Annotated[float, Field(gt=0.0)] = Field(1.0, description="Of `iw_sft`, withdrawn: the exponent.")
    bias: float = Field(
        0.0, description="`support`, `support_text` only: the log-ratio, nats, whose weight is 1/2.", examples=[-1.0]
    )
    temperature: Annotated[float, Field(gt=0.0)] = Field(
        4.0, description="`support`, `support_text` only: of the sigmoid; high is flat."
    )
    rule: Literal["probability", "threshold", "mass"] = Field(
        "threshold",
        description="Of `token_support`, withdrawn: weigh by the start's probability, or keep a token whose "
        "probability, or with all less likely ones, reaches `threshold`; `mass` needs score.ranks=true.",
    )
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["auto"] = Field(
        "auto", description="Of `token_support`, withdrawn; `auto` is as published: 0.4, of `mass` 0.5.", examples=[0.3]
    )
    normalise: bool = Field(
        True, description="Of what is compared with nothing: rescale a step to mean 1; else the rate is lower too."
    )

    @field_validator("name", mode="before")
    @classmethod
    def _offers(cls, name: Any) -> Any:
        """Of a name that is none, the mistake lists those that are offered."""
        if name in _NAMES:
            return name
        *names, last = map(repr, _OFFERED)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(names)} or {last}"})

    @model_validator(mode="after")
    def _not_cancelled(self) -> CorrectionConfig:
        if self.name == "position_decay" and self.group == "prompt":
            raise ValueError("position_decay weighs by position alone, which group=prompt cancels; use auto or batch")
        if self.one_sided and self.clip_high != "clip":
            raise ValueError(f"one_sided clips log-ratios to at most 0, clip_high to {self.clip_high}; set one of them")
        return self

    @model_validator(mode="after")
    def _fitted_on_halves(self) -> CorrectionConfig:
        if self.weights == "cross" and self.name in _NOT_CROSSED:
            raise ValueError(f"{self.name} weighs by {_NOT_CROSSED[self.name]}, which weights=cross does not change")
        return self

    @property
    def as_published(self) -> str:
        """What to set so that a published name is its method as published; "" where nothing is known to differ."""
        if self.name == "idft" and (self.weights != "live" or self.normalise):
            return "train.correction.weights=live train.correction.normalise=false"
        return ""

    @property
    def threshold_of_rule(self) -> float:
        """The threshold, or the published one."""
        if self.threshold != "auto":
            return self.threshold
        return 0.5 if self.rule == "mass" else 0.4


OF_TEACHER = frozenset({"forward_kl", "reverse_kl", "jsd", "skew_kl", "todi"})  # losses on the teacher's top-k
LEANING = frozenset({"gce", "deft"})  # losses that teach a token less where the student finds it unlikely


class LossConfig(Section):
    """What is matched at a state; the correction says which states count."""

    name: Literal["log", "gce", "deft", "forward_kl", "reverse_kl", "jsd", "skew_kl", "todi"] = Field(
        "log", description="All but `log`, `gce` and `deft` need the teacher's recorded top-k log-probs."
    )
    power: Annotated[float, Field(gt=0.0, le=1.0)] = Field(0.5, description="`gce` only: (1 - pi^power) / power.")
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.5, description="`jsd` only: the teacher's share.")
    skew: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.1, description="`skew_kl` only: the teacher's share.")
    cross_entropy: Share = Field(0.0, description="`todi` only: the share of the log loss beside it.", examples=[0.5])


def check_together(correction: CorrectionConfig, loss: LossConfig, focus: float) -> None:
    """Refuses what cannot go together: a focus without a loss to multiply, a comparison with the start as it was.

    Raises:
        ValueError: as said.
    """
    if correction.name == "iw_sft" and correction.weights != "live":
        raise ValueError("correction iw_sft compares the student with its start: it needs correction.weights=live")
    if correction.name == "success" and correction.weights == "live":
        raise ValueError(
            "correction success asks a student before the training, and its weights stay: set "
            "train.correction.weights=stored"
        )
    if focus > 0.0 and loss.name != "log":
        raise ValueError(f"focus multiplies the `log` loss only; with loss.name={loss.name} it must be 0")
