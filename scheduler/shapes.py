"""What a call gets, read back from the label that tables show (pure): the inverse of `records.Case.label`."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from storage import metrics, records

_LABEL = re.compile(
    r"b(?P<batch>\d+)×(?P<length>dataset|l\d+)(/(?P<padding>[^ ,/]+))?( vs (?P<baseline_padding>[^ ,]+))?"
    r"(, (?P<instances>\d+) instances?( vs (?P<base_instances>\d+) of (?P<base_threads>\d+))?)?"
    r"(, (?P<serving>.+))?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What one side of a case gets, and how many processes of how many threads answer."""

    batch: int  # rows in one call
    length: int | Literal["dataset"]  # tokens in a row, or real rows
    padding: str  # see records.PADDINGS
    instances: int  # processes side by side
    threads: int  # of each
    serving: str = ""  # server only: how requests come, as its label says

    def text(self, kind: str) -> str:
        """`b1×dataset/max:128, 1 instance of 2 threads`; of a latency `b1×l16, 1 thread`."""
        input_ = records.InputSpec(batch=self.batch, length=self.length, padding=self.padding).label()
        processes, threads = metrics.counted(self.instances, "instance"), metrics.counted(self.threads, "thread")
        layout = threads if kind == "latency" else f"{processes} of {threads}"
        return ", ".join(filter(None, [input_, layout, self.serving]))

    @property
    def layout(self) -> tuple[int, int]:
        """Instances and threads."""
        return self.instances, self.threads


def read(label: str | None, threads: int | None) -> tuple[Shape, Shape] | None:
    """A case's own shape and its baseline's; None for an accuracy, a tensor operation, or a label of another kind."""
    found = None if label is None or threads is None else _LABEL.fullmatch(label)
    if found is None or threads is None:
        return None
    length = found["length"]
    padding = found["padding"] or "longest"
    own = Shape(
        batch=int(found["batch"]),
        length="dataset" if length == "dataset" else int(length[1:]),
        padding=padding,
        instances=int(found["instances"] or 1),
        threads=threads,
        serving=found["serving"] or "",
    )
    base = dataclasses.replace(
        own,
        padding=found["baseline_padding"] or padding,
        instances=int(found["base_instances"] or own.instances),
        threads=int(found["base_threads"] or threads),
    )
    return own, base


def label(kind: str, own: Shape, base: Shape) -> str:
    """The label of a case of this kind: what `read` reads."""
    spec = records.InputSpec(
        batch=own.batch,
        length=own.length,
        padding=own.padding,
        baseline_padding=None if base.padding == own.padding else base.padding,
    )
    if kind == "latency":
        return spec.label()
    number = own.instances
    against = "" if base.layout == own.layout else " vs {} of {}".format(*base.layout)
    served = f", {own.serving}" if own.serving else ""
    return f"{spec.label()}, {metrics.counted(number, 'instance')}{against}{served}"
