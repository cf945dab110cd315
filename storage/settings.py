"""Where things are: addresses, folders, names; from the environment or a settings file.

Every setting is read from `QUANTFLEET_<NAME>`, or from `quantfleet.toml` in the working folder (or the file
that `QUANTFLEET_SETTINGS` names). Passwords inside addresses never leave this module in readable form.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import stat
import tempfile
import tomllib
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pydantic_settings

from storage import errors, store_address
from storage.addresses import has_password, redact, without_password

__all__ = ["Settings", "has_password", "load", "redact", "without_password"]

log = logging.getLogger(__name__)


def _pairs(value: Any) -> Any:
    """`region=eu,rack=3` or a JSON object as a mapping."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(equals and name.strip() for name, equals, _ in pairs):
        raise ValueError("expected name=value pairs, such as region=eu,rack=3")
    return {name.strip(): text.strip() for name, _, text in pairs}


def _paths(value: Any) -> Any:
    """`/models:/data` or a JSON list as a list."""
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.lstrip().startswith("[") else [part for part in value.split(os.pathsep) if part]


Labels = Annotated[dict[str, str], pydantic_settings.NoDecode, pydantic.BeforeValidator(_pairs)]
Folders = Annotated[tuple[Path, ...], pydantic_settings.NoDecode, pydantic.BeforeValidator(_paths)]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "quantfleet"


class Settings(pydantic_settings.BaseSettings):
    """The settings of one process; frozen, and passed to whoever needs it."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="QUANTFLEET_", frozen=True, extra="forbid")

    # no address is in the record's repr: it may hold a password
    database: str = pydantic.Field(default="sqlite:///quantfleet.db", repr=False)  # SQLAlchemy address
    broker: str = pydantic.Field(default="", repr=False)  # Redis address; empty: the embedded file queue
    serve_token: str = pydantic.Field(default="", repr=False)  # what `quantfleet serve` asks for; empty: made anew
    store: str = pydantic.Field(default="", repr=False)  # where a fleet shares prepared models; empty: nowhere
    cache: Path = pydantic.Field(default_factory=_cache_folder)  # prepared models, inputs
    lock: Path = Path(tempfile.gettempdir()) / "quantfleet-measuring.lock"  # one measured job at a time on a host
    host: str = pydantic.Field(default_factory=socket.gethostname)  # this machine's name in the database
    folders: Folders = ()  # where local models and datasets may lie; empty: anywhere
    labels: Labels = pydantic.Field(default_factory=dict)  # this host's, for selectors: region=eu,rack=3
    pinned: bool = False  # workers: refuse models and datasets of the hub whose revision is no commit
    pickle: bool = False  # workers of a fleet: load pickled checkpoints when the study vouches for them
    noop: bool = False  # workers: do jobs that compute nothing, for tests of the delivery
    events: bool = False  # workers of a fleet: tell Flower and its like what they do
    memory_gib: float | None = pydantic.Field(default=None, gt=0)  # a measured process's bound; None: 90 % of all
    artifacts_gib: float = pydantic.Field(default=20.0, gt=0, allow_inf_nan=False)  # kept of prepared models
    lease: float = pydantic.Field(default=60.0, gt=0)  # seconds that a claim lives without a heartbeat
    heartbeat: float = pydantic.Field(default=10.0, gt=0)  # seconds between heartbeats
    reconcile: float = pydantic.Field(default=15.0, gt=0)  # seconds between looks for lost messages

    @pydantic.field_validator("database")
    @classmethod
    def _file_is_sqlite(cls, value: str) -> str:
        """A bare file name means a SQLite database in that file; what has a colon may be a mistyped address."""
        return value if ":" in value or not value else f"sqlite:///{value}"

    @pydantic.field_validator("store")
    @classmethod
    def _store_means_the_same_everywhere(cls, value: str) -> str:
        """A folder by its full path, or a URL; whether it answers is the worker's to find out."""
        return store_address.normal(value)

    @pydantic.field_validator("host")
    @classmethod
    def _host_names_a_queue(cls, value: str) -> str:
        """A host's name is part of its queue's, of Celery's node name, and of a file's in the embedded mode."""
        if not re.fullmatch(r"[\w.:-]{1,100}", value):
            raise ValueError("expected a name of letters, digits, '.', '-', '_' and ':'")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[pydantic_settings.BaseSettings],
        init_settings: pydantic_settings.PydanticBaseSettingsSource,
        env_settings: pydantic_settings.PydanticBaseSettingsSource,
        dotenv_settings: pydantic_settings.PydanticBaseSettingsSource,
        file_secret_settings: pydantic_settings.PydanticBaseSettingsSource,
    ) -> tuple[pydantic_settings.PydanticBaseSettingsSource, ...]:
        """Arguments before the environment before the settings file."""
        toml = pydantic_settings.TomlConfigSettingsSource(settings_cls, toml_file=_file())
        return init_settings, env_settings, toml

    @property
    def spool(self) -> Path:
        """Where results wait for a database that does not answer."""
        return self.cache / "spool"

    def redacted_database(self) -> str:
        """The database's address as it may be shown."""
        return redact(self.database)

    def redacted_store(self) -> str:
        """The shared store's address as it may be shown."""
        return store_address.redact(self.store)

    @property
    def artifacts_bytes(self) -> int:
        """What prepared models may take of this host's disk."""
        return int(self.artifacts_gib * 2**30)


def load(**given: Any) -> Settings:
    """Settings from arguments (None means: not given), environment and file; SettingsError names the field."""
    _check_file(_file())
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except pydantic.ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        near = errors.nearest(name, Settings.model_fields) if first["type"] == "extra_forbidden" else ""
        raise errors.SettingsError(f"setting {name!r}: {first['msg']}{near}") from None


def _file() -> Path:
    return Path(os.environ.get("QUANTFLEET_SETTINGS", "quantfleet.toml"))


def _check_file(file: Path) -> None:
    """Raise SettingsError for a file that is named but missing, or broken; warn when everyone can read its password."""
    if not file.exists():
        if "QUANTFLEET_SETTINGS" in os.environ:
            raise errors.SettingsError(f"QUANTFLEET_SETTINGS names {file}, which does not exist")
        return
    try:
        values, mode = tomllib.loads(file.read_text()), file.stat().st_mode
    except OSError as exc:
        raise errors.SettingsError(f"cannot read the settings file {file}: {exc.strerror}") from exc
    except ValueError as exc:  # not TOML, or not UTF-8; the message holds a place and nothing of the content
        raise errors.SettingsError(f"settings file {file}: {exc}") from None
    if mode & stat.S_IROTH and any(isinstance(value, str) and has_password(value) for value in values.values()):
        log.warning("settings file %s holds a password and every user can read it; chmod 600 %s", file, file)
