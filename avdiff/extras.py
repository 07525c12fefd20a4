"""Packages that not every installation has: imported when something first needs them, and named where they are missing."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from avdiff.errors import UserError

# Module -> the extra of pyproject.toml that has its package; tests/unit/test_extras.py holds the two together.
EXTRAS = {
    "cv2": "video",
    "dlib": "video",
    "face_recognition_models": "video",
    "matplotlib": "video",
    "fast_bss_eval": "metrics",
    "librosa": "metrics",
    "onnxruntime": "metrics",
    "pesq": "metrics",
    "pystoi": "metrics",
    "requests": "metrics",
    "jiwer": "asr",
    "pocketsphinx": "asr",
    "transformers": "asr",
    "tensorboard": "wandb",
    "wandb": "wandb",
    "wandb_workspaces": "wandb",
    "espeakng_loader": "synthetic",
    "skimage": "synthetic",
}


class MissingExtra(UserError, ImportError):
    """A package of an extra is not installed; the sentence has the command that installs it."""

    def __init__(self, module: str) -> None:
        super().__init__(
            f"{module} is needed for this and is not installed; run: pip install 'avdiff[{EXTRAS[module]}]'"
        )


def need(module: str) -> Any:
    """Import a module of an optional package.

    Raises:
        MissingExtra: it, or what it needs of an extra, is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        if (missing := missing_module(error)) is None:
            raise
        raise MissingExtra(missing) from error


def missing_module(error: ImportError) -> str | None:
    """The module of an extra that an import failed for; None for other failures. Libraries may tell it in words alone."""
    named = (error.name or "").split(".")[0]
    if named in EXTRAS:
        return named
    said = re.findall(r"\w+", str(error)) if not named else []
    return next((word for word in said if word in EXTRAS), None)


def check(*extras: str) -> None:
    """Refuse to begin what would miss a package of some extras later, with work done that would be lost.

    Raises:
        MissingExtra: the first that is not installed.
    """
    for module in (module for extra in extras for module, of in EXTRAS.items() if of == extra):
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise MissingExtra(module)


class _Lazy:
    """Stands for a module until something is asked of it."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of Python's own inspection, which must not import
            raise AttributeError(name)
        return getattr(need(self._module), name)


def lazy(module: str) -> Any:
    """A module of an optional package that is imported when it is first used: `cv2 = lazy("cv2")` in place of `import cv2`.

    Use of it raises `MissingExtra` where it is not installed.
    """
    return _Lazy(module)
