"""Files that people write, YAML, JSON or CSV, against the dataclass that says what is expected: when read, not an hour later."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from avdiff.errors import UserError
from avdiff.files import yaml_fault

Kind = TypeVar("Kind")
LARGEST = 8 * 2**20  # bytes of a YAML file
MOST_VALUES = 200_000  # of a YAML file, those that it repeats by aliases counted each time
DEEPEST = 64
LONGEST_LABEL = 100

ONLY = ConfigDict(extra="forbid")  # as __pydantic_config__ of a dataclass: other names are told, not ignored


def _label(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > LONGEST_LABEL:
        raise ValueError(f"expected one line of printable text, of 1 to {LONGEST_LABEL} characters")
    return text


def _utf8(text: str) -> str:
    text.encode()  # a lone surrogate, which "\ud800" in YAML is, could not be written again
    return text


Text = Annotated[str, Field(strict=True), AfterValidator(_utf8)]
Label = Annotated[str, Field(strict=True), AfterValidator(_label)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Number = Annotated[int, Field(strict=True, ge=0, le=10**9)]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice: only the last would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = (key_node.tag, key_node.value)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path, what: str) -> Any:
    """The content of a YAML file that a user gave.

    Args:
        file: it.
        what: it is, as in "benchmark file", for the errors.

    Raises:
        UserError: it is missing, no text, no YAML, or holds more than such a file can mean.
    """
    if not file.is_file():
        raise UserError(f"there is no {what} {file}")
    if (size := file.stat().st_size) > LARGEST:
        raise UserError(f"{file} is no {what}: it has {size} bytes, and at most {LARGEST} are read")
    try:
        told = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise UserError(f"{file} is no {what}: it is no YAML ({yaml_fault(error)})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no {what}: it is not UTF-8 ({error.reason}, byte {error.start})") from error
    except RecursionError as error:
        raise UserError(f"{file} is no {what}: its brackets go too deep") from error
    except ValueError as error:  # a date or a number that looks like one and is none
        raise UserError(f"{file} is no {what}: {error}") from error
    _bounded(told, file, what)
    return told


def _bounded(told: Any, file: Path, what: str) -> None:
    """Refuse what aliases blow up, and what holds itself."""
    waiting, count = [(told, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > DEEPEST or count > MOST_VALUES:
            raise UserError(f"{file} is no {what}: its values go too deep, or its aliases make too many of them")
        if isinstance(value, Mapping):
            waiting += [(of, depth + 1) for of in value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += [(of, depth + 1) for of in value]


def checked(kind: type[Kind], told: Any, source: str, hint: str) -> Kind:
    """A dataclass made of what a file holds.

    Args:
        kind: the dataclass; its field types are the schema.
        told: a mapping.
        source: of it, with what it should be, as in "x.yaml is no benchmark file".
        hint: where a user sees what is expected.

    Raises:
        UserError: a value is missing, of another type, out of range, or has a name that is not known.
    """
    if not isinstance(told, Mapping):
        raise UserError(f"{source}: it holds {_shown(told)}, and a mapping was expected; {hint}")
    try:
        return TypeAdapter(kind).validate_python(told)
    except ValidationError as error:
        raise UserError(f"{source}: {fault(error)}; {hint}") from error


def fault(error: ValidationError) -> str:
    """The first of a validation's complaints, in one line: where, what was expected, and what is there."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-")) or "it"
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where} is not known here"
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{where} is {_shown(first['input'])}: {said}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def not_finite(value: Any, path: Sequence[str] = ()) -> str | None:
    """The first number of nested settings that is infinite or none at all, as `a.b is nan`; None where all are."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{'.'.join(path)} is {value}"
    if isinstance(value, Mapping):
        parts = [(str(key), of) for key, of in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(str(key), of) for key, of in enumerate(value)]
    elif hasattr(value, "as_dict"):  # jsonargparse.Namespace
        return not_finite(value.as_dict(), path)
    else:
        return None
    return next((found for key, of in parts if (found := not_finite(of, (*path, key))) is not None), None)
