"""Which stage a step belongs to, how many steps there are, and the learning rate at each."""

import math
from dataclasses import dataclass

from sparse_encoder.errors import SparsightError
from vlm.tuning.config import Stage, TuneRun


@dataclass(frozen=True)
class Mix:
    """Samples of one step of one process, by their source."""

    captions: int
    conversations: int


@dataclass(frozen=True)
class Schedule:
    """The steps of a run on some data. Steps count from 0, over both stages."""

    run: TuneRun
    n_conversations: int  # 0 where there are none
    has_captions: bool

    def __post_init__(self) -> None:
        if not self.n_conversations and not self.has_captions:
            raise SparsightError(
                "no data to train on; give --shards PATH or URL with captioned images, or "
                "--conversations FILE",
                param="shards",
            )
        if not self.steps:
            raise SparsightError(
                "the run has no step: both stages have fewer samples than one batch",
                param="stage1.samples",
            )

    @property
    def stage_steps(self) -> tuple[int, int]:
        first, second = (self._steps(stage, n) for n, stage in enumerate(self.run.stages, start=1))
        return first, second

    @property
    def steps(self) -> int:
        return sum(self.stage_steps)

    def stage(self, step: int) -> int:
        """0 or 1."""
        return int(step >= self.stage_steps[0])

    def conversations_before(self, step: int) -> int:
        """Conversations of the run that all processes have seen before `step`."""
        first, second = (self._split(stage)[1] for stage in self.run.stages)
        in_first = min(step, self.stage_steps[0])
        return in_first * first + (step - in_first) * second

    def mix(self, step: int, n_ranks: int) -> Mix:
        """Raises SparsightError where processes cannot share a batch evenly."""
        captions, conversations = self._split(self.run.stages[self.stage(step)])
        if captions % n_ranks or conversations % n_ranks:
            raise SparsightError(
                f"a batch of {captions} captioned images and {conversations} conversations cannot "
                f"be shared evenly by {n_ranks} processes; set batch, or the share conversations, "
                "so that both are multiples",
                param="batch",
            )
        return Mix(captions // n_ranks, conversations // n_ranks)

    def rates(self, step: int) -> tuple[float, float]:
        """Learning rates of projector and LoRA: a linear warm-up, then a cosine to zero."""
        stage = self.run.stages[self.stage(step)]
        length = self.stage_steps[self.stage(step)]
        at = step - self.stage_steps[0] * self.stage(step)
        warm = round(self.run.warmup * length)
        if at < warm:
            share = (at + 1) / warm
        else:
            share = 0.5 * (1 + math.cos(math.pi * (at - warm) / max(1, length - warm)))
        tuned = self.stage(step) == 1
        return stage.lr_projector * share, stage.lr_lora * share * tuned

    def _steps(self, stage: Stage, number: int) -> int:
        if stage.samples:
            return stage.samples // stage.batch
        if not stage.epochs:
            return 0
        conversations = self._split(stage)[1]
        if not conversations:
            raise SparsightError(
                f"stage{number}.epochs={stage.epochs} counts rounds over conversations, and this "
                f"stage has none: a stream of captions has no end; set stage{number}.samples",
                param=f"stage{number}.epochs",
            )
        return int(stage.epochs * self.n_conversations / conversations)

    def _split(self, stage: Stage) -> tuple[int, int]:
        """Captioned images and conversations of a whole batch."""
        if not self.n_conversations:
            return stage.batch, 0
        if not self.has_captions:
            return 0, stage.batch
        conversations = round(stage.batch * stage.conversations)
        return stage.batch - conversations, conversations
