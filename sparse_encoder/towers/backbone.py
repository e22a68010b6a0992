"""Backbones of transformers: by name, by folder, or with random weights in a given shape."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from sparse_encoder.errors import SparsightError

_SUB_CONFIGS = {"image": "vision_config", "text": "text_config"}
# Beside the shape: where it came from, its precision, and names of classes that a trunk has not.
_NO_SHAPE = {"_name_or_path", "architectures", "dtype", "id2label", "label2id"}
_SUB_MODELS = {"image": "vision_model", "text": "text_model"}


class BackboneError(SparsightError):
    """A backbone is neither here nor could it be fetched."""

    code = "backbone_not_found"


def shape_of(name: str, tower: str) -> PretrainedConfig:
    """The transformers config of the backbone `name`, a hub name or a folder.

    tower: "image" or "text"; of a model with both towers, such as CLIP, its part is taken.
    """
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _not_found(name, tower, error) from error
    # Of an encoder-decoder or an audio model there is no such part, and it is taken whole.
    part: PretrainedConfig = getattr(config, _SUB_CONFIGS[tower], config)
    return part


def pretrained(name: str, tower: str) -> PreTrainedModel:
    """The backbone `name` with its weights, in fp32; of a model with both towers, its part."""
    try:
        model: Any = AutoModel.from_pretrained(name, dtype="float32")
    except (OSError, ValueError) as error:
        raise _not_found(name, tower, error) from error
    part: PreTrainedModel = getattr(model, _SUB_MODELS[tower], model)
    return part


def random_weights(shape: PretrainedConfig) -> PreTrainedModel:
    """A backbone of that shape with its family's own random initial weights.

    In torch's default dtype: fp32, unless transformers is loading a model in another.
    """
    model: PreTrainedModel = AutoModel.from_config(shape, dtype=torch.get_default_dtype())
    return model


def build_backbone(
    name: str,
    tower: str,
    *,
    saved: dict[str, Any] | None,
    family: PretrainedConfig | None,
    with_weights: bool,
) -> PreTrainedModel:
    """The backbone of a tower, from the first of these that there is.

    saved: what `shape_to_json` gave of a saved model, whose weights are loaded later. family: the
    shape that the tower's config spells out. Else the backbone `name`, with its weights or in its
    shape only. Raises BackboneError where a named one cannot be had.
    """
    if saved is not None:
        return random_weights(shape_from_json(saved))
    if family is not None:
        return random_weights(family)
    return pretrained(name, tower) if with_weights else random_weights(shape_of(name, tower))


def shape_to_json(shape: PretrainedConfig) -> dict[str, Any]:
    """All that tells the shape; not where it came from, which may be a path of this machine."""
    return {key: value for key, value in shape.to_dict().items() if key not in _NO_SHAPE}


def shape_from_json(data: dict[str, Any]) -> PretrainedConfig:
    """The transformers config that `shape_to_json` wrote."""
    rest = {key: value for key, value in data.items() if key != "model_type"}
    shape: PretrainedConfig = AutoConfig.for_model(data["model_type"], **rest)
    return shape


def check_reads(model: PreTrainedModel, what: str, tower: str) -> None:
    """Raises SparsightError unless `model` reads `what`, "pixel_values" or "input_ids"."""
    if model.main_input_name != what:
        raise SparsightError(
            f"{tower}.backbone: a {type(model).__name__} reads {model.main_input_name}, expected a "
            f"model that reads {what}; is it the other tower's?",
            param=f"{tower}.backbone",
        )


def first_line(error: Exception) -> str:
    """What went wrong, short enough to stand in a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _not_found(name: str, tower: str, error: Exception) -> BackboneError:
    return BackboneError(
        f"the {tower} backbone {name!r} is no folder with a model here, and the hub did not give "
        f"it ({first_line(error)}); where this machine is offline, fetch it on another one, copy its folder "
        f"here and give that path as {tower}.backbone",
        param=f"{tower}.backbone",
    )
