"""`mlops tunnel`: a private Nomad at a port of this machine, for a command or until it is interrupted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.cli.output import RefusalError, Stack, complain, out, table

if TYPE_CHECKING:
    from infra.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(tunnel)


def tunnel(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="What to run, after `--`; without it the tunnels stay until Ctrl-C."),
    ] = None,
    *,
    stack: Stack = "local",
    region: Annotated[str | None, typer.Option(help="Only this Nomad region; without it all of the stack.")] = None,
) -> None:
    """Offer a stack's private Nomad on this machine, through Identity-Aware Proxy, and run a command with it.

    Listens on each Nomad region's `local_port` and opens a tunnel to a running server when a connection comes; while
    there is none, connections are refused at once. COMMAND gets NOMAD_ADDR, NOMAD_REGION and NOMAD_CAPATH, of the
    authoritative region if there are several, and for one region NOMAD_TLS_SERVER_NAME. Its exit code is this one's.
    Needs `gcloud`, logged in as someone who may open tunnels.
    """
    from infra.settings import load
    from mlops import tunnel as tunnels

    settings = load(stack)
    regions = dict(settings.nomad.regions)
    if not regions or settings.gcp is None:
        raise RefusalError(
            f"stack {stack} provisions no Nomad, so there is nothing to open a tunnel to; choose another by --stack, "
            "or set NOMAD_ADDR to the one that it uses"
        )
    if region is not None and region not in regions:
        raise RefusalError(f"stack {stack} has no Nomad region {region!r}; it has: {', '.join(regions)}")
    first = region or settings.nomad.authoritative_region
    # The authoritative region first: it is what COMMAND is told of.
    names = [region] if region else sorted(regions, key=lambda name: name != first)

    def ready(variables: Mapping[str, str]) -> None:
        if command:
            _tell(f"Nomad is at {', '.join(f'{offer.address} ({offer.region})' for offer in offers)}")
            return
        table(["Nomad region", "address"], [[offer.region, offer.address] for offer in offers])
        out.print("")
        for name, value in variables.items():
            out.print(f"export {name}={value}")

    offers = [tunnels.Offer(name, regions[name].local_port) for name in names]
    raise typer.Exit(tunnels.run(_project(settings, stack), offers, command or [], ready=ready, tell=_tell))


def _tell(line: str) -> None:
    complain(line)


def _project(settings: "Settings", stack: str) -> str:
    assert settings.gcp  # noqa: S101  checked by the caller
    extra = type(settings.gcp).model_fields["project"].json_schema_extra
    if isinstance(extra, dict) and settings.gcp.project == extra["x-stand-in"]:
        raise RefusalError(
            f"hybrid-mlops:gcp.project of stack {stack} is not set, so there is no project to look for servers in; run "
            f"`pulumi config set --stack {stack} --path hybrid-mlops:gcp.project PROJECT`"
        )
    return settings.gcp.project
