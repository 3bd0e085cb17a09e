"""Drawing train, val and test out of the pools of real data sets."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.data._sampling import Facts, sample, sampled
from adapters.data.contract import Encoded
from adapters.spec import TrainConfig, from_plain, to_plain


def pool(labels, prefix="p"):
    """Images whose names say their number."""
    names = tuple(f"{prefix}{i}" for i in range(len(labels)))
    return Encoded(names, np.asarray(labels, np.int64), str.encode)


TRAIN, TEST = pool([0, 1, 2] * 10), pool([0, 1, 2] * 4, "t")
Config = sampled(Facts(classes=3, train=30, test=12))


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("PEFTGRID_DATA", str(tmp_path))
    return tmp_path


def stored(root, train, val):
    (root / "lists").mkdir()
    np.save(root / "lists" / "train.npy", train)
    np.save(root / "lists" / "val.npy", val)


def test_sizes_left_out_become_the_published_ones():
    config = Config()
    assert (config.train, config.val, config.test) == (27, 3, 12)
    assert config == Config(train=27, val=3, test=12)
    assert TrainConfig(epochs=1, batch_size=27).steps(config) == 1


def test_a_config_survives_plain_json():
    config = Config(per_class=2, val=6, split_seed=4)
    assert from_plain(Config, to_plain(config)) == config


def test_sets_are_disjoint_balanced_and_in_the_order_of_the_pool():
    parts = sample(TRAIN, TEST, Config(train=15, val=6, test=3))
    assert not set(parts.train.names) & set(parts.val.names)
    assert np.bincount(parts.train.labels).tolist() == [5, 5, 5]
    assert np.bincount(parts.val.labels).tolist() == [2, 2, 2]
    assert np.bincount(parts.test.labels).tolist() == [1, 1, 1]
    assert list(parts.train.names) == sorted(parts.train.names, key=lambda name: int(name[1:]))


def test_a_split_seed_moves_val_and_leaves_test():
    a, b = (sample(TRAIN, TEST, Config(train=15, test=6, split_seed=seed)) for seed in (0, 1))
    assert a.val.names != b.val.names
    assert a.test.names == b.test.names


def test_few_shot_takes_exactly_so_many_of_every_class():
    skewed = pool([0] * 20 + [1] * 7 + [2] * 3)
    parts = sample(skewed, TEST, Config(per_class=1, val=5))
    assert np.bincount(parts.train.labels).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match=r"per_class: 3 given, allowed: at most 2, .* class 2"):
        sample(skewed, TEST, Config(per_class=3, val=3))


def test_val_comes_from_a_pool_of_its_own_where_there_is_one():
    config = sampled(Facts(classes=3, train=30, val=9, test=12))
    parts = sample(TRAIN, TEST, config(), pool([0, 1, 2] * 3, "v"))
    assert len(parts.train) == 30
    assert {name[0] for name in parts.val.names} == {"v"}


def test_stored_indices_are_taken_as_they_are(root):
    stored(root, np.array([5, 1, 9]), np.array([0, 2]))
    parts = sample(TRAIN, TEST, Config(indices="lists", train=3, val=2))
    assert parts.train.names == ("p1", "p5", "p9")
    assert parts.val.names == ("p0", "p2")


def test_the_split_seed_is_the_row_of_several_stored_splits(root):
    stored(root, np.array([[1, 2], [3, 4]]), np.array([[0], [5]]))
    parts = sample(TRAIN, TEST, Config(indices="lists", train=2, val=1, split_seed=1))
    assert parts.train.names == ("p3", "p4")
    assert parts.val.names == ("p5",)
    with pytest.raises(ValueError, match="split_seed: 2 given, allowed: 0 to 1"):
        sample(TRAIN, TEST, Config(indices="lists", train=2, val=1, split_seed=2))


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ([1, 2], [2], "1 images in common, among them 2"),
        ([1, 30], [2], "positions 1 to 30 given, allowed: 0 to 29"),
        ([1, 1], [2], "a position is given twice"),
        ([1, 2, 3], [4], "train: 2 given, allowed: 3"),
        ([1.0, 2.0], [4], "float64 .* given, allowed: int64"),
    ],
)
def test_stored_indices_that_do_not_fit_are_refused(root, train, val, message):
    stored(root, np.array(train), np.array(val))
    with pytest.raises(ValueError, match=message):
        sample(TRAIN, TEST, Config(indices="lists", train=2, val=1))


def test_stored_indices_are_never_unpickled(root):
    stored(root, np.array([1, 2]), np.array([3]))
    np.save(root / "lists" / "train.npy", np.array([{}], object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        sample(TRAIN, TEST, Config(indices="lists", train=2, val=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": 30, "val": 1}, r"train \+ val: 31 images given, allowed: at most 30"),
        ({"test": 13}, "test: 13 images given, allowed: at most 12"),
        ({"train": 0}, "train: 0 given"),
        ({"per_class": 0}, "per_class: 0 given"),
        ({"per_class": 2, "train": 7}, "train: 7 given, allowed: 6 with per_class: 2"),
        ({"per_class": 2, "indices": "lists"}, "per_class: 2 given, allowed: None with indices"),
        ({"indices": "../lists"}, "indices: '../lists' given, allowed: a folder below"),
        ({"split_seed": -1}, "split_seed: -1 given"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_read(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_sizes_must_be_given_where_nobody_has_published_them():
    config = sampled(Facts(classes=3))
    with pytest.raises(ValueError, match="val: None given, allowed: a number of images"):
        config(train=3)
    assert config(per_class=2, val=1).train == 6


def test_pools_smaller_than_the_settings_are_refused_when_they_are_read():
    config = sampled(Facts(classes=3))(train=30, val=1)
    with pytest.raises(ValueError, match=r"train \+ val: 31 images given, allowed: at most 30"):
        sample(TRAIN, TEST, config)
