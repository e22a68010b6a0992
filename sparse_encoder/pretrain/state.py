"""Checkpoints of a run on any number of ranks: whole or not there, some kept for good.

Each is a folder ``checkpoints/step-00000500`` that accelerate fills (weights, optimiser, random
states of every rank) or, where the model is shared out, that every rank fills with its part. It is
filled under another name and renamed last, so a process that is killed, or a disk that is full, leaves
the previous one as it was.
"""

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from sparse_encoder.errors import SparsightError
from sparse_encoder.kept_steps import step_folder, step_of
from sparse_encoder.whole_file import write_whole

log = logging.getLogger(__name__)
_STATE, _SHARDS = "run.json", "shards"


class Run(Protocol):
    """What a run is made of: a dataclass whose fields all have defaults."""

    @property
    def kept_steps(self) -> frozenset[int]:
        """Numbers of finished steps whose checkpoints stay."""
        ...

    def to_json(self) -> dict[str, Any]: ...


class StateShards(Protocol):
    """The parts of a model that is shared out over the ranks."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


@dataclass
class RunState:
    """Where a run is, and the folder that remembers it. Every rank has one; all call together."""

    accelerator: Accelerator
    run: Run
    out: Path
    losses: list[float]  # of each finished step, over the whole batch
    shards: StateShards | None = None  # where the model is shared out

    @property
    def step(self) -> int:
        """Finished steps."""
        return len(self.losses)

    def save(self) -> None:
        """Writes the checkpoint of this step, then removes older ones that are not kept."""
        part, whole = self._folder("part"), self._folder(step_folder(self.step))
        problem = ""
        try:
            if self.accelerator.is_main_process:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
            self.accelerator.wait_for_everyone()
            self.accelerator.save_state(str(part))
            if self.shards is not None:
                self.shards.save(part / _SHARDS)
            if self.accelerator.is_main_process:
                state = {"run": self.run.to_json(), "ranks": self.accelerator.num_processes}
                (part / _STATE).write_text(json.dumps({**state, "losses": self.losses}))
        except (OSError, RuntimeError, SafetensorError) as error:  # a full disk is any of these
            problem = str(error)
        if self._anywhere(bool(problem)):
            shutil.rmtree(part, ignore_errors=True)
            raise SparsightError(
                f"no checkpoint could be written to {part} ({problem or 'on another rank'}); free "
                "some space, and run the same command again: it goes on from the previous checkpoint"
            )
        if self.accelerator.is_main_process:
            shutil.rmtree(whole, ignore_errors=True)
            os.replace(part, whole)
            self._thin_out(whole)  # before more is written, for it makes room
            self._write_losses()
        self.accelerator.wait_for_everyone()

    def _write_losses(self) -> None:
        path = self.out / "losses.json"
        try:
            write_whole(path, json.dumps(self.losses).encode())
        except OSError as error:
            raise SparsightError(
                f"cannot write {path} ({error}); the checkpoint of step {self.step} is whole: free "
                "some space, and run the same command again"
            ) from error

    def resume(self) -> None:
        """Goes on from the newest checkpoint, if there is one."""
        folder = newest_checkpoint(self.out)
        if folder is None:
            return
        state = _read(folder)
        asked = json.loads(json.dumps(self.run.to_json()))
        written = _with_defaults(state["run"], json.loads(json.dumps(type(self.run)().to_json())))
        if written != asked:
            both = asked.keys() | written.keys()
            other = sorted(k for k in both if written.get(k) != asked.get(k))
            raise SparsightError(
                f"{folder} belongs to a run with other settings ({', '.join(other)} differ); give "
                "another --out, or delete it"
            )
        if state["ranks"] != self.accelerator.num_processes:
            raise SparsightError(
                f"{folder} was written by {state['ranks']} processes, this run has "
                f"{self.accelerator.num_processes}; start as many, or give another --out"
            )
        self.accelerator.load_state(str(folder))
        if self.shards is not None:
            self.shards.load(folder / _SHARDS)
        self.losses = state["losses"]
        log.info("going on after step %d", self.step)

    def _anywhere(self, here: bool) -> bool:
        """True on every rank where it is true on any; waits for all."""
        flag = torch.tensor(float(here), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def _thin_out(self, newest: Path) -> None:
        for folder in checkpoints_of(self.out):
            if folder != newest and step_of(folder.name) not in self.run.kept_steps:
                shutil.rmtree(folder)

    def _folder(self, name: str) -> Path:
        return self.out / "checkpoints" / name


def newest_checkpoint(out: Path) -> Path | None:
    """The checkpoint with the most steps below `out`, None where there is none."""
    return max(checkpoints_of(out), key=_by_step, default=None)


def checkpoints_of(out: Path) -> list[Path]:
    """All checkpoints below `out`, in no order."""
    return [p for p in (out / "checkpoints").glob("step-*") if p.is_dir()]


def _by_step(folder: Path) -> int:
    return step_of(folder.name)


def _read(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / _STATE).read_text())
    except (OSError, ValueError) as error:
        raise SparsightError(f"{folder} is damaged ({error}); delete it and run again") from error
    return state


def _with_defaults(written: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run, with those that were unknown when it was written at their defaults."""
    filled = {**defaults, **written}
    for name, value in written.items():
        if isinstance(value, dict) and isinstance(defaults.get(name), dict):
            filled[name] = _with_defaults(value, defaults[name])
    return filled
