"""What puts quantfleet on a machine: images, compose files, the systemd unit, examples, and what is said of them."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from storage.settings import Settings
from worker import locks

ROOT = Path(__file__).parents[3]
COMPOSE = ("docker-compose.yml", "deploy/worker-compose.yml")
OWN_IMAGES = {"scheduler", "worker", "monitoring"}


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def services(name: str) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(text(name))["services"])


def every_service() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for file in COMPOSE:
        for name, service in services(file).items():
            yield file, name, service


def stages() -> dict[str, str]:
    """Name of each stage of the Dockerfile and its text."""
    parts = re.split(r"^FROM \S+ AS (\S+)$", text("Dockerfile"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def variables(name: str) -> set[str]:
    """The names that an example of settings speaks of, commented out or not."""
    return set(re.findall(r"^#?([A-Z][A-Z_]+)=", text(name), flags=re.MULTILINE))


def test_every_own_image_of_the_compose_files_is_a_stage_of_the_dockerfile() -> None:
    built = {service["build"]["target"] for _, _, service in every_service() if "build" in service}
    assert built == OWN_IMAGES
    assert built <= set(stages())


@pytest.mark.parametrize("name", sorted(OWN_IMAGES))
def test_an_image_ends_as_an_ordinary_user_with_a_command_in_exec_form(name: str) -> None:
    stage = stages()[name]
    assert re.findall(r"^USER (\S+)$", stage, flags=re.MULTILINE)[-1:] == ["quantfleet"]
    assert re.search(r'^ENTRYPOINT \["', stage, flags=re.MULTILINE)
    assert "--uid 10001" in stages()["bare"]


def test_torch_comes_from_its_cpu_index_by_default_and_alone() -> None:
    stage = stages()["worker-dependencies"]
    assert "ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu" in stage
    assert re.search(r"--index-url \"\$TORCH_INDEX\" --no-deps torch\b", stage)


def test_flower_and_what_it_alone_needs_have_exact_versions() -> None:
    lines = [line for line in text("deploy/flower.txt").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {line.partition("==")[0].lower() for line in text("constraints.txt").splitlines()}
    assert "flower" in {line.partition("==")[0] for line in lines}
    assert not pinned & {line.partition("==")[0].lower() for line in lines}


@pytest.mark.parametrize("file", COMPOSE)
def test_no_password_or_address_has_a_default(file: str) -> None:
    used = re.findall(r"\$\{(\w*(?:PASSWORD|DATABASE|BROKER))([^}]*)\}", text(file))
    assert used
    assert all(rest.startswith(f":?{name} is missing in ") for name, rest in used)


def test_the_examples_hold_no_password() -> None:
    assert re.findall(r"^\w*PASSWORD=(.*)$", text("deploy/env.example"), flags=re.MULTILINE) == ["", ""]
    for name in ("deploy/worker.env.example", "deploy/quantfleet.toml.example"):
        assert set(re.findall(r"://\w*:([^@]*)@", text(name))) == {"PASSWORD"}


def test_the_example_of_the_environment_names_every_variable_of_the_compose_file() -> None:
    compose = text("docker-compose.yml")
    passed_on = re.findall(r"^ +([A-Z_]+):(?: #.*)?$", compose, flags=re.MULTILINE)  # without a value: as it is outside
    assert passed_on
    assert {*re.findall(r"\$\{(\w+)", compose), *passed_on} == variables("deploy/env.example")


def test_no_port_is_open_to_other_machines_unless_asked() -> None:
    ports = [port for _, _, service in every_service() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith(("${BIND_ADDRESS:-127.0.0.1}:", "127.0.0.1:")) for port in ports)


def test_no_command_holds_a_secret_because_every_user_can_read_commands() -> None:
    for file, name, service in every_service():
        told = f"{service.get('command', '')} {service.get('entrypoint', '')} {service.get('healthcheck', '')}"
        assert "${" not in told, f"{name} in {file}"


def test_nothing_limits_what_is_measured() -> None:
    limits = {"cpus", "cpu_quota", "cpuset", "cpu_shares", "mem_limit", "deploy"}
    for file, name, service in every_service():
        assert not limits & set(service), f"{name} in {file}"
    unit = text("deploy/quantfleet-worker.service")
    filters = r"SystemCall|Restrict(Namespaces|Realtime|SUIDSGID|AddressFamilies)|PrivateDevices|LockPersonality"
    kernels = r"Protect(Kernel\w+|Clock|Hostname)|MemoryDenyWriteExecute"
    assert not re.search(rf"^(CPUQuota|Memory(Max|High)|{filters}|{kernels})", unit, flags=re.MULTILINE)


def test_health_checks_are_rare_because_the_measured_machine_pays_for_them() -> None:
    checks = [service["healthcheck"] for _, _, service in every_service() if "healthcheck" in service]
    assert [check["interval"] for check in checks] == ["60s", "60s"]
    assert "HEALTHCHECK --interval=60s" in stages()["worker"]


def test_a_worker_is_healthy_while_its_launcher_dates_its_lock(tmp_path: Path) -> None:
    [check] = re.findall(r"^HEALTHCHECK .*\\\n +CMD (.*)$", text("Dockerfile"), flags=re.MULTILINE)
    config = Settings(host="epyc-1", lock=tmp_path / "measuring.lock")
    environ = {**os.environ, "QUANTFLEET_HOST": config.host, "QUANTFLEET_LOCK": str(config.lock)}

    def healthy() -> bool:
        return subprocess.run(["sh", "-c", check], env=environ, stderr=subprocess.DEVNULL, check=False).returncode == 0

    assert not healthy()
    with locks.only_worker(config):
        assert healthy()
        [lock] = tmp_path.glob("*.worker")
        os.utime(lock, (0, time.time() - 300))
        assert not healthy()
        locks.stamp(config)
        assert healthy()


def test_a_worker_can_give_its_job_back_before_its_servers_stop() -> None:
    worker = services("docker-compose.yml")["worker"]
    assert {"redis", "postgres"} <= set(worker["depends_on"])
    for file in COMPOSE:
        assert services(file)["worker"]["init"] is True
        assert services(file)["worker"]["stop_grace_period"] == "60s"
    assert "STOPSIGNAL SIGINT" in stages()["worker"]


def test_workers_of_one_machine_take_turns_whichever_file_started_them() -> None:
    for file in COMPOSE:
        assert yaml.safe_load(text(file))["volumes"]["measuring"] == {"name": "quantfleet-measuring"}
        assert "measuring:/run/quantfleet" in services(file)["worker"]["volumes"]
    assert "QUANTFLEET_LOCK=/run/quantfleet/" in stages()["bare"]


def test_the_unit_starts_the_worker_as_a_user_of_its_own_and_stops_it_in_order() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read_string(text("deploy/quantfleet-worker.service"))
    service = unit["Service"]
    assert (service["User"], service["KillMode"], service["KillSignal"]) == ("quantfleet", "mixed", "SIGINT")
    assert service["ExecStart"].endswith("/quantfleet worker")
    assert service["Restart"] == "on-failure"


def test_every_setting_that_is_named_exists_and_the_manual_has_them_all() -> None:
    known = {f"QUANTFLEET_{name.upper()}" for name in Settings.model_fields}
    for name in ("Dockerfile", *COMPOSE, "deploy/env.example", "deploy/worker.env.example"):
        assert set(re.findall(r"QUANTFLEET_\w+", text(name))) <= known, name
    table = re.findall(r"^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \|", text("docs/fleet.md"), flags=re.MULTILINE)
    assert {f"QUANTFLEET_{name}" for row in table for name in re.findall(r"\w+", row)} == known


def test_what_the_manual_points_to_is_there() -> None:
    links = re.findall(r"\]\((\.\./[^)#]+)", text("docs/fleet.md"))
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)
