"""Which moments of a training run stay on disk, so that features can be watched as they form."""

KEPT = (0.01, 0.03, 0.1, 0.3, 1.0)  # shares of a run (the paper's Figure 4)


def kept_steps(steps: int) -> frozenset[int]:
    """Numbers of finished steps that stay, of a run of `steps`."""
    return frozenset(max(1, round(share * steps)) for share in KEPT)


def step_folder(step: int) -> str:
    """Name of a checkpoint's folder."""
    return f"step-{step:08d}"


def step_of(folder_name: str) -> int:
    """What `step_folder` was called with."""
    return int(folder_name.removeprefix("step-"))
