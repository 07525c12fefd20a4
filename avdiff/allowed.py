"""The classes that a YAML file or an option may name: a file that a stranger sends must not run what it likes.

Whoever names a class has it imported and called. So only those of the project and of the two libraries that its files are
about are taken, and what a user allows with `--allow`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType

from jsonargparse import set_parsing_settings

from avdiff import PUBLIC
from avdiff.errors import UserError

PARTS = tuple(f"avdiff.{part}" for part in ("em", "likelihood", "lit", "nets", "priors", "samplers", "separators"))
PACKAGES = (
    *PARTS,
    # The same classes by the shorter names that they have at the top, by which jsonargparse calls those of annotations.
    *(f"avdiff.{name}" for name, home in PUBLIC.items() if home.startswith(tuple(f"{part}." for part in PARTS))),
    "datamodules",
    "lightning.pytorch",
    "lightning.fabric",
    "torch.nn",
    "torch.optim",
)
# What lies inside of these and writes, loads or calls what its arguments say.
REFUSED = (
    "avdiff.lit.stopping._requeue",
    "avdiff.lit.callbacks._end",
    "avdiff.priors.store.export_checkpoint",
    "avdiff.priors.store.save_prior",
    "avdiff.separators.store.export_system",
    "lightning.fabric.utilities",
    "lightning.pytorch.callbacks.LambdaCallback",
    "lightning.pytorch.callbacks.lambda_function",
    "lightning.pytorch.cli",
    "lightning.pytorch.utilities",
)
_DENIED = re.compile(r"Importing '([^']+)' is not allowed")
_more: set[str] = set()


def restrict() -> None:
    """From here on jsonargparse imports only what is allowed, and reads no file from a network."""
    set_parsing_settings(
        import_path_denylist=["*", *REFUSED],
        import_path_allowlist=[*PACKAGES, *sorted(_more)],
        config_read_mode_fsspec_enabled=False,
    )


def allow(modules: Sequence[str]) -> None:
    """Let files name what is in these modules too, in this process.

    Args:
        modules: as `--allow` gives them: my_package, my_package.priors, or several with commas between.

    Raises:
        UserError: one of them cannot be the name of a module.
    """
    names = [name.strip() for several in modules for name in several.split(",")]
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")) or name.split(".")[0] == "jsonargparse":
            raise UserError(f"--allow {name!r} is no module; give the name of one, as in --allow my_package.priors")
    _more.update(names)
    restrict()


def is_allowed(path: str) -> bool:
    """Whether a class of this import path may be named."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        name = ".".join(parts[:count])
        if name in _more:
            return True
        if name in REFUSED:
            return False
        if name in PACKAGES:
            return True
    return False


def refusal(account: str) -> str | None:
    """What to tell a user, where a parser's account of an error says that a name was refused."""
    if (found := _DENIED.search(account)) is None:
        return None
    given, name = found[1], _origin(found[1])
    how = "" if name == given else f"which is {name}, "
    call = "" if name == given else f"name it {name} and "
    return (
        f"it names {given}, {how}and only classes of {', '.join(dict.fromkeys(p.split('.')[0] for p in PACKAGES))} are taken "
        f"from a file; if you wrote it or know what it does, {call}add --allow {name.rpartition('.')[0] or name}"
    )


def _origin(path: str) -> str:
    """Where lies what an import path reaches by way of a module that another one imports: os.system for avdiff.cli.os.system.

    Only modules of the project are imported to find out, and those looked at that are there.
    """
    parts, reached = path.split("."), ""
    for count in range(1, len(parts)):
        name = ".".join(parts[:count])
        if parts[0] in ("avdiff", "datamodules"):
            with suppress(ImportError):
                import_module(name)
        reached = name if name in sys.modules else reached
    if not reached:
        return path
    module, rest = sys.modules[reached], parts[len(reached.split(".")) :]
    while len(rest) > 1 and isinstance(inner := vars(module).get(rest[0]), ModuleType):
        module, rest = inner, rest[1:]
    return ".".join([module.__name__, *rest])
