from __future__ import annotations

import pytest

from storage import database, errors


@pytest.mark.parametrize("address", ["postgresql://u@h/db", "postgres://u@h/db", "postgresql+psycopg2://u@h/db"])
def test_every_spelling_of_postgres_uses_the_installed_driver(address: str) -> None:
    assert str(database.parse(address)) == "postgresql+psycopg://u@h/db"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nonsense secret", "cannot be read; expected sqlite:///FILE or postgresql://"),
        ("postgresql://u:secret@h:port/db", "cannot be read"),
        ("mysql://u:secret@h/db", "names 'mysql'; expected"),
        ("postgresq://u:secret@h/db", "names 'postgresq'; expected"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
    ],
)
def test_an_address_that_cannot_be_used_says_what_is_expected_and_no_secret(address: str, message: str) -> None:
    with pytest.raises(errors.SettingsError, match=message) as caught:
        database.parse(address)
    assert "secret" not in str(caught.value)
