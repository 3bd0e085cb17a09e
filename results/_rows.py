"""Which row of a table each planned cell belongs to."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Settings = tuple[tuple[str, str], ...]
Ints = NDArray[np.int64]
_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Key:
    """What tells a row from the others: one variant on one backbone."""

    backbone: str
    variant: str
    settings: Settings
    """Those that differ between configurations of the variant on one and the same data set."""


def codes(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Ints]:
    """The distinct values as text, in order of appearance, and which of them each element is."""
    text = column.cast(pa.string()).fill_null("None")
    encoded = pa.chunked_array(text.chunks, pa.string()).dictionary_encode().unify_dictionaries()
    if not encoded.num_chunks:
        return (), np.zeros(0, dtype=np.int64)
    index: Ints = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    return tuple(encoded.chunk(0).dictionary.to_pylist()), index.astype(np.int64)


def rows(cells: pa.Table) -> tuple[tuple[Key, ...], Ints]:
    """The rows, those of a variant together, and which of them each cell belongs to.

    A row has at most one configuration per data set. A specification is read only where a
    variant has several, for reading all takes longer than everything else together.
    """
    backbones, backbone_N = codes(cells["backbone"])
    variants, variant_N = codes(cells["variant"])
    datasets, dataset_N = codes(cells["dataset"])
    configs, config_N = codes(cells["config_id"])
    kind_N = backbone_N * len(variants) + variant_N
    place_N = kind_N * len(datasets) + dataset_N
    found, first, config_of_N = np.unique(
        place_N * len(configs) + config_N, return_index=True, return_inverse=True
    )
    places, configs_there = np.unique(found // len(configs), return_counts=True)
    crowded = set((places[configs_there > 1] // len(datasets)).tolist())
    members: dict[int, list[int]] = defaultdict(list)
    for number in np.argsort(first).tolist():
        members[int(kind_N[first[number]])].append(number)
    keys: dict[Key, int] = {}
    row_of = np.empty(len(found), dtype=np.int64)
    for kind, numbers in members.items():
        shown: Sequence[Settings] = [()] * len(numbers)
        if kind in crowded:
            places_here = [int(first[number]) for number in numbers]
            shown = _shown(cells.take(pa.array(places_here)))
        backbone, variant = divmod(kind, len(variants))
        for number, settings in zip(numbers, shown, strict=True):
            key = Key(backbone=backbones[backbone], variant=variants[variant], settings=settings)
            row_of[number] = keys.setdefault(key, len(keys))
    return tuple(keys), row_of[config_of_N]


def _shown(configurations: pa.Table) -> list[Settings]:
    """The differing settings of each configuration of one variant."""
    named = ("dataset", "config_id", "spec")
    all_settings = [
        (dataset, _settings(config_id, spec))
        for dataset, config_id, spec in zip(
            *(configurations[name].to_pylist() for name in named), strict=True
        )
    ]
    differing = _differing(all_settings)
    return [
        tuple((key, _text(settings[key])) for key in differing if key in settings)
        for _, settings in all_settings
    ]


def _differing(configurations: Iterable[tuple[str | None, Mapping[str, Any]]]) -> list[str]:
    """The settings in which configurations differ on one and the same data set."""
    by_dataset: dict[str | None, list[Mapping[str, Any]]] = defaultdict(list)
    for dataset, settings in configurations:
        by_dataset[dataset].append(settings)
    differing: set[str] = set()
    for here in by_dataset.values():
        for key in {key for settings in here for key in settings} - differing:
            if len({settings.get(key, _MISSING) for settings in here}) > 1:
                differing.add(key)
    return sorted(differing)


def _settings(config_id: str | None, spec: str | None) -> dict[str, Any]:
    """All of a cell's science but the seed, by dotted path; `train.` goes without saying."""
    if spec is None:
        return {"config_id": str(config_id)}
    settings: dict[str, Any] = {}
    for key, value in json.loads(spec).items():
        if key == "train" and isinstance(value, dict):
            _flatten("", value, settings)
        elif key != "seed":
            _flatten(key, value, settings)
    return settings


def _flatten(path: str, value: Any, into: dict[str, Any]) -> None:
    """The leaves below `value`, each hashable: a list as its JSON."""
    if isinstance(value, dict):
        for key, item in value.items():
            _flatten(f"{path}.{key}" if path else key, item, into)
    else:
        into[path] = json.dumps(value) if isinstance(value, list) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
