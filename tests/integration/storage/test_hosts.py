from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage import hosts, lifecycle, queries, tables, views
from storage.database import Database
from tests import builders
from tests.integration.storage import fleet


def host(db: Database, name: str = "a1") -> queries.HostView:
    return next(each for each in queries.hosts(db) if each.name == name)


def test_a_host_that_registers_is_here_with_its_labels(db: Database) -> None:
    hosts.register(db, name="a1", platform=fleet.PLATFORMS["A"], labels={"region": "eu"})
    seen = host(db)
    assert (seen.standing, seen.labels, seen.platform) == ("here", {"region": "eu"}, fleet.PLATFORMS["A"])
    assert seen.unseen_s == pytest.approx(0, abs=5)


def test_a_host_that_says_nothing_for_a_while_is_away_until_it_is_seen_again(db: Database) -> None:
    fleet.register(db)
    fleet.pass_time(db, views.AWAY_S + 5)
    assert {each.standing for each in queries.hosts(db)} == {"away"}
    assert host(db).unseen_s == pytest.approx(views.AWAY_S + 5, abs=5)
    assert hosts.seen(db, "a1")
    assert [each.standing for each in queries.hosts(db)] == ["here", "away", "away", "away"]
    fleet.pass_time(db, views.AWAY_S - 15)
    assert host(db).standing == "here"  # some ticks missed are no absence


def test_a_host_that_said_goodbye_is_stopped_however_long_ago_and_here_when_it_returns(db: Database) -> None:
    fleet.register(db)
    hosts.goodbye(db, "a1")
    assert [each.standing for each in queries.hosts(db)] == ["stopped", "here", "here", "here"]
    fleet.pass_time(db, 3600)
    assert host(db).standing == "stopped"
    assert hosts.seen(db, "a1")
    assert host(db).standing == "here"
    hosts.goodbye(db, "a1")
    fleet.register(db, "a1")
    assert host(db).standing == "here"


def test_registering_again_keeps_when_it_came_first_and_takes_what_changed(db: Database) -> None:
    hosts.register(db, name="a1", platform=fleet.PLATFORMS["A"], labels={"region": "eu", "rack": "3"})
    fleet.pass_time(db, 1000)
    first = host(db)
    hosts.register(db, name="a1", platform=fleet.PLATFORMS["B"], labels={"region": "us"})
    again = host(db)
    assert (again.platform, again.labels) == (fleet.PLATFORMS["B"], {"region": "us"})
    assert again.first_seen_at == pytest.approx(first.first_seen_at, abs=1e-3)
    assert again.last_seen_at - first.last_seen_at == pytest.approx(1000, abs=5)
    assert len(queries.hosts(db)) == 1


def test_two_hosts_of_one_platform_share_its_hardware_and_software(db: Database) -> None:
    fleet.register(db, "a1", "a2")
    with db.read() as connection:
        counts = [
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (tables.host, tables.platform, tables.hardware, tables.environment)
        ]
    assert counts == [2, 1, 1, 1]


def test_a_forgotten_host_is_gone_and_its_results_stay(db: Database) -> None:
    fleet.register(db)
    (job_id,) = fleet.submit(db)
    assert lifecycle.finish(db, fleet.claim(db, job_id, "a1"), builders.latency())
    assert hosts.forget(db, "a1")
    assert not hosts.forget(db, "a1")
    assert not hosts.seen(db, "a1")  # its worker learns from this that it has to register again
    hosts.goodbye(db, "a1")
    assert [each.name for each in queries.hosts(db)] == ["a2", "b1", "c1"]
    (result,) = queries.results(db)
    assert (result.host, result.cpu) == ("a1", "CPU A")
