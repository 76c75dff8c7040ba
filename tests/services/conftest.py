"""The real servers, one of each for the whole session; what is missing is an error here, not a skip."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.services import servers
from tests.services.browsing import Opened


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A real S3: `.uri` is its endpoint, `.env` holds endpoint and keys as boto3 reads them."""
    with servers.s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[servers.Server]:
    """A real PostgreSQL: `.uri` is its SQLAlchemy URI."""
    folder = Path(tempfile.mkdtemp(prefix="dcod-postgresql-"))  # not below pytest's, which is root's alone
    try:
        with servers.postgresql(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def mlflow_server(
    tmp_path_factory: pytest.TempPathFactory, postgresql_server: servers.Server, s3_server: servers.Server
) -> Iterator[servers.Server]:
    """MLflow on PostgreSQL and S3: `.uri` is its tracking URI; a client needs no keys of the store."""
    with servers.mlflow(tmp_path_factory.mktemp("mlflow"), postgresql_server, s3_server) as server:
        yield server


@pytest.fixture(autouse=True)
def _access(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every client of the tracking server brings."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", servers.USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", servers.PASSWORD)


@pytest.fixture
def s3_environment(s3_server: servers.Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> servers.Server:
    """The environment of the real S3, and a download cache of the test's own."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DCOD_CACHE", str(tmp_path / "cache"))
    servers.forget_keys(monkeypatch)
    return s3_server


@pytest.fixture
def store(s3_environment: servers.Server) -> Any:
    """A client of the real S3 itself, past any proxy."""
    return servers.client(s3_environment)


@pytest.fixture
def bucket(store: Any) -> str:
    """An empty bucket of the test's own."""
    name = f"b{uuid.uuid4().hex[:12]}"
    store.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "`make test-services` installs Chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Callable[..., Any]:
    """Opens a file; afterwards nothing may have been asked for but the file, and nothing complained about."""

    @contextmanager
    def open_file(
        path: Path, scheme: str = "light", width: int = 1360, state: str = "", phone: bool = False
    ) -> Iterator[Opened]:
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 860}, has_touch=phone, is_mobile=phone
        )
        found = Opened(context.new_page())
        found.page.goto(path.as_uri() + state)
        yield found
        assert found.complaints == []
        asked = {url.partition("#")[0] for url in found.requests if not url.startswith("data:")}
        assert asked == {path.as_uri()}
        assert found.page.evaluate("window.hacked") is None
        context.close()

    return open_file
