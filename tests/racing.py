"""Races of two promoters: each has a decision against the same champion, and both move at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from dcod.config import Config
from dcod.evaluate.results import ModelRef
from dcod.promote import promote
from dcod.promote.decision import Decision, Reason
from dcod.tracking.registry import CHAMPION, Registry
from dcod.tracking.runs import Tracker


@dataclass(frozen=True)
class Race:
    """How a race ended.

    Attributes:
        outcomes: what each promoter was told, by its version.
        champion: the version that the alias names after it.
        before: the one before it.
        tags: of the two versions.
    """

    outcomes: dict[int, str]
    champion: int
    before: int
    tags: dict[int, dict[str, str]]

    def sound(self) -> bool:
        """One was promoted, is the champion and says so; the other was told, and says so."""
        loser = next((one for one in self.outcomes if one != self.champion), 0)
        return (
            sorted(self.outcomes.values()) == ["promoted", "stale"]
            and self.outcomes[self.champion] == self.tags[self.champion].get("dcod.outcome") == "promoted"
            and self.tags[self.champion].get("dcod.previous_champion") == str(self.before)
            and self.tags[loser].get("dcod.outcome") == "stale"
            and f"it is version {self.champion} now" in self.tags[loser].get("dcod.outcome_reason", "")
        )


def races(config: Config, folder: Path, count: int) -> list[Race]:
    """Runs races one after the other in one registered model, each from a champion on."""
    name, registry = config.promote.registered_model, Registry(config.tracking)
    client = registry.tracker.client
    client.create_registered_model(name)

    def version() -> int:
        number = len(registry.versions(name)) + 1
        made = client.create_model_version(name, "s3://nowhere/model", tags={"dcod.digest": f"{number:064x}"})
        return int(made.version)

    registry.set_alias(name, CHAMPION, version())
    found = []
    for number in range(count):
        champion = registry.champion(name)
        assert champion is not None
        told: dict[int, str] = {}
        both, ready = [version(), version()], threading.Barrier(2)

        def move(own: int, ready: threading.Barrier, told: dict[int, str], decision: Path) -> None:
            tracker = Tracker(config.tracking)
            ready.wait(60)
            told[own] = promote.promote(config, tracker=tracker, decision=decision, load_check=False)

        threads = []
        for own in both:
            decided = Decision(
                promote=True,
                reasons=(Reason("improves", "it is better", True),),
                comparisons=(),
                challenger=ModelRef(f"{own:064x}", "", own),
                baseline=ModelRef(champion.digest, champion.uri, champion.version),
                level=0.05,
                margin=0.02,
                registered_model=name,
            )
            place = folder / f"{number}-{own}" / "decision.json"
            place.parent.mkdir(parents=True)
            place.write_text(decided.to_json())
            threads.append(threading.Thread(target=move, args=(own, ready, told, place)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now = registry.champion(name)
        assert now is not None
        tags = {one.version: dict(one.tags) for one in registry.versions(name) if one.version in both}
        found.append(Race(told, now.version, champion.version, tags))
    return found
