"""The images of a stack's repository: `images.py STACK` builds what is missing, `images.py STACK FROM` copies it.

Owns the order of the commands of `docker` and `skopeo`. An image is built once, for the first stack that needs it: its
name is the hash of what it is built from, and whether a name is there is all that is asked. Other stacks get the very
digest, copied from the repository of the stack before; one that it does not have is an error and never built.
"""

import subprocess
import sys
from collections.abc import Mapping

from infra import images, naming, settings
from infra.settings import ROOT, STACKS, SettingsError


class PushError(Exception):
    """An image is not there afterwards; the message says why in one line."""


def names(stack: str) -> dict[str, str]:
    """The name of every image in a stack's repository, by its folder.

    Raises:
        PushError: The stack's owner has not said what project it is in.
    """
    loaded = settings.load(stack)
    stand_in = type(loaded.gcp).model_fields["project"].json_schema_extra if loaded.gcp else None
    if isinstance(stand_in, dict) and loaded.gcp and loaded.gcp.project == stand_in["x-stand-in"]:
        raise PushError(
            f"hybrid-mlops:gcp.project is not in stacks/Pulumi.{stack}.yaml, so its repository is not known; commit it"
        )
    repository = naming.image_repository(loaded)
    folders = sorted(path.parent.name for path in ROOT.glob("images/*/Dockerfile"))
    return {folder: images.name(ROOT, folder, repository) for folder in folders}


def build(stack: str) -> None:
    """Build and push what the stack's repository lacks."""
    wanted = names(stack)
    _log_in(wanted)
    for folder, name in wanted.items():
        if digest(name):
            print(f"{name}: is there")
            continue
        dockerfile = f"images/{folder}/Dockerfile"
        _run("docker", "build", "--platform", "linux/amd64", "--tag", name, "--file", dockerfile, ".")
        _run("docker", "push", name)
        print(f"{name}: built and pushed")


def copy(stack: str, source: str) -> None:
    """Copy what the stack's repository lacks, digest by digest, from another stack's.

    Raises:
        PushError: The other has not got it, or this one has another image of the name.
    """
    there, wanted_here = names(source), names(stack)
    _log_in(there, wanted_here)
    for folder, name in wanted_here.items():
        wanted = digest(there[folder])
        if not wanted:
            raise PushError(f"{there[folder]} is not there, so it cannot be copied; run images.py {source} first")
        found = digest(name)
        if not found:
            origin = f"{there[folder].rpartition(':')[0]}@{wanted}"
            _run("skopeo", "copy", "--all", "--preserve-digests", f"docker://{origin}", f"docker://{name}")
            found = digest(name)
        if found != wanted:
            raise PushError(
                f"{name} is {found or 'not there'} and not {wanted}, so it is another image than {source}'s"
            )
        print(f"{name}: is {wanted}")


def _log_in(*found: Mapping[str, str]) -> None:
    """Let docker and skopeo, which reads docker's settings, ask gcloud for a token whenever they need one."""
    hosts = sorted({name.partition("/")[0] for names in found for name in names.values()})
    _run("gcloud", "auth", "configure-docker", "--quiet", ",".join(hosts))


def digest(name: str) -> str | None:
    """The digest of an image in its repository; None if it is not there, or may not be seen."""
    command = ["skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{name}"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None


def _run(*command: str) -> None:
    if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise PushError(f"`{' '.join(command[:2])}` failed with {code}, as it says above")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3 or not {*sys.argv[1:]} <= {*settings.stacks(STACKS)}:
        sys.exit(f"images: give a stack, or one and another to copy from; there are: {', '.join(settings.stacks())}")
    try:
        copy(*sys.argv[1:]) if sys.argv[2:] else build(sys.argv[1])
    except (PushError, SettingsError, images.ImageError) as error:
        sys.exit(f"images: {error}")
