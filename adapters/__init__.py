"""The adapter core: methods, backbones, data, and the training loop of one run.

import adapters
adapted = adapters.attach(vit, "lora", rank=8)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.adapted import Adapted, attach

__all__ = ["Adapted", "attach"]


def __getattr__(name: str) -> Any:
    # On first use, so that what only needs names and configs does not pay for building models.
    if name not in __all__:
        raise AttributeError(f"module 'adapters' has no attribute {name!r}")
    from adapters import adapted

    return getattr(adapted, name)
