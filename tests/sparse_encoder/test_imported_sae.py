"""An autoencoder of others gives the codes of its own formula, or is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sparse_encoder.atlas_build import build_atlas
from sparse_encoder.baselines.sae import KINDS, Sae, SaeConfig
from sparse_encoder.errors import SparsightError
from sparse_encoder.imported_sae import DecoderNames, ImportedSae

WIDTH, FEATURES = 6, 10


def weights() -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (6, 10), "b_enc": (10,), "W_dec": (10, 6), "b_dec": (6,)}
    return {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


def a_folder(path: Path, config: object = None, file: str = "cfg.json", **changed: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    kept = {name: t for name, t in {**weights(), **changed}.items() if t is not None}
    save_file(kept, path / "sae_weights.safetensors")
    (path / file).write_text(json.dumps({"hook_point": "blocks.9"} if config is None else config))
    return path


def vectors(n: int = 4) -> Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("file", ["cfg.json", "config.json"])
def test_a_code_is_the_relu_of_the_centred_vector_through_the_encoder(
    tmp_path: Path, file: str
) -> None:
    sae = ImportedSae.load(a_folder(tmp_path, file=file))
    w, x = weights(), vectors()
    plain = torch.stack(
        [(w["W_enc"].T @ (row - w["b_dec"]) + w["b_enc"]).clamp_min(0) for row in x]
    )
    assert torch.allclose(sae.code(x), plain, atol=1e-5)
    assert torch.allclose(sae.codes(x).dense(), plain, atol=1e-5)
    assert (sae.n_features, sae.width, sae.hook) == (FEATURES, WIDTH, "blocks.9")


@pytest.mark.parametrize(
    "config",
    [
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}},
        {"architecture": "topk", "activation_fn": "topk", "k": 2},
    ],
)
def test_top_k_keeps_the_k_largest(tmp_path: Path, config: dict[str, Any]) -> None:
    code = ImportedSae.load(a_folder(tmp_path / "topk", config)).code(vectors())
    plain = ImportedSae.load(a_folder(tmp_path / "relu")).code(vectors())
    assert ((code > 0).sum(1) <= 2).all()
    assert torch.equal(code[code > 0], plain[code > 0])
    assert torch.allclose(code.max(1).values, plain.max(1).values)


def test_the_input_is_normalised_as_the_config_says(tmp_path: Path) -> None:
    rescaled = ImportedSae.load(
        a_folder(tmp_path / "a", {"normalize_activations": "constant_norm_rescale"})
    )
    assert torch.allclose(rescaled.code(vectors()), rescaled.code(7 * vectors()), atol=1e-4)
    layer = ImportedSae.load(a_folder(tmp_path / "b", {"normalize_activations": "layer_norm"}))
    assert torch.allclose(layer.code(vectors()), layer.code(7 * vectors() + 3), atol=1e-3)
    plain = ImportedSae.load(a_folder(tmp_path / "c", {"normalize_activations": False}))
    longer = vectors() * WIDTH**0.5 / vectors().norm(dim=1, keepdim=True)
    assert torch.allclose(rescaled.code(vectors()), plain.code(longer), atol=1e-4)
    assert torch.allclose(
        layer.code(vectors()),
        plain.code((vectors() - vectors().mean(1, True)) / vectors().std(1, keepdim=True)),
        atol=1e-3,
    )


def test_a_bias_that_is_not_taken_off_the_input_is_left(tmp_path: Path) -> None:
    sae = ImportedSae.load(a_folder(tmp_path, {"apply_b_dec_to_input": False}))
    w = weights()
    plain = (vectors() @ w["W_enc"] + w["b_enc"]).relu()
    assert torch.allclose(sae.code(vectors()), plain, atol=1e-5)


def test_an_entry_counts_above_its_threshold_only(tmp_path: Path) -> None:
    threshold = torch.linspace(0, 2, FEATURES)
    config = {"architecture": "jumprelu"}
    code = ImportedSae.load(a_folder(tmp_path / "a", config, threshold=threshold)).code(vectors())
    plain = ImportedSae.load(a_folder(tmp_path / "b")).code(vectors())
    assert torch.equal(code, torch.where(plain > threshold, plain, 0.0))
    assert 0 < int((code > 0).sum()) < int((plain > 0).sum())


def decoded(config: dict[str, Any], x: Tensor, code: Tensor) -> Tensor:
    """Prisma's own way back: through the decoder, then out of the normalised space."""
    out = code @ weights()["W_dec"] + weights()["b_dec"]
    how = config.get("normalize_activations")
    if how == "constant_norm_rescale":
        return out / (WIDTH**0.5 / x.norm(dim=1, keepdim=True))
    if how == "layer_norm":
        return out * x.std(1, keepdim=True) + x.mean(1, keepdim=True)
    return out


@pytest.mark.parametrize("how", ["none", "constant_norm_rescale", "layer_norm"])
def test_an_edit_moves_a_vector_by_the_difference_of_what_is_decoded(
    tmp_path: Path, how: str
) -> None:
    config = {"normalize_activations": how}
    sae, x = ImportedSae.load(a_folder(tmp_path, config)), vectors()
    code = sae.code(x)
    edited = code.clone()
    edited[:, 3] = 2.0
    plain = decoded(config, x, edited) - decoded(config, x, code)
    assert torch.allclose(sae.moved(x, code, edited), plain, atol=1e-5)
    assert (sae.moved(x, code, code) == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_autoencoder_of_ours_keeps_its_codes_and_what_they_decode_to(
    tmp_path: Path, kind: str
) -> None:
    torch.manual_seed(0)
    ours = Sae(WIDTH, SaeConfig(kind, FEATURES, k=3))
    x = 5 * vectors(20) + 2
    ours.fit_scale(x)
    torch.nn.init.normal_(ours.encoder_bias, std=0.2)
    if ours.batch_topk is not None:
        ours(x)  # one batch in training mode sets its threshold
    ours = ours.eval().requires_grad_(False)
    ImportedSae.of_trained(ours, "pooled").save(tmp_path / "sae")
    sae = ImportedSae.load(tmp_path / "sae")
    code = ours(x)
    assert torch.allclose(sae.code(x), code, atol=1e-4)
    assert 0 < int((code > 0).sum()) < code.numel()
    assert torch.allclose(code @ sae.decoder + sae.decoder_bias, ours.decode(code), atol=1e-4)
    assert sae.hook == "pooled"


def test_an_atlas_names_a_feature_by_the_text_nearest_to_its_direction(tmp_path: Path) -> None:
    sae = ImportedSae.load(a_folder(tmp_path))
    words = ["north", "east", "south"]
    direction = dict(zip(words, torch.eye(WIDTH)[:3], strict=True))

    def encode_dense(texts: list[str]) -> Tensor:
        return torch.stack([sum(direction[w] for w in words if w in text) for text in texts])

    atlas = build_atlas(
        DecoderNames(sae, encode_dense), [sae.codes(vectors(50))], words, fingerprint="f" * 64
    )
    for feature, name in enumerate(atlas.names):
        cosine = weights()["W_dec"][feature, :3]
        best = int(cosine.argmax())
        assert name == (words[best] if cosine[best] > 0 else "")
    assert (atlas.density > 0).any()


@pytest.mark.parametrize(
    ("config", "changed", "words"),
    [
        ({"architecture": "gated"}, {}, "'gated'"),
        ({"architecture": "jumprelu"}, {}, "lacks threshold"),
        ({}, {"threshold": torch.zeros(9)}, r"threshold is \(9,\), expected \(10,\)"),
        ({}, {"W_dec": torch.full((10, 6), torch.nan)}, "W_dec .* no number"),
        ({}, {"b_dec": torch.full((6,), torch.inf)}, "b_dec .* no number"),
        ({"activation_fn_str": "tanh-relu"}, {}, "tanh-relu"),
        ({"activation_fn_str": "topk"}, {}, "k=0"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 11}}, {}, "k=11"),
        ({"normalize_activations": "expected_average_only_in"}, {}, "expected_average"),
        ([], {}, "no JSON object"),
        ({}, {"W_dec": None}, "lacks W_dec"),
        ({}, {"b_enc": torch.zeros(9)}, r"b_enc is \(9,\), expected \(10,\)"),
        ({}, {"W_dec": torch.zeros(6, 10)}, "W_dec is"),
        ({}, {"W_enc": torch.zeros(60)}, "1 axes"),
    ],
)
def test_what_is_not_read_is_refused_in_words(
    tmp_path: Path, config: object, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(SparsightError, match=words) as caught:
        ImportedSae.load(a_folder(tmp_path, config, **changed))
    assert caught.value.code == "bad_sae"


@pytest.mark.parametrize("case", ["no folder", "no config", "pickle", "damaged", "two files"])
def test_incomplete_folders_are_refused(tmp_path: Path, case: str) -> None:
    folder = a_folder(tmp_path / "sae") if case != "no folder" else tmp_path / "none"
    file = folder / "sae_weights.safetensors"
    if case == "no config":
        (folder / "cfg.json").unlink()
    elif case == "pickle":
        file.rename(folder / "weights.pt")
    elif case == "damaged":
        file.write_bytes(file.read_bytes()[:50])
    elif case == "two files":
        (folder / "more.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(SparsightError, match="cannot be|can be imported"):
        ImportedSae.load(folder)


def test_vectors_of_another_encoder_are_refused(tmp_path: Path) -> None:
    sae = ImportedSae.load(a_folder(tmp_path))
    with pytest.raises(SparsightError, match="5 entries, the autoencoder takes 6"):
        sae.code(torch.zeros(2, 5))
    names = DecoderNames(sae, lambda texts: torch.zeros(len(texts), 5))
    with pytest.raises(SparsightError, match="not trained in the space"):
        names.encode_texts(["dog"])
