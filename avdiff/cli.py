"""The command line: `avdiff fit | validate | test | predict` (LightningCLI) and the commands for people."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence

from avdiff.errors import UserError

LIGHTNING = ("fit", "validate", "test", "predict")


def _lightning(arguments: Sequence[str]) -> None:
    """Hand over to LightningCLI: every class in a config is named by its class_path."""
    import lightning.pytorch as pl
    from lightning.pytorch.cli import LightningCLI

    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    LightningCLI(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        args=list(arguments),
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"prog": "avdiff"},
    )


def _commands() -> dict[str, Callable[..., None]]:
    from avdiff import commands

    return {
        function.__name__: function
        for function in (commands.separate, commands.benchmark, commands.demo, commands.models, commands.prepare)
    }


def _help() -> str:
    rows = {
        "fit": "train a prior (or any LightningModule) from composed --config files",
        "validate": "validate it",
        "test": "test it",
        "predict": "separate a list of mixtures with any method, resumable, on any number of processes",
    }
    for name, function in _commands().items():
        rows[name] = (function.__doc__ or "").strip().splitlines()[0]
    lines = [f"  {name:<10} {text}" for name, text in rows.items()]
    return "\n".join(
        ["usage: avdiff COMMAND [options]", "", "commands:", *lines, "", "avdiff COMMAND --help for each."]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. A user's mistake is one sentence on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return
    try:
        if arguments[0] in LIGHTNING:
            _lightning(arguments)
            return
        commands = _commands()
        if arguments[0] not in commands:
            known = ", ".join((*LIGHTNING, *commands))
            raise UserError(f"there is no command {arguments[0]!r}; the commands are {known}")
        _run(arguments[0], commands[arguments[0]], arguments[1:])
    except UserError as error:
        print(f"avdiff: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("avdiff: stopped; run the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None


def _run(name: str, function: Callable[..., None], arguments: list[str]) -> None:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"avdiff {name}", description=(function.__doc__ or "").split("Args:")[0].strip())
    positional = getattr(function, "positional", ())
    parser.add_function_arguments(function, as_group=False, skip=set(positional))
    for argument, text in positional.items() if positional else ():
        parser.add_argument(argument, nargs="?", help=text)
    given = parser.parse_args(arguments)
    function(**parser.instantiate_classes(given).as_dict())


if __name__ == "__main__":
    main()
