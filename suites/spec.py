"""The identity of a run: what is hashed, how, and the ids that come of it.

`run_id` is the first 16 characters of base32(SHA-256) over the canonical JSON of the run's whole
science. `config_id` leaves the seed out; `variant_id` takes the method and its settings alone.
Digests in it are the declared ones, so ids exist where neither data nor weights do.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from adapters import backbones, registry
from adapters.preprocess import Preprocess
from adapters.spec import (
    TRAINING_SEMANTICS,
    TrainConfig,
    TrialSpec,
    from_plain,
    options,
    to_plain,
    type_hints,
)

_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """The fully resolved science of one run, and its names."""

    seedless: Mapping[str, Any] = field(compare=False)
    """The science without the seed, as canonical JSON values; shared between specs: not to be changed."""
    seed: int
    run_id: str
    config_id: str
    variant: str
    """The method with its settings that are not defaults, as in `lora[rank=8,targets=q+v]`."""
    variant_id: str

    @property
    def science(self) -> dict[str, Any]:
        """Everything that `run_id` is hashed over, as canonical JSON values: not to be changed."""
        return {**self.seedless, "seed": self.seed}

    @property
    def backbone(self) -> str:
        """The backbone's name."""
        return str(self.seedless["backbone"]["name"])

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return str(self.seedless["dataset"]["name"])

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.seedless["method"]["name"])

    @property
    def params(self) -> dict[str, Any]:
        """The method's settings."""
        return dict(self.seedless["method"]["params"])

    @property
    def train(self) -> dict[str, Any]:
        """The recipe's settings."""
        return dict(self.seedless["train"])

    def trial(self) -> TrialSpec:
        """The typed form, which `adapters.trial.run_trial` takes."""
        dataset, method = self.seedless["dataset"], self.seedless["method"]
        return TrialSpec(
            backbone=self.backbone,
            dataset=self.dataset,
            dataset_config=from_plain(registry.dataset(self.dataset).Config, dataset["config"]),
            method=self.method,
            method_config=from_plain(registry.method(self.method).Config, method["params"]),
            train=from_plain(TrainConfig, self.seedless["train"]),
            seed=self.seed,
            preprocess=self._preprocess(),
        )

    def _preprocess(self) -> Preprocess:
        """As `run_spec` wrote it."""
        held = self.seedless["preprocessing"]
        usual = backbones.describe(self.backbone).interpolation
        mode = held["interpolation"]
        return Preprocess(
            resize=held["resize"],
            interpolation="backbone" if mode == usual else mode,
            normalise=held.get("normalise", "backbone"),
        )


def run_spec(trial: TrialSpec) -> RunSpec:
    """The identity of a trial."""
    return Frame(trial).configuration(trial.train).run(trial.seed)


class Frame:
    """What all runs of one method on one data set and backbone share, whatever their recipes and seeds.

    The canonical JSON of a run is its frame's text with the seed and the recipe put in, which saves
    writing it anew for every run of a large suite: see docs/performance.md.
    """

    def __init__(self, trial: TrialSpec) -> None:
        """Of `trial`, whose recipe and seed do not matter."""
        info = backbones.describe(trial.backbone)
        dataset, method = registry.dataset(trial.dataset), registry.method(trial.method)
        (mean, std), normalise = trial.preprocess.mean_std(info), trial.preprocess.normalise
        self.shared: dict[str, Any] = {
            "backbone": {"name": info.name, "weights_digest": info.weights_digest},
            "dataset": {
                "name": trial.dataset,
                "digest": registry.declared_digest(trial.dataset, trial.dataset_config),
                "config": _canonical(trial.dataset_config)[0],
            },
            "preprocessing": {
                "size": info.dims.image_size,
                "mean": [float(x) for x in mean],
                "std": [float(x) for x in std],
                "interpolation": trial.preprocess.mode(info),
                "resize": trial.preprocess.resize,
                # The numbers are the identity; their name is kept where it is not the usual one.
                **({} if normalise == "backbone" else {"normalise": normalise}),
            },
            "method": {"name": trial.method, "params": _canonical(trial.method_config)[0]},
            "semantics": {
                "backbone": info.semantics,
                "dataset": dataset.SEMANTICS,
                "method": method.SEMANTICS,
                "training": TRAINING_SEMANTICS,
            },
        }
        self.variant = label(trial.method, trial.method_config)
        self.variant_id = _variant_id(trial.method, trial.method_config)
        texts = {key: f'"{key}":{_JSON.encode(part)},' for key, part in self.shared.items()}
        # Keys stand in alphabetical order: "seed" among these, "train" after all of them.
        self._before = "{" + "".join(texts[key] for key in sorted(texts) if key < "seed")
        self._after = "".join(texts[key] for key in sorted(texts) if key > "seed")

    def configuration(self, train: TrainConfig) -> Configuration:
        """The runs that have the recipe `train`."""
        plain, text = _canonical(train)
        after = f'{self._after}"train":{text}}}'
        return Configuration(
            seedless={**self.shared, "train": plain},
            config_id=_id(self._before + after),
            variant=self.variant,
            variant_id=self.variant_id,
            opened=hashlib.sha256(self._before.encode()),
            after=after.encode(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All of a run but its seed."""

    seedless: Mapping[str, Any]
    config_id: str
    variant: str
    variant_id: str
    opened: Any
    """SHA-256 over the canonical JSON up to the seed."""
    after: bytes
    """The canonical JSON from the seed on."""

    def run(self, seed: int) -> RunSpec:
        """Its run with that seed."""
        digest = self.opened.copy()
        digest.update(b'"seed":%d,' % seed + self.after)
        return RunSpec(
            seedless=self.seedless,
            seed=seed,
            run_id=_base32(digest.digest()),
            config_id=self.config_id,
            variant=self.variant,
            variant_id=self.variant_id,
        )


def trainable_params(trial: TrialSpec) -> int:
    """How many elements the run trains, head included, in closed form; no model is built."""
    width = backbones.describe(trial.backbone).dims.width
    classes = registry.classes(trial.dataset, trial.dataset_config)
    own = trial.train.text_head
    head = classes * (width + 1) if own is None else own.count(classes, width)
    return adapter_params(trial) + head


def adapter_params(trial: TrialSpec) -> int:
    """How many elements the run trains beside the head, in closed form; no model is built."""
    dims = backbones.describe(trial.backbone).dims
    return registry.method(trial.method).count(trial.method_config, dims)


def count_is_exact(trial: TrialSpec) -> bool:
    """Whether `trainable_params` is the number itself; False where it is an upper bound."""
    return registry.count_is_exact(trial.method, trial.method_config)


@lru_cache(maxsize=4096)
def label(name: str, config: Any) -> str:
    """`name` with the settings of `config` that are not defaults; `rank` is always among them.

    Of settings in settings those are shown that are not defaults of theirs, as in
    `adamss[asa.target_subspaces=90]`; `asa=default` where all are.
    """
    defaults = {item.name: _default(item) for item in dataclasses.fields(config)}
    settings = ",".join(_differing(config, defaults))
    return f"{name}[{settings}]" if settings else name


def shown(value: Any) -> str:
    """A value as labels, axes and tables write it: `8`, `3x8x8`, `q+v`, `0.001`, `none`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, tuple | list):
        is_numbers = all(isinstance(item, int | float) for item in value)
        return ("x" if is_numbers else "+").join(map(shown, value))
    return str(value)


def _differing(config: Any, usual: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for item in dataclasses.fields(config):
        value, default = getattr(config, item.name), usual.get(item.name, dataclasses.MISSING)
        if dataclasses.is_dataclass(value):
            if value != default:
                own = {inner.name: _default(inner) for inner in dataclasses.fields(value)}
                shown_of_it = list(_differing(value, own, f"{prefix}{item.name}."))
                yield from shown_of_it or [f"{prefix}{item.name}=default"]
        elif value != default or item.name == "rank":
            yield f"{prefix}{item.name}={shown(value)}"


def _default(item: dataclasses.Field[Any]) -> Any:
    made = item.default_factory
    return item.default if made is dataclasses.MISSING else made()


@lru_cache(maxsize=4096)
def _variant_id(name: str, config: Any) -> str:
    return _id(_JSON.encode({"name": name, "params": _canonical(config)[0]}))


def _id(text: str) -> str:
    return _base32(hashlib.sha256(text.encode()).digest())


def _base32(digest: bytes) -> str:
    return base64.b32encode(digest[:10]).decode().lower()  # ten bytes are 16 characters


@lru_cache(maxsize=1 << 16)
def _canonical(config: Any) -> tuple[dict[str, Any], str]:
    """A config as JSON values of the types its fields declare (1, 1.0 and 1e0 agree), and as text."""
    plain = _coerced(type(config), to_plain(config))
    return plain, _JSON.encode(plain)


def _coerced(cls: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    hints = type_hints(cls)
    return {name: _coerce(hints[name], value, name) for name, value in plain.items()}


def _coerce(hint: Any, value: Any, name: str) -> Any:
    kinds = options(hint)
    if isinstance(value, dict):
        nested = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
        return _coerced(typing.cast(type[Any], nested[0]), value) if nested else value
    if isinstance(value, list):
        args = [typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is tuple]
        inner = args[0] if args else (Any, ...)
        each = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return [_coerce(h, v, name) for h, v in zip(each, value, strict=True)]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not math.isfinite(value):
        raise ValueError(f"{name}: {value} given, allowed: finite numbers")
    if float in kinds:
        return float(value) + 0.0  # -0.0 + 0.0 is 0.0
    if int in kinds and value == int(value):
        return int(value)
    return value
