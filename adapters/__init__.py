"""The adapter core: methods, backbones, data, and the training loop of one run.

import adapters
adapted = adapters.attach(vit, "lora", rank=8)
adapted.save("lora.safetensors")
adapters.load(another_vit, "lora.safetensors")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.adapted import Adapted
    from adapters.api import attach
    from adapters.saved import load

__all__ = ["Adapted", "attach", "load"]


def __getattr__(name: str) -> Any:
    # On first use, so that what only needs names and configs does not pay for building models.
    if name not in __all__:
        raise AttributeError(f"module 'adapters' has no attribute {name!r}")
    from adapters import adapted, api, saved

    return getattr({"Adapted": adapted, "attach": api, "load": saved}[name], name)
