"""dcod's weights in other trainers: the same loss and the same steps, and labels that carry weights to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dcod.config import Config, parse_config
from dcod.errors import UserError
from dcod.models import loading, selfcheck
from dcod.models.attention import hidden_states
from dcod.models.batches import collate
from dcod.models.fused_head import weighted_loss
from dcod.traces.scored import ScoredTrace
from dcod.train import loop, weights
from dcod.train.trainers import WeightedCollator, compute_loss_func, with_weights, without_weights
from dcod.train.weights import WeightedTrace
from tests.train.test_checkpoints import make_examples

CONFIG = parse_config("{train: {correction: {name: surprisal}, traces_per_step: 8}}")


@pytest.fixture(scope="module")
def examples(tiny_student: Path) -> list[ScoredTrace]:
    return make_examples(tiny_student)[:16]


def rows_of(examples: list[ScoredTrace], config: Config = CONFIG) -> list[dict[str, Any]]:
    """As `dcod weights` writes them."""
    pairs = loop.first_epoch(examples, config.train, config.seed)
    return [vars(weights._row(example, "train", list(row))) for example, row in pairs]


def trained(model: Any, rows: list[dict[str, Any]], folder: Path, **more: Any) -> list[float]:
    """Four steps of four rows in two halves, by transformers' own trainer; the losses."""
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    settings = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=4,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        remove_unused_columns=False,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model, settings, train_dataset=Dataset.from_list(rows), **{"data_collator": WeightedCollator()} | more
    )
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_labels_carry_weights_to_the_bit() -> None:
    told = torch.tensor([0.0, -0.0, 1.0, 1 / 3, 1e-38, 3.4e38, 1e-45])
    tokens = torch.tensor([0, 1, 2, 3, 151_935, 2**31 - 1, 7])
    ids, values = without_weights(with_weights(tokens, told))
    assert torch.equal(ids, tokens)
    assert torch.equal(values, told.abs())
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="negative or not finite"):
            with_weights(tokens[:1], torch.tensor([wrong]))


def test_the_loss_and_its_gradient_are_those_of_dcod(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    ours, theirs = loading.load(tiny_student), loading.load(tiny_student)
    rows = rows_of(examples)
    assert len({round(w, 3) for row in rows for w in row["weights"]}) > 5
    by_id = {row["trace_id"]: row for row in rows}
    head, batch = selfcheck.examine(ours), collate(examples)
    flat = [w for e in examples for w in by_id[e.trace_id]["weights"][len(e.prompt_tokens) :]]
    weights_N = torch.tensor(flat) / len(flat)
    hidden_ND = hidden_states(ours, batch, head.body)
    own, _ = weighted_loss(hidden_ND, head.head(ours), batch.targets, weights_N)
    own.backward()
    made = WeightedCollator()([by_id[e.trace_id] for e in examples])
    labels = made.pop("labels")
    found = compute_loss_func(theirs(**made), labels)
    found.backward()
    assert found.item() == pytest.approx(own.item(), rel=1e-5)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_weights_of_one_are_the_trainer_s_own_loss(
    tiny_student: Path, examples: list[ScoredTrace], tmp_path: Path
) -> None:
    """In steps of several batches of different length, too: the trainer counts the tokens as it does without us."""
    rows = [row | {"weights": [float(counts) for counts in row["completion_mask"]]} for row in rows_of(examples)]

    class Plain(WeightedCollator):
        def __call__(self, rows: Any) -> Any:
            made = super().__call__(rows)
            counted = made["labels"] != -100
            return {**made, "labels": torch.where(counted, made["input_ids"], -100)}

    theirs = trained(loading.load(tiny_student), rows, tmp_path, data_collator=Plain())
    assert len(theirs) == 4
    ours = trained(loading.load(tiny_student), rows, tmp_path, compute_loss_func=compute_loss_func)
    assert ours == pytest.approx(theirs, rel=1e-5)
    weighed = trained(loading.load(tiny_student), rows_of(examples), tmp_path, compute_loss_func=compute_loss_func)
    assert weighed != pytest.approx(theirs, rel=1e-3)


def test_a_weight_of_nothing_leaves_no_gradient(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    rows = rows_of(examples)[:2]
    rows[1] = rows[1] | {"weights": [0.0] * len(rows[1]["weights"])}
    both, alone = loading.load(tiny_student), loading.load(tiny_student)
    for model, some in ((both, rows), (alone, rows[:1])):
        made = WeightedCollator(pad_token_id=5)(some)
        labels = made.pop("labels")
        compute_loss_func(model(**made), labels, num_items_in_batch=7).backward()
    for one, other in zip(both.parameters(), alone.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-7)


def test_padding_does_not_count(examples: list[ScoredTrace]) -> None:
    rows = rows_of(examples)[:3]
    made = WeightedCollator(pad_token_id=9)(rows)
    counted = made["labels"] != -100
    assert counted.sum() == sum(sum(row["completion_mask"]) for row in rows)
    assert (made["shift_labels"] != -100).sum() == counted.sum()
    assert torch.equal(made["shift_labels"][:, :-1][counted[:, 1:]], made["input_ids"][counted])
    assert (made["input_ids"][made["attention_mask"] == 0] == 9).all()


def test_mistakes_are_told(tiny_student: Path, examples: list[ScoredTrace]) -> None:
    row = rows_of(examples)[0]
    with pytest.raises(UserError, match=r"no weights.*remove_unused_columns=False"):
        WeightedCollator()([{k: v for k, v in row.items() if k != "weights"}])
    with pytest.raises(UserError, match="skip_prepare_dataset"):
        WeightedCollator()([row | {"input_ids": row["input_ids"][:-1]}])
    made = WeightedCollator()([row])
    plain = torch.where(made.pop("labels") == -100, -100, made["input_ids"])
    with pytest.raises(UserError, match="data_collator=WeightedCollator"):
        compute_loss_func(loading.load(tiny_student)(**made), plain)


def test_a_row_has_all_columns_of_one_length(examples: list[ScoredTrace]) -> None:
    row = WeightedTrace(**rows_of(examples)[0])
    assert len(row.input_ids) == len(row.completion_mask) == len(row.weights)
    assert all(w == 0 for w, counts in zip(row.weights, row.completion_mask, strict=True) if not counts)
