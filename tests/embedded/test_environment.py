"""What a task sees: Nomad's variables, its own values, volumes as paths, secrets in memory; and nothing else."""

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.images import Images
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.nomad import interpolate, templates
from mlops.engines.embedded.nomad.jobs import Jobs
from mlops.engines.embedded.platform import PlatformError
from mlops.engines.embedded.scheduler import Resources, Scheduler
from mlops.engines.embedded.state import Store
from mlops.engines.embedded.tasks import Processes
from tests.embedded.conftest import Engine, eventually, job, task


def _environment(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_a_task_sees_nomads_variables_and_nothing_of_the_caller(engine: Engine) -> None:
    own = 'env {\n A = "${NOMAD_META_name}/x"\n B = "${NOMAD_META_unknown}"\n }\nmeta {\n t = "v"\n }'
    source = job("sees", task("main", "env", more=own), required='["name"]', optional='["not-given"]')
    allocation = engine.run(source, {"name": "$(reboot) \n'\""})
    seen = engine.log(allocation, "main")
    assert "hunter2" not in seen
    found = _environment(seen.replace("\n'\"", "\\n'\""))
    folder = engine.state / "allocs" / allocation["ID"]
    assert {key: value for key, value in found.items() if key.startswith("NOMAD_")} == {
        "NOMAD_ALLOC_DIR": f"{folder}/alloc",
        "NOMAD_TASK_DIR": f"{folder}/main/local",
        "NOMAD_SECRETS_DIR": f"{folder}/main/secrets",
        "NOMAD_MEMORY_LIMIT": "300",
        "NOMAD_CPU_LIMIT": "100",
        "NOMAD_ALLOC_ID": allocation["ID"],
        "NOMAD_SHORT_ALLOC_ID": allocation["ID"][:8],
        "NOMAD_ALLOC_NAME": f"{allocation['JobID']}.work[0]",
        "NOMAD_ALLOC_INDEX": "0",
        "NOMAD_GROUP_NAME": "work",
        "NOMAD_TASK_NAME": "main",
        "NOMAD_JOB_ID": allocation["JobID"],
        "NOMAD_JOB_NAME": allocation["JobID"],
        "NOMAD_JOB_PARENT_ID": "sees",
        "NOMAD_DC": "dc1",
        "NOMAD_NAMESPACE": "default",
        "NOMAD_REGION": "global",
        "NOMAD_META_name": "$(reboot) \\n'\"",
        "NOMAD_META_NAME": "$(reboot) \\n'\"",
        "NOMAD_META_not_given": "",
        "NOMAD_META_NOT_GIVEN": "",
        "NOMAD_META_t": "v",
        "NOMAD_META_T": "v",
    }
    # As on Nomad, a name that nobody knows stays as it is written.
    assert (found["A"], found["B"]) == ("$(reboot) \\n'\"/x", "${NOMAD_META_unknown}")
    rest = {key for key in found if not key.startswith("NOMAD_")}
    allowed = {
        "A",
        "B",
        "HOME",
        "LANG",
        "MLOPS_CONFINEMENT",
        "MLOPS_TASK",
        "MLOPS_UNCONFINED",
        "PATH",
        "PWD",
        "SHLVL",
        "OLDPWD",
        "STORAGE_EMULATOR_HOST",
        "TMPDIR",
        "TZ",
        "_",
    }
    assert rest <= allowed | {"SSL_CERT_FILE", "SSL_CERT_DIR", "CODE_COMMIT", "CODE_DIRTY"}
    assert found["HOME"] == f"{folder}/main"
    assert found["STORAGE_EMULATOR_HOST"] == engine.platform.storage_address
    assert re.fullmatch("[0-9a-f]{40}", found["CODE_COMMIT"])


def test_no_job_says_that_it_is_confined(engine: Engine) -> None:
    """A container confines what runs in it; a process of the embedded engine is in none, whatever its job says."""
    said = 'env {\n MLOPS_CONFINEMENT = "container"\n MLOPS_UNCONFINED = "allow"\n }'
    found = _environment(engine.log(engine.run(job("claims", task("main", "env", more=said))), "main"))
    assert (found["MLOPS_CONFINEMENT"], found["MLOPS_UNCONFINED"]) == ("namespaces", "")


def test_an_image_runs_as_its_dockerfile_says(engine: Engine, toy: str) -> None:
    def docker(config: str) -> str:
        return (
            task("main", "")
            .replace('driver = "exec"', 'driver = "docker"')
            .replace('command = "sh"', config)
            .replace('args    = ["-c", ""]', "")
        )

    top = 'variable "image_toy" {\n type = string\n}'
    folder = engine.checkout / "images" / "toy"
    plain = engine.log(engine.run(job("plain", docker("image = var.image_toy"), top=top), image_toy=toy), "main")
    assert plain.startswith("toy default\n")
    found = _environment(plain)
    assert (found["COLOUR"], found["PLACE"], found["PWD"]) == ("blue", f"{folder}/data", str(folder))
    given = job("given", docker('image = var.image_toy\nargs = ["a", "b ${NOMAD_JOB_PARENT_ID}"]'), top=top)
    assert engine.log(engine.run(given, image_toy=toy), "main").startswith("toy a b given\n")
    other = job(
        "other", docker('image = var.image_toy\nentrypoint = ["sh", "-c"]\nargs = ["echo other $(ls)"]'), top=top
    )
    assert engine.log(engine.run(other, image_toy=toy), "main") == "other Dockerfile main.sh\n"


def test_code_that_changed_since_the_registration_is_not_run(engine: Engine, toy: str) -> None:
    source = job("stale", f'task "main" {{\n driver = "docker"\n config {{\n image = "{toy}"\n }}\n}}')
    with pytest.raises(PlatformError, match="images/toy has changed since the job was registered"):
        engine.register(source.replace(toy, toy[:-1] + ("0" if toy[-1] != "0" else "1")))
    engine.register(source)
    program = engine.checkout / "images" / "toy" / "main.sh"
    before = program.read_text()
    program.write_text(before + "true\n")

    def failed() -> list[Any]:  # for some seconds the engine takes a hash for fresh
        found = engine.finished(engine.dispatch("stale"))
        return found if found[0]["ClientStatus"] == "failed" else []

    try:
        (allocation,) = eventually(failed, "the notice of the change")
    finally:
        program.write_text(before)
    message = allocation["TaskStates"]["main"]["Events"][2]["DisplayMessage"]
    assert allocation["ClientStatus"] == "failed"
    assert "images/toy has changed since the job was registered" in message
    assert "mlops up" in message


def test_a_volume_is_a_folder_and_its_destination_a_path_there(engine: Engine) -> None:
    mount = (
        'volume_mount {\n volume = "shared"\n destination = "/models"\n}\nenv {\n DIR = "/models/${NOMAD_ALLOC_ID}"\n'
        ' SIMILAR = "/modelsX/y"\n BARE = "/models"\n INNER = "x=/models/y"\n}'
    )
    source = job(
        "volume",
        task("before", "mkdir -p $DIR; echo kept > $DIR/file", hook="prestart", more=mount),
        task("main", "cat $DIR/file; echo $SIMILAR $BARE $INNER", more=mount),
        group='volume "shared" {\n type = "host"\n source = "models"\n}',
    )
    allocation = engine.run(source)
    volume = engine.state / "volumes" / "models"
    assert engine.log(allocation, "main") == f"kept\n/modelsX/y {volume} x=/models/y\n"
    assert (volume / allocation["ID"] / "file").read_text() == "kept\n"


def test_an_unknown_name_in_config_fails_the_task(engine: Engine) -> None:
    allocation = engine.run(job("typo", task("main", "echo ${NOMAD_META_typo}")))
    assert (
        "there is no variable named NOMAD_META_typo" in allocation["TaskStates"]["main"]["Events"][2]["DisplayMessage"]
    )


def test_secrets_reach_the_environment_and_no_disk(tmp_path: Path) -> None:
    """On a supervisor with Nomad Variables; the platform's own has them only with the feed."""
    secret = "correct-horse-battery"  # noqa: S105
    file = 'template {\n destination = "f"\n data = <<EOH\n{{ if nomadVarExists "X" }}{{ with nomadVar "X" }}'
    file += "{{ .token }}{{ end }}{{ end }}\nEOH\n}"
    elsewhere, here_too = file.replace("X", "nomad/jobs/elsewhere"), file.replace("X", "nomad/jobs/filed")
    template = (
        'template {\n destination = "secrets/salesforce.env"\n env = true\n data = <<EOH\n{{ if nomadVarExists'
        ' "nomad/jobs/secret" }}{{ with nomadVar "nomad/jobs/secret" }}\nTOKEN={{ .token }}\n{{ end }}{{ end }}\nEOH\n}'
    )
    said = tmp_path / "said"

    async def run() -> None:
        processes = Processes()
        store = Store(tmp_path / "state.db")
        scheduler, images = Scheduler(Resources(1000, 1000)), Images(tmp_path)
        here = Machine(tmp_path, tmp_path, processes, scheduler, images, {}, {"token": secret})
        jobs = Jobs(here, store)
        script = f'printf %s "$TOKEN" | sha256sum > {said}'
        await jobs.register(job("secret", task("main", script, more=f"{template}\n{elsewhere}")), {})
        await jobs.register(job("filed", task("main", f"touch {said}.too", more=here_too)), {})
        for name in ("secret", "filed"):
            started = await jobs.dispatch(name, {}, None, None)
            while jobs.job(started["DispatchedJobID"])["Status"] != "dead":
                await jobs.wait(jobs.index, 1)
        await jobs.close()
        await processes.close(1)
        store.close()

    asyncio.run(run())
    assert not said.with_suffix(".too").exists(), "a task whose file would be missing does not start"
    assert said.read_text().split()[0] == hashlib.sha256(secret.encode()).hexdigest()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_templates_render_what_they_know_and_refuse_the_rest_by_name() -> None:
    variables = {"a/b": {"key": "v'1"}}
    text = (
        '{{ if nomadVarExists "a/b" -}}\n  {{ with nomadVar "a/b" }}K={{ .key }}\n{{ end }}{{ else }}K=none{{ end }}\n#'
        ' a comment\nL="q"\n{{/* said */}}'
    )
    assert templates.rendered(text, variables) == {"K": "v'1", "L": "q"}
    assert templates.rendered(text, {}) == {"K": "none", "L": "q"}
    for bad, name in {
        '{{ key "x" }}': 'key "x"',
        '{{ range nomadVarList "x" }}{{ end }}': "range",
        '{{ with secret "x" }}{{ end }}': "with secret",
        "{{ .key }}": ".key",
        '{{ with nomadVar "x" }}': "has no {{ end }}",
        "{{ end }}": "end",
        "{{ oops": "has no }}",
    }.items():
        with pytest.raises(EmbeddedError, match=re.escape(name)):
            templates.check(bad)
    with pytest.raises(EmbeddedError, match="no Nomad Variable a/b"):
        templates.rendered('{{ with nomadVar "a/b" }}{{ end }}', {})
    with pytest.raises(EmbeddedError, match="no key other"):
        templates.rendered('{{ with nomadVar "a/b" }}K={{ .other }}{{ end }}', variables)
    with pytest.raises(EmbeddedError, match=r"line 1 .* not KEY=value") as caught:
        templates.rendered('{{ with nomadVar "a/b" }}{{ .key }}{{ end }}', variables)
    assert "v'1" not in str(caught.value)


def test_only_whole_path_parts_are_a_volume() -> None:
    mounts = [("/models", Path("/host/m"))]
    values = ["/models", "/models/x", "/models2/x", "a/models", "/models/../etc"]
    assert [str(interpolate.hosted(value, mounts)) for value in values] == [
        "/host/m", "/host/m/x", "/models2/x", "a/models", "/host/m/../etc",
    ]  # fmt: skip
