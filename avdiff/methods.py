"""Methods by name: the files of experiments/methods, each of which describes one separator."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from avdiff.errors import UserError
from avdiff.lit.separation import SeparationModule
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
    file = files.get(method, Path(method))
    if not file.is_file():
        raise UserError(f"there is no method {method!r}; the methods are {', '.join(files)}, or give a YAML file")
    return file


def load_method(method: str) -> Separator:
    """Build the separator of a method.

    Args:
        method: a name of `method_files`, or the path of such a YAML file.

    Raises:
        UserError: there is no such method, or its file does not describe a separator.
    """
    file = method_file(method)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=SeparationModule)
    try:
        config = parser.parse_object({"model": yaml.safe_load(file.read_text())["model"]})
        return parser.instantiate_classes(config).model.separator.eval()
    except (ArgumentError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{file} does not describe a separator: {error}") from error
