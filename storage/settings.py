"""Where things are: addresses, folders, names; from the environment or a settings file.

Every setting is read from `QUANTFLEET_<NAME>`, or from `quantfleet.toml` in the working folder (or the file
that `QUANTFLEET_SETTINGS` names). Passwords inside addresses never leave this module in readable form.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import urllib.parse
from pathlib import Path
from typing import Annotated, Any

import pydantic
import pydantic_settings
import sqlalchemy.engine

from storage import errors

UNREADABLE = "an address that cannot be read"


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

    database: str = "sqlite:///quantfleet.db"  # SQLAlchemy address
    broker: str = ""  # Celery address; empty: the embedded file queue beside the database
    cache: Path = pydantic.Field(default_factory=_cache_folder)  # prepared models, inputs
    lock: Path = Path(tempfile.gettempdir()) / "quantfleet-measuring.lock"  # one measured job at a time on a host
    host: str = pydantic.Field(default_factory=socket.gethostname)  # this machine's name in the database
    folders: Folders = ()  # where local models and datasets may lie; empty: anywhere
    labels: Labels = pydantic.Field(default_factory=dict)  # this host's, for selectors: region=eu,rack=3
    pinned: bool = False  # workers: refuse models and datasets of the hub whose revision is no commit
    pickle: bool = False  # workers of a fleet: load pickled checkpoints when the study vouches for them
    events: bool = False  # workers of a fleet: tell Flower and its like what they do
    memory_gib: float | None = pydantic.Field(default=None, gt=0)  # a measured process's bound; None: 90 % of all
    lease: float = pydantic.Field(default=60.0, gt=0)  # seconds that a claim lives without a heartbeat
    heartbeat: float = pydantic.Field(default=10.0, gt=0)  # seconds between heartbeats
    reconcile: float = pydantic.Field(default=15.0, gt=0)  # seconds between looks for lost messages

    @pydantic.field_validator("database")
    @classmethod
    def _file_is_sqlite(cls, value: str) -> str:
        """A bare file name means a SQLite database in that file; what has a colon may be a mistyped address."""
        return value if ":" in value or not value else f"sqlite:///{value}"

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
        file = Path(os.environ.get("QUANTFLEET_SETTINGS", "quantfleet.toml"))
        toml = pydantic_settings.TomlConfigSettingsSource(settings_cls, toml_file=file)
        return init_settings, env_settings, toml

    @property
    def spool(self) -> Path:
        """Where results wait for a database that does not answer."""
        return self.cache / "spool"

    def redacted_database(self) -> str:
        """The database's address as it may be shown."""
        return redact(self.database)


def load(**given: Any) -> Settings:
    """Settings from arguments (None means: not given), environment and file; SettingsError names the field."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except pydantic.ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        near = errors.nearest(name, Settings.model_fields) if first["type"] == "extra_forbidden" else ""
        raise errors.SettingsError(f"setting {name!r}: {first['msg']}{near}") from None


def redact(address: str) -> str:
    """An address without its passwords."""
    if "://" not in address:
        return address if "@" not in address else UNREADABLE
    try:
        url = sqlalchemy.engine.make_url(address)
    except Exception:  # an address that cannot be parsed may hold a secret anywhere
        return UNREADABLE
    hidden = {name: "***" for name in url.query if _is_secret(name)}
    return url.update_query_dict(hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def without_password(text: str, address: str) -> str:
    """A library's message without the passwords of the address that it is about."""
    try:
        url = sqlalchemy.engine.make_url(address)
    except Exception:
        return text if "://" not in address else "its address cannot be read"
    secrets = [str(url.password)] if url.password else []
    secrets += [str(value) for name, value in url.query.items() if _is_secret(name)]
    for secret in (*secrets, *(urllib.parse.quote(secret, safe="") for secret in secrets)):
        text = text.replace(secret, "***")
    return text


def has_password(address: str) -> bool:
    """Whether an address holds a password, which a command line must not: every user of the machine could read it."""
    try:
        url = sqlalchemy.engine.make_url(address)
    except Exception:
        return False
    return bool(url.password) or any(_is_secret(name) for name in url.query)


def _is_secret(name: str) -> bool:
    return "password" in name.lower()
