"""What machines run when they start: it is sound bash, is the same for the same checkout, and trusts no download."""

import hashlib
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from infra import settings
from infra.nomad import agent, boot
from tests.infra.nomad import machine
from tests.infra.nomad.machine import bash, unpack

PROVISIONED = [stack for stack in settings.stacks() if settings.load(stack).nomad.regions]
PROGRAM = boot.StoreProgram()


def scripts(stack: str) -> dict[str, str]:
    """Every boot script of a stack."""
    read = settings.load(stack)
    found = {}
    for region, of in read.nomad.regions.items():
        found |= {f"{region}-server-{i}": boot.server(read, region, i) for i in range(of.servers.count)}
        found |= {f"{region}-{pool}": boot.client(read, region, pool, PROGRAM) for pool in of.pools}
    return found


@pytest.fixture
def client(tmp_path: Path) -> Path:
    return unpack(next(text for name, text in scripts("dev").items() if "server" not in name), tmp_path / "client")


@pytest.mark.parametrize("stack", PROVISIONED)
def test_shellcheck_finds_nothing_in_what_machines_get(stack: str, tmp_path: Path) -> None:
    for name, script in scripts(stack).items():
        folder = unpack(script, tmp_path / name)
        # Files without a first line of their own are read by the others.
        programs = [path.name for path in folder.glob("*.sh") if path.read_text().startswith("#!")]
        assert {"startup.sh", "refresh-certificates.sh"} < set(programs)
        shellcheck = Path(sys.executable).with_name("shellcheck")
        done = bash(folder, f"{shellcheck} --external-sources --check-sourced {' '.join(sorted(programs))}")
        assert done.returncode == 0, done.stdout


def test_the_script_puts_every_file_on_the_machine_as_it_is(tmp_path: Path) -> None:
    """No line of a file ends the one that it is written by, and bash expands nothing in it."""
    script = scripts("dev")["eu-server-0"].replace(boot.HOME, str(tmp_path / "home"))
    assert bash(tmp_path, script.rpartition("exec bash")[0]).returncode == 0
    for path in boot.FILES.iterdir():
        written = tmp_path / "home" / path.name
        if written.exists():
            assert written.read_text() == path.read_text().replace(boot.HOME, str(tmp_path / "home"))
    assert json.loads((tmp_path / "home/agent.json").read_text())["server"]["enabled"]


@pytest.fixture
def google() -> Iterator[machine.Google]:
    with machine.google() as answering:
        yield answering


SERVER, CLIENT = scripts("dev")["eu-server-0"], scripts("dev")["eu-train"]


def test_a_server_boots_by_what_the_metadata_server_answers(google: machine.Google, tmp_path: Path) -> None:
    """Its answers end with no newline."""
    done = machine.boot(SERVER, tmp_path, google)
    assert done.returncode == 0, done.stderr
    assert "this machine is a Nomad server" in done.stdout.splitlines()[-1]
    (keyring,) = json.loads((tmp_path / "etc/nomad.d/keyring.json").read_text())["keyring"].values()
    named = [keyring[part] for part in ("project", "region", "key_ring", "crypto_key")]
    assert named == machine.KEY.split("/")[1::2]
    assert list((tmp_path / "run").glob("tmp.*")) == [], "no secret is left in memory"


def test_a_client_boots(google: machine.Google, tmp_path: Path) -> None:
    done = machine.boot(CLIENT, tmp_path, google)
    assert done.returncode == 0, done.stderr
    assert "this machine is a Nomad client" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("script", "refused"),
    [(SERVER, "/secrets/mlops-nomad-eu-server"), (SERVER, "bootstrap-token"), (CLIENT, "/storage/v1/b/")],
)
def test_a_machine_waits_until_its_grants_are_effective(
    script: str, refused: str, google: machine.Google, tmp_path: Path
) -> None:
    google.refusals[refused] = 5
    done = machine.boot(script, tmp_path, google)
    assert done.returncode == 0, done.stderr
    assert len([path for path in google.asked if refused in path]) >= 6


def test_a_grant_that_never_comes_ends_the_boot(google: machine.Google, tmp_path: Path) -> None:
    google.refusals["/secrets/"] = 10**6
    done = machine.boot(SERVER, tmp_path, google)
    assert done.returncode != 0
    assert "mlops: the boot ended with code " in done.stderr
    assert "403" in done.stderr
    assert len(google.asked) < 100


def test_nomad_is_started_again_until_its_key_may_be_used(google: machine.Google, tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    failures = tmp_path / "failures"
    failures.write_text("1\n2\n3\n")
    systemctl = tmp_path / "programs/systemctl"
    systemctl.write_text(
        f'#!/bin/bash\n[[ $* == "restart nomad.service" && -s {failures} ]] || exit 0\nsed -i 1d {failures}\nexit 1\n'
    )
    systemctl.chmod(0o755)
    done = machine.boot(SERVER, tmp_path, google)
    assert done.returncode == 0, done.stderr
    assert failures.read_text() == ""
    systemctl.write_text('#!/bin/bash\n[[ $* != "restart nomad.service" ]]\n')
    (tmp_path / "etc/nomad.d/agent.json").unlink()
    done = machine.boot(SERVER, tmp_path, google)
    assert done.returncode != 0
    assert "mlops: Nomad does not start: Error starting agent: permission denied" in done.stderr


def test_a_client_whose_docker_has_no_apparmor_takes_no_task(google: machine.Google, tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    apt = tmp_path / "programs/apt-get"
    apt.write_text(f'#!/bin/bash\necho "$*" >>{tmp_path}/installed\n')
    dpkg, docker = tmp_path / "programs/dpkg", tmp_path / "programs/docker"
    dpkg.write_text("#!/bin/bash\nexit 1\n")
    docker.write_text("#!/bin/bash\necho '[name=seccomp,profile=default]'\n")
    for program in (apt, dpkg, docker):
        program.chmod(0o755)
    done = machine.boot(CLIENT, tmp_path, google)
    assert done.returncode != 0
    assert "AppArmor" in done.stderr
    assert "starts Nomad" not in done.stdout
    # Without recommends, which it is among for docker.io.
    assert {"apparmor", "docker.io"} <= set((tmp_path / "installed").read_text().split())


def test_what_a_read_takes_may_end_without_a_newline() -> None:
    """A `read` fails there, though it has read: what it takes is either from a variable, or may fail."""
    found = 0
    for path in boot.FILES.iterdir():
        for line in path.read_text().splitlines():
            if re.search(r"(^|[;&|(]|\b(?:do|then|while)\b)\s*(IFS=\S* )?read\b", line):
                found += 1
                assert re.search(r"\|\| \[\[ -n \$\w+ \]\]|<<<", line), f"{path.name}: {line}"
    assert found >= 3


@pytest.mark.parametrize(("right", "code"), [(True, 0), (False, 1)])
def test_a_nomad_with_another_sha256_is_not_run(right: bool, code: int, client: Path, tmp_path: Path) -> None:
    archive = tmp_path / "nomad.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("nomad", "#!/bin/sh\necho Nomad\n")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest() if right else "0" * 64
    target = tmp_path / "bin"
    target.mkdir()
    text = (client / "machine.sh").read_text().replace("/usr/local/bin", str(target))
    (client / "machine.sh").write_text(text)
    done = bash(
        client,
        f"""source ./lib.sh; source ./machine.sh
        curl() {{ while [[ $1 != --output ]]; do shift; done; cp {archive} "$2"; }}
        unzip() {{ {sys.executable} -m zipfile --extract "$3" "${{@: -1}}"; }}
        NOMAD_SHA256={digest}
        install_nomad""",
    )
    assert done.returncode == code, done.stderr
    assert (target / "nomad").exists() == right
    assert right or "does not have the SHA-256 that the stack names, so it is not run" in done.stderr


def test_the_store_program_is_named_after_every_byte_of_it(tmp_path: Path) -> None:
    for name, path in PROGRAM.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / name)
    assert boot.StoreProgram(tmp_path).objects == PROGRAM.objects
    read = settings.load("dev")
    before = boot.client(read, "eu", "train", PROGRAM)
    with (tmp_path / "registry/mlops_registry/names.py").open("a") as file:
        file.write("\n")
    changed = boot.StoreProgram(tmp_path)
    assert changed.objects != PROGRAM.objects
    assert boot.client(read, "eu", "train", changed) != before, "machines are made anew with it"


@pytest.mark.parametrize("stored", [1, 2, 0])
def test_a_client_finds_the_store_program_by_its_content_whatever_its_upload_is_called(
    stored: int, google: machine.Google, tmp_path: Path
) -> None:
    """Under a retention policy no name is written again, so a version that comes back has a second name."""
    google.objects = [f"{PROGRAM.objects}{number}.zip" for number in range(stored)]
    done = machine.boot(CLIENT, tmp_path, google)
    asked = [path for path in google.asked if "/storage/v1/b/" in path]
    listing = asked[0].partition("?")
    assert f"prefix={quote(PROGRAM.objects, safe='')}&" in listing[2]
    if stored:
        assert done.returncode == 0, done.stderr
        assert asked[1:] == [f"{listing[0]}/{quote(google.objects[0], safe='')}?alt=media"]
    else:
        assert done.returncode != 0
        assert f"/{PROGRAM.objects} holds no store program" in done.stderr


def test_certificates_are_read_again_only_where_they_are_others(client: Path, tmp_path: Path) -> None:
    owner = f'TLS={tmp_path}/tls; owner="$(id -un)"'
    done = bash(
        client,
        f"""source ./lib.sh; {owner}
        secret() {{ echo '{{"ca": "A", "certificate": "'"$now"'", "key": "K"}}'; }}
        now=1; refresh_certificates "$owner"; echo "$CHANGED"
        CHANGED=no; refresh_certificates "$owner"; echo "$CHANGED"
        now=2; refresh_certificates "$owner"; echo "$CHANGED"; cat "$TLS/certificate.pem"
        stat --format=%a "$TLS/key.pem" """,
    )
    assert done.stdout.split() == ["yes", "no", "yes", "2", "600"], done.stderr


@pytest.mark.parametrize("answer", ["return 22", "true", "echo '{}'"])
def test_certificates_stay_where_secret_manager_gives_none(answer: str, client: Path, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/ca.pem").write_text("A\n")
    done = bash(
        client,
        f"""source ./lib.sh; TLS={tmp_path}/tls; secret() {{ {answer}; }}
        refresh_certificates "$(id -un)"
        echo went on""",
    )
    assert done.returncode != 0
    assert "went on" not in done.stdout
    assert (tmp_path / "tls/ca.pem").read_text() == "A\n"


@pytest.mark.parametrize(
    ("registry", "given"),
    [
        ("https://europe-docker.pkg.dev", "T"),
        ("europe-west1-docker.pkg.dev", "T"),
        ("https://index.docker.io/v1/", None),
        ("https://evil.example/-docker.pkg.dev", None),
        ("https://x-docker.pkg.dev.evil.example", None),
    ],
)
def test_the_machines_token_goes_to_artifact_registry_only(registry: str, given: str | None, tmp_path: Path) -> None:
    helper = boot.FILES / "docker-credential-artifact-registry.sh"
    done = bash(
        tmp_path,
        f'curl() {{ echo \'{{"access_token": "T"}}\'; }}; export -f curl; printf %s {registry} | bash {helper} get',
    )
    assert json.loads(done.stdout).get("Secret") == given, done.stderr


@pytest.mark.whole
def test_the_store_program_runs_in_what_exec_tasks_see_of_a_machine(tmp_path: Path) -> None:
    """Installed as on a client, and started as nobody where nothing but `chroot_env` is: it does not need the rest."""
    if os.geteuid() != 0 or not Path("/usr/bin/python3.11").exists() or not Path("/etc/debian_version").exists():
        pytest.skip("needs root on Debian 12, which clients are")
    machine = unpack(boot.client(settings.load("dev"), "eu", "train", PROGRAM), tmp_path / "machine")
    archive = tmp_path / "program.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name, path in PROGRAM.files.items():
            made.write(path, name)
    root = tmp_path / "root"
    command = root / "usr/local/bin/mlops-registry"
    command.parent.mkdir(parents=True)
    (machine / "lib.sh").write_text(
        f'fail() {{ echo "$1" >&2; exit 1; }}\n'
        f'listed=\'{{"items": [{{"name": "o/1"}}]}}\'\n'
        f'google() {{ if [[ $1 == --output ]]; then cp {archive} "$2"; else echo "$listed"; fi; }}\n'
        f'unzip() {{ {sys.executable} -m zipfile --extract "$2" "$4"; }}\n'
    )
    (machine / "machine.env").write_text("export PROGRAM_BUCKET=b PROGRAM_OBJECTS=o/\n")
    # Its environment knows its own path, which is therefore the same inside.
    home = Path(agent.STORE_PROGRAM)
    if home.exists():
        pytest.skip(f"{home} is there already")
    try:
        done = bash(machine, f"source ./machine.env; PATH=/usr/bin:/bin; bash ./store-program.sh {home} {command}")
        assert done.returncode == 0, done.stderr
        for source in agent.client(settings.load("dev"), "eu", "train")["client"]["chroot_env"]:
            target = root / source.lstrip("/")
            if Path(source).exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                # As Nomad does: what a path leads to, and below it links as links.
                done = bash(tmp_path, f"cp --recursive -H --preserve=mode {source} {target}")
                assert done.returncode == 0, done.stderr
        (root / "dev").mkdir()
        started = bash(tmp_path, f"chmod 755 {tmp_path} && chroot --userspec=65534:65534 {root} mlops-registry --help")
        assert started.returncode == 0, started.stderr
        assert "Model versions in a bucket." in started.stdout
        used = bash(
            tmp_path, f"chroot --userspec=65534:65534 {root} {home}/bin/python -c 'import google.cloud.storage, ssl'"
        )
        assert used.returncode == 0, used.stderr
    finally:
        shutil.rmtree(home, ignore_errors=True)
