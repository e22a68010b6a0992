"""Whether cell maps show where a feature is: ``python -m bench.locate --data DATA``.

Two checks by intervention. **Masking**: the cells in which a feature is strongest are painted over with
the photograph's mean colour; its activation in the global code must fall more than when as many random
cells are painted over. **Pasting**: an object of Caltech-101 is put into one quadrant of a photograph
of Flickr8k; the maximum of its label's map must lie in that quadrant. A cell counts as inside by its
centre, so that the middle row and column of an odd grid lie in none: by chance it is 20 % of 9 x 9.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageStat
from torch import Tensor

from sparse_encoder.atlas import FeatureAtlas, concept_codes
from sparse_encoder.codes import Codes
from sparse_encoder.dataset import Sample, find_shards, read_samples
from sparse_encoder.encoder import SparseEncoder
from sparse_encoder.image import DecodedImage, decode_image
from sparse_encoder.locate import cell_map
from vlm.concepts import MAX_DENSITY
from vlm.explain.strongest import strongest_features
from vlm.model_folder import read_model
from vlm.rate import Rate

N_FEATURES = 5  # strongest named features of a photograph
N_RANDOM = 4  # draws of random cells a photograph
N_BOOTSTRAP = 2000


@dataclass(frozen=True)
class Masking:
    """Mean shares by which activations of one photograph's features fell, 1 = all gone."""

    strongest: float  # the feature's own strongest cells painted over
    random: float  # as many random cells


@click.command()
@click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--model", default="sparsight-mini", show_default=True)
@click.option("--cells", default=9, show_default=True, help="Cells that are painted over.")
@click.option("--photos", default=120, show_default=True, help="At most so many are masked.")
@click.option("--objects", default=400, show_default=True, help="At most so many are pasted.")
@click.option("--seed", default=0, show_default=True)
def main(data: Path, model: str, cells: int, photos: int, objects: int, seed: int) -> None:
    """Prints both checks with 95 % intervals."""
    folder = read_model(model)
    encoder = SparseEncoder.load(folder.path)
    atlas = FeatureAtlas.load(folder.path / "features", fingerprint=folder.fingerprint)
    rng = np.random.default_rng(seed)
    grounds = [decode_image(s.image) for s in read_samples(find_shards(data, "flickr8k/val-*.tar"))]
    found = [mask_photo(encoder, atlas, photo, cells, rng) for photo in grounds[:photos]]
    for line in masking_lines([one for one in found if one is not None], cells, rng):
        click.echo(line)
    shards = find_shards(data, "zeroshot/caltech101-test.tar")
    pasted = list(read_samples(shards))
    order = rng.permutation(len(pasted))[:objects]
    hits = paste_objects(encoder, atlas, [pasted[i] for i in order], grounds, rng)
    for name, outcomes in hits.items():
        click.echo(f"pasted objects, {name:44} {Rate.of(outcomes)}")


def mask_photo(
    encoder: SparseEncoder,
    atlas: FeatureAtlas,
    photo: DecodedImage,
    n_cells: int,
    rng: np.random.Generator,
) -> Masking | None:
    """The photograph's strongest named features with cells painted over; None where it has none."""
    codes = encoder.encode_images([photo])
    named = [f for f in strongest_features(codes, atlas, codes.n_features) if f.name]
    features = [f.feature for f in named[:N_FEATURES]]
    if not features:
        return None
    n_all = codes.n_cells
    draws = [rng.choice(n_all, n_cells, replace=False) for _ in range(N_RANDOM)]
    before = activations(codes, features)
    by_random = torch.stack(
        [activations(masked_codes(encoder, photo, draw.tolist()), features) for draw in draws]
    ).mean(0)
    own = []
    for i, feature in enumerate(features):
        strongest = cell_map(codes, [feature]).cells.flatten().topk(n_cells).indices.tolist()
        own.append(activations(masked_codes(encoder, photo, strongest), features)[i])
    return Masking(
        strongest=float(1 - (torch.stack(own) / before).mean()),
        random=float(1 - (by_random / before).mean()),
    )


def activations(codes: Codes, features: Sequence[int]) -> Tensor:
    """Activations of the features in the global code of one photograph, (features,)."""
    return codes.dense()[0, list(features)]


def masked_codes(encoder: SparseEncoder, photo: DecodedImage, cells: Sequence[int]) -> Codes:
    """The codes of the photograph with these cells painted over."""
    pixels = paint_over(photo.pixels, cells, encoder.grid)
    return encoder.encode_images([DecodedImage(pixels, "", photo.size)])


def paint_over(pixels: Image.Image, cells: Sequence[int], grid: tuple[int, int]) -> Image.Image:
    """A copy with the cells (in reading order) in the mean colour of the whole picture."""
    out, (rows, cols) = pixels.copy(), grid
    colour = tuple(round(level) for level in ImageStat.Stat(pixels).mean)
    draw = ImageDraw.Draw(out)
    for cell in cells:
        row, col = divmod(cell, cols)
        left, right = (round(pixels.width * x / cols) for x in (col, col + 1))
        top, bottom = (round(pixels.height * y / rows) for y in (row, row + 1))
        draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
    return out


def masking_lines(
    found: Sequence[Masking], n_cells: int, rng: np.random.Generator
) -> Iterator[str]:
    """The falls and their ratio, with a bootstrap interval over photographs."""
    falls = np.array([(one.strongest, one.random) for one in found])  # (photographs, 2)
    draws = rng.integers(0, len(falls), (N_BOOTSTRAP, len(falls)))
    means = falls[draws].mean(1)  # (draws, 2)
    low, high = np.percentile(means[:, 0] / means[:, 1], [2.5, 97.5])
    strongest, random = falls.mean(0)
    yield f"{len(falls)} photographs, {n_cells} cells painted over, mean fall of the activation:"
    yield f"  strongest cells {100 * strongest:.1f} %, random cells {100 * random:.1f} %"
    yield f"  ratio {strongest / random:.2f} ({low:.2f}-{high:.2f})"
    yield f"  strongest cells cost more in {Rate.of([bool(a > b) for a, b in falls])} of photographs"


def paste_objects(
    encoder: SparseEncoder,
    atlas: FeatureAtlas,
    objects: Sequence[Sample],
    grounds: Sequence[DecodedImage],
    rng: np.random.Generator,
) -> dict[str, list[bool]]:
    """For each way of making a map of a label: whether its maximum fell into the quadrant."""
    labels = sorted({str(one.label) for one in objects})
    sets = {
        label: label_features(atlas, label, text_code)
        for label, text_code in zip(
            labels, concept_codes(labels, encoder.encode_texts), strict=True
        )
    }
    hits: dict[str, list[bool]] = {}
    for i, one in enumerate(objects):
        quadrant = (int(rng.integers(2)), int(rng.integers(2)))
        ground = grounds[i % len(grounds)]
        pixels = paste(ground.pixels, decode_image(one.image).pixels, quadrant)
        codes = encoder.encode_images([DecodedImage(pixels, "", ground.size)])
        cells = codes.dense()[1:]  # (cells, features)
        p99 = torch.tensor(atlas.p99)
        for name, features in sets[str(one.label)].items():
            if features:
                own = cells[:, features]
                hits.setdefault(f"{name}, raw", []).append(_hit(own.sum(1), codes.grid, quadrant))
                if len(features) > 1:
                    scaled = (own / p99[features]).sum(1)
                    hits.setdefault(f"{name}, in p99", []).append(
                        _hit(scaled, codes.grid, quadrant)
                    )
    return hits


def label_features(atlas: FeatureAtlas, label: str, text_code: Tensor) -> dict[str, list[int]]:
    """Features that stand for a label in several ways, each by the claim of vlm/concepts.py."""
    claim = text_code * torch.from_numpy(atlas.p99 * (atlas.density <= MAX_DENSITY))
    order = [j for j in claim.argsort(descending=True).tolist() if claim[j] > 0]
    named = [j for j in order if atlas.names[j].lower() == label.lower()]
    return {
        "strongest feature of that name": named[:1],
        "all features of that name": named,
        "strongest claim": order[:1],
        "4 strongest claims": order[:4],
        "16 strongest claims": order[:16],
    }


def paste(ground: Image.Image, thing: Image.Image, quadrant: tuple[int, int]) -> Image.Image:
    """A copy of the ground with the thing as large as fits, amid a quadrant (down, across)."""
    out = ground.copy()
    width, height = ground.width // 2, ground.height // 2
    scale = min(width / thing.width, height / thing.height)
    size = (max(1, int(thing.width * scale)), max(1, int(thing.height * scale)))
    left = quadrant[1] * (ground.width - width) + (width - size[0]) // 2
    top = quadrant[0] * (ground.height - height) + (height - size[1]) // 2
    out.paste(thing.resize(size, Image.Resampling.BICUBIC), (left, top))
    return out


def _hit(cells: Tensor, grid: tuple[int, int], quadrant: tuple[int, int]) -> bool:
    """Whether the largest of (cells,) lies in the quadrant; a map without activation never does."""
    if not bool((cells > 0).any()):
        return False
    place = divmod(int(cells.argmax()), grid[1])
    centres = [(index + 0.5) / n for index, n in zip(place, grid, strict=True)]
    return all(
        centre > 0.5 if half else centre < 0.5
        for centre, half in zip(centres, quadrant, strict=True)
    )


if __name__ == "__main__":
    main()
