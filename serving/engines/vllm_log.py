"""What ended vLLM, in plain words, from the end of its log."""

from pathlib import Path

TAIL = 64 * 1024  # bytes of the log that are looked at

# (a part of what vLLM says, what it means and what to do); the first that is found counts.
_MEANINGS = (
    ("No module named vllm", "vLLM is not installed there; `pip install 'sparsight[cuda]'`, or "
     "give --vllm-python of an environment that has it"),
    ("No module named 'vllm", "vLLM is not installed there, or only in part; install it again"),
    ("torchvision::nms does not exist", "its torchvision does not fit its torch; "
     "`pip uninstall torchvision` in that environment, which our models do not need"),
    ("CUDA out of memory", "the GPU has too little memory free; end what else uses it, or give "
     "--vllm-arg=--gpu-memory-utilization=0.5"),
    ("less than desired GPU memory utilization", "the GPU has too little memory free; end what "
     "else uses it, or give --vllm-arg=--gpu-memory-utilization=0.5"),
    ("No available memory for the cache blocks", "there is no memory for its cache; on a CPU set "
     "VLLM_CPU_KVCACHE_SPACE (GiB), on a GPU raise --vllm-arg=--gpu-memory-utilization"),
    ("Cannot allocate memory", "the machine has too little memory free; lower "
     "VLLM_CPU_KVCACHE_SPACE (GiB)"),
    ("Address already in use", "another program took its port meanwhile"),
    ("unrecognized arguments", "this version of vLLM does not know one of the options that it was "
     "given; docs/reference/compatibility.md lists the versions that were tried"),
    ("Failed to infer device type", "it finds no device that it was built for; use a build for "
     "CPUs (vllm-cpu), or a machine with a GPU and its driver"),
    ("libcuda.so", "it finds no driver of an NVIDIA GPU; use a build for CPUs (vllm-cpu)"),
    ("Illegal instruction", "this processor lacks instructions that it was built for"),
)  # fmt: skip


def plain_words(log: Path, code: int | None) -> str:
    """Why vLLM ended: what is known of it, its exit code, and where all that it said is kept."""
    text = tail(log)
    known = next((meaning for part, meaning in _MEANINGS if part in text), None)
    how = "did not come up in time" if code is None else _ending(code)
    said = known or _last_line(text)
    return f"vLLM {how}: {said}. Its log is {log}"


def tail(log: Path) -> str:
    """The end of a log; "" where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _ending(code: int) -> str:
    if code == -9:
        return "was killed (the system does so when memory is short)"
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _last_line(text: str) -> str:
    """The last line that looks like an error's, else the last one at all."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    last = (errors or lines or ["it said nothing"])[-1]
    return last[:300].rstrip(".")
