"""A vLLM of our own: started, killed, started again, ended; and why it did not start."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import serving.engines.choice
import serving.engines.vllm_child
from serving.engines.choice import EngineOptions, choose_engine
from serving.engines.vllm_child import EngineStartError, VllmChild
from serving.engines.vllm_command import VllmInstall, find_vllm, vllm_argv, vllm_environment
from serving.engines.vllm_log import plain_words
from serving.limits import Limits
from serving.spin import SPIN_COUNT, spin_briefly
from sparse_encoder.errors import SparsightError
from vlm.merged_checkpoint import MergedCheckpoint
from vlm.pipeline import Pipeline


@pytest.fixture
def with_vllm(
    fake_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[VllmChild]]:
    """This interpreter has (a stand-in for) vLLM; the children that are started are listed."""
    monkeypatch.setenv("PYTHONPATH", str(fake_site))
    monkeypatch.setenv("SPARSIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        serving.engines.choice,
        "cached_merged",
        lambda pipeline, progress: MergedCheckpoint(tmp_path, "tiny-ffffffffffff"),
    )
    monkeypatch.setattr(serving.engines.vllm_child, "GRACE_S", 2.0)
    started: list[VllmChild] = []
    keep = VllmChild.start

    def start(child: VllmChild, progress: Any = None) -> None:
        started.append(child)
        keep(child, progress)

    monkeypatch.setattr(VllmChild, "start", start)
    yield started
    for child in started:
        child.close()


def chat(uri: str, text: str, **more: Any) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": text}]
    return {"model": "tiny", "messages": [{"role": "user", "content": content}], **more}


def ask(url: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_killed_in_mid_stream_gives_an_error_event_and_the_next_request_works(
    with_vllm: list[VllmChild], serve: Any, tiny: Pipeline, uri: str
) -> None:
    chosen = choose_engine(EngineOptions("auto"), tiny, Limits())
    assert chosen.name == "vllm" and "0.32.0" in chosen.why
    (child,) = with_vllm
    first = child.pid
    assert first is not None
    with serve(tiny, engine=chosen.maker) as url:
        assert ask(url, chat(uri, "what?")).status_code == 200
        events = ask(url, chat(uri, "crash now please", stream=True)).text
        assert "engine_failed" in events and "[DONE]" not in events
        began = time.monotonic()
        while (answer := ask(url, chat(uri, "and now?"))).status_code != 200:
            assert answer.json()["error"]["code"] in ("engine_unavailable", "engine_failed")
            assert time.monotonic() - began < 60
            time.sleep(0.05)
        second = child.pid
        assert second is not None and second != first and child.n_restarts == 1
        os.kill(second, signal.SIGKILL)  # what the system does when memory is short
        until(lambda: ask(url, chat(uri, "again?")).status_code == 200 and child.n_restarts > 1)
        last = child.pid
        assert last is not None
        assert child.last_fault.startswith("vLLM was killed")
    assert not is_there(last)
    logs = sorted(path.name for path in child.log.parent.iterdir())
    assert logs == ["vllm.log", "vllm.log.1", "vllm.log.2"]
    assert "--enable-prompt-embeds" in child.log.read_text()


def test_a_first_start_that_fails_says_why_and_is_not_tried_again(
    with_vllm: list[VllmChild], tiny: Pipeline
) -> None:
    fault = "RuntimeError: operator torchvision::nms does not exist"
    with pytest.raises(EngineStartError, match="pip uninstall torchvision.*log"):
        choose_engine(EngineOptions("vllm", arguments=("--fail", fault)), tiny, Limits())
    (child,) = with_vllm
    assert child.n_restarts == 0 and child.pid is None


def test_a_child_that_does_not_come_up_in_time_is_ended(tmp_path: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = VllmChild(lambda port: sleeper, os.environ, tmp_path / "vllm.log", start_s=0.5)
    with pytest.raises(EngineStartError, match="in time"):
        child.start()
    assert child.pid is None


def test_workers_that_the_child_leaves_behind_are_ended_too(tmp_path: Path) -> None:
    note = tmp_path / "worker"
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
        "'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)']); "
        f"open({str(note)!r}, 'w').write(str(p.pid)); sys.exit(3)"
    )
    child = VllmChild(lambda port: [sys.executable, "-c", code], os.environ, tmp_path / "vllm.log")
    with pytest.raises(EngineStartError, match="exit code 3"):
        child.start()
    worker = int(note.read_text())
    until(lambda: not _runs(worker))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_child_that_keeps_failing_is_given_longer_each_time_until_it_came_up_again(
    fake_site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake_site / "vllm" / "entrypoints" / "openai" / "api_server.py"
    starts: list[float] = []
    waits: list[tuple[float, float]] = []  # when a life was over, and what is waited then
    monkeypatch.setattr(
        serving.engines.vllm_child.logger,
        "error",
        lambda text, *told: waits.append((time.monotonic(), told[-1])),
    )

    def argv(port: int) -> list[str]:
        starts.append(time.monotonic())
        command = [sys.executable, str(server), "--served-model-name", "tiny", "--port", str(port)]
        return command + (["--fail", "no"] if len(starts) in (2, 3, 4) else [])

    env = {**os.environ, "VLLM_API_KEY": "k"}
    child = VllmChild(argv, env, tmp_path / "vllm.log", back_off_s=(0.05, 0.2, 0.4))

    def kill(n_before: int) -> None:
        # Its watcher has to have seen it up, or this would count as one more failed start.
        until(lambda: len(starts) == n_before and child._was_up)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        until(lambda: len(starts) > n_before)

    with contextlib.closing(child):
        child.start()
        kill(1)
        kill(5)
    assert [wait for _, wait in waits] == [0.05, 0.2, 0.4, 0.4, 0.05]
    for (over, wait), start in zip(waits, starts[1:], strict=True):
        assert start - over >= wait


@pytest.mark.parametrize("for_long", [True, False])
def test_a_child_that_lives_but_stays_sick_is_started_again_and_one_sick_for_a_moment_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_long: bool
) -> None:
    monkeypatch.setattr(serving.engines.vllm_child, "SICK_S", 1.5 if for_long else 60.0)
    well = tmp_path / "health"  # Python's own server answers 404 where this file is not

    def argv(port: int) -> list[str]:
        well.touch()  # each life begins in health
        options = ["--bind", "127.0.0.1", "--directory", str(tmp_path)]
        return [sys.executable, "-m", "http.server", str(port), *options]

    child = VllmChild(argv, os.environ, tmp_path / "vllm.log", back_off_s=(0.05,))
    with contextlib.closing(child):
        child.start()
        first = child.pid
        assert first is not None
        well.unlink()
        if for_long:
            until(lambda: child.n_restarts == 1 and child.pid not in (None, first))
            assert child.last_fault.startswith("vLLM was not healthy for 1.5 s")
            assert not is_there(first)
        else:
            until(lambda: child.log.read_text().count('/health HTTP/1.1" 404') >= 2)
            well.touch()
            until(lambda: httpx.get(f"{child.url}/health").status_code == 200)
            assert (child.pid, child.n_restarts, child.last_fault) == (first, 0, "")


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("ModuleNotFoundError: No module named vllm", "not installed"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "too little memory"),
        ("ValueError: No available memory for the cache blocks.", "VLLM_CPU_KVCACHE_SPACE"),
        ("api_server.py: error: unrecognized arguments: --new", "compatibility.md"),
        ("OSError: [Errno 98] Address already in use", "port"),
        ("Traceback\n  File x\nKeyError: 'that is new'\nbye", "KeyError: 'that is new'"),
        ("", "said nothing"),
    ],
)
def test_what_ended_vllm_is_told_in_plain_words(tmp_path: Path, said: str, word: str) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(said)
    told = plain_words(log, 1)
    assert word in told and str(log) in told and "Traceback" not in told


def test_vllm_is_started_on_loopback_with_its_key_out_of_sight(tmp_path: Path) -> None:
    for cpu, kind in ((True, "float32"), (False, "bfloat16")):
        install = VllmInstall(Path(sys.executable), "0.32.0", cpu)
        argv = vllm_argv(install, tmp_path, "mini-0123", 81, ["--dtype", "float16"])
        assert argv[argv.index("--host") + 1] == "127.0.0.1"
        assert argv[argv.index("--dtype") + 1] == kind
        assert argv[-2:] == ["--dtype", "float16"]  # last, and so the one that counts
        env = vllm_environment(install, "secret")
        assert env["VLLM_API_KEY"] == "secret" and "secret" not in argv
        assert env["HF_HUB_OFFLINE"] == "1" and env["VLLM_NO_USAGE_STATS"] == "1"


def test_vllm_waits_for_its_threads_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    spin_briefly()
    assert SPIN_COUNT in os.environ
    install = VllmInstall(Path(sys.executable), "0.32.0", cpu=True)
    assert SPIN_COUNT not in vllm_environment(install, "secret")
    os.environ[SPIN_COUNT] = "77"  # the user's own, which is for both
    spin_briefly()
    assert vllm_environment(install, "secret")[SPIN_COUNT] == "77"


def test_auto_takes_transformers_where_there_is_no_vllm(
    tiny: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.engines.choice, "find_vllm", lambda python: None)
    chosen = choose_engine(EngineOptions("auto"), tiny, Limits())
    assert (chosen.name, chosen.maker) == ("transformers", None)
    for options in (EngineOptions("vllm"), EngineOptions("auto", python=Path(sys.executable))):
        with pytest.raises(SparsightError, match="has no vLLM"):
            choose_engine(options, tiny, Limits())


def test_servers_that_cannot_be_used_are_refused_at_the_start(tiny: Pipeline) -> None:
    with pytest.raises(SparsightError, match="127.0.0.1:1 cannot be reached"):
        choose_engine(EngineOptions("auto", urls=("http://127.0.0.1:1",)), tiny, Limits())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"engine": "transformers", "urls": ("http://h",)}, "leave out the --vllm"),
        ({"engine": "transformers", "arguments": ("-x",)}, "leave out the --vllm"),
        ({"urls": ("http://h",), "python": Path("p")}, "would do nothing"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(SparsightError, match=word):
        EngineOptions(**options)


def test_an_interpreter_is_asked_what_vllm_it_has(
    tmp_path: Path, fake_site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = Path(sys.executable)
    monkeypatch.setenv("PYTHONPATH", str(fake_site))
    assert find_vllm(python) == VllmInstall(python, "0.32.0", cpu=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert find_vllm(python) is None
    with pytest.raises(SparsightError, match="no Python interpreter"):
        find_vllm(tmp_path / "python")
