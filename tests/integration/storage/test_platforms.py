from __future__ import annotations

from storage import hosts, queries
from storage.database import Database
from tests import fleets


def test_platforms_are_known_by_their_keys_as_they_were_registered(db: Database) -> None:
    hosts.register(db, name="one", platform=fleets.EPYC)
    hosts.register(db, name="two", platform=fleets.EPYC)
    hosts.register(db, name="three", platform=fleets.OLD_TORCH)
    assert queries.platforms(db) == {one.key: one for one in (fleets.EPYC, fleets.OLD_TORCH)}


def test_a_platform_outlives_its_host(db: Database) -> None:
    hosts.register(db, name="one", platform=fleets.OLD)
    hosts.register(db, name="one", platform=fleets.OLD_TORCH)
    hosts.forget(db, "one")
    assert set(queries.platforms(db)) == {fleets.OLD.key, fleets.OLD_TORCH.key}


def test_a_database_without_hosts_has_no_platforms(db: Database) -> None:
    assert queries.platforms(db) == {}
