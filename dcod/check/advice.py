"""A configuration for what is found: `dcod init` looks at the traces and the benchmark, chooses, and says why."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dcod import benchmarks
from dcod.check import languages, pilots, sample, student, timing
from dcod.check.sample import Sample
from dcod.check.student import UncheckedError
from dcod.config import Config, parse_config, reference
from dcod.errors import UserError, one_line
from dcod.evaluate import statistics
from dcod.ingest import contamination, feed
from dcod.ingest.assemble import side
from dcod.ingest.examine import UNMARKED
from dcod.models import fitting
from dcod.objective import feasibility
from dcod.objective.feasibility import Holdings
from dcod.promote import compare, contest
from dcod.storage import marks, outputs
from dcod.traces import Trace, prompts, sources
from dcod.traces.mapping import addresses

STEPS = 40  # optimizer steps that a run should have at least
PLAIN = (
    "plain fine-tuning, the study's default (docs/method.md, section 6). Several traces a prompt can be compared: "
    "train.correction.name=naturalness train.correction.weights=live train.correction.gamma_max=4 train.twin=true does "
    "so, and says what it brought"
)
LONE = (
    "plain fine-tuning: most prompts have one trace, and there is nothing to compare; with a teacher, `dcod teach` "
    "writes more"
)
LONGEST = 8192  # tokens that are looked at where a student has no limit of its own
LEAST = 8  # problems that are held out
SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # that are offered to be held out, the first that suffices
PROBLEM = ("problem", "question", "prompt", "task", "instruction", "input", "query", "text")
ANSWER = (
    *("answer", "gold", "final_answer", "correct_answer", "right_answer", "expected_answer", "ground_truth", "truth"),
    *("reference", "target", "label", "expected", "final", "final_result", "result", "solution", "output"),
)


@dataclass
class Advice:
    """A configuration, and why it is as it is.

    Attributes:
        values: what is not the default, as nested mappings.
        why: one sentence a choice.
    """

    values: dict[str, Any] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)

    def set(self, path: str, value: Any, why: str = "") -> None:
        """Sets one key, and says why."""
        *sections, last = path.split(".")
        node = self.values
        for section in sections:
            node = node.setdefault(section, {})
        node[last] = value
        if why:
            self.why.append(f"{path}: {why}")

    @property
    def config(self) -> Config:
        """The configuration as it stands."""
        return Config.model_validate(self.values)

    def text(self) -> str:
        """As YAML, with the reasons first and every key explained."""
        reasons = "".join(f"# - {line}\n" for line in self.why)
        return (
            f"# {marks.FILE_MARK} (`dcod init --force`).\n"
            f"# Written from the data. Look at it with `dcod check --config FILE`, then `dcod run`.\n"
            f"# All keys: `dcod config`, docs/configuration.md.\n#\n{reasons}\n"
            f"{reference.commented(self.values)}"
        )


def advise(
    files: Sequence[str],
    benchmark: str,
    model: str,
    hold_out: float = 0.0,
    beside: Path = Path(),
    *,
    force: bool = False,
) -> Advice:
    """Looks at traces and a benchmark, and chooses.

    Args:
        files: sources of traces.
        benchmark: a file of problems with answers, or the name of a benchmark; "" for none.
        model: the student; "" for the default one.
        hold_out: without a benchmark: this share of the prompts becomes one; 0 for none.
        beside: the folder of that benchmark's file.
        force: replace that file, if dcod wrote it.

    Raises:
        UserError: there is nothing to look at, no row is a trace, or no answer is right.
        UncheckedError: the student's tokenizer cannot be had.
    """
    advice = Advice()
    advice.set("name", Path(files[0].partition("?")[0]).stem or "dcod")
    if model:
        advice.set("student.model", model)
    advice.set("ingest.sources", list(files))
    sample.check_there(advice.config)  # before a hub is asked, which may be away
    folder = student.small_files(advice.config.student)
    room = fitting.positions(folder) or LONGEST
    looked = _look(advice, folder, room)
    if _mappings(advice, looked):
        looked = _look(advice, folder, room)
    if not looked.traces:
        code, count = looked.refused.most_common(1)[0]
        told = looked.examples[code].replace("SOURCE?", f"{files[0].partition('?')[0]}?")
        raise UserError(f"none of {looked.rows} rows is a trace: {count} {code} ({told})")
    held = looked.holdings()
    back = len({trace.prompt_id for trace in looked.traces if trace.split != "train"})
    more = f", and {back} prompts held back to choose a checkpoint" if back else ""
    advice.why.append(f"found {held}{more}; {len(looked.traces):,} traces in {looked.rows:,} rows")
    _lengths(advice, looked, room)
    _system_prompt(advice, held, folder)
    _verdicts(advice, looked, held, folder)
    _benchmark(advice, benchmark or _held_out(advice, hold_out, looked, beside, force), looked)
    _training(advice, sample.take(advice.config, folder))
    _language(advice, looked)
    return advice


def _look(advice: Advice, folder: Path, room: int) -> Sample:
    """The first rows, whatever their length and answers."""
    wide = [f"student.max_length={min(room, LONGEST)}", "ingest.keep=all"]
    return sample.take(parse_config(advice.config.to_json(), wide), folder)


def _mappings(advice: Advice, looked: Sample) -> bool:
    """Takes a mapping by name for every source whose rows no format reads, and most of which it would."""
    chosen: list[str | dict[str, str]] = []
    for source in advice.values["ingest"]["sources"]:
        offers = {name: count for (path, name), count in looked.offers.items() if path == source}
        name = max(offers, key=offers.__getitem__, default="")
        count = offers.get(name, 0)
        rows = looked.looked[source]
        if 2 * count <= rows:
            chosen.append(source)
            continue
        chosen.append({"path": source, "map": name})
        title = addresses.presets()[name].title
        advice.why.append(
            f"ingest.sources: {source} looks like {title} by its columns ({count} of {rows} rows), which "
            f"`map: {name}` reads; `dcod ingest --look` shows how"
        )
    advice.set("ingest.sources", chosen)
    return any(isinstance(source, dict) for source in chosen)


def _lengths(advice: Advice, looked: Sample, room: int) -> None:
    sizes = sorted(sum(pair) for pair in looked.tokens)
    usual = sizes[min(len(sizes) - 1, int(0.99 * len(sizes)))]
    length = min(room, max(256, -(-usual // 128) * 128))
    longer = sum(size > length for size in sizes)
    lost = f"; {longer} of {len(sizes)} are longer and will be refused" if longer else ""
    advice.set("student.max_length", length, f"the longest traces have {usual:,} tokens{lost}")


def _system_prompt(advice: Advice, held: Holdings, folder: Path) -> None:
    """What most of the traces have is asked behind as well, where the chat template takes it."""
    if 2 * held.alike <= held.traces:
        return
    own = advice.config.student.model_copy(update={"system_prompt": held.system_prompt})
    share = f"{held.alike} of {held.traces} traces have"
    try:
        prompts.of_student(folder, own)
    except UserError as error:
        advice.why.append(f"student.system_prompt stays: {share} {held.system_prompt!r:.60}, but {error}")
        return
    advice.set("student.system_prompt", held.system_prompt, f"{share} it, so problems are asked behind it as well")


def _verdicts(advice: Advice, looked: Sample, held: Holdings, folder: Path) -> None:
    """Which traces to keep, and where their answers stand."""
    if held.golds < held.traces / 2:
        keep = "all" if sum(trace.answer is None for trace in looked.traces) > held.traces / 2 else "answered"
        few = f"{held.golds} of {held.traces} traces have" if held.golds else "no trace has"
        advice.set("ingest.keep", keep, f"{few} a reference answer, so what is wrong in them is taught as well")
        return
    strict = sample.take(advice.config, folder)
    ways = [way for way in UNMARKED if strict.changes[way]]
    if ways and strict.refused["no_answer"] > 0.1 * strict.rows:
        count = strict.refused["no_answer"]
        advice.set("ingest.answers", ways[0], f"{count} rows mark no answer, and this way finds the reference")
        strict = sample.take(advice.config, folder)
    right = f"{len(strict.traces)} of {len(looked.traces)} traces have the right answer"
    if not strict.traces:
        code = max(strict.refused, key=strict.refused.__getitem__)
        raise UserError(
            f"{right}: {strict.refused[code]} {code} ({strict.examples[code]}); mend the reference answers, or say "
            "which column holds them"
        )
    advice.why.append(f"ingest.keep stays `correct`: {right}")


def _training(advice: Advice, kept: Sample) -> None:
    """What to try, and in how many steps; of what is kept, without the prompts that a benchmark asks."""
    kept.traces = _unasked(advice.config, kept)
    held, more, offer = kept.holdings(), kept.total / kept.rows, pilots.offer(advice.config, kept)
    if offer.suffices:
        back = f"{offer.selection + offer.share:.0%} of the prompts are held back to choose by, and not trained on"
        advice.set("ingest.selection_share", offer.selection, back)
        advice.set("ingest.pilot_share", offer.share)
        advice.set("train.arms", "auto", f"{offer}; plain fine-tuning stays unless an arm is better")
    else:
        lone = held.alone > held.traces / 2
        advice.set("train.correction.name", "none", LONE if lone else PLAIN)
        enough = f"some {offer.prompts:,} prompts with reference answers would do"
        advice.why.append(f"train.arms stays empty: {offer}, less than {statistics.POWER:g}; {enough}")
    kept.traces = [replace(one, split=side(one.prompt_id, advice.config.ingest)) for one in kept.traces]
    held = kept.holdings()
    held = replace(held, traces=round(held.traces * more), prompts=round(held.prompts * more))
    advice.set("train.epochs", 2 if held.traces > 500 else 3)
    for per_step in (16, 8, 4, 2, 1):
        train = advice.config.train.model_copy(update={"traces_per_step": per_step})
        if (steps := feasibility.steps(train, held)) >= STEPS:
            break
    why = f"about {steps:,} optimizer steps on the {held.traces:,} traces that are left for training"
    advice.set("train.traces_per_step", per_step, why)
    if cost := timing.pilot(advice.config, kept):
        cheaper = "train.pilot.problems, samples and temperatures make it cheaper and less likely to find a gain"
        advice.why.append(f"train.arms: the pilot, its answers counted, costs {cost.of_run:.0%} of the run; {cheaper}")


def _unasked(config: Config, kept: Sample) -> list[Trace]:
    """The traces whose prompts are not asked by a benchmark of one's own; a published set is not fetched for it."""
    own = [one for one in config.evaluate.benchmarks if one.source]
    try:
        found = contamination.Contamination(own)
    except UserError:  # `_language` says it
        return kept.traces
    asked = {one.prompt_id: one.prompt for one in kept.traces}
    hits = {name: found.find(prompt) for name, prompt in asked.items()}
    return [one for one in kept.traces if (hit := hits[one.prompt_id]) is None or hit.kind == "ngram"]


def _benchmark(advice: Advice, benchmark: str, looked: Sample) -> None:
    longest = sorted(pair[1] for pair in looked.tokens)[int(0.95 * (len(looked.tokens) - 1))]
    answers = min(4096, -(-int(1.5 * longest) // 64) * 64)
    if not benchmark:
        golds = _golds(looked)
        share = next((one for one in SHARES if not _choose(golds, one, advice.config)[1]), 0.0)
        ways = "give `dcod init` --benchmark FILE, problems with answers"
        if share:
            ways += f"; or --hold-out {share:g}, which takes that share of your prompts"
        else:
            few = f"{len(golds)} prompts with answers are too few to hold some of them out" if golds else ""
            ways = f"{few or 'no trace has an answer to measure by'}; {ways}"
        advice.why.append(f"evaluate.benchmarks is empty: {ways}")
        return
    entry: dict[str, Any] = {"name": benchmark, "max_new_tokens": answers}
    if benchmark not in benchmarks.names():
        first = next(islice(benchmarks.objects(Path(benchmark.partition("?")[0])), 1), {})
        source = benchmark if "?" in benchmark else described(benchmark, list(first))
        if "kind=" not in source and looked.bare:
            source += f"{'&' if '?' in source else '?'}kind=as_is"
            advice.why.append("evaluate.benchmarks: no words are added (`as_is`), as in the prompts of the traces")
        entry |= {"name": "custom", "source": source}
    advice.set("evaluate.benchmarks", [entry], f"answers are cut at {answers} tokens; the traces have {longest}")


def _language(advice: Advice, looked: Sample) -> None:
    """Says the language of traces and problems; a published set is not fetched for it."""
    try:
        spoken = languages.of_traces(looked.traces)
        said, differs, section = str(spoken), "", advice.config.evaluate
        for benchmark in section.benchmarks:
            if not benchmark.source:
                said += f"; `dcod check` looks at {benchmark.name}"
                continue
            problems = languages.of([one.text for one in benchmarks.load(benchmark, section.report_share)])
            said, differs = f"{said}, problems {problems}", spoken.unlike(problems)
    except UncheckedError as error:
        advice.why.append(str(error))
        return
    except UserError as error:
        said += f"; the problems were not read: {one_line(error)}"
    advice.why.append(f"language of a sample, where there is prose enough to tell it: {said}")
    if differs:
        advice.why.append(f"warning: {differs}")


def _held_out(advice: Advice, share: float, looked: Sample, folder: Path, force: bool) -> str:
    """Writes a share of the prompts as a benchmark; ingestion then leaves their traces out. Returns its file.

    Raises:
        UserError: no trace has an answer to check against, there are too few, or the file is there.
    """
    if not share:
        return ""
    config, golds = advice.config, _golds(looked)
    chosen, lacking = _choose(golds, share, config)
    if lacking:
        raise UserError(f"--hold-out {share:g}: {lacking}")
    file = folder / f"{config.name}-held-out.jsonl"
    if file.exists() and not force:
        raise UserError(f"{file} is there already: give --force, or name it by --benchmark")
    if read := next((one.path for one in feed.addressed(config) if sources.would_read(one.path, file)), ""):
        raise UserError(
            f"--hold-out {share:g}: {file} would be read as traces, since it lies among those of {read}: run in "
            "another folder and name the traces from there, or give an --out elsewhere, beside which it is written"
        )
    lines = [{"problem": one, "answer": golds[one]} for one in chosen]
    lines[0] = {"note": f"{marks.FILE_MARK} (`dcod init --force`)"} | lines[0]
    outputs.write_file(file, "".join(json.dumps(line) + "\n" for line in lines))
    deciding = _deciding(chosen, config)
    if deciding < config.promote.min_problems:
        few = f"{len(chosen)} problems were held out in {file.name}, of which {deciding} decide; so few tell only a "
        advice.set("promote.min_problems", deciding, f"{few}large gain from noise")
    least = -compare.lower_bound(0, 0, deciding, contest.level_of(config.promote))
    if least >= config.promote.stability_margin:
        few = "on so few problems a smaller rise of answers that are cut off or loop cannot be ruled out"
        advice.set("promote.stability_margin", math.floor(20 * least + 1) / 20, few)
    return str(file)


def _golds(looked: Sample) -> dict[str, str]:
    """The prompts that have a reference answer, with it."""
    return {trace.problem: trace.gold for trace in looked.traces if trace.gold}


def _choose(golds: Mapping[str, str], share: float, config: Config) -> tuple[list[str], str]:
    """Which prompts become problems, of both splits as the configuration asks; or what is lacking."""
    if not golds:
        return [], "no trace has an answer to check against; give --benchmark FILE, problems with answers"
    number, least = round(share * len(golds)), statistics.fewest(contest.level_of(config.promote))
    ordered = sorted(golds, key=lambda text: hashlib.sha256(f"held out: {text}".encode()).digest())
    deciding = [text for text in ordered if _deciding([text], config)]
    others = [text for text in ordered if not _deciding([text], config)]
    if number < max(LEAST, least) or len(deciding) < least:
        few = f"{number} of {len(golds)} prompts with answers; at least {LEAST} are needed, of which {least} decide"
        wanted = math.ceil(100 * max(LEAST, least) / len(golds)) / 100
        larger = f"--hold-out {wanted:g}" if number < max(LEAST, least) and wanted < 1 else "a larger share"
        return [], f"{few}: take {larger}, or give --benchmark FILE, problems with answers"
    reported = min(len(others), number - max(least, round(number * (1.0 - config.evaluate.report_share))))
    chosen = {*others[:reported], *deciding[: number - reported]}
    return [text for text in ordered if text in chosen], ""


def _deciding(problems: Sequence[str], config: Config) -> int:
    """How many of some problems the gate decides by."""
    return sum(benchmarks.split(one, config.evaluate.report_share) == contest.SPLIT for one in problems)


def described(file: str, columns: Sequence[str]) -> str:
    """The source of a benchmark of one's own: the file, and its columns where they are not the usual ones.

    Raises:
        UserError: no column is known for a problem or an answer.
    """
    chosen: dict[str, str] = {}
    for key, names in (("problem", PROBLEM), ("answer", ANSWER)):
        lower = {column.lower().replace(" ", "_"): column for column in columns if column not in chosen.values()}
        chosen[key] = next((lower[name] for name in names if name in lower), "")
        if not chosen[key]:
            raise UserError(
                f"{file}: which of its columns is the {key}? It has {', '.join(columns)}; say so: "
                f"--benchmark '{file}?problem=COLUMN&answer=COLUMN'"
            )
    options = "&".join(f"{key}={quote(column)}" for key, column in chosen.items() if key != column)
    return f"{file}?{options}" if options else file
