from __future__ import annotations

from worker import nursery


def test_a_measured_process_sees_no_address_and_no_secret() -> None:
    seen = nursery.environment(
        {
            "QUANTFLEET_DATABASE": "postgresql://me:hunter2@host/db",
            "CELERY_BROKER_URL": "redis://:hunter2@host",
            "PGPASSWORD": "hunter2",
            "MY_API_TOKEN": "hunter2",
            "HF_TOKEN": "hunter2",
            "AWS_SECRET_ACCESS_KEY": "hunter2",
            "OMP_PROC_BIND": "close",
            "PATH": "/bin",
        }
    )

    assert "hunter2" not in "".join(seen.values())
    assert seen["OMP_PROC_BIND"] == "close", "what moves numbers must pass"
    assert seen["PATH"] == "/bin"
