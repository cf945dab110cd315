"""A file of studies that moves between databases: rows of the tables, their digests, and what program wrote them.

A zip of `manifest.json` and one `TABLE.ndjson` for each table: a row a line, a JSON object by column; bytes as base64.
The same content is the same file, byte for byte. What is read is judged before it is used: the digest of each table,
and of each row its columns and their types.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.metadata
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn

import sqlalchemy as sa

from storage import errors, plain, tables

FORMAT, VERSION = "quantfleet-studies", 1
"""Of the file; a change that an older program would misread is another version."""

MANIFEST = "manifest.json"
TABLES = (
    *("hardware", "environment", "platform", "host", "model", "study", "job", "study_job", "job_after", "attempt"),
    *("result", "sample", "pruned", "prediction"),
)
"""In this order a row refers to earlier ones only."""

LOCAL = frozenset({("host", "imported_at"), ("result", "excerpt")})
"""Columns that tell of a database rather than of a study, or are made of others."""

MAX_MANIFEST, MAX_LINE = 1 << 20, 64 << 20
"""Bytes; more is no file of ours."""

Row = dict[str, Any]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_AGAIN = "nothing was imported. Export the study again, or copy the file again if it travelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One table in the file."""

    rows: int
    bytes: int  # of its lines
    sha256: str  # of its lines


def columns(table: str) -> dict[str, sa.Column[Any]]:
    """The columns of a table that travel."""
    return {column.name: column for column in tables.metadata.tables[table].c if (table, column.name) not in LOCAL}


class Writer:
    """Writes a file table by table; it stands under its name once everything is in it, or not at all."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._unfinished = file.with_name(f".{file.name}.part")
        self._parts: dict[str, Part] = {}

    def __enter__(self) -> Writer:
        try:
            self._zip = zipfile.ZipFile(self._unfinished, "w", zipfile.ZIP_DEFLATED)
        except OSError as exc:
            raise errors.SettingsError(f"{self._file} cannot be written: {exc.strerror}") from exc
        return self

    def add(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """Write a table; how many rows it had."""
        digest, count, size = hashlib.sha256(), 0, 0
        with self._zip.open(_member(f"{table}.ndjson"), "w", force_zip64=True) as sink:
            for row in rows:
                line = (plain.dumps({name: _travelling(value) for name, value in row.items()}) + "\n").encode()
                sink.write(line)
                digest.update(line)
                count, size = count + 1, size + len(line)
        self._parts[table] = Part(rows=count, bytes=size, sha256=digest.hexdigest())
        return count

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._zip.writestr(_member(MANIFEST), json.dumps(self._manifest(), indent=1))
        self._zip.close()
        if kind is None:
            self._unfinished.replace(self._file)
            return
        self._unfinished.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise errors.SettingsError(f"{self._file} cannot be written: {exc.strerror}") from exc

    def _manifest(self) -> dict[str, Any]:
        parts = {t: {"rows": p.rows, "bytes": p.bytes, "sha256": p.sha256} for t, p in self._parts.items()}
        program = importlib.metadata.version("quantfleet")
        return {"format": FORMAT, "version": VERSION, "schema": tables.REVISION, "program": program, "tables": parts}


class Archive:
    """A file that was written by `Writer`, read after it was judged; use as a context manager.

    Raises ArchiveError for what is none, is newer than this program, or is damaged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._zip = zipfile.ZipFile(file)
        except OSError as exc:
            raise errors.ArchiveError(f"{file} cannot be read: {exc.strerror or exc}") from exc
        except zipfile.BadZipFile as exc:
            raise errors.ArchiveError(
                f"{file} is no file of `quantfleet export`, or its end is missing: {_AGAIN}"
            ) from exc
        try:
            self.parts = self._judged()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self._zip.close()

    @property
    def total(self) -> int:
        """How many rows there are."""
        return sum(part.rows for part in self.parts.values())

    def verify(self) -> None:
        """Compare every table with its digest; ArchiveError where one differs."""
        for table, part in self.parts.items():
            digest, size = hashlib.sha256(), 0
            with self._open(f"{table}.ndjson") as source:
                while block := self._read(source, 1 << 20, table):
                    digest.update(block)
                    size += len(block)
                    if size > part.bytes:
                        break
            if (size, digest.hexdigest()) != (part.bytes, part.sha256):
                self.refuse(f"table {table} differs from its digest")

    def rows(self, table: str) -> Iterator[Row]:
        """The rows of a table, with the columns and types that the database has."""
        known, count = columns(table), 0
        if table not in self.parts:
            return
        with self._open(f"{table}.ndjson") as source:
            while line := self._line(source, table):
                count += 1
                yield self._row(table, known, line)
        if count != self.parts[table].rows:
            self.refuse(f"table {table} has {count} rows, {self.parts[table].rows} were written")

    def refuse(self, why: str) -> NoReturn:
        """ArchiveError: the file is damaged."""
        raise errors.ArchiveError(f"{self.file} is damaged ({why}): {_AGAIN}")

    def _judged(self) -> dict[str, Part]:
        manifest = self._manifest()
        if manifest.get("format") != FORMAT:
            raise errors.ArchiveError(f"{self.file} is a zip file, but none of `quantfleet export`")
        version, schema = manifest.get("version"), manifest.get("schema")
        if not isinstance(version, int) or not isinstance(schema, str) or not isinstance(manifest.get("tables"), dict):
            self.refuse("its manifest is incomplete")
        if version > VERSION or schema > tables.REVISION:
            raise errors.ArchiveError(
                f"{self.file} was written by a newer quantfleet ({manifest.get('program')}: file version {version}, "
                f"schema {schema}; this program knows {VERSION} and {tables.REVISION}): install that version here and "
                "run `quantfleet db upgrade`, or export the study with this one"
            )
        found = manifest["tables"]
        if unknown := sorted(set(found) - set(TABLES)):
            self.refuse(f"it has a table {unknown[0]!r}")
        try:
            return {t: Part(**found[t]) for t in TABLES if t in found}
        except TypeError:
            self.refuse("its manifest is incomplete")

    def _manifest(self) -> dict[str, Any]:
        if MANIFEST not in self._zip.namelist():
            raise errors.ArchiveError(f"{self.file} is a zip file, but none of `quantfleet export`")
        with self._open(MANIFEST) as source:
            text = self._read(source, MAX_MANIFEST, "manifest")
        try:
            manifest = json.loads(text)
        except (ValueError, RecursionError):
            self.refuse("its manifest is no JSON")
        if not isinstance(manifest, dict):
            self.refuse("its manifest is no JSON object")
        return manifest

    def _open(self, name: str) -> IO[bytes]:
        try:
            return self._zip.open(name)
        except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
            self.refuse(f"{name} is missing or cannot be unpacked")

    def _read(self, source: IO[bytes], size: int, what: str) -> bytes:
        try:
            return source.read(size)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, zlib.error):
            self.refuse(f"{what} cannot be unpacked")

    def _line(self, source: IO[bytes], table: str) -> bytes:
        try:
            line = source.readline(MAX_LINE)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, zlib.error):
            self.refuse(f"{table} cannot be unpacked")
        if len(line) >= MAX_LINE:
            self.refuse(f"a row of {table} has no end")
        return line

    def _row(self, table: str, known: Mapping[str, sa.Column[Any]], line: bytes) -> Row:
        try:
            row = json.loads(line, parse_constant=_no_number)
        except (ValueError, RecursionError):
            self.refuse(f"a row of {table} is no JSON")
        if not isinstance(row, dict) or set(row) - set(known):
            self.refuse(f"a row of {table} has columns that the table has not")
        try:
            return {name: _stored(column, row.get(name)) for name, column in known.items() if _wanted(column, row)}
        except (TypeError, ValueError, OverflowError, binascii.Error) as exc:
            self.refuse(f"a row of {table}: {exc}")


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time=_EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _travelling(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, (bytes, memoryview)) else value


def _wanted(column: sa.Column[Any], row: Mapping[str, Any]) -> bool:
    """Whether a row says what a column holds: an earlier schema had fewer columns, the new ones have defaults."""
    return column.name in row or (not column.nullable and column.server_default is None)


def _stored(column: sa.Column[Any], value: Any) -> Any:
    """A value as the database takes it; ValueError with the column for another type or range."""
    kind = column.type
    if value is None:
        if not column.nullable:
            raise ValueError(f"{column.name} is missing")
        return None
    if isinstance(kind, sa.JSON):
        return value
    if isinstance(kind, sa.LargeBinary):
        return base64.b64decode(value, validate=True)
    fits: bool = isinstance(value, _python_types(kind)) and isinstance(value, bool) is isinstance(kind, sa.Boolean)
    if not fits:
        raise ValueError(f"{column.name} is {value!r:.40}")
    if isinstance(value, str) and plain.text(value) != value:
        raise ValueError(f"{column.name} holds what is no text")
    if isinstance(kind, sa.Integer):
        limit = 1 << 63 if isinstance(kind, sa.BigInteger) else 1 << 31
        if not -limit <= value < limit:
            raise ValueError(f"{column.name} is {value!r:.40}, beyond its range")
    return float(value) if isinstance(kind, sa.Float) else value


def _python_types(kind: Any) -> tuple[type, ...]:
    if isinstance(kind, (sa.Boolean, sa.Integer)):
        return (int,)
    return (int, float) if isinstance(kind, sa.Float) else (str,)
