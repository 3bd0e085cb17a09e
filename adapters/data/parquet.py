"""Data sets in Parquet files, the form that the Hugging Face hub serves: `parquet/NAME`.

Below the data root lie `parquet/NAME/train*.parquet`, `test*.parquet` and perhaps `validation*.parquet`
or `val*.parquet`, there or in a folder `data`. Train is drawn from the train files; val from the
validation files, where there are any, else from the train files, too. A file holds one image in each
row, as its encoded bytes or as a struct with `bytes`, and its label as a whole number.

The images stay in the files. Only a few groups of rows are in memory at a time, so reading in the
order of the rows is fast and any other order slow.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from adapters.data._files import check_labels
from adapters.data._root import data_root
from adapters.data._sampling import Facts, SampledConfig, sample
from adapters.data.contract import Encoded, Member, Splits
from adapters.spec import at_least

SEMANTICS = 1
MEMBERS: tuple[str, ...] = ()
_IMAGE = ("image", "img")
_LABEL = ("label", "labels", "fine_label")


@dataclass(frozen=True, kw_only=True)
class Config(SampledConfig):
    """The sizes, which must be given since nobody has published them, and the columns."""

    classes: int
    """Labels are 0 to `classes` - 1."""
    image: str | None = None
    """The column of the images; None means the one called `image` or `img`."""
    label: str | None = None
    """The column of the labels; None means the one called `label`, `labels` or `fine_label`."""
    digest: str | None = None
    """What the digest of the images must be; None means that it is not compared."""

    def __post_init__(self) -> None:
        at_least(2, classes=self.classes)
        super().__post_init__()

    def facts(self) -> Facts:
        """Only the classes are known."""
        return Facts(classes=self.classes)


def member(name: str) -> Member:
    """The data set in the folder `name`; ValueError for a name that leaves the data root."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"parquet: {name!r} given, allowed: a folder below {_folder('')}")
    return Member(
        GROUP="natural",
        CLASSES=None,
        DIGEST=None,
        SEMANTICS=SEMANTICS,
        Config=Config,
        missing=partial(_missing, name),
        load=partial(_load, name),
    )


def _missing(name: str) -> str | None:
    absent = [part for part in ("train", "test") if not _found(name, part)]
    if not absent:
        return None
    files = " and ".join(f"{part}*.parquet" for part in absent)
    return (
        f"hf download OWNER/{name} --repo-type dataset --include '*.parquet' "
        f"--local-dir {_folder(name)} (and rename files so that {files} are there)"
    )


def _load(name: str, config: Config) -> Splits:
    """Labels are read, images are not."""
    train_files, test_files = _found(name, "train"), _found(name, "test")
    val_files = _found(name, "validation") or _found(name, "val")
    for part, files in (("train", train_files), ("test", test_files)):
        if not files:
            raise FileNotFoundError(
                f"{_folder(name)}: no file {part}*.parquet, there or in its folder data"
            )
    return sample(
        _pool(name, train_files, config),
        _pool(name, test_files, config),
        config,
        _pool(name, val_files, config) if val_files else None,
    )


def _folder(name: str) -> Path:
    return data_root() / "parquet" / name


def _found(name: str, part: str) -> list[Path]:
    folder = _folder(name)
    return sorted([*folder.glob(f"{part}*.parquet"), *folder.glob(f"data/{part}*.parquet")])


def _pool(name: str, files: Sequence[Path], config: Config) -> Encoded:
    """All rows of the files. Names are `file#row`, with zeros in front, so that they sort as rows do."""
    import pyarrow as pa

    names: list[str] = []
    labels_N = []
    columns: dict[str, str] = {}
    for file in files:
        place = file.relative_to(_folder(name)).as_posix()
        with _opened(file) as table:
            schema = table.schema_arrow
            columns[place] = _column(file, "image", config.image, _IMAGE, schema.names)
            label = _column(file, "label", config.label, _LABEL, schema.names)
            kind = schema.field(label).type
            if not pa.types.is_integer(kind):
                raise ValueError(f"{file}: column {label} of {kind} given, allowed: whole numbers")
            column = table.read(columns=[label]).column(label)
        if column.null_count:
            raise ValueError(f"{file}: {column.null_count} rows have no label, allowed: none")
        labels_n = column.to_numpy().astype(np.int64)
        check_labels(str(file), labels_n, config.classes)
        labels_N.append(labels_n)
        names += [f"{place}#{row:09d}" for row in range(len(labels_n))]
    reader = Reader(folder=_folder(name), columns=tuple(columns.items()))
    return Encoded(tuple(names), np.concatenate(labels_N), reader)


def _column(
    file: Path, setting: str, given: str | None, usual: Iterable[str], there: Sequence[str]
) -> str:
    wanted = usual if given is None else [given]
    for name in wanted:
        if name in there:
            return name
    raise ValueError(
        f"{setting}: {given!r} given, allowed: one of the columns of {file}: {', '.join(there)}"
    )


@dataclass(frozen=True)
class Reader:
    """Gives the bytes of the image of a row, by its name."""

    folder: Path
    columns: tuple[tuple[str, str], ...]
    """Each file, relative to `folder`, with its column of images."""

    def __call__(self, name: str) -> bytes:
        """The encoded image; ValueError where the row has none, OSError where the file is unreadable."""
        place, _, row = name.rpartition("#")
        file = self.folder / place
        starts = _starts(file)
        group = bisect_right(starts, int(row)) - 1
        image: bytes | None = _group(file, self._column_of[place], group)[int(row) - starts[group]]
        if image is None:
            raise ValueError(f"{file}: row {row} holds no bytes of an image")
        return image

    @cached_property
    def _column_of(self) -> dict[str, str]:
        return dict(self.columns)


@lru_cache(maxsize=256)
def _starts(file: Path) -> tuple[int, ...]:
    """The first row of each group of rows."""
    with _opened(file) as table:
        sizes = [table.metadata.row_group(i).num_rows for i in range(table.num_row_groups)]
    return tuple(int(start) for start in np.cumsum([0, *sizes[:-1]]))


@lru_cache(maxsize=2)
def _group(file: Path, column: str, group: int) -> list[bytes | None]:
    """The images of one group of rows, still encoded."""
    import pyarrow as pa

    with _opened(file) as table:
        kind = table.schema_arrow.field(column).type
        is_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if not is_struct and not pa.types.is_binary(kind) and not pa.types.is_large_binary(kind):
            raise ValueError(
                f"{file}: column {column} of {kind} given, allowed: binary, or a struct with bytes"
            )
        path = f"{column}.bytes" if is_struct else column
        values = table.read_row_group(group, columns=[path]).column(column).combine_chunks()
    images = values.field("bytes") if is_struct else values
    found: list[bytes | None] = images.to_pylist()
    return found


def _opened(file: Path) -> Any:
    """A Parquet file, as a context; what is no Parquet file is pyarrow's ValueError."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(file)
