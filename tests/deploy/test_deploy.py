"""The deployment files, read by the tools that will read them: docker-compose and hadolint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
SECRETS = {"POSTGRES_PASSWORD": "a-password", "RAY_AUTH_TOKEN": "a-token"}


def compose(*files: Path, secrets: dict[str, str]) -> subprocess.CompletedProcess[str]:
    arguments = [argument for file in files for argument in ("-f", str(file))]
    command = ["docker-compose", *arguments, "config", "--format", "json"]
    environment = {"PATH": PATH, "HOME": str(DEPLOY), **secrets}
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=DEPLOY)


def merged(*names: str) -> dict[str, dict]:
    done = compose(*[DEPLOY / name for name in names], secrets=SECRETS)
    assert not done.stderr
    return json.loads(done.stdout)["services"]


def test_the_check_script_passes() -> None:
    done = subprocess.run([DEPLOY / "check.sh"], env={**os.environ, "PATH": PATH}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_script_sees_a_mistake(tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    shutil.copytree(DEPLOY, folder)
    (folder / "compose.gpu.yaml").write_text("services: {ray-head: {imag: curatrain}}\n")
    done = subprocess.run([folder / "check.sh"], env={**os.environ, "PATH": PATH}, capture_output=True, text=True)
    assert done.returncode == 1 and "imag" in done.stderr


@pytest.mark.parametrize("missing", SECRETS)
def test_no_secret_has_a_default(missing: str) -> None:
    done = compose(DEPLOY / "compose.yaml", secrets={k: v for k, v in SECRETS.items() if k != missing})
    assert not done.stdout
    assert missing in done.stderr


def test_a_misspelt_key_does_not_pass(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text((DEPLOY / "compose.yaml").read_text().replace("healthcheck:", "healthchek:", 1))
    done = compose(broken, secrets=SECRETS)
    assert not done.stdout
    assert "healthchek" in done.stderr


def test_every_service_is_watched_and_published_on_loopback_alone() -> None:
    services = merged("compose.yaml")
    assert set(services) == {"postgres", "mlflow", "ray-head"}
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {port["host_ip"] for port in service.get("ports", [])} <= {"127.0.0.1"}, name
    assert not services["postgres"].get("ports")
    assert services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://")
    assert services["ray-head"]["depends_on"]["mlflow"]["condition"] == "service_healthy"


def test_the_gpu_overlay_changes_the_head_alone() -> None:
    plain, gpu = merged("compose.yaml"), merged("compose.yaml", "compose.gpu.yaml")
    assert {name for name in plain if plain[name] != gpu[name]} == {"ray-head"}
    head = gpu["ray-head"]
    assert head["build"]["args"]["VARIANT"] == "cuda"
    assert head["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.mlflow"])
def test_images_run_without_root(name: str) -> None:
    lines = (DEPLOY / name).read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users and users[-1] not in ("0", "root")


def test_what_the_image_copies_is_in_the_build_context() -> None:
    kept = {line[1:] for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == {"pyproject.toml", "README.md", "LICENSE", "pipelines", "stages", "curation", "training"}
