"""Addresses shown without their passwords, however odd, and whatever is wrong with them."""

from __future__ import annotations

import urllib.parse

import hypothesis
import pytest
from hypothesis import strategies as st

from storage import addresses, errors, settings
from tests import services

LATER = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
ODD = st.text(st.sampled_from("äß€ %&+=;,.!$'\"()*[]{}|\\^`~<>-_" + LATER), min_size=4, max_size=20)
ANYTHING = st.text(st.sampled_from("/:@?#%&=+ ." + LATER), min_size=6, max_size=20)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://:geheim@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://me:geheim@host/0?ssl_ca_certs=/ca.pem", "rediss://me:***@host/0?ssl_ca_certs=/ca.pem"),
        ("rediss://host/0?ssl_password=geheim&ssl_keyfile=/k", "rediss://host/0?ssl_password=***&ssl_keyfile=/k"),
        ("redis://geheim@host/0", "redis://***@host/0"),  # a password in the wrong place
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("postgresql://me:geheim@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:ge:heim@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:ge@heim@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:ge/he?im#@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host/db?password=geheim", "postgresql://me@host/db?password=***"),
        ("postgresql:///db?host=/run&PassWord=ge%40heim&x=1", "postgresql:///db?host=/run&PassWord=***&x=1"),
        (
            "postgresql://me@host/db?password=ge&heim&sslmode=require",
            "postgresql://me@host/db?password=***&sslmode=require",
        ),
        ("postgresql://me@host/db?sslpassword=geheim", "postgresql://me@host/db?sslpassword=***"),
        ("postgresql://me@host/db?pass%77ord=geheim", "postgresql://me@host/db?pass%77ord=***"),
        ("postgresql://me@host/db?password=ge@heim", addresses.UNREADABLE),
        ("postgresql://[broken:geheim@host:port/db", "postgresql://[broken:***@host:port/db"),
        ("sqlite:////home/me@work/what?/q.db", "sqlite:////home/me@work/what?/q.db"),
        ("quantfleet.db", "quantfleet.db"),
        ("me:geheim@host", addresses.UNREADABLE),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert settings.redact(address) == shown


@hypothesis.given(ODD)
@hypothesis.example("s3cret/with:odd@signs")
def test_no_password_is_ever_shown_however_it_is_written(password: str) -> None:
    encoded = urllib.parse.quote(password, safe="")
    for written in (encoded, urllib.parse.quote_plus(password), password):
        wheres = [f"redis://:{written}@host.example:6379/0", f"postgresql://user:{written}@host.example/base"]
        if written != password:  # as it is, it could hold parameters of its own
            wheres += [f"postgresql://user@host.example/base?sslmode=require&password={written}"]
        for address in wheres:
            shown = settings.redact(address)
            assert settings.has_password(address)
            assert password not in shown
            assert encoded not in shown
            assert written not in shown


@hypothesis.given(ANYTHING)
def test_not_even_a_part_of_an_unencoded_password_is_shown(password: str) -> None:
    for scheme in ("redis", "postgresql"):
        address = f"{scheme}://user:{password}@host.example/0"
        shown = settings.redact(address)
        assert shown in (f"{scheme}://user:***@host.example/0", addresses.UNREADABLE)
        assert settings.has_password(address)


@hypothesis.given(ODD)
@hypothesis.example(services.PASSWORD)
@hypothesis.example("quote'and\\slash")
def test_a_librarys_message_loses_the_password_in_every_spelling(password: str) -> None:
    encoded = urllib.parse.quote(password, safe="")
    for address in (f"redis://:{encoded}@host/0", f"postgresql://me@host/db?password={encoded}"):
        for spelled in (password, encoded, urllib.parse.quote(password), urllib.parse.quote_plus(password)):
            assert spelled not in settings.without_password(f"cannot connect with <{spelled}>", address)
        assert repr(password)[1:-1] not in settings.without_password(f"tried {password!r}", address)


def test_a_message_about_an_address_without_a_password_stays_as_it_is() -> None:
    said = "Error 111 connecting to host:6379. Connection refused."
    for address in ("redis://host:6379/0", "postgresql://me@host/db", "sqlite:///q.db", "", "what?"):
        assert settings.without_password(said, address) == said


@pytest.mark.parametrize("address", ["redis://host/0", "postgresql://me@host/db", "sqlite:///a:b@c.db", "q.db", ""])
def test_an_address_without_a_password_may_be_typed_on_a_command_line(address: str) -> None:
    assert not settings.has_password(address)


@pytest.mark.parametrize("address", ["redis://:x@h/0", "redis://x@h/0", "postgresql://h/d?password=x", "x://a:b@c"])
def test_an_address_with_one_may_not(address: str) -> None:
    assert settings.has_password(address)


# what Celery gets


def test_a_plain_link_gets_no_tls() -> None:
    assert addresses.broker_settings("redis://:geheim@host:6379/1") == {"broker_url": "redis://:geheim@host:6379/1"}


@pytest.mark.parametrize(
    ("tail", "required", "named"),
    [
        ("", True, True),
        ("?ssl_cert_reqs=required", True, True),
        ("?ssl_check_hostname=false", True, False),
        ("?ssl_cert_reqs=none", False, False),
    ],
)
def test_a_tls_link_verifies_certificate_and_name_unless_told_otherwise(tail: str, required: bool, named: bool) -> None:
    made = addresses.broker_settings(f"rediss://:geheim@host:6379/0{tail}")
    link = made["broker_use_ssl"]
    assert made["broker_url"] == "rediss://:geheim@host:6379/0"
    assert (link["ssl_cert_reqs"].name, link["ssl_check_hostname"]) == (
        "CERT_REQUIRED" if required else "CERT_NONE",
        named,
    )


def test_the_files_of_a_tls_link_are_passed_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    file.touch()
    made = addresses.broker_settings(f"rediss://host/0?ssl_ca_certs={file}&ssl_keyfile={file}&ssl_password=geheim")
    link = made["broker_use_ssl"]
    assert (link["ssl_ca_certs"], link["ssl_keyfile"], link["ssl_password"]) == (str(file), str(file), "geheim")


@hypothesis.given(
    st.text(st.sampled_from("redis:/@?#[]%0a. "), max_size=25), st.sampled_from(["", "redis://", "rediss://"])
)
def test_a_broken_address_is_refused_in_one_way(text: str, scheme: str) -> None:
    try:
        addresses.broker_settings(scheme + text)
    except errors.SettingsError:
        return
    assert scheme or "://" in text
