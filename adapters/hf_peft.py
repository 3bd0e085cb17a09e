"""An adapted ViT as a folder of Hugging Face PEFT, which this file neither imports nor needs.

    PeftModel.from_pretrained(timm.create_model(...), folder)

loads it onto the same timm model: same base weights, and a head of as many classes, whose trained
tensors are in the folder. Every adapted Linear is named by its full path, since a name such as
`proj` would also match the patch embedding. What a method looks like there is in the method's own
file (`hf_peft`). PEFT adapts a fused qkv as a whole, so q, k and v named apart become blocks of its
tensors and the rest of them neutral. That is the same function; but what is neutral trains, too,
where the folder is trained on.
"""

from __future__ import annotations

import json
from typing import Any

import safetensors.torch
from torch import nn

from adapters import registry
from adapters.inject import adapted_modules, is_head


def hf_folder(vit: nn.Module, method: str, config: Any) -> dict[str, bytes]:
    """The files of a PEFT adapter folder (name -> content) for an adapted ViT.

    Raises ValueError for a method that PEFT has not or cannot hold, and for a merged ViT.
    """
    module = registry.method(method)
    translate = getattr(module, "hf_peft", None)
    if translate is None:
        raise ValueError(_refusal(method))
    targets = [path for path, _ in adapted_modules(vit)]
    if not targets:
        raise ValueError(
            f"{method}: a ViT without adapters given for a PEFT folder, allowed: an adapted one, "
            "not merged"
        )
    settings, tensors = translate(vit, config)
    head = {name: tensor for name, tensor in vit.state_dict().items() if is_head(name)}
    settings |= {
        "target_modules": targets,
        "modules_to_save": ["head"] if head else None,
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    stored = {f"base_model.{name}": tensor for name, tensor in tensors.items()}
    stored |= {f"base_model.model.{name}": tensor for name, tensor in head.items()}
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in stored.items()}
    return {
        "adapter_config.json": json.dumps(settings, indent=2, sort_keys=True).encode(),
        "adapter_model.safetensors": safetensors.torch.save(stored, {"format": "pt"}),
    }


def _refusal(method: str) -> str:
    """Why there is no folder for `method`, and what there is instead."""
    able = [name for name in registry.names("methods") if hasattr(registry.method(name), "hf_peft")]
    module = registry.method(method)
    reason = f" ({module.NO_HF_PEFT})" if hasattr(module, "NO_HF_PEFT") else ""
    instead = "; export the merged checkpoint instead" if module.MERGEABLE else ""
    return f"{method}: given for a PEFT folder{reason}, allowed: {', '.join(able)}{instead}"
