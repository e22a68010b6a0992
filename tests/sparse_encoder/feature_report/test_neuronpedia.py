"""An export has the fields of SAEDashboard's classes, each with what belongs there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.codes import Codes
from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_report.neuronpedia import BATCH, export_neuronpedia
from sparse_encoder.feature_report.pictures import TopPictures

# Constructor arguments of NeuronpediaDashboardFeature and NeuronpediaDashboardActivation, which
# refuse any other key (jbloomAus/SAEDashboard, neuronpedia_dashboard.py at 03a615f).
FEATURE_KEYS = {
    "feature_index", "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1",
    "correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson",
    "correlated_features_indices", "correlated_features_l1", "correlated_features_pearson",
    "neg_str", "neg_values", "pos_str", "pos_values", "frac_nonzero",
    "freq_hist_data_bar_values", "freq_hist_data_bar_heights", "logits_hist_data_bar_heights",
    "logits_hist_data_bar_values", "n_prompts_total", "n_tokens_in_prompt", "dataset",
    "activations", "decoder_weights_dist",
}  # fmt: skip
ACTIVATION_KEYS = {"bin_min", "bin_max", "bin_contains", "tokens", "values"}


def an_atlas(n: int) -> FeatureAtlas:
    one = np.ones(n, dtype=np.float32)
    return FeatureAtlas(
        fingerprint="a" * 64,
        names=["dog", *("" for _ in range(n - 1))],
        runner_up=[[] for _ in range(n)],
        name_score=one * 2,
        density=one / 4,
        p50=one,
        p90=one * 2,
        p99=one * 3,
        max=one * 4,
        modality=one,
        vocabulary=frozenset(),
    )


def exported(tmp_path: Path, n: int, **options: Any) -> list[dict[str, Any]]:
    n_files = export_neuronpedia(an_atlas(n), tmp_path / "out", "m", **options)
    return [json.loads((tmp_path / "out" / f"batch-{i}.json").read_text()) for i in range(n_files)]


def test_every_feature_has_exactly_the_fields_that_the_reader_knows(tmp_path: Path) -> None:
    batches = exported(tmp_path, BATCH + 2)
    assert [set(batch) for batch in batches] == 2 * [{"model_id", "layer", "sae_set", "features"}]
    features = [feature for batch in batches for feature in batch["features"]]
    assert [f["feature_index"] for f in features] == list(range(BATCH + 2))
    assert all(set(feature) == FEATURE_KEYS for feature in features)


def test_names_density_histogram_and_neighbours_are_the_atlas_own(tmp_path: Path) -> None:
    ((dog, other),) = [
        b["features"] for b in exported(tmp_path, 2, neighbours=lambda _: [(1, 0.5)])
    ]
    assert (dog["pos_str"], dog["pos_values"], other["pos_str"]) == (["dog"], [2.0], [])
    assert dog["frac_nonzero"] == 0.25
    assert (dog["correlated_features_indices"], dog["correlated_features_l1"]) == ([1], [0.5])
    assert sum(dog["freq_hist_data_bar_heights"]) == pytest.approx(1, abs=1e-4)
    assert len(dog["freq_hist_data_bar_values"]) == len(dog["freq_hist_data_bar_heights"]) == 50


def test_a_picture_is_a_row_of_cells(tmp_path: Path) -> None:
    pictures = TopPictures(2, grid=(1, 2))
    rows = torch.tensor([[2.0, 0.0], [0.0, 0.0], [6.0, 0.0]])
    pictures.add(Image.new("RGB", (4, 4)), Codes.from_dense(rows, (1, 2)))
    (batch,) = exported(tmp_path, 2, pictures=pictures)
    (activation,) = batch["features"][0]["activations"]
    assert set(activation) == ACTIVATION_KEYS
    assert (activation["tokens"], activation["values"]) == (["r0c0", "r0c1"], [0.0, 1.0])
    assert batch["features"][1]["activations"] == []


def test_files_of_an_export_before_are_replaced_only_when_asked(tmp_path: Path) -> None:
    exported(tmp_path, BATCH + 1)
    with pytest.raises(SparsightError, match="--force"):
        exported(tmp_path, 1)
    exported(tmp_path, 1, overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["batch-0.json"]
