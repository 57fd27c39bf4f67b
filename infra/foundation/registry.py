"""Artifact Registry: the stack's images, their signatures, Java libraries, and public images by way of it.

Owns the repositories and how pulling is granted; who may push stands beside who does. Machines and nodes pull public
images through a remote repository: what once ran is still there when the public one is gone or limits its rate.
"""

from collections.abc import Collection

import pulumi
from pulumi_gcp import artifactregistry

from infra import naming
from infra.foundation.keys import Keys
from infra.labels import labels
from infra.settings import PROJECT, Settings

_READER = "roles/artifactregistry.reader"


class Registry(pulumi.ComponentResource):
    """The repositories of a stack.

    Attributes:
        images: The stack's own images; a tag is never moved.
        signatures: Signatures and attestations of images, whose tags are written again with every further one.
        maven: Java libraries; a version is never written again.
        remotes: The remote repository of each public registry.
    """

    images: artifactregistry.Repository
    signatures: artifactregistry.Repository
    maven: artifactregistry.Repository
    remotes: dict[str, artifactregistry.Repository]

    def __init__(
        self, name: str, *, settings: Settings, keys: Keys, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Make them; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:foundation:Registry", name, None, opts)
        assert settings.gcp, "the settings were checked"  # noqa: S101
        self._settings = settings
        self._keys = keys
        self._name = name
        self.images = self._repository(
            naming.IMAGES,
            "Images of this project, by content hash.",
            format="DOCKER",
            docker_config=artifactregistry.RepositoryDockerConfigArgs(immutable_tags=True),
        )
        # Under an immutable tag a second signature is refused (sigstore/cosign#313).
        self.signatures = self._repository(naming.SIGNATURES, "Signatures and attestations of images.", format="DOCKER")
        self.maven = self._repository(
            naming.MAVEN,
            "Java libraries of models.",
            format="MAVEN",
            maven_config=artifactregistry.RepositoryMavenConfigArgs(
                version_policy="RELEASE", allow_snapshot_overwrites=False
            ),
        )
        self.remotes = {
            host: self._repository(
                repository,
                f"Public images of {host}, kept as they are pulled.",
                format="DOCKER",
                mode="REMOTE_REPOSITORY",
                remote_repository_config=artifactregistry.RepositoryRemoteRepositoryConfigArgs(
                    description=host,
                    common_repository=artifactregistry.RepositoryRemoteRepositoryConfigCommonRepositoryArgs(
                        uri=naming.REGISTRIES[host]
                    ),
                ),
                # It is a cache: what no one pulled again for so long can be had from its source.
                cleanup_policies=[
                    artifactregistry.RepositoryCleanupPolicyArgs(
                        id="old",
                        action="DELETE",
                        condition=artifactregistry.RepositoryCleanupPolicyConditionArgs(older_than=f"{180 * 86400}s"),
                    )
                ],
            )
            for host, repository in naming.remotes(settings).items()
        }
        self.register_outputs({})

    def grant_pull(
        self,
        name: str,
        member: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
        *,
        public: Collection[str] = (),
    ) -> list[artifactregistry.RepositoryIamMember]:
        """Let someone pull the stack's images, and public ones.

        Args:
            name: What the grants' logical names begin with.
            member: Who may pull.
            opts: The grants' options; their parent is the workload that needs them.
            public: The public registries, by host, whose images may be pulled too.
        """
        return [
            artifactregistry.RepositoryIamMember(
                f"{name}-{of}",
                project=repository.project,
                location=repository.location,
                repository=repository.repository_id,
                role=_READER,
                member=member,
                opts=opts,
            )
            for of, repository in {naming.IMAGES: self.images, **{host: self.remotes[host] for host in public}}.items()
        ]

    def _repository(self, repository_id: str, description: str, **arguments: object) -> artifactregistry.Repository:
        assert self._settings.gcp, "the settings were checked"  # noqa: S101
        return artifactregistry.Repository(
            f"{self._name}-{repository_id}",
            repository_id=repository_id,
            description=description,
            project=self._settings.gcp.project,
            location=self._settings.gcp.region,
            kms_key_name=self._keys.artifacts.id,
            labels=labels(self._settings, "registry"),
            opts=pulumi.ResourceOptions(parent=self, protect=self._settings.gcp.protect, depends_on=self._keys.ready),
            **arguments,  # pyright: ignore[reportArgumentType]
        )
