"""Workload identity: that a task of Nomad is somebody to Google Cloud, by a token that Nomad signs for it.

Owns the pool, and for each region a provider in it that trusts that region's public keys. Google cannot fetch them from
a private Nomad, so the program hands them over; that is why Nomad's keys change by hand only, which
docs/runbooks/rotate-identity-keys.md does, and a preview that shows a change of `jwksJson` says that it is time for an
update. What a task may do stands beside its job.
"""

import json
from typing import Any

import pulumi
import pulumi_nomad
import pulumi_random
from pulumi_gcp import iam

from infra import naming, outputs
from infra.nomad.api import gone
from infra.settings import PROJECT, Settings


def subject(region: str, namespace: str, job: str, group: str, task: str) -> str:
    """What a task is called in its token. Every run of a parameterized job has the same, its job's."""
    return f"{region}:{namespace}:{job}:{group}:{task}:{naming.GOOGLE_AUDIENCE}"


def jwks_json(keys: list[dict[str, Any]]) -> str:
    """Nomad's public keys as Google takes them.

    Args:
        keys: As `/.well-known/jwks.json` has them.

    Raises:
        RunError: There is none that Google takes.
    """
    # RSA and EC only, and no further fields; without blanks, as Google gives it back, or every preview shows a change.
    taken = [
        {field: key[field] for field in ("alg", "e", "kid", "kty", "n", "use")} for key in keys if key["kty"] == "RSA"
    ]
    if not taken:
        raise pulumi.RunError(
            "Nomad publishes no RSA key, so Google would take none of its tokens; make one by `nomad operator root "
            "keyring rotate -now`"
        )
    return json.dumps({"keys": sorted(taken, key=lambda key: key["kid"])}, sort_keys=True, separators=(",", ":"))


class WorkloadIdentity(pulumi.ComponentResource):
    """The pool of identities, with a provider for each region that was added.

    Attributes:
        pool: The pool.
    """

    pool: iam.WorkloadIdentityPool

    def __init__(self, name: str, *, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the pool; `opts` has the providers of Google Cloud and random."""
        super().__init__(f"{PROJECT}:nomad:WorkloadIdentity", name, None, opts)
        assert settings.gcp, "the settings were checked"  # noqa: S101
        self._name, self._settings, self._google = name, settings, settings.gcp
        # The id of a deleted pool stays taken for 30 days.
        suffix = pulumi_random.RandomId(f"{name}-suffix", byte_length=3, opts=pulumi.ResourceOptions(parent=self))
        self.pool = iam.WorkloadIdentityPool(
            f"{name}-pool",
            workload_identity_pool_id=outputs.concat("mlops-nomad-", suffix.hex),
            project=settings.gcp.project,
            display_name="Tasks of Nomad",
            description="Who tasks of the platform's Nomad are to Google Cloud.",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self._trusted: dict[str, iam.WorkloadIdentityPoolProvider] = {}
        self.register_outputs({})

    def trust(self, region: str, provider: pulumi_nomad.Provider, after: list[pulumi.Resource]) -> None:
        """Trust the keys of a region.

        Args:
            region: The Nomad region.
            provider: Its provider.
            after: What must exist before Nomad can be asked for its keys.
        """
        self._trusted[region] = iam.WorkloadIdentityPoolProvider(
            f"{self._name}-{region}",
            workload_identity_pool_id=self.pool.workload_identity_pool_id,
            workload_identity_pool_provider_id=f"nomad-{region}",
            project=self._google.project,
            display_name=f"Nomad {region}",
            description="Takes tokens that this Nomad region signed for its tasks.",
            attribute_mapping={"google.subject": "assertion.sub"},
            # A region speaks for its own tasks alone.
            attribute_condition=f'assertion.sub.startsWith("{region}:")',
            oidc=iam.WorkloadIdentityPoolProviderOidcArgs(
                issuer_uri=naming.nomad_issuer(self._settings, region),
                allowed_audiences=[naming.GOOGLE_AUDIENCE],
                jwks_json=jwks_json([_NO_KEY]) if gone() else _keys(provider, after),
            ),
            # A Nomad that is gone cannot be asked, so what Google has of its keys stays.
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=after, ignore_changes=["oidc.jwksJson"] if gone() else None
            ),
        )

    def member(self, region: str, namespace: str, job: str, group: str, task: str) -> pulumi.Output[str]:
        """A task as IAM calls it."""
        who = subject(region, namespace, job, group, task)
        return outputs.concat("principal://iam.googleapis.com/", self._path(), f"/subject/{who}")

    def credentials(self, region: str) -> pulumi.Output[str]:
        """What Google's libraries have to know to use a task's token, as JSON. It is no secret."""
        provider = self._trusted[region].workload_identity_pool_provider_id
        return pulumi.Output.json_dumps(
            {
                "type": "external_account",
                "audience": outputs.concat("//iam.googleapis.com/", self._path(), "/providers/", provider),
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": "https://sts.googleapis.com/v1/token",
                # Where Nomad keeps it fresh, as a task of docker or exec sees its folder of secrets.
                "credential_source": {"file": f"/secrets/nomad_{naming.GOOGLE_AUDIENCE}.jwt"},
            }
        )

    def _path(self) -> pulumi.Output[str]:
        return outputs.concat(
            f"projects/{self._google.project_number}/locations/global/workloadIdentityPools/",
            self.pool.workload_identity_pool_id,
        )


_NO_KEY = {"alg": "RS256", "e": "AQAB", "kid": "none", "kty": "RSA", "n": "AQAB", "use": "sig"}


def _keys(provider: pulumi_nomad.Provider, after: list[pulumi.Resource]) -> pulumi.Output[str]:
    # A provider that was never made has no id, and cannot be asked.
    found = provider.id.apply(
        lambda _: pulumi_nomad.get_jwks_output(opts=pulumi.InvokeOutputOptions(provider=provider, depends_on=after))
    )
    return outputs.made(
        found.keys,
        lambda keys: jwks_json(
            [
                {
                    "alg": key.algorithm,
                    "e": key.exponent,
                    "kid": key.key_id,
                    "kty": key.key_type,
                    "n": key.modulus,
                    "use": key.key_use,
                }
                for key in keys
            ]
        ),
    )
