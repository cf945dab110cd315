"""A `noop` job: claimed, leased, locked and stored like every other, and nothing in between."""

from __future__ import annotations

from storage import errors, settings
from storage.noop import NoopMeasurement


def measure(config: settings.Settings) -> NoopMeasurement:
    """Nothing, where this worker was told that it may; Unsupported elsewhere."""
    if not config.noop:
        raise errors.Unsupported(
            "a noop job computes nothing and is for tests of the delivery alone; this worker does none of them, "
            "QUANTFLEET_NOOP=true allows it"
        )
    return NoopMeasurement()
