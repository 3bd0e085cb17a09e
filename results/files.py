"""Files of a store: created whole and exclusively, each carrying what shows that it is undamaged.

Rename overwrites, so it is no commit. A hard link is: it fails where the name is taken, and what
it names is complete. Readers only look at names that were linked, so they never see half a file.
In a bucket a conditional put is both (see `results.bucket`).

A Parquet file holds, in its footer, the SHA-256 of itself with 64 zeros in the digest's place.
A JSON file that is sealed holds the SHA-256 of its other keys. Files of older versions have
neither and are read as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from results.bucket import BucketPath
from results.errors import StoreError
from results.place import Place, open_binary
from results.schema import SCHEMA_VERSION, Column, arrow_schema

UNREADABLE = (pa.ArrowException, ValueError, OSError)
"""Whatever may be wrong with a file that is read."""

_TABLE_KEY = "peftgrid.table"
_VERSION_KEY = "peftgrid.schema"
_DIGEST_KEY = b"peftgrid.sha256"
_BLANK = b"0" * 64
_SEAL = "digest"
T = TypeVar("T", bound=Place)

# An attempt is one row: dictionaries and statistics would only make its file larger.
_SMALL = {"use_dictionary": False, "write_statistics": False, "compression": "none"}
_PACKED = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True}
_ROW_GROUP = 1 << 16


def create_exclusive(path: Place, data: bytes) -> bool:
    """Create `path` with `data`, durably. False, and nothing changed, where the name is taken.

    StoreError where the disk is full or fails. `path` may then be there or not, but never in
    part; calling again is right.
    """
    try:
        return path.create(data) if isinstance(path, BucketPath) else _create(path, data)
    except OSError as error:
        raise StoreError(f"{path}: could not be written ({error.strerror or error})") from error


def _create(path: Place, data: bytes) -> bool:
    assert isinstance(path, Path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        won = _link(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return won


def replace(path: Place, data: bytes) -> None:
    """Put `data` in the place of what `path` held, at once but not durably. OSError as it comes."""
    if not isinstance(path, Path):
        path.write_bytes(data)
        return
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def move(path: Place, target: Place) -> None:
    """Give what is at `path` the free name `target` of the same store. OSError as it comes."""
    if isinstance(path, BucketPath):
        assert isinstance(target, BucketPath)
        path.move(target)
        return
    assert isinstance(path, Path)
    assert isinstance(target, Path)
    if path.is_dir():
        path.rename(target)
    else:
        target.hardlink_to(path)
        remove(path)
    sync_folder(path.parent)
    sync_folder(target.parent)


def remove_all(folder: Place) -> None:
    """Delete what nobody needs any more, as far as that is possible."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    elif isinstance(folder, BucketPath):
        with contextlib.suppress(OSError):
            folder.remove_all()


def create_named(
    store: Place, folder: str, run_id: str, attempt: int, data: bytes
) -> tuple[str, str]:
    """Write a file of an attempt before its commit; its name within the store, and its SHA-256."""
    # The random part keeps the loser of a race off the file that the winner's row names.
    name = f"{folder}/{run_id}.{attempt}.{secrets.token_hex(4)}.safetensors"
    create_exclusive(store / name, data)
    return name, hashlib.sha256(data).hexdigest()


def read_named(path: Place, digest: str) -> bytes:
    """The content of a file that a row names; StoreError where it is not what was committed."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise StoreError(f"{path}: its digest is {found}, its row says {digest}")
    return data


def _link(temporary: Path, path: Path) -> bool:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        # Over NFS a lost reply makes a link that succeeded look failed; the count tells.
        return temporary.stat().st_nlink == 2
    return True


def make_folder(path: T) -> T:
    """The folder, made where missing; StoreError where that fails."""
    try:
        if not path.is_dir():
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: could not be made ({error.strerror or error})") from error
    return path


def sync_folder(folder: Place) -> None:
    """Make names that were added to or removed from the folder durable; in a bucket they are."""
    if not isinstance(folder, Path):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Place) -> bool:
    """Delete a file that nobody needs; False where that is not possible or it is gone."""
    with contextlib.suppress(OSError):
        path.unlink()
        return True
    return False


def listed(folder: Place) -> list[str]:
    """The names in a folder; of a bucket none where there are none. OSError as it comes."""
    if isinstance(folder, Path):
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    return [place.name for place in folder.iterdir()]


def sealed_json(body: Mapping[str, Any]) -> bytes:
    """`body` as JSON with the digest of itself; what JSON has no type for becomes text."""
    plain = json.loads(json.dumps(dict(body), default=str))
    return json.dumps({**plain, _SEAL: _json_digest(plain)}).encode()


def read_json(path: Place) -> dict[str, Any]:
    """The object in a JSON file; ValueError or OSError where there is none."""
    held = json.loads(path.read_bytes())
    if not isinstance(held, dict):
        raise ValueError("not a JSON object")
    return held


def read_sealed(path: Place) -> dict[str, Any]:
    """The body of a sealed JSON file; ValueError or OSError where it is damaged or missing."""
    held = read_json(path)
    if held.pop(_SEAL, None) != _json_digest(held):
        raise ValueError("its content does not match its digest")
    return held


def _json_digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def parquet_bytes(table: pa.Table, name: str, *, packed: bool = False) -> bytes:
    """A Parquet file of table `name`: for few rows, or `packed` for many."""
    sink = pa.BufferOutputStream()
    options = _PACKED if packed else _SMALL
    with pq.ParquetWriter(sink, table.schema, store_schema=False, **options) as writer:
        writer.write_table(table, row_group_size=_ROW_GROUP)
        writer.add_key_value_metadata({_TABLE_KEY: name, _VERSION_KEY: str(SCHEMA_VERSION)})
        writer.add_key_value_metadata({_DIGEST_KEY: _BLANK})
    data: bytes = sink.getvalue().to_pybytes()
    at = _digest_at(data)
    assert at is not None
    assert data[at : at + 64] == _BLANK, "the digest's key is not where Thrift puts it"
    return data[:at] + hashlib.sha256(data).hexdigest().encode() + data[at + 64 :]


def _digest_at(data: bytes) -> int | None:
    """Where the digest stands: Thrift has two bytes, type and length, between key and value."""
    key = data.rfind(_DIGEST_KEY)
    return None if key < 0 else key + len(_DIGEST_KEY) + 2


def _check_digest(data: bytes) -> None:
    """ValueError unless the file's own digest, where it has one, is that of its bytes."""
    at = _digest_at(data)
    if at is None:
        return
    digest = hashlib.sha256(data[:at])
    digest.update(_BLANK)
    digest.update(data[at + 64 :])
    if digest.hexdigest().encode() != data[at : at + 64]:
        raise ValueError("its content does not match its digest")


def read_parquet(
    path: Place, name: str, columns: tuple[Column, ...], digest: str | None = None
) -> tuple[pa.Table, int]:
    """The `columns` of one small file of table `name` and the schema version it was written with.

    Columns that the file lacks are nulls. `digest` is the SHA-256 of the file where it is known
    from elsewhere. Whatever is wrong with the file is one of `UNREADABLE`.
    """
    data = path.read_bytes()
    _check_digest(data)
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("its digest is not the one that its attempt's row names")
    return _read(pa.BufferReader(data), name, columns, packed=False)


def read_packed(path: Place, name: str, columns: tuple[Column, ...]) -> tuple[pa.Table, int]:
    """As `read_parquet` for a packed file, of which only the pages of `columns` are read."""
    if isinstance(path, Path):
        return _read(path, name, columns, packed=True)
    with open_binary(path) as file:
        return _read(file, name, columns, packed=True)


def _read(
    source: Any, name: str, columns: tuple[Column, ...], *, packed: bool
) -> tuple[pa.Table, int]:
    # Buffered before, many small requests to a bucket become a few large ones.
    with pq.ParquetFile(
        source, page_checksum_verification=packed, pre_buffer=isinstance(source, io.IOBase)
    ) as file:
        metadata = file.metadata.metadata or {}
        if metadata.get(_TABLE_KEY.encode()) != name.encode():
            raise ValueError(f"not a file of the table {name}")
        table = file.read(columns=[column.name for column in columns], use_threads=packed)
    version = int(metadata.get(_VERSION_KEY.encode(), b"0"))
    schema = arrow_schema(columns)
    if table.schema.equals(schema):
        return table, version
    present = set(table.column_names)
    arrays = [
        table.column(c.name).cast(c.type) if c.name in present else pa.nulls(len(table), c.type)
        for c in columns
    ]
    return pa.Table.from_arrays(arrays, schema=schema), version
