"""Every exception that quantfleet raises on purpose.

::

    QuantfleetError
    ├── UserError                what a person can mend: exit code 2
    │   ├── StudyError           a study file: file, line, field
    │   ├── StrategyError        a strategy string that names nothing or mixes wrongly
    │   ├── ModelError           a model that is missing, damaged or of another kind
    │   ├── DatasetError         a dataset that is missing, empty or of other columns
    │   ├── SettingsError        an address, folder or option
    │   ├── DatabaseError        the database cannot be used as it is
    │   │   ├── DatabaseBusy     locked by someone else for too long
    │   │   ├── SchemaMismatch   made by another version
    │   │   └── DatabaseReadOnly no right or no room to write
    │   ├── AlreadyRunning       another run holds this database
    │   ├── ForeignError         a result file of another tool that cannot be read
    │   ├── QueryError           a filter or query that cannot be read
    │   └── ArchiveError         a file of studies that cannot be used
    ├── Unsupported              this host cannot do it; a result, not a failure
    ├── ChildDied                a measured process ended before its answer
    ├── ChildFailed              a measured process reported an error
    ├── LeaseLost                somebody else owns the job now
    ├── JobCancelled             a person took the job back
    └── Unreachable              database or broker do not answer (may pass)

Everything that a library raises is translated at the one module that calls it (``raise … from exc``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QuantfleetError(Exception):
    """Root of the tree; `str()` is the whole message for a person."""


class UserError(QuantfleetError):
    """Something that the person who typed the command can mend."""


class StudyError(UserError):
    """A study file that cannot be used; the message holds file, line and field."""


class StrategyError(UserError):
    """A strategy string that names nothing or mixes what does not go together."""


class ModelError(UserError):
    """A model that is missing, damaged, or not a classifier."""


class DatasetError(UserError):
    """A dataset that is missing, empty, or lacks a column."""


class SettingsError(UserError):
    """An address, a folder or an option that cannot be used."""


class DatabaseError(UserError):
    """The database cannot be used as it is."""


class DatabaseBusy(DatabaseError):
    """Another process held the write lock for longer than the busy timeout."""


class SchemaMismatch(DatabaseError):
    """The database was made by another version of quantfleet."""


class DatabaseReadOnly(DatabaseError):
    """The database can be read but not written: rights, or a full disk."""


class AlreadyRunning(UserError):
    """Another `quantfleet run` works on the same database."""


class ForeignError(UserError):
    """A file of another tool's results that is damaged, incomplete, of another kind or of an unknown version."""


class QueryError(UserError):
    """A filter expression, or a query in SQL, that cannot be read."""


class ArchiveError(UserError):
    """A file of exported studies that is damaged, newer than this program, or none."""


class Unsupported(QuantfleetError):
    """This host cannot run the case; the reason becomes the job's result."""


class ChildDied(QuantfleetError):
    """A measured process ended before it answered.

    `signal` is the number of the signal that ended it (None when it exited by itself),
    `stderr` its last lines, `resident_peak_bytes` the largest memory that was seen of it.
    """

    def __init__(
        self,
        message: str,
        *,
        signal: int | None = None,
        stderr: str = "",
        resident_peak_bytes: int | None = None,
    ) -> None:
        super().__init__(message)
        self.signal = signal
        self.stderr = stderr
        self.resident_peak_bytes = resident_peak_bytes


class ChildFailed(QuantfleetError):
    """A measured process reported an error; `trace` is its traceback for the log."""

    def __init__(self, message: str, *, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class LeaseLost(QuantfleetError):
    """The job's lease ran out and another attempt owns it; nothing more may be stored."""


class JobCancelled(QuantfleetError):
    """Somebody cancelled the job while it ran."""


class Unreachable(QuantfleetError):
    """The database or the broker does not answer now."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the most similar known name, or the empty string.

    Similar in letters (difflib), or else with a common beginning of three letters: `int9` means `int8-dynamic`.
    """
    names = list(known)
    matches = difflib.get_close_matches(word, names, n=1, cutoff=0.5) or _same_start(word, names)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _same_start(word: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if len(word) >= 3 and name.startswith(word[:3])][:1]
