"""The rules of the protocol, from rows to settings, the shortlist, the finalists and the verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.study.second.cells import FRESH, Row, Setting
from bench.study.second.entries import ENTRIES, PRESET, SFT, START, SUPPORT, idle
from bench.study.second.regimes import REGIMES
from dcod import storage
from dcod.errors import UserError

RATES, EPOCHS = (1e-3, 2e-3, 4e-3), (1, 2, 4)


def grid(rates: Sequence[float]) -> tuple[Setting, ...]:
    """Every rate at every number of epochs."""
    return tuple((rate, epochs) for rate in rates for epochs in EPOCHS)


GRID = grid(RATES)
TUNING, SCREENING = range(5), range(2)  # seeds
PROMOTED = 3  # settings of the grid that meet all seeds of the tuning
Index = dict[tuple[str, str], dict[Setting, dict[int, Row]]]  # see indexed()

MARGIN = 0.02  # non-inferiority, in each regime
SHORTLIST, FINALISTS = 5, 2
ENOUGH = 0.0045  # the standard error of a paired difference at which no more seeds are run
SEEDS, MOST_SEEDS = 10, 30
LEVEL = 0.05


@dataclass(frozen=True)
class Tuned:
    """The best of what was tried, by the mean validation accuracy over seeds."""

    rate: float
    epochs: int
    temperature: str
    accuracy: float

    @property
    def setting(self) -> Setting:
        return self.rate, self.epochs


@dataclass(frozen=True)
class Difference:
    """A paired difference over seeds.

    Attributes:
        error: its standard error.
        seeds: how many it is over.
        freedom: degrees of freedom of the error.
    """

    mean: float
    error: float
    seeds: int
    freedom: float

    def bound(self, level: float) -> float:
        """The one-sided lower bound, by Student's t."""
        from scipy import stats

        return self.mean - float(stats.t.ppf(1 - level, self.freedom)) * self.error

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval."""
        return self.bound(LEVEL / 2)

    @property
    def high(self) -> float:
        """Its upper end."""
        return 2 * self.mean - self.low


def difference(values: Sequence[float]) -> Difference | None:
    """Of paired values, one a seed; None for fewer than two."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return Difference(mean, error, len(values), len(values) - 1)


def pooled(found: Iterable[Difference]) -> Difference:
    """The mean of independent differences, each counting alike; freedom by Welch and Satterthwaite."""
    each = list(found)
    variance = sum(one.error**2 for one in each)
    freedom = variance**2 / sum(one.error**4 / one.freedom for one in each) if variance else each[0].freedom
    mean = sum(one.mean for one in each) / len(each)
    return Difference(mean, math.sqrt(variance) / len(each), min(one.seeds for one in each), freedom)


def indexed(rows: Iterable[Row]) -> Index:
    """Rows by regime and method, then by setting, then by seed."""
    out: Index = {}
    for row in rows:
        by_setting = out.setdefault((row["regime"], row["method"]), {})
        by_setting.setdefault((row["rate"], row["epochs"]), {})[row["seed"]] = row
    return out


def best(by_setting: Mapping[Setting, Sequence[Row]]) -> Tuned:
    """The setting and temperature of the highest mean accuracy; of equals the first in the order of the grid."""
    found = [
        Tuned(rate, epochs, name, sum(row["validation"][name] for row in rows) / len(rows))
        for (rate, epochs), rows in sorted(by_setting.items())
        for name in rows[0]["validation"]
    ]
    return max(found, key=lambda one: one.accuracy)


def tuned(rows: Index, method: str) -> dict[str, Tuned]:
    """What validation chose for a method, by regime; only where its cells are all there. Idle is as SFT."""
    out = {}
    for regime in REGIMES:
        name = SFT if idle(method, REGIMES[regime]) else method
        found = {setting: _of(rows, regime, name, setting, TUNING) for setting in promoted(rows, regime, name)}
        if found and all(len(each) == len(TUNING) for each in found.values()):
            out[regime] = best(found)
    return out


def promoted(rows: Index, regime: str, method: str) -> list[Setting]:
    """The three best settings of the grid on its first two seeds; none while it has a hole."""
    found = {setting: _of(rows, regime, method, setting, SCREENING) for setting in GRID}
    if any(len(each) < len(SCREENING) for each in found.values()):
        return []
    return sorted(GRID, key=lambda setting: -best({setting: found[setting]}).accuracy)[:PROMOTED]


def _of(rows: Index, regime: str, method: str, setting: Setting, seeds: Iterable[int]) -> list[Row]:
    """The rows of some seeds, as far as they are there."""
    found = at(rows, regime, method, setting)
    return [found[seed] for seed in seeds if seed in found]


def at(rows: Index, regime: str, method: str, setting: Setting) -> dict[int, Row]:
    """Rows by seed."""
    return rows.get((regime, method), {}).get(setting, {})


def screened(rows: Index) -> dict[str, dict[str, Difference]]:
    """Each entry's validation difference to SFT at SFT's setting, both at their best temperature, by regime."""
    settings, out = tuned(rows, SFT), dict[str, dict[str, Difference]]()
    for method in ENTRIES:
        for regime, sft in settings.items():
            against = at(rows, regime, SFT, sft.setting)
            mine = against if idle(method, REGIMES[regime]) else at(rows, regime, method, sft.setting)
            seeds = [s for s in SCREENING if s in mine and s in against]
            if len(seeds) < len(SCREENING):
                continue
            left, right = (best({sft.setting: [one[s] for s in seeds]}) for one in (mine, against))
            values = [
                mine[s]["validation"][left.temperature] - against[s]["validation"][right.temperature] for s in seeds
            ]
            made = difference(values)
            assert made is not None
            out.setdefault(method, {})[regime] = made
    return out


def mean_over_regimes(by_regime: Mapping[str, Difference]) -> float | None:
    """Every regime counts alike; None unless all are there."""
    if set(by_regime) != set(REGIMES):
        return None
    return sum(one.mean for one in by_regime.values()) / len(by_regime)


def shortlist(rows: Index) -> list[str]:
    """What gets the full tuning: `support`, today's preset and the five best of the rest, no controls."""
    means = {method: mean_over_regimes(found) for method, found in screened(rows).items()}
    ranked = sorted(
        (m for m, mean in means.items() if mean is not None and not ENTRIES[m].control and m not in (SFT, PRESET)),
        key=lambda m: -(means[m] or 0.0),
    )
    supports = [m for m in ranked if m.startswith("support_") and "text" not in m]
    first = supports[0] if supports else SUPPORT
    return [first, PRESET, *[m for m in ranked if m != first][:SHORTLIST]]


def tuned_differences(rows: Index, method: str) -> dict[str, Difference]:
    """A tuned method against tuned SFT on validation, each at its own best temperature, by regime."""
    mine, sft, out = tuned(rows, method), tuned(rows, SFT), {}
    for regime in REGIMES:
        if regime in mine and regime in sft:
            name = SFT if idle(method, REGIMES[regime]) else method
            left = at(rows, regime, name, mine[regime].setting)
            right = at(rows, regime, SFT, sft[regime].setting)
            found = difference([
                left[s]["validation"][mine[regime].temperature] - right[s]["validation"][sft[regime].temperature]
                for s in TUNING
            ])  # fmt: skip
            assert found is not None
            out[regime] = found
    return out


def finalists(rows: Index, methods: Sequence[str]) -> list[str]:
    """The two of the shortlist with the best mean over the regimes, and `support` if it is not among them."""
    means = {method: mean_over_regimes(tuned_differences(rows, method)) for method in methods}
    ranked = sorted((m for m, mean in means.items() if mean is not None), key=lambda m: -(means[m] or 0.0))
    return list(dict.fromkeys([*ranked[:FINALISTS], methods[0]]))


def chosen(results: Path) -> dict[str, Any]:
    """The committed choice: methods, and by regime their rate, epochs and temperature.

    Raises:
        UserError: nothing was chosen yet.
    """
    path = results / "choice.json"
    if not path.is_file():
        raise UserError(f"{path} is missing: run --stage choose, commit it, then --stage confirm")
    return dict(json.loads(path.read_text()))


def choose(rows: Index, results: Path) -> list[str]:
    """Writes the choice, to be committed before a fresh seed runs.

    Raises:
        UserError: the grid of a method of the shortlist is not complete.
    """
    methods = listed(results)
    lacking = [m for m in (SFT, *methods) if set(tuned(rows, m)) != set(REGIMES)]
    if lacking:
        raise UserError(f"not tuned in all regimes yet: {', '.join(lacking)}; run --stage tune-sft and --stage tune")
    names = [SFT, *finalists(rows, methods)]
    settings = {m: {regime: vars(one) for regime, one in tuned(rows, m).items()} for m in names}
    settings[START] = {
        regime: vars(best({(0.0, 0): list(at(rows, regime, START, (0.0, 0)).values())})) for regime in REGIMES
    }
    storage.write_json(results / "choice.json", {"finalists": names[1:], "settings": settings})
    return names


def screening(results: Path) -> Path:
    """The file of the screening: one of its own where it ran on another machine than the tuning, else the tuning's."""
    own = results / "screen.jsonl"
    return own if own.is_file() else results / "tune.jsonl"


def listed(results: Path) -> list[str]:
    """The committed shortlist.

    Raises:
        UserError: there is none yet.
    """
    path = results / "shortlist.json"
    if not path.is_file():
        raise UserError(f"{path} is missing: run --stage shortlist and commit it first")
    return list(json.loads(path.read_text())["methods"])


def confirmed(rows: Index, choice: Mapping[str, Any], method: str, part: str = "test") -> dict[str, Difference]:
    """A finalist against SFT on the fresh seeds' test problems, each at its chosen setting and temperature."""
    out = {}
    for regime in REGIMES:
        mine, sft = choice["settings"][method][regime], choice["settings"][SFT][regime]
        name = SFT if idle(method, REGIMES[regime]) else method
        left = at(rows, regime, name, (mine["rate"], mine["epochs"]))
        right = at(rows, regime, SFT, (sft["rate"], sft["epochs"]))
        seeds = sorted(s for s in set(left) & set(right) if s >= FRESH)
        found = difference([
            left[s][part][mine["temperature"]] - right[s][part][sft["temperature"]] for s in seeds
        ])  # fmt: skip
        if found:
            out[regime] = found
    return out


def seeds_wanted(rows: Index, choice: Mapping[str, Any], regime: str) -> int:
    """Ten more fresh seeds while the standard error of a finalist's difference is above ``ENOUGH``, at most thirty."""
    errors = [found[regime] for m in choice["finalists"] if regime in (found := confirmed(rows, choice, m))]
    if not errors:
        return SEEDS
    done = min(one.seeds for one in errors)
    wide = max(one.error for one in errors) > ENOUGH
    return min(MOST_SEEDS, done // SEEDS * SEEDS + SEEDS) if wide or done % SEEDS else done


def mean_difference(rows: Index, choice: Mapping[str, Any], method: str) -> Difference | None:
    """The mean over the regimes and its standard error; the regimes have problems, traces and starts of their own."""
    found = confirmed(rows, choice, method)
    return pooled(found.values()) if set(found) == set(REGIMES) else None


def verdict(rows: Index, choice: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By finalist: whether it is non-inferior in every regime, and better in the mean."""
    out = {}
    for method in choice["finalists"]:
        found, mean = confirmed(rows, choice, method), mean_difference(rows, choice, method)
        inferior = [regime for regime, one in found.items() if one.bound(LEVEL) <= -MARGIN]
        better = mean is not None and mean.bound(LEVEL / 2 / len(choice["finalists"])) > 0
        fine = mean is not None and not inferior
        out[method] = {"mean": mean, "not shown non-inferior": inferior, "better": better, "default": fine and better}
    return out


def power(error: float, seeds: int, regimes: int) -> float:
    """The chance that a method without any true difference is found non-inferior in all regimes."""
    from scipy import stats

    critical = stats.t.ppf(1 - LEVEL, seeds - 1)
    return float(stats.nct.sf(critical, seeds - 1, MARGIN / error)) ** regimes
