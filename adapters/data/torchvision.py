"""Data sets in the form that torchvision downloads and reads, below the data root's folder `torchvision`.

The official test split is the test set, and everything else is the pool that train and val are drawn
from, official validation images included. EuroSAT and Caltech-101 have no official split: a fixed,
balanced part is held out for testing. Counts are compared with the published ones.

torchvision unpickles the batches of CIFAR-10 and CIFAR-100 after it has compared their MD5 with the
published one, so that only the authors' own files are ever unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from adapters.data._files import check_count, check_labels, from_files
from adapters.data._root import data_root
from adapters.data._sampling import Facts, SampledConfig, sample, sampled
from adapters.data._torchvision import SOURCES, Source
from adapters.data.contract import Member, Part, Splits
from adapters.data.splits import hold_out
from adapters.registry import UnknownNameError, unknown

SEMANTICS = 1

MEMBERS = tuple(SOURCES)


def member(name: str) -> Member:
    """One data set; UnknownNameError for a name that is none."""
    source = _source(name)
    return Member(
        GROUP=source.group,
        CLASSES=source.classes,
        DIGEST=None,
        SEMANTICS=SEMANTICS,
        Config=sampled(Facts(classes=source.classes, train=source.train, test=source.test)),
        missing=partial(_missing, name),
        load=partial(_load, name),
    )


def download(name: str) -> None:
    """Let torchvision download a data set to where `load` looks for it.

    Raises:
        ValueError: There is no such data set, or it cannot be downloaded; says what to do.
        OSError: The download failed.

    """
    source = _source(name)
    if source.by_hand is not None:
        raise ValueError(f"{name}: {source.by_hand} into {_by_hand_folder(source)}")
    _folder().mkdir(parents=True, exist_ok=True)
    for settings in (*source.pools, source.test_pool):
        if settings is not None:
            with _torchvisions_errors(name):
                _open(source, settings, download=True)


def _missing(name: str) -> str | None:
    source = _source(name)
    if all((_folder() / needed).exists() for needed in source.needs):
        return None
    if source.by_hand is not None:
        return f"{source.by_hand} into {_by_hand_folder(source)}"
    return f"peftgrid datasets get torchvision/{name}"


def _load(name: str, config: SampledConfig) -> Splits:
    """Both pools, checked against the published counts, and the sets drawn from them."""
    source = _source(name)
    with _torchvisions_errors(name):
        pools = [source.read(_open(source, settings), _folder()) for settings in source.pools]
        if source.test_pool is not None:
            test_pool = source.read(_open(source, source.test_pool), _folder())
    train_pool = _joined(pools)
    if source.test_pool is None:
        check_count(f"images of {name}", len(train_pool), source.train + source.test)
        train_pool, test_pool = hold_out(train_pool, source.test)
    check_count(f"training images of {name}", len(train_pool), source.train)
    check_count(f"test images of {name}", len(test_pool), source.test)
    for what, pool in (("training", train_pool), ("test", test_pool)):
        check_labels(f"{what} images of {name}", pool.labels, source.classes)
    return sample(train_pool, test_pool, config)


def _joined(pools: list[Part]) -> Part:
    """One pool of several, files of one folder; in-memory sets have one only."""
    if len(pools) == 1:
        return pools[0]
    names = [name for pool in pools for name in pool.names]  # type: ignore[union-attr]
    return from_files(_folder(), names, np.concatenate([pool.labels for pool in pools]))


def _open(source: Source, settings: Mapping[str, Any], **more: Any) -> Any:
    from torchvision import datasets

    return getattr(datasets, source.reader)(_folder(), **settings, **source.more, **more)


@contextmanager
def _torchvisions_errors(name: str) -> Iterator[None]:
    """RuntimeError is what torchvision raises where files are absent or differ from the published."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(f"torchvision/{name} in {_folder()}: {error}") from error


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise UnknownNameError(unknown("data set of torchvision", name, MEMBERS))
    return SOURCES[name]


def _folder() -> Path:
    return data_root() / "torchvision"


def _by_hand_folder(source: Source) -> Path:
    return _folder() / source.needs[0].partition("/")[0]
