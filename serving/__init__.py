"""The gateway (OpenAI's API over one pipeline) and the command line.

Nothing is imported until it is asked for: `sparsight --help` passes through here and must not wait
for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.app import create_app
    from serving.limits import Limits

__all__ = ["Limits", "create_app"]


def __getattr__(name: str) -> Any:
    if name == "create_app":
        from serving.app import create_app

        return create_app
    if name == "Limits":
        from serving.limits import Limits

        return Limits
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
