"""Where a model lies: a folder given by its path, or one of the models that come with Sparsight."""

from pathlib import Path

from sparse_encoder.errors import SparsightError

_CONFIG = "config.json"


def find_model(model: str | Path) -> Path:
    """The folder of `model`, which holds its ``config.json``.

    model: a path, or the name of a model that comes with Sparsight (``"sparsight-mini"``). A name
    goes before a folder of that name in the working directory; ``./name`` asks for the folder.
    Raises SparsightError, which lists the names, where there is no such model.
    """
    shipped = shipped_models()
    if str(model) in shipped:
        return shipped[str(model)]
    path = Path(model).expanduser()
    if (path / _CONFIG).is_file():
        return path
    what = f"the folder {path} holds no {_CONFIG}" if path.is_dir() else f"no model {str(model)!r}"
    raise SparsightError(
        f"{what}; expected the path of a model's folder or one of: {', '.join(shipped) or 'none'}",
        param="model",
        code="model_not_found",
    )


def shipped_models() -> dict[str, Path]:
    """Name and folder of each model that comes with this installation, in order of names."""
    package = Path(__file__).resolve().parent
    # A wheel carries the models inside of this package, a checkout in the repository's root.
    for home in (package / "models", package.parent / "models"):
        if home.is_dir():
            return {p.parent.name: p.parent for p in sorted(home.glob(f"*/{_CONFIG}"))}
    return {}
