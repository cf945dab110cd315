"""Hosts as the database tells of them, for tests of what is planned for a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage import keys, records
from storage.views import HostView
from tests.unit.scheduler.study_files import hardware

PACKAGES = {"torch": "2.13.0", "transformers": "5.23.0"}


def host(
    name: str = "a",
    *,
    labels: Mapping[str, str] | None = None,
    packages: Mapping[str, str] | None = None,
    unseen_s: float = 1.0,
    stopped: bool = False,
    **machine: Any,
) -> HostView:
    """A host that serves, of a hardware of 4 cores unless fields of `records.Hardware` are given."""
    software = records.Environment(python="3.11.9", packages={**PACKAGES, **(packages or {})}, kernel="6.1")
    return HostView(
        name=name,
        platform=keys.platform(hardware(**machine), software),
        labels=dict(labels or {}),
        first_seen_at=0.0,
        last_seen_at=1000.0,
        unseen_s=unseen_s,
        stopped_at=1000.0 if stopped else None,
    )
