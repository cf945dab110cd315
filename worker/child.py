"""The measured process's entry.

`python -m worker.child FAMILY DESCRIPTOR PARENT` is a *nursery*: it imports everything that a runtime family needs,
starts no thread, and forks a fresh measured process for each request, so that a fresh process costs milliseconds
instead of the seconds that importing torch takes. A forked child serves operations over its own channel:
it sets its affinity and thread count before the first call, and never shares a thread pool, an allocator's
free lists or a cache of compiled kernels with another.
"""

from __future__ import annotations

import gc
import mmap
import os
import random
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage import errors, records, strategies, work
from storage.catalogue import registry
from worker import channel, kinship, quiet

_PAGE = mmap.PAGESIZE

Operation = Callable[["Served", Mapping[str, Any]], Mapping[str, Any]]


@dataclass(slots=True)
class Served:
    """What one measured process holds between operations."""

    channel: channel.Channel
    session: Any = None  # worker.engine.sessions.Session
    calls: list[Callable[[], object]] = field(default_factory=list)
    items: list[dict[str, Any]] = field(default_factory=list)  # of a server: the calls' arrays, to be joined
    layout: list[object] = field(default_factory=list)  # random padding that must stay alive


def nursery(family: str, descriptor: int, parent: int) -> None:
    """Import a runtime family once, then fork a measured process for each request until the channel closes.

    `descriptor` is the inherited control channel to the supervisor; `parent` the process that this one ends with.
    """
    kinship.die_with(parent)
    control = channel.adopt(descriptor)
    _import(family)
    control.send({"event": "ready", "threads": len(list(Path("/proc/self/task").iterdir()))})
    news = _child_news()
    while True:
        ready, _, _ = select.select([control.fileno(), news.fileno()], [], [])
        try:
            if control.fileno() in ready:
                _fork(control, control.receive() or {})
            if news.fileno() in ready:
                news.recv(1024)
            _reap(control)
        except channel.Closed:
            return


def _import(family: str) -> None:
    """Everything that a child would have to import or to look for by itself.

    The garbage collector rests meanwhile: imports make many objects and no garbage to look for. What was imported it
    never looks at again: in a child that would take a fresh copy of every page.
    """
    gc.disable()
    from worker.engine import inputs, operations, timing

    del inputs, timing

    operations.preload(family)
    registry.parts()  # reads the metadata of every installed package
    gc.freeze()
    gc.enable()


def _child_news() -> socket.socket:
    """A socket that becomes readable when a child has ended."""
    news, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.detach(), warn_on_full_buffer=False)
    return news


def serve(served: Served) -> None:
    """Answer operations until the channel closes or `exit` comes."""
    while True:
        try:
            request = served.channel.receive()
            if request is None or request["op"] == "exit":
                return
            served.channel.send(_answer(served, request))
        except channel.Closed:
            return


def _fork(control: channel.Channel, request: Mapping[str, Any]) -> None:
    """Fork one measured process; descriptors: its channel, its stderr, and the host's measuring lock."""
    descriptors = control.take_descriptors()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            control.close()
            _become_child(parent, descriptors, request)
            status = 0
        except BaseException:  # the process ends here whatever happened; its stderr keeps the reason
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    for descriptor in descriptors:
        os.close(descriptor)
    control.send({"event": "born", "pid": pid})


def _become_child(parent: int, descriptors: list[int], request: Mapping[str, Any]) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    kinship.die_with(parent)
    kinship.first_to_go()
    if request.get("memory_bytes"):
        kinship.bound_memory(request["memory_bytes"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the supervisor's to handle
    os.dup2(descriptors[1], 2)
    # descriptors[2], the measuring lock, just stays open: even an orphan keeps the host taken
    serve(Served(channel=channel.adopt(descriptors[0]), layout=_shuffled_layout()))


def _shuffled_layout() -> list[object]:
    """Random padding of heap and address space, so that forked siblings differ as fresh processes do.

    Memory layout alone can move a time by several percent (Mytkowicz et al., ASPLOS 2009); what Curtsinger and
    Berger (Stabilizer, ASPLOS 2013) do for code, this does for data: each child draws its own.
    """
    draw = random.SystemRandom().randrange
    return [mmap.mmap(-1, _PAGE * draw(1, 4096)), bytearray(draw(16, 1 << 17))]


def _reap(control: channel.Channel) -> None:
    """Report the children that ended."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        control.send({"event": "ended", "pid": pid, "code": code, "peak_bytes": usage.ru_maxrss * 1024})


def _answer(served: Served, request: Mapping[str, Any]) -> dict[str, Any]:
    """One operation's result, or its error as data."""
    try:
        return {"event": "done", "result": OPERATIONS[request["op"]](served, request)}
    except MemoryError as exc:
        return _error("MemoryError", str(exc) or "out of memory")
    except errors.QuantfleetError as exc:
        return _error(type(exc).__name__, str(exc))
    except Exception as exc:
        name = "MemoryError" if _is_out_of_memory(exc) else "Exception"
        return _error(name, f"{type(exc).__name__}: {exc}")


def _is_out_of_memory(exc: Exception) -> bool:
    """Torch and ONNX Runtime report a failed allocation as a RuntimeError; only the text tells."""
    text = str(exc).lower()
    return any(sign in text for sign in ("can't allocate memory", "bad_alloc", "bad allocation", "cannot allocate"))


def _error(name: str, message: str) -> dict[str, Any]:
    return {"event": "error", "class": name, "message": message, "trace": traceback.format_exc()}


def _prepare(served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from worker.engine import operations

    def tell(progress: Mapping[str, Any]) -> None:
        served.channel.send({"event": "progress", "progress": dict(progress)})

    folder, artifact = operations.prepare(
        records.from_document(records.ModelRef, request["model"]),
        strategies.parse(request["strategy"]),
        Path(request["cache"]),
        data={name: records.from_document(records.DatasetRef, one) for name, one in request["data"].items()},
        given=request.get("given", {}),
        tell=tell,
    )
    return {"folder": str(folder), "artifact": records.to_document(artifact)}


def _inputs(_served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from worker.engine import operations

    model, dataset = _model_and_dataset(request)
    spec = records.from_document(records.InputSpec, request["input"])
    path, digest = operations.prepare_inputs(model, dataset, spec, Path(request["cache"]))
    return {"path": str(path), "digest": digest}


def _rows(_served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from worker.engine import operations

    model, dataset = _model_and_dataset(request)
    if dataset is None:
        raise errors.DatasetError("accuracy needs a dataset")
    path, digest = operations.prepare_rows(model, dataset, Path(request["cache"]))
    return {"path": str(path), "digest": digest}


def _model_and_dataset(request: Mapping[str, Any]) -> tuple[records.ModelRef, records.DatasetRef | None]:
    dataset = request.get("dataset")
    return (
        records.from_document(records.ModelRef, request["model"]),
        None if dataset is None else records.from_document(records.DatasetRef, dataset),
    )


def _open(served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Affinity, then the session, then its bound calls; memory is taken before and after."""
    from worker.engine import operations

    os.sched_setaffinity(0, request["cpus"])
    before = quiet.resident(os.getpid())
    began = time.perf_counter()
    strategy = strategies.parse(request["strategy"])
    served.session = operations.open_session(Path(request["artifact"]), strategy, request["threads"])
    loaded = time.perf_counter()
    after = quiet.resident(os.getpid())
    calls = load_calls(Path(request["inputs"])) if request.get("inputs") else []
    first = _bind(served, calls) if calls else None
    return {
        "load_s": loaded - began,
        "first_answer_s": first,
        "resident_before_bytes": before.now,
        "resident_loaded_bytes": after.now,
        "threads_set": served.session.threads,
        "facts": {**served.session.facts, **_work(request, calls)},
    }


def _work(request: Mapping[str, Any], calls: list[dict[str, Any]]) -> dict[str, Any]:
    """What the calls to come take at least; nothing where there are none, or nobody knows."""
    asked, computed = work.demand(request.get("demand")), strategies.parse(request["strategy"]).arithmetic
    if asked is None or computed is None or not calls:
        return {}
    shapes = [call["input_ids"].shape for call in calls]
    found = work.facts(asked, [(batch, length) for batch, length in shapes], computed.weight_bits)
    return {"work": {"arithmetic": computed.products, **found}}


def _bind(served: Served, calls: list[dict[str, Any]]) -> float:
    """Bind every call, and time the very first one."""
    served.calls = [served.session.bind(call) for call in calls]
    with served.session.calling():
        began = time.perf_counter()
        served.calls[0]()
        return time.perf_counter() - began


def load_calls(path: Path) -> list[dict[str, Any]]:
    """The calls of an inputs file: arrays [batch, length] by input name."""
    from worker.engine import operations

    return operations.load_calls(path)


def _operand(_served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from worker.engine import operations

    spec = records.from_document(records.TensorSpec, request["tensor"])
    model = records.from_document(records.ModelRef, request["model"])
    return operations.prepare_operand(model, spec, Path(request["cache"]))


def _tensor(served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Affinity, then one tensor operation, ready to be timed."""
    from worker.engine import operations

    os.sched_setaffinity(0, request["cpus"])
    before = quiet.resident(os.getpid())
    began = time.perf_counter()
    spec = records.from_document(records.TensorSpec, request["tensor"])
    opened = operations.open_operation(Path(request["operand"]), spec, request["operation"], request["threads"])
    served.session, served.calls = opened, [opened.call]
    loaded = time.perf_counter()
    return {
        "load_s": loaded - began,
        "first_answer_s": opened.first_answer_s,
        "resident_before_bytes": before.now,
        "resident_loaded_bytes": quiet.resident(os.getpid()).now,
        "threads_set": opened.threads,
        "facts": dict(opened.facts),
        "repeats": opened.repeats,
    }


def _warm(served: Served, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    from worker.engine import timing

    with served.session.calling():
        result = timing.warm_up(served.calls)
    return {
        "calls": result.calls,
        "seconds": result.seconds,
        "stable": result.stable,
        "pass_ns": result.pass_ns,
        "items": len(served.calls),
    }


def _leg(served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from worker.engine import timing

    before = resource.getrusage(resource.RUSAGE_SELF)
    with served.session.calling():
        samples = timing.run_leg(served.calls, request["passes"], request["rewarm_ns"])
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "samples_ns": samples,
        "preemptions": after.ru_nivcsw - before.ru_nivcsw,
        "peak_bytes": quiet.resident(os.getpid()).peak,
    }


def _loop(served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from worker.engine import timing

    before = resource.getrusage(resource.RUSAGE_SELF)
    with served.session.calling():
        begun, took = timing.run_loop(served.calls, request["start_ns"], request["duration_ns"])
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "begun_ns": begun,
        "samples_ns": took,
        "preemptions": after.ru_nivcsw - before.ru_nivcsw,
        "peak_bytes": quiet.resident(os.getpid()).peak,
    }


def _ceiling(served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from worker.engine import operations

    del served
    return operations.ceiling(request["what"], request.get("options", {}))


def _batches(served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Every size of batch once warmed up: ns of one call by its number of requests, from 1."""
    served.items = load_calls(Path(request["inputs"]))
    took = []
    with served.session.calling():
        for size in range(1, request["max_batch"] + 1):
            call = _batch(served, [number % len(served.items) for number in range(size)])
            took.append(min(_timed(call) for _ in range(3)))
    return {"took_ns": took}


def _serve(served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Answer some requests in one call: joining and converting their inputs is part of a server's work."""
    began = time.perf_counter_ns()
    with served.session.calling():
        _batch(served, request["items"])()
    return {"took_ns": time.perf_counter_ns() - began}


def _batch(served: Served, items: list[int]) -> Callable[[], object]:
    from worker.engine import inputs

    if len(items) == 1:
        return served.calls[items[0]]
    call: Callable[[], object] = served.session.bind(inputs.join([served.items[item] for item in items]))
    return call


def _timed(call: Callable[[], object]) -> int:
    began = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - began


def _memory(_served: Served, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"peak_bytes": quiet.resident(os.getpid()).peak}


def _predict(served: Served, request: Mapping[str, Any]) -> Mapping[str, Any]:
    from worker.engine import operations

    def tell(done: int, total: int) -> None:
        served.channel.send({"event": "progress", "done": done, "total": total})

    began = time.perf_counter()
    predictions, labels = operations.predict(served.session, Path(request["rows"]), request["batch"], tell)
    return {
        "predictions": predictions,
        "labels": labels,
        "seconds": time.perf_counter() - began,
        "peak_bytes": quiet.resident(os.getpid()).peak,
    }


OPERATIONS: Mapping[str, Operation] = {
    "prepare": _prepare,
    "inputs": _inputs,
    "rows": _rows,
    "open": _open,
    "warm": _warm,
    "leg": _leg,
    "loop": _loop,
    "batches": _batches,
    "serve": _serve,
    "memory": _memory,
    "tensor": _tensor,
    "operand": _operand,
    "predict": _predict,
    "ceiling": _ceiling,
}
"""What a measured process can be asked to do, by name."""


if __name__ == "__main__":
    nursery(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
