"""Methods by name: the files of experiments/methods, each of which describes one separator."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from avdiff.allowed import is_allowed, refusal, restrict
from avdiff.errors import UserError
from avdiff.files import packaged
from avdiff.lit.separation import SeparationModule
from avdiff.rng import drawn_by
from avdiff.schema import not_finite, read_yaml
from avdiff.separators.base import Separator


def method_files() -> dict[str, Path]:
    """Name -> YAML file of every method that comes with the package."""
    folder = Path(str(resources.files("experiments") / "methods"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def method_file(method: str) -> Path:
    """The YAML file of a method, given by its name or as a path.

    Raises:
        UserError: there is no such method.
    """
    files = method_files()
    file = files.get(method) or packaged(Path(method))
    if not file.is_file():
        raise UserError(f"there is no method {method!r}; the methods are {', '.join(files)}, or give a YAML file")
    return file


def method_config(method: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What the YAML file of a method says, with some of its settings changed.

    Args:
        method: a name of `method_files`, or the path of such a YAML file.
        overrides: as "a.b.c=value", below model.init_args.separator.init_args; "*" stands for every key of a level.

    Raises:
        UserError: there is no such method or setting.
    """
    file = method_file(method)
    config = read_yaml(file, "method file")
    try:
        separator = config["model"]["init_args"]["separator"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{file} does not describe a separator: a method file has model.class_path {SeparationModule.__module__}."
            f"{SeparationModule.__qualname__}, and model.init_args.separator; see experiments/methods"
        ) from error
    for override in overrides:
        path, given, value = override.partition("=")
        try:
            meant = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise UserError(
                f"{override!r} has a value that is no YAML ({' '.join(str(error).split())}); mend it"
            ) from error
        if not given or not _change(separator, ["init_args", *path.split(".")], meant):
            raise UserError(
                f"{override!r} names no setting of {file}; give a.b.c=value, as in recipes.*.sampler.init_args.iterations=5"
            )
    return config


def _change(inner: Any, path: Sequence[str], value: Any) -> bool:
    """Set a value in nested mappings; whether there was such a place, or a class there takes such an argument."""
    if not isinstance(inner, dict):
        return False
    if path[0] == "init_args" and len(path) == 2 and _takes(inner.get("class_path"), path[1]):
        inner["init_args"] = {path[1]: None} | (inner.get("init_args") or {})
    keys = [key for key in inner if path[0] in ("*", str(key))]
    if len(path) == 1:
        for key in keys:
            inner[key] = value
        return bool(keys)
    changed = [_change(inner[key], path[1:], value) for key in keys]
    return any(changed)


def _takes(class_path: Any, argument: str) -> bool:
    """Whether a class, or a function, that a file names has such an argument; not where there is none of that name."""
    if not isinstance(class_path, str) or not is_allowed(class_path):
        return False
    try:
        return argument in signature(pkgutil.resolve_name(class_path)).parameters
    except (AttributeError, ImportError, TypeError, ValueError):
        return False


def load_method(method: str, overrides: Sequence[str] = ()) -> Separator:
    """Build the separator of a method, with the same weights every time.

    Args:
        method: a name of `method_files`, or the path of such a YAML file.
        overrides: of its settings, as in `method_config`.

    Raises:
        UserError: there is no such method, or its file does not describe a separator.
    """
    with _described(method, overrides):
        parser, config = _parsed(method, overrides)
        with drawn_by(torch.device("cpu"), "weights"):  # where a preset has random ones
            return parser.instantiate(config).model.separator.eval()


def check_method(method: str, overrides: Sequence[str] = ()) -> None:
    """Refuse what `load_method` would refuse of names and types, without a network being loaded.

    Raises:
        UserError: there is no such method or setting, or a value is of another type.
    """
    with _described(method, overrides):
        _parsed(method, overrides)


def _parsed(method: str, overrides: Sequence[str]) -> tuple[ArgumentParser, Namespace]:
    restrict()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=SeparationModule)
    config = parser.parse_object({"model": method_config(method, overrides)["model"]})
    if odd := not_finite(config.model, ("model",)):
        raise ValueError(f"{odd}; give a finite number")
    return parser, config


@contextmanager
def _described(method: str, overrides: Sequence[str]) -> Iterator[None]:
    """Tell what a parser or a class says of a method's file in one sentence."""
    try:
        yield
    except (ArgumentError, AttributeError, ImportError, KeyError, RecursionError, TypeError, ValueError) as error:
        file = method_file(method)
        changed = f", with {' '.join(overrides)}," if overrides else ""
        raise UserError(f"{file}{changed} does not describe a separator: {account(error)}") from error


def account(error: Exception) -> str:
    """What a parser's nested account says at its end, and of which setting, in one line."""
    if (refused := refusal(str(error))) is not None:
        return refused
    lines = str(error).strip().splitlines() or [type(error).__name__]
    keys = re.findall(r'Parser key "([^"]+)"', str(error))[2:]  # after "model" and "separator"
    return f"{'.'.join(keys)}: {lines[-1].strip()}" if keys else lines[-1].strip()
