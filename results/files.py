"""Files of a store: created whole and exclusively, read one by one against the declared schema.

Rename overwrites, so it is no commit. A hard link is: it fails where the name is taken, and what
it names is complete. Readers only look at names that were linked, so they never see half a file.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from results.errors import StoreError
from results.schema import SCHEMA_VERSION, Column, arrow_schema

_TABLE_KEY = "peftgrid.table"
_VERSION_KEY = "peftgrid.schema"


def create_exclusive(path: Path, data: bytes) -> bool:
    """Create `path` with `data`, durably. False, and nothing changed, where the name is taken."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            won = _link(temporary, path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: could not be written ({error.strerror or error})") from error
    return won


def _link(temporary: Path, path: Path) -> bool:
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        # Over NFS a lost reply makes a link that succeeded look failed; the count tells.
        return temporary.stat().st_nlink == 2
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parquet_bytes(table: pa.Table, name: str) -> bytes:
    """A small Parquet file of table `name`, without what only pays for many rows."""
    sink = pa.BufferOutputStream()
    options = {"use_dictionary": False, "write_statistics": False, "store_schema": False}
    options["write_page_checksum"] = True  # so that a bit that flips on a disk is noticed
    with pq.ParquetWriter(sink, table.schema, compression="none", **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_TABLE_KEY: name, _VERSION_KEY: str(SCHEMA_VERSION)})
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_parquet(path: Path, name: str, columns: tuple[Column, ...]) -> pa.Table:
    """The `columns` of one file of table `name`, columns that the file lacks as nulls.

    Whatever is wrong with the file is a ValueError or an OSError.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        if (file.metadata.metadata or {}).get(_TABLE_KEY.encode()) != name.encode():
            raise ValueError(f"not a file of the table {name}")
        table = file.read(columns=[column.name for column in columns], use_threads=False)
    schema = arrow_schema(columns)
    if table.schema.equals(schema):
        return table
    present = set(table.column_names)
    arrays = [
        table.column(c.name).cast(c.type) if c.name in present else pa.nulls(len(table), c.type)
        for c in columns
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
