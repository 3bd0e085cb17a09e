"""Carving train, val and test out of source pools, the same way on every machine.

Two rules hold for every data set:

* test images come from a test pool that no setting changes, and which of them are taken depends on
  their number alone: a larger `test` contains the smaller one, and no `split_seed` moves a test
  image into train or val;
* val comes from the train pool and is disjoint from train; `split_seed` says which images it gets.

Both are as balanced over the classes as the counts allow. Random numbers come from numpy's
`RandomState`, whose stream numpy has frozen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.data.contract import Part, Splits, digest
from adapters.spec import at_least

TEST_SEED = 20_000
"""Of the choice of test images; a constant, so that it depends on no setting."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How many images each set gets, and which train images become validation images."""

    train: int = 800
    """Images to train on, validation images not included."""
    val: int = 200
    """Images to select on, taken from the train pool."""
    test: int = 1000
    split_seed: int = 0
    """Chooses train and val within the train pool; never touches the test images."""

    def __post_init__(self) -> None:
        at_least(1, train=self.train, val=self.val, test=self.test)
        if not 0 <= self.split_seed < 2**32:
            raise ValueError(f"split_seed: {self.split_seed} given, allowed: 0 to {2**32 - 1}")


def hold_out(pool: Part, test: int) -> tuple[Part, Part]:
    """Cut a source's only pool into a train pool and a test pool of `test` images; fixed seed."""
    order = balanced(pool.labels, np.arange(len(pool)), np.random.RandomState(TEST_SEED))
    return pool.take(np.sort(order[test:])), pool.take(np.sort(order[:test]))


def carve(
    train_pool: Part,
    test_pool: Part,
    config: SplitConfig,
    classes: int,
    blocks: NDArray[np.int64] | None = None,
) -> Splits:
    """The sets that `config` asks for.

    `blocks` (one number for each image of the train pool) says which images share pixels: val is
    then drawn from one block of each class, chosen by the split seed, and train from the other
    blocks.

    Raises:
        ValueError: A set is larger than its pool; names the setting, what was given and what is
            allowed.

    """
    rng = np.random.RandomState(config.split_seed)
    everything = np.arange(len(train_pool))
    if blocks is None:
        fits("train + val", config.train + config.val, len(train_pool))
        order = balanced(train_pool.labels, everything, rng)
        val, train = order[: config.val], order[config.val : config.val + config.train]
    else:
        of_val = blocks == rng.randint(blocks.max() + 1, size=classes)[train_pool.labels]
        fits("train", config.train, int((~of_val).sum()))
        fits("val", config.val, int(of_val.sum()))
        val = balanced(train_pool.labels, everything[of_val], rng)[: config.val]
        train = balanced(train_pool.labels, everything[~of_val], rng)[: config.train]
    fits("test", config.test, len(test_pool))
    order = balanced(test_pool.labels, np.arange(len(test_pool)), np.random.RandomState(TEST_SEED))
    return Splits(
        train=train_pool.take(train),
        val=train_pool.take(val),
        test=test_pool.take(order[: config.test]),
        classes=classes,
        source_digest=digest(train_pool, test_pool),
    )


def grey_to_rgb(pixels_NHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Three equal channels: (N, H, W) -> (N, H, W, 3)."""
    return np.repeat(pixels_NHW[..., None], 3, axis=-1)


def balanced(
    labels: NDArray[np.int64], candidates: NDArray[np.int64], rng: np.random.RandomState
) -> NDArray[np.int64]:
    """The candidates in a random order whose every beginning is as balanced as can be."""
    shuffled = rng.permutation(candidates)
    rank = np.empty(len(shuffled), np.int64)
    for label in np.unique(labels):
        of_label = np.flatnonzero(labels[shuffled] == label)
        rank[of_label] = np.arange(len(of_label))
    return shuffled[np.argsort(rank, kind="stable")]


def fits(name: str, given: int, allowed: int) -> None:
    """Raise ValueError if a set is larger than its pool; `name` is the setting."""
    if given > allowed:
        raise ValueError(f"{name}: {given} images given, allowed: at most {allowed}")
