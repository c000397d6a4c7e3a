"""What the commands share: common options, NAME=VALUE arguments, printing for people or for scripts."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.errors import UsageError, WorkbenchError
from workbench.files import no_room

if TYPE_CHECKING:
    from workbench.settings import Value

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="Change a setting; repeatable.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def _keep_to(size: str | None) -> str | None:
    """Let this process and those it starts take no more of the device's memory than that. Refused here, before any work."""
    from workbench.models import hardware

    if size is not None:
        os.environ[hardware.MAX_MEMORY] = size
    hardware.memory_limit()
    return size


MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory", metavar="SIZE", callback=_keep_to, envvar="WORKBENCH_MAX_MEMORY", show_envvar=True,
        help="The most memory of the device to take, like 12GiB; networks that do not fit beside each other take turns.",
    ),
]  # fmt: skip


def group(about: str) -> typer.Typer:
    """A group of commands, like `workbench runs ...`; `about` is its help."""
    return typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None)


def assignments(pairs: list[str] | None) -> dict[str, str]:
    """{NAME: VALUE} of words NAME=VALUE. Raises `UsageError` for another word."""
    values = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"'{pair}' is not NAME=VALUE, for example --set strength=0.3.")
        values[name.strip()] = text.strip()
    return values


def setting_values(pairs: list[str] | None) -> dict[str, Value]:
    """{setting: value} of `--set` words, each in its own type. Raises `UsageError`, `SettingsError`."""
    from workbench.settings import parse_value

    return {name: parse_value(name, text) for name, text in assignments(pairs).items()}


def say(value: object, as_json: bool, words: Callable[[], str]) -> None:
    """Print the outcome: `value`, made of JSON values, for scripts, or `words()` for people."""
    if not as_json:
        print(words())
        return
    utf8 = (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not utf8, indent=2 if sys.stdout.isatty() else None))  # "\\xe9" is no JSON


def run(app: typer.Typer) -> None:
    """Run the command that was typed.

    An error that its user can fix is one sentence on stderr; --debug shows its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of ASCII gets \\xe9 for é, not a traceback
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in sys.argv
    if debug:  # allowed anywhere on the line, as its users type it
        sys.argv = [sys.argv[0], "--debug", *(a for a in sys.argv[1:] if a != "--debug")]
    try:
        app()
    except WorkbenchError as error:
        if debug:
            raise
        print(f"workbench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code != 130:  # typer's word for Ctrl-C
            raise
        print("workbench: stopped; what was finished is kept, the same command goes on from there.", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `workbench runs table latest | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a file of the user's that cannot be read or written, wherever it was met
        if debug or not (error.filename or no_room(error)):
            raise
        print(f"workbench: {error.filename or 'the disk'}: {error.strerror}.", file=sys.stderr)
        sys.exit(1)
