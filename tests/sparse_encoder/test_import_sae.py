"""An autoencoder and its dense encoder as one model: the codes of the formula, or a refusal in words."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from sparse_encoder.baselines.sae import SaeConfig
from sparse_encoder.baselines.sae_training import train_sae
from sparse_encoder.encoder import EncoderConfig, SparseEncoder
from sparse_encoder.errors import SparsightError
from sparse_encoder.import_sae import import_sae
from sparse_encoder.imported_sae import ImportedSae
from sparse_encoder.sae_encoder import SaeEncoder
from tests.sparse_encoder.towers.tiny_towers import save_dense_clip
from tests.tiny_model import photo

N_FEATURES = 20
PHOTOS = [photo(i) for i in range(3)]


def a_heads_model(folder: Path, **config: Any) -> Path:
    """A folder as `train encoder` leaves it, on the tiny trunks."""
    folder.mkdir()
    torch.manual_seed(0)
    encoder = SparseEncoder.build(EncoderConfig(24, "tiny", "tiny", **config))
    encoder.save_heads(folder)
    made = {"name": "tiny", "encoder": encoder.config_json()}
    (folder / "config.json").write_text(json.dumps(made))
    return folder


def an_sae(folder: Path, width: int, **config: Any) -> Path:
    """An autoencoder in Prisma's layout."""
    folder.mkdir()
    random = torch.Generator().manual_seed(3)
    shapes = {
        "W_enc": (width, N_FEATURES),
        "b_enc": (N_FEATURES,),
        "W_dec": (N_FEATURES, width),
        "b_dec": (width,),
    }
    made = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    save_file(made, folder / "weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def global_codes(encoder: SparseEncoder) -> Tensor:
    codes = encoder.encode_images(PHOTOS)
    return codes.dense()[:: 1 + codes.n_cells]


@pytest.mark.parametrize("how", ["none", "layer_norm"])
def test_codes_are_the_autoencoders_of_the_trunks_vectors(tmp_path: Path, how: str) -> None:
    model = a_heads_model(tmp_path / "model")
    source = an_sae(tmp_path / "sae", 16, normalize_activations=how)
    import_sae(source, str(model), tmp_path / "new")
    encoder, sae = SparseEncoder.load(tmp_path / "new"), ImportedSae.load(source)
    assert isinstance(encoder, SaeEncoder)
    assert encoder.config.features == N_FEATURES
    trunk = encoder.image_trunk
    cells = trunk(trunk.preprocess([p.pixels for p in PHOTOS]))
    assert torch.allclose(global_codes(encoder), sae.code(cells.mean(1)), atol=1e-4)
    rows = encoder.encode_images(PHOTOS).image(1).dense()[1:]
    assert torch.allclose(rows, sae.code(cells[1]), atol=1e-4)
    assert torch.equal(encoder.image_head(cells.mean(1)), sae.code(cells.mean(1)))


@torch.no_grad()
def test_a_text_is_as_active_as_it_is_near_to_what_the_direction_adds(tmp_path: Path) -> None:
    model = a_heads_model(tmp_path / "model")
    encoder = import_sae(an_sae(tmp_path / "sae", 16), str(model), tmp_path / "new")
    dense, texts = SparseEncoder.load(model), ["a dog", "red snow", "x"]
    for text, row in zip(texts, encoder.encode_texts(texts), strict=True):
        code = dense.encode_texts([text])[0]
        for j in range(N_FEATURES):
            direction = dense.image_head.weight @ encoder.sae.decoder[j]
            cosine = float(functional.cosine_similarity(code, direction, dim=0))
            assert float(row[j]) == pytest.approx(max(cosine, 0.0), abs=1e-4)


def test_one_of_ours_is_imported_as_it_was_trained(tmp_path: Path) -> None:
    x = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    ours = train_sae(lambda rows: x[rows], 200, SaeConfig("topk", N_FEATURES, k=4, steps=5))
    ImportedSae.of_trained(ours).save(tmp_path / "sae")
    model = str(a_heads_model(tmp_path / "model"))
    file = tmp_path / "sae" / "sae_weights.safetensors"
    encoder = import_sae(file, model, tmp_path / "new")
    assert torch.allclose(encoder.image_head(x), ours(x), atol=1e-4)


@pytest.mark.parametrize("hook", ["embedding", "blocks.1.hook_resid_post"])
@torch.no_grad()
def test_a_clip_is_read_where_the_autoencoder_was_trained(tmp_path: Path, hook: str) -> None:
    clip: Any = save_dense_clip(tmp_path / "clip")
    width = 16 if hook == "embedding" else 32
    source = an_sae(tmp_path / "sae", width, hook_point=hook)
    import_sae(source, str(tmp_path / "clip"), tmp_path / "new")
    encoder = SparseEncoder.load(tmp_path / "new")
    pixels = encoder.image_trunk.preprocess([p.pixels for p in PHOTOS])
    if hook == "embedding":
        vectors = clip.get_image_features(pixels).pooler_output
    else:
        states = clip.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        vectors = states[2][:, 0]
    assert torch.allclose(global_codes(encoder), ImportedSae.load(source).code(vectors), atol=1e-4)
    assert (encoder.encode_texts(["a dog"]) > 0).any()
    assert encoder.config.image_trunk.startswith("clip-")


@torch.no_grad()
def test_texts_meet_directions_of_the_embedding_in_the_joint_space(tmp_path: Path) -> None:
    clip: Any = save_dense_clip(tmp_path / "clip")
    source = an_sae(tmp_path / "sae", 16)
    encoder = import_sae(source, str(tmp_path / "clip"), tmp_path / "new")
    tokens = encoder.text_trunk.clip.text_trunk.tokenize(["a dog"])  # type: ignore[union-attr]
    text = clip.get_text_features(tokens.ids, tokens.mask).pooler_output
    plain = functional.cosine_similarity(text, ImportedSae.load(source).decoder).clamp(min=0)
    assert torch.allclose(encoder.encode_texts(["a dog"])[0], plain, atol=1e-4)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31 - 1),
    how=st.sampled_from(["none", "layer_norm", "constant_norm_rescale"]),
    k=st.sampled_from([0, 3]),
)
def test_without_an_edit_the_dense_vectors_are_the_very_same(seed: int, how: str, k: int) -> None:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(8, 12, generator=random)
    sae = ImportedSae(weight, torch.zeros(12), weight.T, torch.zeros(8), k, how)
    x = 10 * torch.randn(5, 8, generator=random)
    code = sae.code(x)
    assert torch.equal(sae.edited(x, code, code.clone()), x)
    raised = code.clone()
    raised[2, 4] += 1.0
    after = sae.edited(x, code, raised)
    others = [0, 1, 3, 4]
    assert torch.equal(after[others], x[others])
    assert not torch.equal(after[2], x[2])


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("other width", "takes vectors of 12 entries, the dense encoder gives 16"),
        ("other width of a clip", "takes vectors of 12 entries, the dense encoder gives 16"),
        ("other hook", "'blocks.1.hook_mlp_out', which is not read"),
        ("no such block", "after block 7, .* blocks 0 to 1"),
        ("a pickle", "one .safetensors file, found 1 and 0"),
        ("no weights", "lacks W_dec"),
        ("no number", "entries that are no number"),
        ("no model", "no folder with a CLIP model"),
        ("of an import", "itself an imported autoencoder"),
        ("hidden layer", "hidden layer"),
        ("out is a file", "is a file"),
        ("out holds files", "holds other files"),
        ("out is taken", "--force"),
    ],
)
def test_what_cannot_be_imported_is_refused_and_leaves_nothing(
    tmp_path: Path, case: str, words: str
) -> None:
    model, out = a_heads_model(tmp_path / "model"), tmp_path / "new"
    source = an_sae(tmp_path / "sae", 16)
    weights = source / "weights.safetensors"
    if case == "other width":
        source = an_sae(tmp_path / "narrow", 12)
    elif case == "other width of a clip":
        save_dense_clip(tmp_path / "clip")
        source, model = an_sae(tmp_path / "narrow", 12), tmp_path / "clip"
    elif case in ("other hook", "no such block"):
        save_dense_clip(tmp_path / "clip")
        hook = "blocks.1.hook_mlp_out" if case == "other hook" else "blocks.7.hook_resid_post"
        source, model = an_sae(tmp_path / "hooked", 32, hook_point=hook), tmp_path / "clip"
    elif case == "a pickle":
        weights.rename(source / "weights.pt")
    elif case == "no weights":
        save_file({"W_enc": torch.zeros(16, 4), "b_enc": torch.zeros(4)}, weights)
    elif case == "no number":
        save_file(
            {n: torch.full((2, 2), torch.nan) for n in ("W_enc", "b_enc", "W_dec", "b_dec")},
            weights,
        )
    elif case == "no model":
        model = tmp_path / "nothing"
    elif case == "of an import":
        import_sae(source, str(model), tmp_path / "first")
        model = tmp_path / "first"
    elif case == "hidden layer":
        model = a_heads_model(tmp_path / "deep", activation="identity", hidden=8)
    elif case == "out is a file":
        out.write_text("x")
    elif case == "out holds files":
        out.mkdir()
        (out / "thesis.txt").write_text("x")
    elif case == "out is taken":
        import_sae(source, str(model), out)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SparsightError, match=words):
        import_sae(source, str(model), out)
    assert sorted(tmp_path.iterdir()) == before
