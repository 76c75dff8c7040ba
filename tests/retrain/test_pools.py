"""Which traces a scheduled run trains on, by where they came from."""

from __future__ import annotations

from dcod.config.retrain import RetrainConfig
from dcod.retrain import pools
from dcod.retrain.pools import Pool
from dcod.traces import Split, Trace


def made(split: Split, source: str, count: int = 200) -> list[Trace]:
    asked = ([{"role": "user", "content": f"{source} {split} {number}"}] for number in range(count))
    return [Trace(prompt, "4", split=split, source_digest=source) for prompt in asked]


def test_all_old_pilot_problems_are_selected_and_a_share_of_what_trains_and_chooses_checkpoints() -> None:
    everything = [
        trace
        for source in ("old", "new", "far")
        for split in ("train", "selection", "pilot")
        for trace in made(split, source)
    ]
    pool = Pool(everything, {"old"}, {"old"})

    def counts(least: int = 0, **settings: object) -> dict[tuple[str | None, str], int]:
        picked = pools.selected(pool, {"far"}, RetrainConfig.model_validate(settings), least)
        return {
            (source, split): sum((one.source_digest, one.split) == (source, split) for one in picked)
            for source in ("old", "new", "far")
            for split in ("train", "selection", "pilot")
        }

    found = counts(replay_share=0.2)
    assert found["old", "pilot"] == 200
    assert 20 < found["old", "train"] < 60
    assert 20 < found["old", "selection"] < 60
    assert {found["new", split] for split in ("train", "selection", "pilot")} == {200}
    assert {found["far", split] for split in ("train", "selection", "pilot")} == {0}
    assert counts(replay_share=0.0)["old", "pilot"] == 200
    found = counts(least=100, replay_share=0.2)  # a pilot needs so many; those of the share are among them
    assert (found["old", "selection"], found["old", "train"]) == (100, counts(replay_share=0.2)["old", "train"])
    assert counts(least=10, replay_share=0.2) == counts(replay_share=0.2)
    assert counts(start="base")["old", "train"] == 200
