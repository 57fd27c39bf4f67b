"""Settings of continuous integration: which repository's workflows may act on the stack, and what they need of it."""

from typing import Annotated

from pydantic import Field, StringConstraints

from infra.settings.fields import BucketName, Member, Model, from_outside

_KEY = r"^projects/[a-z0-9-]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]+/cryptoKeys/[A-Za-z0-9_-]+$"


class CiSettings(Model):
    """A repository on GitHub whose workflows preview and update the stack."""

    repository: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$")] = from_outside(
        stand_in="stand-in/hybrid-mlops", description="The repository, as owner/name."
    )
    owner_id: Annotated[int, Field(ge=0)] = from_outside(
        stand_in="0",
        description="The number of its owner, who may be renamed while another takes the name: `gh api users/OWNER "
        "--jq .id`.",
    )
    branch: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]+$")] = Field(
        default="main", description="The branch that is applied."
    )
    state_bucket: BucketName = from_outside(
        stand_in="stand-in-pulumi-state", description="The bucket of Pulumi's state: PULUMI_BACKEND_URL without gs://."
    )
    state_key: Annotated[str, StringConstraints(pattern=_KEY)] = from_outside(
        stand_in="projects/stand-in-project/locations/europe-west1/keyRings/pulumi/cryptoKeys/state",
        description="The key that encrypts it: `secretsprovider` in the stack file without gcpkms://.",
    )
    image_readers: tuple[Member, ...] = Field(
        default=(),
        description="Who may pull the stack's images beside its own machines: the account for images of the stack that "
        "they are copied to, such as serviceAccount:mlops-ci-images@PROJECT.iam.gserviceaccount.com.",
    )
