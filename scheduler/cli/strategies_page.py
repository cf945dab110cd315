"""The tables of docs/strategies.md, made from the catalogue.

`python -m scheduler.cli.strategies_page docs/strategies.md` writes them between the page's two marks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from storage import errors
from storage.catalogue import registry
from storage.catalogue.descriptions import Description, Part, Transform
from storage.options import Option

BEGIN, END = "<!-- made from the catalogue: begin -->", "<!-- made from the catalogue: end -->"


def rewritten(page: str) -> str:
    """The page with tables as they are now; SettingsError for one without marks."""
    before, begin, rest = page.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise errors.SettingsError(f"the page lacks its marks, {BEGIN} and {END}")
    return f"{before}{begin}{tables()}{end}{after}"


def tables() -> str:
    """Pairs, transforms, and all their options, as Markdown."""
    pairs, steps = registry.descriptions().values(), registry.transforms_by_name().values()
    head = ("what it does", "options", "needs", "to prepare")
    parts = [
        _table(("pair", *head), (_row(part) for part in pairs)),
        _table(("transform", *head), (_row(part) for part in steps)),
        _table(("option", "of", "values, the default first", "what it says"), _options((*pairs, *steps))),
    ]
    return "\n" + "\n".join(parts) + "\n"


def main() -> None:
    """Rewrite the pages that are named."""
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(rewritten(path.read_text("utf-8")), "utf-8")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _row(part: Description | Transform) -> tuple[str, ...]:
    options = ", ".join(f"`{option.name}`" for option in part.options)
    return f"`{part.name}`", _told(part), options or "–", "; ".join(_needs(part)), part.cost


def _told(part: Part) -> str:
    return f"{part.summary}. {_sentence(part.means)}" if part.means else part.summary


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _needs(part: Part) -> Iterator[str]:
    yield f"`[{part.extra}]`"
    if part.needs_arch:
        yield " or ".join(part.needs_arch)
    if part.needs_isa:
        yield f"a CPU with {' or '.join(part.needs_isa)}"
    if part.slow_without:
        yield f"for speed {' or '.join(part.slow_without)}"
    if part.needs:
        yield part.needs


def _options(parts: Sequence[Description | Transform]) -> Iterator[tuple[str, ...]]:
    """Each distinct option once, by name, with what has it."""
    distinct: list[tuple[Option, list[str]]] = []
    for part in parts:
        for option in part.options:
            owners = next((names for known, names in distinct if known == option), None)
            if owners is None:
                distinct.append((option, owners := []))
            owners.append(part.name)
    for option, names in sorted(distinct, key=lambda entry: entry[0].name):
        yield f"`{option.name}`", ", ".join(f"`{name}`" for name in names), _values(option), _meaning(option)


def _values(option: Option) -> str:
    if option.type == "flag":
        return "a flag, off" if option.default == "false" else "a flag, on"
    if option.type == "choice":
        others = [f"`{value}`" for value in option.choices if value != option.default]
        return ", ".join([f"**`{option.default}`**", *others])
    return f"**`{option.default}`**; {option.accepts}"


def _meaning(option: Option) -> str:
    return "; ".join([option.help, *_needs_of_values(option)])


def _needs_of_values(option: Option) -> Iterator[str]:
    if option.positional:
        yield "may be written without its name"
    for other, values in option.only_with.items():
        yield f"only with {' or '.join(f'`{other}={value}`' for value in values)}"
    for value in option.choices:
        wanted = [" or ".join(table[value]) for table in (option.needs_arch, option.needs_isa) if table.get(value)]
        if wanted:
            yield f"`{value}` needs {' and '.join(wanted)}"


if __name__ == "__main__":
    main()
