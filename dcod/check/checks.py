"""The questions of `dcod check`: each answers with what is right, wrong, doubtful or could not be looked at.

Nothing here needs weights, a GPU or a server. What takes a network and does not get one is told as unchecked.
"""

from __future__ import annotations

import os
import re
import shutil
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dcod import benchmarks
from dcod.benchmarks import Problem
from dcod.check import hub, languages, pilots, sample, student, timing
from dcod.check.sample import Sample
from dcod.check.student import UncheckedError
from dcod.config import BenchmarkConfig, Config, PromoteConfig
from dcod.config.mapping import split
from dcod.errors import UserError, one_line
from dcod.evaluate import statistics
from dcod.objective import feasibility
from dcod.promote import compare, contest
from dcod.traces.mapping import addresses

State = Literal["ok", "failed", "warning", "unchecked"]
LOST = 0.5  # share of refused rows above which somebody should look
SLOW_H = 12.0  # hours above which a training on CPUs deserves a word
EXPOSED = 128  # traces that promote.exposure_traces is offered with
GIB = 2**30
MORE = 1.25  # times the problems that are needed: their split is a hash, and with less it often falls short
NO_SOURCES = (
    "ingest.sources is empty: name your traces, such as 'ingest.sources=[\"traces.jsonl\"]', or `dcod init FILE`"
)


@dataclass(frozen=True)
class Check:
    """One answer: what was asked, how it stands, and a sentence with the way out in it."""

    name: str
    state: State
    text: str


@dataclass
class Findings:
    """What earlier questions found and later ones need."""

    config: Config
    folder: Path | None = None
    sample: Sample | None = None
    spoken: languages.OfTraces | None = None
    asked: float = 0.0  # tokens of one model's evaluation at most, prompts and answers
    answers: list[Check] = field(default_factory=list)


def checks(config: Config) -> Iterator[Check]:
    """All answers about a configuration, one after the other; none raises for what a user can mend."""
    findings = Findings(config)
    asked: tuple[tuple[str, Callable[[Findings], Iterator[Check]]], ...] = (
        ("student", _student),
        ("traces", _traces),
        ("correction", _correction),
        ("benchmarks", _benchmarks),
        ("exposure", _exposure),
        ("room", _room),
    )
    for name, ask in asked:
        try:
            yield from ask(findings)
        except UserError as error:
            yield Check(name, "failed", one_line(error))
        except UncheckedError as error:
            yield Check(name, "unchecked", one_line(error))


def allowed(config: Config) -> list[Check]:
    """What the traces allow, by their first rows; nothing where they or the student do not lie on this machine."""
    findings = Findings(config)
    if not config.ingest.sources or any(uri.startswith(sample.REMOTE) for uri, _ in map(split, config.ingest.sources)):
        return []
    try:
        if folder := student.on_this_machine(config.student):
            findings.sample = sample.take(config, folder)
    except UserError:  # `dcod check` and preflight say it, and these may be files of another machine
        return []
    return list(_correction(findings)) if findings.sample and findings.sample.traces else []


def early(config: Config) -> None:
    """What a run is not started with: no source, files that are not there, arms without problems. Asks no network.

    Raises:
        UserError: as said.
    """
    _sources_there(config)
    _benchmarks_there(config)
    if lacking := _arms_lack(config):
        raise UserError(lacking)


def _arms_lack(config: Config) -> str:
    """What arms need and are not given, with the way out; "" for nothing."""
    if not config.train.arms or (config.ingest.pilot_share and config.ingest.selection_share):
        return ""
    return (
        "train.arms are compared on problems that are held back for it: set ingest.pilot_share=0.1, and leave "
        "ingest.selection_share above 0"
    )


def _sources_there(config: Config) -> None:
    if not config.ingest.sources:
        raise UserError(NO_SOURCES)
    sample.check_there(config)


def _benchmarks_there(config: Config) -> None:
    for index, benchmark in enumerate(config.evaluate.benchmarks):
        benchmarks.get(benchmark.name)
        place = Path(benchmark.source.partition("?")[0])
        named = benchmark.source and "://" not in benchmark.source
        if named and not place.exists():
            raise UserError(f"evaluate.benchmarks.{index}.source: no such file: {place}")


def _student(findings: Findings) -> Iterator[Check]:
    from dcod.models import fitting
    from dcod.traces import prompts

    config = findings.config.student
    folder = student.small_files(config)
    tokenizer = prompts.of_student(folder, config)
    fitting.check_student(folder, tokenizer, config.max_length)
    prompts.encode_prompt(tokenizer, [{"role": "user", "content": "What is 1 + 1?"}])
    findings.folder = folder
    yield Check("student", "ok", f"{config.model}: tokenizer and chat template fit, up to {config.max_length:,} tokens")


def _traces(findings: Findings) -> Iterator[Check]:
    config = findings.config
    _sources_there(config)
    if findings.folder is None:
        raise UncheckedError("the files are there; rows are examined with the student's tokenizer, which is missing")
    taken = findings.sample = sample.take(config, findings.folder)
    looked = f"all {taken.rows:,} rows" if taken.whole else f"the first {taken.rows:,} of about {taken.total:,} rows"
    reasons = "; ".join(f"{n:,} {code} ({taken.examples[code]})" for code, n in taken.refused.most_common(3))
    for (source, name), count in sorted(taken.offers.items()):
        title = addresses.presets()[name].title
        yield Check(
            "mapping",
            "warning",
            f"{source}: {count:,} of {taken.looked[source]:,} rows look like {title}, which `map: {name}` reads: "
            f'\'ingest.sources=[{{"path": "{source}", "map": "{name}"}}]\', or `dcod init {source}`',
        )
    if not taken.traces:
        raise UserError(f"none of {looked} would be accepted: {reasons}")
    kinds = ", ".join(f"{name} ({n:,})" for name, n in taken.formats.most_common(3))
    text = f"{len(taken.traces):,} traces from {looked}; read as {kinds}"
    refused = taken.refused.total()
    state: State = "warning" if refused > LOST * (refused + len(taken.traces)) else "ok"
    yield Check("traces", state, text + (f"; refused: {reasons}" if reasons else ""))
    longest = max(sum(pair) for pair in taken.tokens)
    limit = config.student.max_length
    if longest <= limit // 4:
        yield Check("lengths", "ok", f"the longest trace has {longest:,} tokens; student.max_length={limit:,} is ample")
    yield from _language(findings, taken)


def _language(findings: Findings, taken: Sample) -> Iterator[Check]:
    try:
        spoken = findings.spoken = languages.of_traces(taken.traces)
    except UncheckedError as error:
        yield Check("language", "unchecked", str(error).removeprefix("language: "))
    else:
        if spoken.told:
            yield Check("language", "ok", f"of a sample, where there is prose enough to tell it: {spoken}")


def _correction(findings: Findings) -> Iterator[Check]:
    if lacking := _arms_lack(findings.config):
        yield Check("arms", "failed", lacking)
    if findings.sample is None:
        raise UncheckedError("what the traces allow is seen when they are read")
    held = findings.sample.holdings()
    remarks = feasibility.remarks(findings.config, held)
    yield Check("holdings", "ok", str(held))
    if unfit := feasibility.unfit(held):
        yield Check("corrections", "ok", unfit)
    asked = bool(findings.config.asks)  # more traces may come before anything is trained
    idle: State = "warning" if findings.config.train.allow_idle or asked else "failed"
    states: dict[feasibility.Level, State] = {"impossible": "failed", "idle": idle, "warning": "warning"}
    for remark in pilots.remarks(findings.config, findings.sample) if not lacking else ():
        yield Check(remark.code, states.get(remark.level, "ok"), str(remark))
    for remark in remarks:
        yield Check("correction", states.get(remark.level, "ok"), str(remark))
    if not remarks:
        name = findings.config.train.correction.name
        yield Check("correction", "ok", f"train.correction.name={name} can act on these traces")


def _benchmarks(findings: Findings) -> Iterator[Check]:
    section = findings.config.evaluate
    if not section.benchmarks:
        raise UserError(
            "evaluate.benchmarks is empty, so nothing can be measured or promoted; give one, such as "
            '\'evaluate.benchmarks=[{"name": "custom", "source": "problems.jsonl"}]\''
        )
    _benchmarks_there(findings.config)
    for benchmark in section.benchmarks:
        remote = "" if benchmark.source else benchmarks.get(benchmark.name).default_source
        try:
            with hub.reached(re.split("[#@]", remote)[0]) if remote else nullcontext():
                problems = benchmarks.load(benchmark, findings.config.evaluate.report_share)
            yield from _benchmark(findings, benchmark, problems)
        except UserError as error:
            yield Check(benchmark.name, "unchecked" if remote else "failed", one_line(error))


def _benchmark(findings: Findings, benchmark: BenchmarkConfig, problems: Sequence[Problem]) -> Iterator[Check]:
    config = findings.config
    deciding = sum(problem.split == "gate" for problem in problems)
    name, needed = benchmarks.key(benchmark), config.promote.min_problems
    text = f"{len(problems):,} problems: {deciding:,} for the gate, {len(problems) - deciding:,} for the report"
    asked = {problem.text.strip() for problem in problems}
    if left_out := sum(trace.problem.strip() in asked for trace in (findings.sample.traces if findings.sample else ())):
        text += f"; {left_out:,} of the traces are to these problems, and are left out of the training"
    if benchmark.role != "report" and (why := _too_few_to_pass(config, benchmark, deciding)):
        yield Check(name, "failed", f"{text}; {why}")
    elif benchmark.role != "report" and deciding == len(problems):
        yield Check(name, "warning", f"{text}; without report problems nothing is left to tell the result on")
    else:
        yield Check(name, "ok", text)
    plan = benchmarks.plan(benchmark)
    prompt = findings.sample.prompt_tokens if findings.sample else 0.0
    findings.asked += len(problems) * plan.samples * (prompt + plan.max_new_tokens)
    if benchmark.role != "report" and plan.samples == 1 and deciding >= max(1, needed):
        yield from _too_few(name, deciding, benchmark.role == "guard", config.promote)
    added = next((one.prompt[-1]["content"].removeprefix(one.text.strip()).strip() for one in problems), "")
    if benchmark.role == "primary" and added and findings.sample and findings.sample.bare:
        way_out = "kind=as_is behind its file asks as the traces do, or " if benchmark.name == "custom" else ""
        yield Check(
            name,
            "warning",
            f"every problem ends in {added!r:.80}, and no prompt of the traces says how to answer: the student is "
            f"asked otherwise than it is taught, and may copy these words; {way_out}a mapping with `instruction` "
            "teaches them",
        )
    spoken = findings.spoken if benchmark.role == "primary" else None
    if spoken and (differs := spoken.unlike(languages.of([one.text for one in problems]))):
        yield Check(name, "warning", differs)


def _too_few_to_pass(config: Config, benchmark: BenchmarkConfig, deciding: int) -> str:
    """Why no student could pass the gate on so many problems, with the way out; "" where one could."""
    promote, level = config.promote, contest.level_of(config.promote)
    primaries = sum(one.role == "primary" for one in config.evaluate.benchmarks)
    decides = benchmark.role == "primary" and (promote.primaries == "all" or primaries == 1)
    least = statistics.fewest(level) if decides else 0
    needed = max(least, promote.min_problems)
    if deciding >= needed:
        return ""
    bring = f"bring about {round(MORE * needed / (1.0 - config.evaluate.report_share))} problems, or set"
    if needed > least:
        return (
            f"the gate needs {needed} (promote.min_problems): {bring} evaluate.report_share or promote.min_problems "
            "lower"
        )
    return (
        f"a student that is right on all of them where the champion is always wrong would still be refused: the test's "
        f"level of {level:.3g} takes {least}; {bring} evaluate.report_share lower"
    )


def _too_few(name: str, problems: int, guard: bool, promote: PromoteConfig) -> Iterator[Check]:
    """Limits that so many gate problems cannot show to be kept by a student that answers as the champion does."""
    level = contest.level_of(promote)
    limits = {"promote.margin": promote.margin} if guard else {}
    if set(promote.stability) - {"disagreeing"}:  # which a single answer a problem cannot show
        limits["promote.stability_margin"] = promote.stability_margin
    for key, margin in limits.items():
        if -compare.lower_bound(0, 0, problems, level) >= margin:
            enough = _enough(problems, margin, level)
            way_out = f"bring {enough:,} or more to the gate, or set {key} higher" if enough else f"set {key} above 0"
            yield Check(
                name,
                "warning",
                f"{problems:,} gate problems cannot show that {key}={margin:g} is kept where no answer changes: a "
                f"student that is not better in that would be refused; {way_out}",
            )


def _enough(problems: int, margin: float, level: float) -> int:
    """From so many on, the fewest gate problems without a change that show a limit to be kept; 0: not even 100,000."""
    counts = range(problems, 100_000)
    place = bisect_left(counts, True, key=lambda count: -compare.lower_bound(0, 0, count, level) < margin)
    return counts[place] if place < len(counts) else 0


def _exposure(findings: Findings) -> Iterator[Check]:
    """That a teacher is there who could say whether errors compound, and is not asked to."""
    config, taken = findings.config, findings.sample
    if not config.judged_by_teacher or config.promote.exposure_traces:
        return
    students = 2 + config.train.twin
    cost = f"{students} students then write {EXPOSED} answers each, and the teacher reads these and the traces"
    if taken and taken.tokens:
        longest = max(completion for _, completion in taken.tokens)
        written = students * EXPOSED * longest
        read = (students + 1) * EXPOSED * (taken.prompt_tokens + longest)
        cost += f": at most about {written:,.0f} tokens written and {read:,.0f} read by the teacher"
    yield Check(
        "exposure",
        "ok",
        f"the run will not measure whether errors compound (ExAccErr); promote.exposure_traces={EXPOSED} does, with "
        f"teach.model={config.teach.model} in the gate's memory: {cost}",
    )


def _room(findings: Findings) -> Iterator[Check]:
    """Disk, memory and time, by arithmetic: right within a factor of two or three."""
    if findings.folder is None:
        raise UncheckedError("disk, memory and time depend on the student")
    config, size = findings.config, student.parameters(findings.folder)
    trained = size if not config.train.lora.rank else size // 50
    width = 4 if config.student.dtype == "float32" else 2
    disk = 2 * width * size + (config.train.checkpoints.keep + 1) * 12 * trained
    free = shutil.disk_usage(_existing(Path("runs"))).free
    yield _against("disk", disk, free, "runs/", "free it, or set train.checkpoints.keep=1")
    memory = width * size + 16 * trained + GIB
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    if there:
        yield _against("memory", memory, there, "this machine", "set train.lora.rank=16, or take a smaller student")
    if findings.sample:
        yield _time(config, findings.sample, size, findings.asked)


def _time(config: Config, taken: Sample, size: int, asked: float) -> Check:
    seconds, text = timing.run(config, taken, size, asked)
    if seconds > SLOW_H * 3600:
        return Check("time", "warning", f"{text}; take a GPU, a smaller student, or ingest.limit")
    return Check("time", "ok", text)


def _against(name: str, needed: float, there: float, where: str, way_out: str) -> Check:
    text = f"about {needed / GIB:.1f} GiB needed, {there / GIB:.1f} GiB on {where}"
    return Check(name, "failed", f"{text}; {way_out}") if needed > there else Check(name, "ok", text)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.absolute().parent)
