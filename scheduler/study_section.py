"""What every mapping of a study file is, and rules that several of them share."""

from __future__ import annotations

import pydantic


class Section(pydantic.BaseModel):
    """A mapping of the study file: frozen, no field that is not described."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


def one_of(section: Section, *names: str) -> None:
    """ValueError unless exactly one of the fields is given."""
    given = [name for name in names if getattr(section, name) is not None]
    if len(given) != 1:
        found = f"{' and '.join(given)} are given together" if given else "none is given"
        raise ValueError(f"expected one of {', '.join(names)}; {found}")


def only_with(section: Section, owner: str, *names: str) -> None:
    """ValueError where one of the fields is given without its owner."""
    if getattr(section, owner) is None:
        wrong = [name for name in names if name in section.model_fields_set]
        if wrong:
            raise ValueError(f"{wrong[0]} goes with {owner} only")
