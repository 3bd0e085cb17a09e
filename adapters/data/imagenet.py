"""Few-shot ImageNet and the shifted test sets that models trained on it are scored on.

Below the data root's folder `imagenet` lie lists of `path label`, the label after the last space, with
paths relative to that folder:

    train.txt, val.txt, test.txt     imagenet/few_shot: 100 and 10 training images of each class, and
                                     the 50,000 ImageNet validation images, which are the test set
    imagenet-v2/val_meta.list        imagenet/v2: matched frequency (Recht et al., 2019)
    imagenet-r/val_meta.list         imagenet/r: renditions, 200 classes (Hendrycks et al., 2021)
    imagenet-a/val_meta.list         imagenet/a: hard photos, 200 classes (Hendrycks et al., 2021)
    imagenet-sketch/val_meta.list    imagenet/sketch: drawings (Wang et al., 2019)

Labels are the usual 0 to 999, in the lists of R and A the positions 0 to 199 in `CLASS_SUBSET`. The
shifted sets are for evaluation only: see `adapters.data._evaluation.EvaluationSet`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adapters.data._evaluation import EvaluationConfig, EvaluationSet
from adapters.data._files import check_count
from adapters.data._imagenet_subsets import IMAGENET_A, IMAGENET_R
from adapters.data._lists import check_disjoint, read_list
from adapters.data._root import data_root
from adapters.data._sampling import Facts, SampledConfig, first_of, sample, sampled
from adapters.data.contract import Encoded, Member, Splits
from adapters.registry import UnknownNameError, unknown

SEMANTICS = 1
CLASSES = 1000
FEW_SHOT = Facts(classes=CLASSES, train=100_000, val=10_000, test=50_000)


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """What is published about a shifted test set."""

    folder: str
    images: int
    subset: tuple[int, ...] | None = None


SHIFTED = {
    "v2": Shifted(folder="imagenet-v2", images=10_000),
    "r": Shifted(folder="imagenet-r", images=30_000, subset=IMAGENET_R),
    "a": Shifted(folder="imagenet-a", images=7_500, subset=IMAGENET_A),
    "sketch": Shifted(folder="imagenet-sketch", images=50_889),
}
MEMBERS = ("few_shot", *SHIFTED)


def member(name: str) -> Member:
    """One of the sets; UnknownNameError for a name that is none."""
    if name == "few_shot":
        return Member(
            GROUP="natural",
            CLASSES=CLASSES,
            DIGEST=None,
            SEMANTICS=SEMANTICS,
            Config=sampled(FEW_SHOT),
            missing=partial(_missing, ("train.txt", "val.txt", "test.txt")),
            load=_load,
        )
    if name not in SHIFTED:
        raise UnknownNameError(unknown("data set of imagenet", name, MEMBERS))
    shifted = SHIFTED[name]
    return EvaluationSet(
        GROUP="natural",
        CLASSES=CLASSES if shifted.subset is None else len(shifted.subset),
        DIGEST=None,
        SEMANTICS=SEMANTICS,
        Config=EvaluationConfig,
        missing=partial(_missing, (f"{shifted.folder}/val_meta.list",)),
        load=partial(_refuse, name),
        evaluation=partial(_evaluation, shifted),
        CLASS_SUBSET=shifted.subset,
        TRAINED_CLASSES=CLASSES,
    )


def _folder() -> Path:
    return data_root() / "imagenet"


def _missing(lists: Iterable[str]) -> str | None:
    absent = [name for name in lists if not (_folder() / name).is_file()]
    if not absent:
        return None
    return f"put the images and the lists of them, {', '.join(absent)}, into {_folder()}"


def _load(config: SampledConfig) -> Splits:
    """Train and val from their lists, the whole validation set of ImageNet as test set."""
    folder = _folder()
    train, val, test = (
        read_list(folder / f"{part}.txt", folder, CLASSES) for part in ("train", "val", "test")
    )
    for part, pool, published in (
        ("train", train, FEW_SHOT.train),
        ("val", val, FEW_SHOT.val),
        ("test", test, FEW_SHOT.test),
    ):
        assert published is not None
        check_count(f"{folder / part}.txt", len(pool), published)
    check_disjoint(train=train, val=val, test=test)
    return sample(train, test, config, val)


def _refuse(name: str, _config: EvaluationConfig) -> Splits:
    raise ValueError(
        f"dataset: imagenet/{name} given, which has nothing to train on; allowed: to score a trained "
        "model on it, with its function evaluation"
    )


def _evaluation(shifted: Shifted, config: EvaluationConfig) -> Encoded:
    """The images of a shifted test set."""
    file = _folder() / shifted.folder / "val_meta.list"
    classes = CLASSES if shifted.subset is None else len(shifted.subset)
    images = read_list(file, _folder(), classes)
    check_count(str(file), len(images), shifted.images)
    chosen = first_of(images, config.test)
    assert isinstance(chosen, Encoded)
    return chosen
