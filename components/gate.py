"""Decide whether the student is better, and register it as the challenger."""

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(
    config: dsl.Input[dsl.Artifact],
    pipeline: str,
    start: dsl.Input[dsl.Model],
    student: dsl.Input[dsl.Model],
    traces: dsl.Input[dsl.Dataset],
    scores: dsl.Input[dsl.Dataset],
    start_results: dsl.Input[dsl.Dataset],
    few_shot_results: dsl.Input[dsl.Dataset],
    champion_results: dsl.Input[dsl.Dataset],
    results: dsl.Input[dsl.Dataset],
    decision: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    trace_page: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
    twin: dsl.Input[dsl.Model] = None,  # how kfp says optional
    twin_results: dsl.Input[dsl.Dataset] = None,
    seeds: dsl.Input[dsl.Dataset] = None,
    choice: dsl.Input[dsl.Artifact] = None,
    teacher: dsl.Input[dsl.Model] = None,
) -> str:
    """Returns ``promote`` or ``refuse``; the reasons are in the decision, the registry and the report."""
    from dcod.stages.component import run_gate

    inputs = {
        "start": start.path,
        "student": student.path,
        "traces": traces.path,
        "scores": scores.path,
        "start_results": start_results.path,
        "few_shot_results": few_shot_results.path,
        "champion_results": champion_results.path,
        "results": results.path,
    }
    optional = {"twin": twin, "twin_results": twin_results, "seeds": seeds, "choice": choice, "teacher": teacher}
    inputs |= {name: given.path for name, given in optional.items() if given}
    pages = report.path, trace_page.path
    outcome, figures = run_gate(config.path, pipeline, decision.path, inputs, pages, summary.path)
    for name, value in figures.items():
        metrics.log_metric(name, value)
    return outcome
