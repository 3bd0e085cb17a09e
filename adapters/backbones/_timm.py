"""Any plain ViT of timm by its timm name, with or without the tag of its weights.

What timm says of a name (sizes, normalisation, where the weights lie) is written to the cache
folder once for each version of timm, so that plans need neither timm nor a model. Weights come out
of the hub's local cache and never from the network, except in `fetch`.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import json
from functools import cache
from typing import Any

from adapters import registry
from adapters.backbones._cache import cache_dir, replace_atomically
from adapters.backbones._dims import dims_of
from adapters.backbones.contract import BackboneInfo
from adapters.registry import UnknownNameError
from adapters.spec import from_plain, to_plain


@cache
def info(name: str) -> BackboneInfo:
    """What is known of a timm ViT without its weights; `timm_name` has the tag, given or default.

    Raises:
        ValueError: No such name (UnknownNameError), no pretrained weights, or no plain ViT.

    """
    return from_plain(BackboneInfo, _entry(name)["info"])


def missing(name: str) -> str | None:
    """The command that downloads the weights, where the hub's local cache lacks them."""
    return None if _cached(name) else f"peftgrid backbones --fetch {name}"


def fetch(name: str) -> None:
    """Download the weights into the hub's local cache.

    Raises:
        ValueError: The hub cannot be reached or refuses; the message holds the cause.

    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    entry = _entry(name)
    try:
        hf_hub_download(entry["hub_id"], entry["file"])
    except (HfHubHTTPError, OSError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise ValueError(
            f"{name}: cannot download {entry['file']} of {entry['hub_id']} from the hub: {reason}"
        ) from error


def create(name: str) -> Any:
    """The timm model with its pretrained weights, float32, in eval mode, without a head.

    Raises:
        ValueError: As `info`, or the weights are not in the local cache.

    """
    import timm

    path = _cached(name)
    if path is None:
        raise ValueError(f"{name}: weights are absent; get them with: {missing(name)}")
    # A file instead of the hub: timm then has no reason to look at the network. These files hold
    # timm's own tensor names, whatever format the weights were first published in.
    overlay = {"file": path, "custom_load": False}
    vit = timm.create_model(
        info(name).timm_name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0
    )
    return vit.eval()


def _cached(name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    entry = _entry(name)
    found = try_to_load_from_cache(entry["hub_id"], entry["file"])
    return found if isinstance(found, str) else None


def _entry(name: str) -> dict[str, Any]:
    """`info` as JSON values, `hub_id` and `file`: from the cache folder, else measured."""
    folder = cache_dir() / "dims-3" / f"timm-{importlib.metadata.version('timm')}"
    path = folder / f"{name}.json"
    if "/" not in name and path.is_file():
        cached: dict[str, Any] = json.loads(path.read_text())
        return cached
    entry = _measure(name)
    replace_atomically(path, json.dumps(entry, indent=1).encode())
    return entry


def _measure(name: str) -> dict[str, Any]:
    import timm
    import torch
    from timm.layers import PatchEmbed
    from timm.models import VisionTransformer, get_pretrained_cfg
    from timm.models.eva import Eva

    try:
        config = get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise UnknownNameError(_unknown(name, timm.list_models(pretrained=True))) from error
    if not config.hf_hub_id:
        raise ValueError(f"backbone {name}: timm has no pretrained weights of it on the hub")
    with torch.device("meta"):
        vit = timm.create_model(name, num_classes=0)
    stem = getattr(vit, "patch_embed", None)
    if not isinstance(vit, VisionTransformer | Eva) or not isinstance(stem, PatchEmbed):
        raise ValueError(
            f"backbone {name}: {type(vit).__name__} on {type(stem).__name__} given, "
            "allowed: plain ViTs only (timm's VisionTransformer or Eva on PatchEmbed)"
        )
    try:
        dims = dims_of(vit)
    except ValueError as error:
        raise ValueError(f"backbone {name}: {error}") from error
    full_name = f"{config.architecture}.{config.tag}" if config.tag else config.architecture
    described = BackboneInfo(
        name=full_name,
        timm_name=full_name,
        dims=dims,
        mean=config.mean,
        std=config.std,
        interpolation=config.interpolation,
        weights_digest=None,
        description=f"timm {full_name}, licence: {config.license or 'not stated by timm'}",
    )
    return {
        "info": to_plain(described),
        "hub_id": config.hf_hub_id,
        "file": config.hf_hub_filename or "model.safetensors",
    }


def _unknown(name: str, timm_names: list[str]) -> str:
    packaged = registry.names("backbones")
    near = difflib.get_close_matches(name, [*packaged, *timm_names], n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return (
        f"unknown backbone {name!r}.{hint} Known: {', '.join(packaged)}, and the plain ViTs among "
        'timm.list_models("*vit*", pretrained=True)'
    )
