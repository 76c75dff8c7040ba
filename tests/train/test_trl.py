"""dcod's weights in TRL itself, which `make test-services` installs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcod import api
from dcod.models import loading
from dcod.train.trainers import WeightedCollator, compute_loss_func
from tests.train.test_checkpoints import make_examples
from tests.train.test_trainers import rows_of
from tests.viewed import write_set

pytestmark = [
    pytest.mark.service,
    pytest.mark.filterwarnings("ignore:`compute_loss_func` is deprecated:FutureWarning"),
]


def sft(student: Path, rows: list[dict[str, Any]], folder: Path, kind: Callable[..., Any], **more: Any) -> list[float]:
    """Four steps of TRL's trainer on rows of `dcod weights`; the losses."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig

    config = SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=4,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
        disable_tqdm=True,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    data = Dataset.from_list(rows)
    tokenizer = AutoTokenizer.from_pretrained(student)
    trainer = kind(
        loading.load(student), config, train_dataset=data, eval_dataset=data, processing_class=tokenizer, **more
    )
    trainer.train()
    assert "eval_loss" in trainer.evaluate()
    told = [row for row in trainer.state.log_history if "loss" in row]
    assert all(0 <= row.get("mean_token_accuracy", 0) <= 1 for row in told)  # its own figures see plain labels
    return [row["loss"] for row in told]


@pytest.fixture(scope="module")
def rows(tiny_student: Path) -> list[dict[str, Any]]:
    return rows_of(make_examples(tiny_student)[:16])


def test_its_trainer_takes_collator_and_loss(tiny_student: Path, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    """With weights of 1 the losses are TRL's own; with dcod's they are others, alike in both ways to hand them over."""
    from trl import SFTTrainer

    class Weighted(SFTTrainer):  # the way that stays when `compute_loss_func` is gone
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
            loss = compute_loss_func(outputs, inputs["labels"], num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

    ones = [row | {"weights": [float(counts) for counts in row["completion_mask"]]} for row in rows]
    plain = []
    for row in rows:
        pairs = zip(row["input_ids"], row["completion_mask"], strict=True)
        labels = [token if counts else -100 for token, counts in pairs]
        plain.append({"input_ids": row["input_ids"], "labels": labels})
    ours = {"data_collator": WeightedCollator(), "compute_loss_func": compute_loss_func}
    own = sft(tiny_student, plain, tmp_path, SFTTrainer)
    assert len(own) == 4
    assert sft(tiny_student, ones, tmp_path, SFTTrainer, **ours) == pytest.approx(own, rel=1e-4)
    weighed = sft(tiny_student, rows, tmp_path, SFTTrainer, **ours)
    assert weighed != pytest.approx(own, rel=1e-3)
    with_class = sft(tiny_student, rows, tmp_path, Weighted, data_collator=WeightedCollator())
    assert with_class == pytest.approx(weighed, rel=1e-4)


def test_the_code_of_the_page_runs(tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, scores, _ = write_set(tmp_path, tiny_student, 40)
    monkeypatch.chdir(tmp_path)
    api.write_weights(scores, "weighted", settings={"train.correction.name": "surprisal"})
    text = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    for block in blocks:
        kept = "remove_unused_columns=False"
        here = f"{kept}, max_steps=2, report_to=[], use_cpu=True, save_strategy='no', bf16=False"
        exec(block.replace("Qwen/Qwen3-0.6B", str(tiny_student)).replace(kept, here), names)
    assert len(names["taught"]) == 36
    assert names["Weighted"].__mro__[1].__name__ == "SFTTrainer"
