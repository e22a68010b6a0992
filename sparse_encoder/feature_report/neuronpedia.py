"""Features in the JSON layout that SAEDashboard writes and Neuronpedia reads.

Field names: ``NeuronpediaDashboardBatch``, ``NeuronpediaDashboardFeature`` and
``NeuronpediaDashboardActivation`` of SAEDashboard (github.com/jbloomAus/SAEDashboard,
sae_dashboard/neuronpedia/neuronpedia_dashboard.py at 03a615f), one ``batch-N.json`` for a block of
features. The layout is made for tokens of a language model. What the fields hold here:

==========================  =================================================================
pos_str, pos_values         the feature's name and its text activation; no logits are exported
frac_nonzero                density, share of reference images with the feature active
freq_hist_data_bar_*        middles of equal bins up to the maximum, and the share of the non-zero
                            activations in each, as far as percentiles tell (`quantiles`)
correlated_features_*       nearest features and the cosine of their head rows, in the `_l1` field,
                            where SAEDashboard too puts cosines; correlations are not known
activations                 the pictures given, each a row of `tokens`: the cells in reading order,
                            named by row and column, with 0..1 of the strongest cell as `values`
==========================  =================================================================

Fields that have no meaning for images are there and empty.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sparse_encoder.atlas import FeatureAtlas
from sparse_encoder.errors import SparsightError
from sparse_encoder.feature_report.pictures import LEVELS, TopPictures
from sparse_encoder.feature_report.quantiles import histogram, quantiles
from sparse_encoder.feature_search.card import FeatureCard, feature_card
from sparse_encoder.whole_file import write_whole

BATCH = 256  # features a file
N_BINS = 50  # as SAEDashboard's histograms have by default
_EMPTY = (
    "neuron_alignment_indices",
    "neuron_alignment_values",
    "neuron_alignment_l1",
    "correlated_neurons_indices",
    "correlated_neurons_l1",
    "correlated_neurons_pearson",
    "neg_str",
    "neg_values",
    "logits_hist_data_bar_heights",
    "logits_hist_data_bar_values",
    "decoder_weights_dist",
)


def export_neuronpedia(
    atlas: FeatureAtlas,
    folder: Path,
    model: str,
    *,
    pictures: TopPictures | None = None,
    neighbours: Callable[[int], Iterable[tuple[int, float]]] | None = None,
    overwrite: bool = False,
) -> int:
    """Writes ``batch-0.json`` and so on to `folder`; gives the number of files.

    Raises SparsightError where there are such files already (unless `overwrite`), or where they
    cannot be written.
    """
    there = sorted(folder.glob("batch-*.json")) if folder.is_dir() else []
    if there and not overwrite:
        raise SparsightError(
            f"{there[0]} exists; --force replaces it, or give a new folder", param="out"
        )
    n = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in there:
            old.unlink()
        for n, batch in enumerate(_batches(atlas, model, pictures, neighbours), start=1):
            content = json.dumps(batch, allow_nan=False)
            write_whole(folder / f"batch-{n - 1}.json", content.encode())
    except OSError as error:
        raise SparsightError(f"cannot write to {folder}: {error}", param="out") from error
    return n


def _batches(
    atlas: FeatureAtlas,
    model: str,
    pictures: TopPictures | None,
    neighbours: Callable[[int], Iterable[tuple[int, float]]] | None,
) -> Iterator[dict[str, Any]]:
    for start in range(0, atlas.n_features, BATCH):
        features = range(start, min(start + BATCH, atlas.n_features))
        yield {
            "model_id": model,
            "layer": 0,
            "sae_set": f"{model}-image-head",
            "features": [_feature(feature_card(atlas, j), pictures, neighbours) for j in features],
        }


def _feature(
    card: FeatureCard,
    pictures: TopPictures | None,
    neighbours: Callable[[int], Iterable[tuple[int, float]]] | None,
) -> dict[str, Any]:
    near = list(neighbours(card.feature)) if neighbours is not None else []
    middles, shares = histogram(quantiles(card), N_BINS)
    return {
        "feature_index": card.feature,
        **{key: [] for key in _EMPTY},
        "correlated_features_indices": [j for j, _ in near],
        "correlated_features_l1": [round(cosine, 4) for _, cosine in near],
        "correlated_features_pearson": [],
        "pos_str": [card.name] if card.name else [],
        "pos_values": [round(card.name_score, 4)] if card.name else [],
        "frac_nonzero": card.density,
        "freq_hist_data_bar_values": middles.round(4).tolist(),
        "freq_hist_data_bar_heights": shares.round(6).tolist(),
        "n_prompts_total": 0,  # an atlas does not say how many images it saw
        "n_tokens_in_prompt": 0 if pictures is None else pictures.grid[0] * pictures.grid[1],
        "dataset": "",
        "activations": [] if pictures is None else list(_activations(card, pictures)),
    }


def _activations(card: FeatureCard, pictures: TopPictures) -> Iterator[dict[str, Any]]:
    rows, cols = pictures.grid
    cells = [f"r{row}c{col}" for row in range(rows) for col in range(cols)]
    for shown in pictures.of(card.feature):
        yield {
            "bin_min": -1,  # SAEDashboard's mark of the group of top activations
            "bin_max": round(card.max, 4),
            "bin_contains": -1,
            "tokens": cells,
            "values": [round(level / LEVELS, 3) for level in shown.cells],
        }
