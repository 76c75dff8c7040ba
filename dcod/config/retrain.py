"""The sections ``retrain`` and ``notify``: what a scheduled run decides by, and who is told of its end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from dcod.config.base import SECRET, Few, Natural, Positive, Section, Share

Amount = Annotated[float, Field(ge=0.0)]


class LimitsConfig(Section):
    """The first three decide; the others make a warning."""

    loss: Amount = Field(
        0.1, description="Nats a token: the champion's loss on new traces is so much above that on held-out old ones."
    )
    gamma: Share = Field(0.1, description="Of gamma_max: a source that the ESS floor allows less of is too far.")
    clipped: Share = Field(0.5, description="Share of clipped tokens above which a source is too far.")
    length: Annotated[float, Field(ge=1.0)] = Field(1.5, description="Ratio of the median lengths, either way.")
    traces: Annotated[float, Field(ge=1.0)] = Field(1.5, description="Ratio of the mean traces a prompt, either way.")
    style: Share = Field(0.1, description="Divergence of the words, in bits, above that of a shuffled split.")
    verdict: Share = Field(0.2, description="Change of the share of right answers.")
    surprisal: Amount = Field(1.0, description="Nats a token, at any position.")
    answers: Share = Field(0.5, description="Share of the champion's probe answers that changed.")
    accuracy: Share = Field(0.1, description="Fall of the champion's accuracy on the probe.")


class RetrainConfig(Section):
    """When and on what the pipeline `retrain` trains."""

    start: Literal["champion", "base"] = Field(
        "champion", description="`champion` on new and some old traces; `base`: student.model on all traces."
    )
    min_new_traces: Positive = Field(100, description="Fewer new traces: the run does not train.", examples=[500])
    replay_share: Share = Field(
        0.2,
        description="Of the old problems, trained on again; `champion` only. A pilot may ask all of them.",
    )
    rounds: Few = Field(1, description="Of score and train: the weights follow the student.", examples=[2])
    sample: Positive = Field(64, description="Traces of each new source that the decision scores.")
    probe: Natural = Field(32, description="Problems of each report split that the champion answers every time.")
    pilot_every: Amount = Field(
        30.0,
        description="Days: with `train.arms`, what the last pilot chose trains until that is so old or the traces have "
        "moved since; then a pilot compares the arms anew.",
        examples=[7.0],
    )
    limits: LimitsConfig = LimitsConfig()


class NotifyConfig(Section):
    """A webhook that is told how runs ended; address and key of the signature are in the environment."""

    url: str = Field(
        "", description="`environment`: $DCOD_WEBHOOK_URL is told; empty: nobody is.", examples=["environment"]
    )
    events: list[Literal["promoted", "refused", "failed"]] = Field(
        ["promoted", "refused", "failed"],
        description="Which ends of a run are told.",
        examples=[["promoted", "failed"]],
    )

    @field_validator("url")
    @classmethod
    def _no_address(cls, value: str) -> str:
        if value not in ("", "environment"):  # whoever knows the address of a webhook can write to it
            raise PydanticCustomError(
                SECRET,
                "the address of a webhook is a secret, and a configuration is kept and shown: put it into "
                "DCOD_WEBHOOK_URL (on a cluster into the key `url` of the secret cluster.secrets.webhook), and set "
                "notify.url=environment",
            )
        return value
