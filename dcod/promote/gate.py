"""The promotion gate: is the challenger really better? It compares, applies all rules, and tells the decision as data.

The rules, each with its words, are in dcod.promote.rules. Small benchmarks that are only reported are also pooled.

A gate that runs every night tests again and again. With ``schedule=repeated`` each test is made at ``level /
tests_per_period``, and a period holds no more tests than that: by the union bound the chance that noise is promoted,
or a guard's fall let through, within any period is at most the level, however the tests hang together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dcod.config import PromoteConfig
from dcod.promote import rules
from dcod.promote.compare import Comparison, compare
from dcod.promote.contest import SPLIT, Contest, Match, Pair, Standing, correctness, level_of, pair_up
from dcod.promote.decision import Decision, Reason

FEW = 100  # problems: a benchmark with less, that is only reported, is told together with others of its kind


def judge(contest: Contest, standing: Standing, config: PromoteConfig) -> Decision:
    """Decides between student and champion: by all rules, unless the two are the same model.

    Args:
        contest: of the student, and of what it may have to beat.
        standing: what the registry says.
        config: level, margins and limits.

    Raises:
        UserError: the twin was not evaluated as the student was.
    """
    student, champion = contest.student.model, standing.champion
    match = _match(contest, standing, config)
    comparisons, reasons = list(match.comparisons), list[Reason]()
    for rule in rules.RULES:
        for one in rule(match):
            if isinstance(one, Comparison):
                comparisons.append(one)
            else:
                reasons.append(one)
    if champion.digest == student.digest:
        reasons = [rules.already_champion(champion)]
    return Decision(
        promote=all(reason.passed for reason in reasons),
        reasons=tuple(reasons),
        comparisons=tuple(comparisons),
        challenger=replace(student, version=standing.student_version),
        baseline=champion,
        level=match.level,
        margin=config.margin,
        registered_model=config.registered_model,
    )


def _match(contest: Contest, standing: Standing, config: PromoteConfig) -> Match:
    """The student beside its baseline, compared on every benchmark that allows it."""
    level, baseline = level_of(config), contest.baseline(standing.champion)
    pairs = pair_up(contest.student, baseline, SPLIT)
    comparable = [pair for pair in pairs if rules.why_incomparable(pair) is None]
    comparisons = [
        compare(pair.key, pair.role, correctness(pair.answers), correctness(pair.other_answers), level)
        for pair in comparable
    ]
    small = [pair for pair in comparable if pair.role == "report" and len(pair.answers) < FEW]
    comparisons += _pooled(small, level)
    return Match(contest, standing, baseline, pairs, tuple(comparisons), config, level)


def _pooled(small: Sequence[Pair], level: float) -> list[Comparison]:
    """Small benchmarks that are only reported as one: 30 problems can show nothing alone, 100 a little.

    Where there are at least two with as many answers a problem; by each problem's share of right answers.
    """
    alike: dict[int, list[Pair]] = {}
    for pair in small:
        alike.setdefault(len(next(iter(pair.answers.values()))), []).append(pair)
    out = []
    for pairs in alike.values():
        ours, theirs = (
            {
                f"{pair.key}/{problem}": given
                for pair in pairs
                for problem, given in correctness(pair.answers if mine else pair.other_answers).items()
            }
            for mine in (True, False)
        )
        if len(pairs) > 1:
            out.append(compare(f"{' '.join(pair.key for pair in pairs)} pooled", "report", ours, theirs, level))
    return out
