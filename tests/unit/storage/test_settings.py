from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from storage import database_setting, errors, settings

SECRET = 'database = "postgresql://me:geheim@host/db"\n'


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a settings file, and an environment without settings."""
    for name in [name for name in os.environ if name.startswith("QUANTFLEET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def test_arguments_come_before_the_environment_before_the_file(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(alone / "quantfleet.toml", 'host = "file"\nlease = 1.0\ncache = "/file"\n')
    monkeypatch.setenv("QUANTFLEET_HOST", "environment")
    monkeypatch.setenv("QUANTFLEET_LEASE", "2")
    config = settings.load(host="given", broker=None)
    assert (config.host, config.lease, config.cache) == ("given", 2.0, Path("/file"))


def test_another_settings_file_can_be_named(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTFLEET_SETTINGS", str(write(alone / "other.toml", SECRET)))
    assert settings.load().database == "postgresql://me:geheim@host/db"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('brokr = "redis://:geheim@host/0"\n', "setting 'brokr': .*did you mean 'broker'"),
        ('broker = "redis://:geheim@host/0\n', r"settings file .*\(at line 1, column"),
        ("lease = -1\n", "setting 'lease': Input should be greater than 0"),
        ('host = "a host"\n', "setting 'host': .*expected a name of letters"),
        ('labels = "region"\n', "setting 'labels': .*expected name=value pairs"),
    ],
)
def test_a_settings_file_that_cannot_be_used_says_what_is_wrong_and_no_secret(
    alone: Path, text: str, message: str
) -> None:
    write(alone / "quantfleet.toml", text)
    with pytest.raises(errors.SettingsError, match=message) as caught:
        settings.load()
    assert "geheim" not in str(caught.value)


def test_a_settings_file_that_is_named_must_be_there(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.load()  # without a name, none is needed
    monkeypatch.setenv("QUANTFLEET_SETTINGS", str(alone / "gone.toml"))
    with pytest.raises(errors.SettingsError, match=r"QUANTFLEET_SETTINGS names .*gone.toml, which does not exist"):
        settings.load()


def test_a_settings_file_in_another_encoding_is_told(alone: Path) -> None:
    (alone / "quantfleet.toml").write_bytes(b'host = "b\xfcro"\n')
    with pytest.raises(errors.SettingsError, match=r"settings file .*utf-8"):
        settings.load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_settings_file_without_the_right_to_read_is_told(alone: Path) -> None:
    write(alone / "quantfleet.toml", SECRET, 0o000)
    with pytest.raises(errors.SettingsError, match="cannot read the settings file"):
        settings.load()


@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [
        (SECRET, 0o644, True),
        (SECRET, 0o600, False),
        (SECRET, 0o640, False),  # a group of its own is a way to share it
        ('database = "postgresql://me@host/db"\n', 0o644, False),
        ('broker = "rediss://:geheim@host/0"\n', 0o604, True),
    ],
)
def test_a_password_that_every_user_can_read_is_warned_of(
    alone: Path, text: str, mode: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    write(alone / "quantfleet.toml", text, mode)
    with caplog.at_level(logging.WARNING):
        settings.load()
    assert ("holds a password and every user can read it; chmod 600" in caplog.text) == warned
    assert "geheim" not in caplog.text


def test_settings_do_not_show_passwords_when_they_are_printed() -> None:
    config = settings.load(database="postgresql://me:geheim@host/db", broker="redis://:geheim@host/0")
    assert "geheim" not in repr(config)
    assert "geheim" not in str(config)
    assert "geheim" not in config.redacted_database()


@pytest.mark.parametrize("host", ["one", "rack-3.example.org", "büro_1", "[::1]".strip("[]")])
def test_hosts_have_the_names_that_machines_have(host: str) -> None:
    assert settings.load(host=host).host == host


@pytest.mark.parametrize("host", ["", "a b", "a/b", "../up", "a@b", "a,b", "line\nbreak", "x" * 101, "a%h"])
def test_a_host_cannot_have_a_name_that_no_queue_or_file_can(host: str) -> None:
    with pytest.raises(errors.SettingsError, match="setting 'host'"):
        settings.load(host=host)


def test_lists_and_pairs_are_written_as_shells_do() -> None:
    config = settings.load(labels="region=eu, rack=3", folders="/models:/data")
    assert (config.labels, config.folders) == ({"region": "eu", "rack": "3"}, (Path("/models"), Path("/data")))
    config = settings.load(labels='{"region": "eu"}', folders='["/a:b"]')
    assert (config.labels, config.folders) == ({"region": "eu"}, (Path("/a:b"),))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("", ""),
        ("/mnt/fleet/", "/mnt/fleet"),
        ("file:///mnt/fleet", "/mnt/fleet"),
        ("FILE:///mnt//fleet/.", "/mnt/fleet"),
        ("/mnt/me@home:2?", "/mnt/me@home:2?"),
        ("s3://bucket", "s3://bucket"),
        ("S3://Bucket/Prefix//", "s3://Bucket/Prefix"),
        ("sftp://me:geheim@host/models", "sftp://me:geheim@host/models"),
    ],
)
def test_a_store_is_a_full_path_or_a_url(given: str, meant: str) -> None:
    assert settings.load(store=given).store == meant


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("models", "relative path means another folder to every worker"),
        ("./geheim", "relative path"),
        ("~/geheim", "relative path"),
        ("file://geheim/x", "relative path"),
        ("host:/geheim", "relative path"),
        ("/mnt/../geheim", "'..' in it"),
        ("s3://", "names no bucket"),
        ("s3:///geheim", "names no bucket"),
        ("s3://AKIA:geheim@bucket/x", "AWS_ACCESS_KEY_ID"),
        ("s3://AKIA:ge/heim@bucket/x", "AWS_ACCESS_KEY_ID"),
        ("https://host/models?sig=geheim", "has no parameters"),
        ("simplecache::s3://geheim", "chained"),
    ],
)
def test_a_store_that_cannot_be_meant_is_told_without_being_shown(given: str, told: str) -> None:
    with pytest.raises(errors.SettingsError, match=f"setting 'store': .*{told}") as caught:
        settings.load(store=given)
    assert not {"geheim", "heim"} & set(str(caught.value).replace("/", " ").split())


def test_a_store_is_shown_without_its_password() -> None:
    config = settings.load(store="sftp://me:geheim@host/models")
    assert config.redacted_store() == "sftp://me:***@host/models"
    assert "geheim" not in repr(config)
    assert settings.load(store="/mnt/me@home:2").redacted_store() == "/mnt/me@home:2"


def test_the_bound_of_prepared_models_is_finite_and_in_gib() -> None:
    assert settings.load().artifacts_bytes == 20 * 2**30
    assert settings.load(artifacts_gib="0.5").artifacts_bytes == 2**29
    for wrong in ("0", "-1", "inf", "nan", "much"):
        with pytest.raises(errors.SettingsError, match="setting 'artifacts_gib'"):
            settings.load(artifacts_gib=wrong)


@pytest.mark.parametrize("given", [None, "sqlite:///given.db", "given.db"])
@pytest.mark.parametrize("environ", [{}, {"DATABASE": "postgresql://me@host/db"}, {"DATABASE": "a.db", "HOST": "one"}])
@pytest.mark.parametrize("file", ["", 'database = "sqlite:///file.db"\n'])
def test_the_database_alone_is_found_where_all_settings_find_it(
    given: str | None, environ: dict[str, str], file: str, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(f"QUANTFLEET_{name}", value)
    if file:
        write(alone / "quantfleet.toml", file)

    assert database_setting.address(given) == settings.load(database=given).database


def test_a_broken_settings_file_is_told_by_a_command_that_wants_the_database_alone(alone: Path) -> None:
    write(alone / "quantfleet.toml", "database = ")

    with pytest.raises(errors.SettingsError, match="settings file"):
        database_setting.address("sqlite:///given.db")
