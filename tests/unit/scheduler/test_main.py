from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from scheduler.cli import main
from storage import errors


def test_help_names_every_command_without_importing_its_module() -> None:
    code = (
        "import sys; from scheduler.cli import main; sys.argv = ['quantfleet', '--help']\n"
        "try: main.run()\nexcept SystemExit: pass\n"
        "print('loaded', sorted(m for m in sys.modules if m.startswith(('torch', 'scheduler.cli.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert all(f" {name} " in done.stdout for name in main.COMMANDS)
    assert done.stdout.splitlines()[-1] == "loaded ['scheduler.cli.main']"


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(main.app, [name, "--help"])

    assert result.exit_code == 0
    assert "Commands" in result.output or f"quantfleet {name}" in result.output, "neither a group nor an example"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["run"], "Missing argument"),
        (["run", "nowhere.yaml"], "nowhere.yaml"),
        (["compare", "--database", "sqlite:///nowhere.db"], "nowhere.db"),
        (["compare", "--nope"], "--nope"),
    ],
)
def test_a_mistake_gets_one_message_and_exit_code_2(
    argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["quantfleet", *argv])

    with pytest.raises(SystemExit) as ended:
        main.run()

    err = capsys.readouterr().err
    assert ended.value.code == main.USER_MENDS
    assert said in err
    assert "Traceback" not in err


def test_what_fails_while_running_is_one_line_unless_debugged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise errors.Unreachable("the database does not answer")

    monkeypatch.setattr(main, "_load", broken)
    for argv, traced in ((["quantfleet", "db", "check"], False), (["quantfleet", "--debug", "db", "check"], True)):
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            main.run()
        err = capsys.readouterr().err
        assert ended.value.code == main.FAILED
        assert "error: the database does not answer" in err
        assert ("Traceback" in err) is traced
