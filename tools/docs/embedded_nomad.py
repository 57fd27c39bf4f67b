"""The reference page of what is executed of Nomad: rules by hand, lists from the models."""

from collections import defaultdict
from collections.abc import Mapping

from mlops.engines.embedded.nomad.jobspec import lists
from mlops.engines.embedded.scheduler import MHZ_A_CORE

_HEAD = f"""# What the embedded engine executes of Nomad

<!-- Written by: python -m tools.docs -->

The embedded engine runs the Nomad jobs of stack `local` on one machine, with no container engine. It speaks a part of
Nomad's HTTP API on loopback, so the `mlops` command and python-nomad treat it as a Nomad. What it executes behaves as
on Nomad; what means nothing on one machine is accepted and said once, at registration and with every run; everything
else is refused by name and line.

## Rules

**Processes.** A `docker` task runs the code in `images/<folder>` of the checkout: ENTRYPOINT, CMD and ENV of its
Dockerfile (the last stage; exec form), started in that folder, with its own environment (`package-lock.json`: `npm
ci`; `requirements.txt`: a virtual environment), which is installed at registration, and again before a run if its lock
file is no longer what was installed. The image's name must carry the content hash of what is in the checkout, else the
task fails and says so. An `exec` task runs a program of this machine in the task's folder. Each task is the leader of
a session of its own; when it ends, whatever it left running is killed. There is no isolation: a task is a process of
the user who started the platform.

**Environment.** A task sees Nomad's `NOMAD_*` variables, its image's ENV, its own `env` and `template`s,
`STORAGE_EMULATOR_HOST`, `NODE_EXTRA_CA_CERTS` (the feed's authority), `CODE_COMMIT`, `CODE_DIRTY`, and of the outside
only `PATH`, `LANG`, `TZ`, `SSL_CERT_FILE` and `SSL_CERT_DIR`. `HOME` and `TMPDIR` are the task's own.
`MLOPS_CONFINEMENT` is `namespaces`, whatever the job says: there is no container here, so what loads a model confines
it by itself, or refuses.

**Order.** Prestart tasks run first and must all succeed; then main tasks; poststop tasks run when all others have
ended, whether they succeeded, failed or were stopped. When the leader ends, or a task fails for good, the other tasks
are killed. A killed task gets its `kill_signal` (default SIGINT, for `docker` SIGTERM) and after `kill_timeout` (at
most 30 s) SIGKILL, its whole session with it.

**Restarts.** As Nomad's for batch jobs: a task that fails starts again under the same allocation, `attempts` times
within `interval`, after `delay` and up to a quarter more. A program that cannot be started is not tried again.
Nothing is rescheduled.

**Resources.** One core counts as {MHZ_A_CORE:,} MHz of `cpu`. An allocation holds what its most demanding stage asks
for (prestart, main, poststop); allocations start in the order of dispatch when cores and memory are free. A job that
could never start is refused, and a small one passes a larger that waits only where it cannot delay it. Where cores are
short, tasks weigh by their `cpu`, up to one core (by niceness). No limit is enforced: peak memory, CPU and wall time
of each task are recorded beside the request (`TaskUsage` of an allocation).

**Volumes.** A `host` volume is the folder `volumes/<source>` of the state folder. There are no mounts, so a value in
`env`, `args`, `command` or `entrypoint` that is a mount's `destination`, or begins with it and a slash, is given the
folder's path instead.

**Text.** HCL variables have the types string, number, bool, list(...), set(...) and map(...); `locals`, `var.*`,
`local.*`, string templates, conditionals, operators and the function `join` are evaluated. Other functions, `for`,
splat, `dynamic` and `%{{ }}` are refused by name. `${{NOMAD_...}}` is replaced when the task starts; in `config` also
`${{env["..."]}}`, and there an unknown name fails the task, while in `env` it stays as it is written.

**Templates.** With `env = true` what is rendered goes into the environment; nothing is written to disk, so a template
without it is accepted where it renders to nothing: below `if nomadVarExists` of a Variable that only a real Nomad has.
Actions: `if nomadVarExists "path"`, `with nomadVar "path"`, `.key`, `.key | toJSON`, `else`, `end`, trim markers,
comments. There is one Nomad Variable for each job, `nomad/jobs/<job id>`, with the feed's `salesforce_client_id` and
`salesforce_client_secret`, made anew at each start and kept in memory alone.

**Dispatch.** Meta is checked as in Nomad. A token that was used before gives the run it started, also after a restart
of the platform, until that run is purged. Runs that were under way when the platform ended are `lost`; they are never
resumed.

**API.** `GET /v1/status/leader`, `/v1/agent/health`, `/v1/jobs`, `/v1/job/ID`, `/v1/job/ID/allocations`,
`/v1/allocations`, `/v1/allocation/ID` (all but the first two with Nomad's blocking queries, `?index=N&wait=30s`),
`/v1/client/fs/logs/ALLOCATION`; of jobs one filter, `Status != "dead"`; `PUT` or `POST /v1/jobs` with `Submission`
(the text and `VariableFlags`; Nomad itself also wants the parsed `Job`), `POST /v1/job/ID/dispatch`; `DELETE
/v1/job/ID[?purge=true]`. Requests whose Host is not this machine, and writes that are not JSON, are refused.
Differences: refusals of a dispatch are 400 where Nomad answers 500; a queued run has its allocations at once,
`pending`.

"""


def page() -> str:
    """The page."""
    parts = [_HEAD, "## Executed\n\n| block | fields |\n| --- | --- |\n"]
    rows = list(lists())
    parts += [f"| `{block}` | {', '.join(f'`{field}`' for field in fields)} |\n" for block, fields, _, _ in rows]
    parts.append(
        "\n## Without meaning on one machine\n\nAccepted, and said once a run.\n\n| block | fields | why |\n| --- | ---"
        " | --- |\n"
    )
    parts += [row for block, _, meaningless, _ in rows for row in _by_reason(block, meaningless)]
    parts.append(
        "\n## Refused\n\nEverything else is refused by name and line. These names are known, and the refusal says what"
        " to do.\n\n| block | fields | instead |\n| --- | --- | --- |\n"
    )
    parts += [row for block, _, _, refused in rows for row in _by_reason(block, refused)]
    return "".join(parts)


def _by_reason(block: str, reasons: Mapping[str, str]) -> list[str]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for name, reason in reasons.items():
        grouped[reason].append(f"`{name}`")
    return [f"| `{block}` | {', '.join(names)} | {reason} |\n" for reason, names in grouped.items()]
