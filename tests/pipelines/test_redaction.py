"""A password that reaches us inside an address: no file of the store and no line on a screen holds it."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import tracking
from pipelines.tracking.address import mirror_environment
from pipelines.tracking.mirror import Outcome, mirror_run
from pipelines.tracking.redaction import bare_address, lacks_secret, public_address, redacted, same_server
from pipelines.tracking.state import read_state
from tests.pipelines.handwritten_run import HandwrittenRun, key_of
from tests.pipelines.test_cli import curatrain, folder, spec  # noqa: F401 - fixtures

SECRET = "s3cr3t-Wort"


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("http://me:pw@host:5000/path", "http://me:***@host:5000/path"),
        ("https://me:p%40w@host", "https://me:***@host"),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("http://me:p@w@host/a@b", "http://me:***@host/a@b"),
        ("postgresql+pg8000://me:pw@host/db", "postgresql+pg8000://me:***@host/db"),
        ("postgresql://me:p/w#1@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://host/db?user=me&password=pw&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("http://host:5000/#/experiments/1", "http://host:5000/#/experiments/1"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("no address: me@host", "no address: me@host"),
    ],
)
def test_an_address_keeps_all_but_its_secret(uri: str, public: str) -> None:
    assert public_address(uri) == public == public_address(public)
    assert redacted(f"could not reach {uri!r}, again") == f"could not reach {public!r}, again"
    assert same_server(uri, public)


@given(
    st.sampled_from(["abcXYZ019-_.~%@:!$&*+,;=", "abcXYZ019-_.~%:/?#!$&*+,;="]).flatmap(
        lambda letters: st.text(st.sampled_from(letters), min_size=4, max_size=12)
    )
)
def test_no_password_passes(password: str) -> None:
    """Unescaped characters too; but both an @ and a / would name another host."""
    secret = f"{password}!Qq"  # too rare to stand in the rest by chance
    for scheme in ("http", "mysql+pymysql"):
        assert secret not in public_address(f"{scheme}://me:{secret}@host:1/db")
        assert "host:1/db" in public_address(f"{scheme}://me:{secret}@host:1/db")


def test_who_asks_makes_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    assert same_server("http://me:***@host:1", "http://host:1")
    assert not same_server("http://me:***@host:1", "http://me:pw@host:2")
    assert bare_address("http://me:pw@host:1/x") == "http://host:1/x"
    assert lacks_secret("http://me:***@host", "http://host")
    assert not lacks_secret("http://me:***@host", "http://me:pw@host")
    assert not lacks_secret("http://host", "http://host")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw")
    assert not lacks_secret("http://me:***@host", "http://host")


def test_the_environments_secrets_are_found_in_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:pass%21word@host/db")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-123")
    assert redacted("FATAL: pass!word, pass%21word or tok-123 is wrong") == "FATAL: ***, *** or *** is wrong"


def holders(store: Path, secret: str) -> list[str]:
    """Files of the store that hold the secret, in their bytes or their name."""
    files = [path for path in store.rglob("*") if path.is_file()]
    assert files
    return [str(f) for f in files if secret.encode() in f.read_bytes() or secret in str(f.relative_to(store))]


def test_after_a_submit_no_file_of_the_store_holds_the_password(
    tmp_path: Path,
    spec: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server is down: what is said of it goes into logs, and what a rerun says onto the screen."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:9")
    done = curatrain(tmp_path, "submit", str(spec), "--local", "--no-track")
    (run,) = (tmp_path / "store" / "runs").iterdir()
    command = [sys.executable, "-m", "pipelines.tracking", str(tmp_path / "store"), run.name, "--patience", "0"]
    with (run / "logs" / "mirror.log").open("wb") as log:
        mirrored = subprocess.run(command, env=mirror_environment(), stderr=log, timeout=60)
    assert mirrored.returncode == Outcome.UNREACHABLE
    assert "waiting for MLflow" in (run / "logs" / "mirror.log").read_text()
    ui = curatrain(tmp_path, "ui")
    assert "http://me:***@127.0.0.1:9" in ui.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:***@127.0.0.1:9")
    refused = curatrain(tmp_path, "submit", str(spec), "--local")
    assert refused.returncode == 2 and "never writes down" in refused.stderr
    assert len(list((tmp_path / "store" / "runs").iterdir())) == 1
    assert SECRET not in "".join([done.stdout, done.stderr, ui.stdout, ui.stderr, refused.stderr])
    assert holders(tmp_path / "store", SECRET) == []


def test_a_delivery_records_where_to_and_not_the_password(
    tracked_store: Path, saved_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tracked_store.parent)  # MLflow makes a folder of the address itself
    database = f"sqlite:///file:{tracked_store / 'mlflow' / 'mlflow.db'}?uri=true"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{database}&password={SECRET}")
    run = HandwrittenRun(tracked_store)
    run.whole(saved_model)
    assert mirror_run(tracked_store, run.id) is Outcome.DELIVERED
    record = tracking.read_registration(tracked_store, key_of("register"))
    assert record is not None and record["tracking_uri"] == f"{database}&password=***"
    assert tracking.registered_here(tracked_store, key_of("register"))
    assert holders(tracked_store, SECRET) == []
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "set MLFLOW_TRACKING_URI to go on there" in tracking.moved_remark(tracked_store, run.id)
    assert not tracking.registered_here(tracked_store, key_of("register"))


class _Closed(http.server.BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.send_response(401)
        self.end_headers()

    do_GET = do_POST = _answer  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def closed_server() -> Iterator[int]:
    """A server that lets nobody in."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Closed) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_server_that_wants_a_password_says_how_to_give_it(
    tracked_store: Path, closed_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = f"127.0.0.1:{closed_server}"
    run = HandwrittenRun(tracked_store)
    run.whole()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{here}")
    assert mirror_run(tracked_store, run.id, once=True) is Outcome.UNREACHABLE
    reason = tracking.unreachable_reason(tracked_store, run.id)
    assert reason.startswith(f"http://{here} does not let us in: set MLFLOW_TRACKING_USERNAME and")
    assert read_state(run.path) is None
    (run.path / "mirror.json").write_text(json.dumps({"tracking_uri": f"http://me:***@{here}", "stages": {}}))
    assert "which is not given now; set MLFLOW_TRACKING_USERNAME" in tracking.moved_remark(tracked_store, run.id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@{here}")
    assert tracking.moved_remark(tracked_store, run.id) == ""
