"""`mlops up` and `mlops down`: the embedded platform."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from mlops.cli.output import Json, RefusalError, err, out, print_json, table
from mlops.paths import CHECKOUT, state

if TYPE_CHECKING:
    from inventory.resources import Resource
    from mlops.engines.embedded.platform import Platform

_ARGO = "kubernetes:argoproj.io/"


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(up)
    app.command()(down)


def up(*, json: Json = False) -> None:
    """Start the platform on this machine and register what the Pulumi program registers for stack `local`.

    Safe to repeat: what runs is kept, what changed in jobs/, images/ or the stack file is registered anew.
    """
    from infra.settings import load
    from inventory.recorder import record
    from mlops import parameters
    from mlops.engines.embedded import platform as embedded

    for file in parameters.files(CHECKOUT / "jobs").values():
        parameters.load(file)
    settings = load("local")
    address = settings.nomad.address or os.environ.get("NOMAD_ADDR")
    if address:
        raise RefusalError(
            f"stack local is served by the Nomad at {address}, so the embedded platform would get no runs; "
            "unset NOMAD_ADDR, or take the address out of the stack file"
        )
    if server := os.environ.get("ARGO_SERVER"):
        raise RefusalError(
            f"stack local is served by the Argo Server at {server}, so the embedded platform would get no runs; unset "
            "ARGO_SERVER"
        )
    with err.status("Reading what stack local registers ..."):
        inventory = record("local")
    jobs = inventory.of_type("nomad:index/job:Job")
    definitions = [resource for resource in inventory.resources if resource.type.startswith(_ARGO)]
    artifacts = settings.buckets.artifacts
    buckets = [name for name in (settings.buckets.models, settings.buckets.data, artifacts) if name]
    running = embedded.find(state())
    with err.status("Starting bucket, feed and engine ..."):
        platform = embedded.up(state(), buckets=buckets, notice=lambda text: err.print(escape(f"mlops: {text}")))
    try:
        registered = _register(platform, artifacts, definitions, jobs)
    except KeyboardInterrupt:
        if running is None:  # started here, and not what was asked for
            embedded.down(state())
        raise
    if json:
        print_json({"platform": platform, "registered": registered})
        return
    table(
        ["what", "where"],
        [
            ["engine (Nomad's API, Argo Server's)", platform.nomad_address],
            ["bucket (GCS API)", platform.storage_address],
            ["feed (Salesforce API)", platform.feed_url],
            ["state", str(state())],
            *(["pipeline", name] for name in registered),
        ],
    )
    if state().is_relative_to(CHECKOUT):
        out.print("\nNext: [bold]mlops run --help[/bold] shows the pipelines and their parameters.")


def _register(
    platform: "Platform", artifacts: str | None, definitions: Iterable["Resource"], jobs: Iterable["Resource"]
) -> list[str]:
    from mlops.engines.embedded import platform as embedded

    if artifacts:
        embedded.artifacts_in(platform, artifacts)
    registered: list[str] = []
    for definition in definitions:
        try:
            registered.append(embedded.register_definition(platform, definition.inputs))
        except embedded.PlatformError as error:
            raise RefusalError(f"{definition.name}: {error}") from error
    for job in jobs:
        with err.status(f"Registering {job.name} ..."):
            variables = (job.inputs.get("hcl2") or {}).get("vars") or {}
            try:
                registered.append(embedded.register(platform, job.inputs["jobspec"], variables))
            except embedded.PlatformError as error:
                raise RefusalError(f"{job.name}: {error}") from error
    return registered


def down(*, json: Json = False) -> None:
    """Stop the platform on this machine. Versions, logs and what is registered stay for the next `mlops up`."""
    from mlops.engines.embedded import platform as embedded

    with err.status("Stopping ..."):
        stopped = embedded.down(state())
    if json:
        print_json({"stopped": stopped})
    else:
        out.print("Stopped." if stopped else "Nothing was running.")
