"""Drawing sets of real data: all that is left, so many images, so many of each class, or a stored choice.

A stored choice is a folder below the data root with `train.npy` and `val.npy`, int64 positions in the
train pool. Arrays of shape (splits, images) hold several splits; `split_seed` says which row is meant.

Sets are in the order of their pool, so that a file that holds many images is read once, front to back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from adapters.data._root import data_root
from adapters.data.contract import Part, Splits, digest
from adapters.data.splits import TEST_SEED, balanced, fits
from adapters.spec import at_least


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a data set before it is read; None where that is not known."""

    classes: int
    train: int | None = None
    """Images of the train pool, from which validation images are drawn where `val` is None."""
    val: int | None = None
    """Images of a validation pool of its own, where the data set has one."""
    test: int | None = None


@dataclass(frozen=True, kw_only=True)
class SampledConfig:
    """How many images each set gets and how they are chosen.

    Sizes that are None are replaced by numbers when the data set's published counts say them, so that
    a config with a size left out and one with that size are the same.
    """

    train: int | None = None
    """Images to train on, validation images not included; None means all that are left."""
    val: int | None = None
    """Images to select on; None means the data set's own, else a tenth of the train pool."""
    test: int | None = None
    """None means the whole test set; a larger number contains the images of a smaller one."""
    per_class: int | None = None
    """So many train images of every class (few-shot) in place of `train`."""
    split_seed: int = 0
    """Chooses train and val within their pools, or the row of `indices`; never touches the test images."""
    indices: str | None = None
    """A folder below the data root with `train.npy` and `val.npy`; `train` and `val` are their lengths."""

    def facts(self) -> Facts:
        """What is known of the data set; each has its own."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        facts = self.facts()
        if self.per_class is not None:
            at_least(1, per_class=self.per_class)
            if self.indices is not None:
                raise ValueError(f"per_class: {self.per_class} given, allowed: None with indices")
        if self.indices is not None and not _is_inside(self.indices):
            raise ValueError(
                f"indices: {self.indices!r} given, allowed: a folder below the data root"
            )
        val = self.val
        if val is None:
            val = facts.val
        if val is None and facts.train is not None:
            val = facts.train // 10
        train = self.train
        if self.per_class is not None:
            expected = self.per_class * facts.classes
            if train not in (None, expected):
                raise ValueError(
                    f"train: {train} given, allowed: {expected} with per_class: {self.per_class}"
                )
            train = expected
        elif train is None and facts.train is not None and val is not None:
            train = facts.train - (val if facts.val is None else 0)
        test = facts.test if self.test is None else self.test
        for name, size in (("train", train), ("val", val)):
            if size is None:
                raise ValueError(
                    f"{name}: None given, allowed: a number of images; "
                    "how many there are is not known before they are read"
                )
        assert train is not None
        assert val is not None
        at_least(1, val=val, train=train, **({} if test is None else {"test": test}))
        if not 0 <= self.split_seed < 2**32:
            raise ValueError(f"split_seed: {self.split_seed} given, allowed: 0 to {2**32 - 1}")
        if facts.train is not None and facts.val is None:
            fits("train + val", train + val, facts.train)
        elif facts.train is not None and facts.val is not None:
            fits("train", train, facts.train)
            fits("val", val, facts.val)
        if test is not None and facts.test is not None:
            fits("test", test, facts.test)
        for name, size in (("train", train), ("val", val), ("test", test)):
            object.__setattr__(self, name, size)


@cache
def sampled(facts: Facts) -> type[SampledConfig]:
    """The config of a data set of which `facts` are known; the same class for the same facts."""

    class Config(SampledConfig):
        def facts(self) -> Facts:
            return facts

    return Config


def sample(
    train_pool: Part, test_pool: Part, config: SampledConfig, val_pool: Part | None = None
) -> Splits:
    """The sets that `config` asks for; val comes from `val_pool`, else from the train pool.

    Raises:
        ValueError: A set is larger than its pool, a class has too few images, or stored indices do not
            fit; names the setting, what was given and what is allowed.
        OSError: Stored indices cannot be read.

    """
    if config.indices is None:
        train, val = _drawn(train_pool, val_pool, config)
    else:
        train, val = _stored(data_root() / config.indices, train_pool, val_pool, config)
    pools = (train_pool, test_pool) if val_pool is None else (train_pool, val_pool, test_pool)
    return Splits(
        train=train_pool.take(train),
        val=(train_pool if val_pool is None else val_pool).take(val),
        test=first_of(test_pool, config.test),
        classes=config.facts().classes,
        source_digest=digest(*pools),
    )


def first_of(test_pool: Part, count: int | None) -> Part:
    """`count` images of the test pool, balanced, chosen by their number alone; None means all."""
    if count is None or count == len(test_pool):
        return test_pool
    fits("test", count, len(test_pool))
    rng = np.random.RandomState(TEST_SEED)
    return test_pool.take(
        np.sort(balanced(test_pool.labels, np.arange(len(test_pool)), rng)[:count])
    )


def _drawn(
    train_pool: Part, val_pool: Part | None, config: SampledConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    assert config.train is not None
    assert config.val is not None
    rng = np.random.RandomState(config.split_seed)
    rest = balanced(train_pool.labels, np.arange(len(train_pool)), rng)
    if val_pool is None:
        fits("train + val", config.train + config.val, len(train_pool))
        val, rest = rest[: config.val], rest[config.val :]
    else:
        fits("train", config.train, len(train_pool))
        fits("val", config.val, len(val_pool))
        val = balanced(val_pool.labels, np.arange(len(val_pool)), rng)[: config.val]
    if config.per_class is None:
        train = rest[: config.train]
    else:
        train = np.concatenate(
            [
                _shots(rest[train_pool.labels[rest] == label], config.per_class, label)
                for label in range(config.facts().classes)
            ]
        )
    return np.sort(train), np.sort(val)


def _shots(of_label: NDArray[np.int64], wanted: int, label: int) -> NDArray[np.int64]:
    if len(of_label) < wanted:
        raise ValueError(
            f"per_class: {wanted} given, allowed: at most {len(of_label)}, "
            f"which is what val leaves of class {label}"
        )
    return of_label[:wanted]


def _stored(
    folder: Path, train_pool: Part, val_pool: Part | None, config: SampledConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    train, val = (
        _row(folder / f"{name}.npy", pool, name, wanted, config.split_seed)
        for name, pool, wanted in (
            ("train", train_pool, config.train),
            ("val", train_pool if val_pool is None else val_pool, config.val),
        )
    )
    if val_pool is None and len(both := np.intersect1d(train, val)):
        raise ValueError(
            f"indices: {folder} given, whose train and val have {len(both)} images in common, "
            f"among them {both[0]}; allowed: none"
        )
    return train, val


def _row(
    file: Path, pool: Part, name: str, wanted: int | None, split_seed: int
) -> NDArray[np.int64]:
    stored: NDArray[np.int64] = np.load(file, allow_pickle=False)
    if stored.dtype != np.int64 or stored.ndim not in (1, 2):
        raise ValueError(
            f"{file}: {stored.dtype} {stored.shape} given, allowed: int64 (images,) or (splits, images)"
        )
    if stored.ndim == 2:
        if split_seed >= len(stored):
            raise ValueError(
                f"split_seed: {split_seed} given, allowed: 0 to {len(stored) - 1}, the rows of {file}"
            )
        stored = stored[split_seed]
    if len(stored) != wanted:
        raise ValueError(f"{name}: {wanted} given, allowed: {len(stored)}, the length of {file}")
    if stored.min() < 0 or stored.max() >= len(pool):
        raise ValueError(
            f"{file}: positions {stored.min()} to {stored.max()} given, allowed: 0 to {len(pool) - 1}"
        )
    if len(np.unique(stored)) != len(stored):
        raise ValueError(f"{file}: a position is given twice, allowed: once")
    return np.sort(stored)


def _is_inside(folder: str) -> bool:
    path = PurePosixPath(folder)
    return not path.is_absolute() and ".." not in path.parts
