"""Running one case with one seed: train, measure, keep the figures."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.sparse_vs_dense.grid import (
    DENSE_SAME_SIZE,
    NARROW,
    SPLICE_L1,
    SPLICE_WORDS,
    TABLE_WIDTH,
    Case,
    dense,
    head_run,
)
from bench.sparse_vs_dense.held_out import HeldOut, Model, measure
from sparse_encoder.baselines.sae import SaeConfig
from sparse_encoder.baselines.sae_training import train_sae
from sparse_encoder.baselines.splice import splice
from sparse_encoder.contrastive import unit
from sparse_encoder.encoder_run import EncoderRun
from sparse_encoder.errors import SparsightError
from sparse_encoder.head_inputs import HeadInputs
from sparse_encoder.train import HeadTrainer, fit
from sparse_encoder.whole_file import write_whole

HEADS = "heads.safetensors"


@dataclass(frozen=True)
class Bench:
    """What all runs share. Read-only; every run's own folder lies below `out`."""

    inputs: HeadInputs
    words: Callable[[], Tensor]  # text vectors (words, width) of SpLiCE's word list
    held_out: HeldOut
    recipe: dict[str, Any]
    out: Path

    def finished(self, case: Case, seed: int) -> dict[str, float] | None:
        """Figures of a run that is done, None where it is not. Of another recipe it refuses."""
        path = self._folder(case, seed) / "report.json"
        if not path.exists():
            return None
        report = json.loads(path.read_text())
        asked = json.loads(json.dumps(self._made_with(case, seed)))
        if report["made_with"] != asked:
            raise SparsightError(
                f"{path} was made with other settings; give another --out, or delete it",
                param="out",
            )
        measures: dict[str, float] = report["measures"]
        return measures

    def run(self, case: Case, seed: int) -> dict[str, float]:
        """Trains and measures, and writes the figures whole or not at all."""
        folder = self._folder(case, seed)
        folder.mkdir(parents=True, exist_ok=True)
        if case.method == "heads":
            measures = self._run_heads(case, seed, folder)
        elif case.method == "sae":
            measures = self._run_sae(case, seed)
        else:
            measures = self._run_splice(seed)
        report = {"made_with": self._made_with(case, seed), "measures": measures}
        text = json.dumps(report, indent=1) + "\n"
        write_whole(folder / "report.json", text.encode())
        return measures

    def _folder(self, case: Case, seed: int) -> Path:
        return self.out / case.name / f"seed{seed}"

    def _made_with(self, case: Case, seed: int) -> dict[str, Any]:
        made: dict[str, Any] = {"heads": self._head_run(case, seed).to_json()}
        if case.method == "sae":
            made["sae"] = self._sae_config(case, seed).__dict__
        if case.method == "splice":
            made["splice"] = {"l1": SPLICE_L1, "words": SPLICE_WORDS}
        return made

    def _head_run(self, case: Case, seed: int) -> EncoderRun:
        """Of the heads themselves, or of the dense ones that the case decomposes."""
        run = head_run(case if case.method == "heads" else dense(NARROW), seed, self.recipe)
        if case.name == DENSE_SAME_SIZE.name:
            run = replace(run, hidden=same_size_hidden(self.inputs, TABLE_WIDTH, NARROW))
        return run

    def _sae_config(self, case: Case, seed: int) -> SaeConfig:
        steps = int(self.recipe["epochs"] * self.inputs.pairs.n_pairs) // self.recipe["batch"]
        own = {"features": TABLE_WIDTH, "steps": steps, "batch": self.recipe["batch"]}
        return SaeConfig(**{**own, **case.settings, "seed": seed})

    def _run_heads(self, case: Case, seed: int, folder: Path) -> dict[str, float]:
        trainer = HeadTrainer(self.inputs, self._head_run(case, seed))
        losses = fit(trainer, None)
        trainer.eval().requires_grad_(False)
        if case.name == dense(NARROW).name:
            save_file(trainer.state_dict(), folder / HEADS)  # what is decomposed later
        last = losses[-20:]
        return {
            **measure(_of_heads(trainer), self.held_out),
            "loss": sum(last) / len(last),
            "scale": float(trainer.log_scale.exp()),
        }

    def _dense_heads(self, seed: int) -> HeadTrainer:
        """The finished dense heads of this seed."""
        trainer = HeadTrainer(self.inputs, head_run(dense(NARROW), seed, self.recipe))
        trainer.load_state_dict(load_file(self._folder(dense(NARROW), seed) / HEADS))
        return trainer.eval().requires_grad_(False)

    def _run_sae(self, case: Case, seed: int) -> dict[str, float]:
        """Figures of the sparse codes; keys with ``decoded `` in front are of reconstructions."""
        heads, inputs = self._dense_heads(seed), self.inputs
        photographs = inputs.views.flatten(0, 1)
        n_photographs = len(photographs)

        def rows(index: Tensor) -> Tensor:
            """Dense unit codes of photographs, their windows, and texts, in this order."""
            image = index < n_photographs
            return torch.cat(
                [
                    unit(heads.image_code(photographs[index[image]])),
                    unit(
                        heads.text_code(inputs.text_vectors[index[~image] - n_photographs].float())
                    ),
                ]
            )

        sae = train_sae(
            rows, n_photographs + len(inputs.text_vectors), self._sae_config(case, seed)
        )

        def code(x: Tensor) -> Tensor:
            sparse_code: Tensor = sae(unit(heads.image_code(x)))
            return sparse_code

        sparse = Model(
            code,
            lambda y: sae(unit(heads.text_code(y))),
            sae.config.features,
            _n_parameters(heads) + _n_parameters(sae),
        )
        decoded = measure(replace(sparse, text=heads.text_code, decode=sae.decode), self.held_out)
        accuracies = [*(key for key in decoded if "@" in key), *self.held_out.labelled, "zeroshot"]
        return {
            **measure(sparse, self.held_out),
            **{f"decoded {key}": decoded[key] for key in accuracies},
        }

    def _run_splice(self, seed: int) -> dict[str, float]:
        """All figures are of the reconstruction, as the authors compare; texts stay dense."""
        heads = self._dense_heads(seed)
        means = [unit(heads.image_code(x)) for x in self.inputs.views[0].split(1024)]
        decomposed = splice(heads.text_code(self.words()), torch.cat(means).mean(0), SPLICE_L1)

        def code(x: Tensor) -> Tensor:
            return decomposed.code(heads.image_code(x))

        n_words = len(decomposed.words)
        model = Model(
            code, heads.text_code, n_words, _n_parameters(heads), decode=decomposed.decode
        )
        return measure(model, self.held_out)


def same_size_hidden(inputs: HeadInputs, wide: int, narrow: int) -> int:
    """Hidden width at which two dense heads of `narrow` have the parameters of `wide` sparse ones.

    A head of width w: (w + 1) wide, against (w + 1) h + (h + 1) narrow with a hidden layer of h.
    """
    widths = (inputs.width, inputs.text_width)
    sparse = sum((w + 1) * wide for w in widths)
    return round((sparse - 2 * narrow) / sum(w + 1 + narrow for w in widths))


def _of_heads(trainer: HeadTrainer) -> Model:
    return Model(
        trainer.image_code, trainer.text_code, trainer.run.features, _n_parameters(trainer)
    )


def _n_parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
