"""The runner without the model: what submitting, delivering, storing and reconciling cost by themselves.

    python -m benchmarks.runner rate [--hosts 1 10] [--jobs 2000]
    python -m benchmarks.runner submit [--jobs 100000]
    python -m benchmarks.runner flat [--finished 0 10000] [--plans]
    python -m benchmarks.runner profile [--jobs 500]

Redis and Postgres are real, on this machine, and write to the disk as a fleet's do (fsync, synchronous commits). `rate`
counts jobs that compute nothing (kind noop) from submit to stored result, and beside them bare Celery tasks that
compute nothing, on the same Redis with the same worker settings. `submit` times the command on a large study, and
again when all of it is done. `flat` times what a fleet asks all the time, while finished jobs pile up. `profile` shows
where a job's time goes, and which statements it sends.
"""

from __future__ import annotations

import argparse

from benchmarks import common
from benchmarks.runner import flat, profile, rate, submit


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.runner", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    for name, module in {"rate": rate, "submit": submit, "flat": flat, "profile": profile}.items():
        part = parts.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        module.options(part)
        part.set_defaults(run=module.run)
    asked = parser.parse_args()
    print(common.machine(), flush=True)
    asked.run(asked)


if __name__ == "__main__":
    main()
