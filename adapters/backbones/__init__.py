"""Frozen ViTs by name: packaged ones by their file names here, other plain ViTs by timm name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.backbones._cache import cache_dir

if TYPE_CHECKING:
    from adapters.backbones.contract import BackboneInfo

__all__ = ["cache_dir", "create", "describe", "fetch", "missing"]


def describe(name: str) -> BackboneInfo:
    """What suites and plans need to know; takes no weights and, if packaged, no timm."""
    from adapters import registry

    if name in registry.names("backbones"):
        info: BackboneInfo = registry.backbone(name).INFO
        return info
    from adapters.backbones import _timm

    return _timm.info(name)


def missing(name: str) -> str | None:
    """None where the weights are present, else the one command that gets them."""
    source, arguments = _source(name)
    command: str | None = source.missing(*arguments)
    return command


def fetch(name: str) -> None:
    """Download the weights of a timm ViT into the hub's local cache.

    Raises UnknownNameError for a packaged backbone, ValueError where the hub says no.
    """
    from adapters import registry
    from adapters.backbones import _timm

    if name in registry.names("backbones"):
        command = missing(name)
        rest = f"; get it with: {command}" if command else " and is here"
        raise registry.UnknownNameError(f"{name} given, allowed: timm models; it is packaged{rest}")
    _timm.fetch(name)


def create(name: str) -> Any:
    """The timm VisionTransformer or Eva with its weights: float32, on the CPU, eval mode, no head."""
    source, arguments = _source(name)
    return source.create(*arguments)


def _source(name: str) -> tuple[Any, tuple[str, ...]]:
    """The module that has the backbone, and what to call its functions with."""
    from adapters import registry

    if name in registry.names("backbones"):
        return registry.backbone(name), ()
    from adapters.backbones import _timm

    return _timm, (name,)
