"""Where a person sees a run and a version in MLflow's pages."""

from __future__ import annotations

from urllib.parse import quote, urlsplit


def of_run(uri: str, experiment: str, run: str, model: str, version: int | None) -> dict[str, str]:
    """Addresses on a tracking server, by what they lead to; of a store without one, the run's id.

    Args:
        uri: of the tracking store; a name and a password in it stay out.
        experiment: its id.
        run: its id.
        model: a registered model.
        version: of it; None where none was registered.
    """
    web = urlsplit(uri)
    if web.scheme not in ("http", "https"):
        return {"MLflow run": run}
    start = f"{web.scheme}://{web.netloc.rpartition('@')[2]}{web.path.rstrip('/')}/#"
    links = {"MLflow run": f"{start}/experiments/{quote(experiment)}/runs/{quote(run)}"}
    return links | ({"MLflow version": f"{start}/models/{quote(model)}/versions/{version}"} if version else {})
