"""The `mlops` command: what it offers, and how its errors end.

Bad input gets one line and exit code 2, whatever raised it; the commands are in the files beside this one.
"""

import os
import sys
from typing import Any

import typer

from mlops.cli import data, models, plan, platform, review, run, runs, tunnel
from mlops.cli.output import complain

_NAME = "mlops"
_USAGE: Any = typer.BadParameter.__base__  # which typer does not name: all that is wrong with a command line

app = typer.Typer(
    name=_NAME,
    help="Train, store, verify and use model versions, on one machine or on a stack's clusters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
platform.register(app)
run.register(app)
plan.register(app)
tunnel.register(app)
review.register(app)
app.add_typer(runs.app, name="runs")
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")


def _known_errors() -> tuple[type[Exception], ...]:
    # Imported only when something was raised: `--help` pays for none of it.
    from infra.settings import SettingsError
    from inventory.recorder import PlanError
    from mlops.changes.preview import ReviewError
    from mlops.cli.output import RefusalError
    from mlops.data import DataError
    from mlops.engines.base import EngineError
    from mlops.engines.embedded.platform import PlatformError
    from mlops.parameters import ParameterError
    from mlops.tunnel import TunnelError
    from mlops_registry import RegistryError

    return (
        DataError,
        RefusalError,
        EngineError,
        ParameterError,
        PlanError,
        PlatformError,
        RegistryError,
        ReviewError,
        SettingsError,
        TunnelError,
    )


def main() -> None:
    """Run the command; exit code 0 only for success, 2 for bad input, 1 for failures, 130 when interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding does not have is shown as an escape.
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        sys.exit(app(prog_name=_NAME, standalone_mode=False))
    except KeyboardInterrupt:
        sys.exit(130)
    except _USAGE as error:
        if told := " ".join(error.format_message().split()).rstrip("."):  # nothing where the help was printed
            where = f"; see {error.ctx.command_path} --help" if error.ctx else ""
            complain(f"{told}{where}")
        sys.exit(2)
    except BrokenPipeError:
        # The reader (`| head`) has gone; nothing is left to say, and the interpreter's own flush would say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # What stays in the buffer would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        what = f"use {error.filename}" if error.filename else "write the output"
        complain(f"cannot {what}: {error.strerror or error}")
        sys.exit(1)
    except Exception as error:
        if not isinstance(error, _known_errors()):
            raise
        complain(str(error))
        sys.exit(getattr(error, "exit_code", 2))
