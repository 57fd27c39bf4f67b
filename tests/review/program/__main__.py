"""A small platform in three revisions; `sample:revision` says which. The golden previews are previews of it.

1 is what runs. 2 changes something of every kind that a reviewer must see. 3 removes what is protected, so its preview
fails. It deliberately shares nothing with the platform's own program: the previews change only when this file does.
"""

import pulumi
import pulumi_gcp as gcp
import pulumi_kubernetes as kubernetes
import pulumi_nomad as nomad

config = pulumi.Config()
revision = config.require_int("revision")
changed = revision >= 2

PROJECT = "example-project"
JOBSPEC = """job "train" {
  type = "batch"

  parameterized {}

  group "train" {
    count = %d

    task "train" {
      driver = "docker"

      config {
        image = var.image
      }
    }
  }
}

variable "image" {
  type = string
}
"""


def layer(name: str) -> pulumi.ResourceOptions:
    """A component of that name, as the parent of what belongs to it."""
    component = pulumi.ComponentResource(f"sample:{name}:{name.capitalize()}", name)
    return pulumi.ResourceOptions(parent=component)


def also(options: pulumi.ResourceOptions, **more: object) -> pulumi.ResourceOptions:
    """The same options, and more."""
    return pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(**more))  # type: ignore[arg-type]


storage, access, machines, workloads = map(layer, ("storage", "access", "machines", "workloads"))

models = gcp.storage.Bucket(
    "models", name="example-models", project=PROJECT, location="US" if changed else "EU", opts=storage
)
if revision < 3:
    gcp.storage.Bucket(
        "artifacts",
        name="example-artifacts",
        project=PROJECT,
        location="EU",
        labels={"component": "storage", **({"owner": "ml"} if changed else {})},
        opts=also(storage, protect=True),
    )
gcp.compute.Disk(
    "scratch",
    name="scratch",
    project=PROJECT,
    zone="europe-west1-b",
    size=100,
    # Released on purpose by revision 2: the disk may be deleted afterwards.
    opts=also(storage, protect=not changed),
)
gcp.secretmanager.SecretVersion(
    "token",
    secret="projects/example-project/secrets/token",  # noqa: S106 - the name of one
    secret_data=config.require_secret("token"),
    opts=storage,
)
if changed:
    gcp.storage.Bucket(
        "adopted",
        name="example-adopted",
        project=PROJECT,
        location="EU",
        opts=also(storage, import_="example-adopted"),
    )

gcp.projects.IAMMember(
    "trainer",
    project=PROJECT,
    role="roles/storage.admin" if changed else "roles/storage.objectViewer",
    member="serviceAccount:trainer@example-project.iam.gserviceaccount.com",
    opts=access,
)
gcp.compute.Firewall(
    "ssh",
    name="ssh",
    project=PROJECT,
    network="default",
    source_ranges=["0.0.0.0/0"] if changed else ["35.235.240.0/20"],
    allows=[{"protocol": "tcp", "ports": ["22"]}],
    opts=access,
)

pool = gcp.container.NodePool(
    "train-n1" if changed else "train",
    cluster="example",
    location="europe-west1",
    project=PROJECT,
    autoscaling={"min_node_count": 0, "max_node_count": 8 if changed else 4},
    node_config={"machine_type": "n1-standard-8" if changed else "n1-standard-4"},
    opts=also(machines, aliases=[pulumi.Alias(name="train")] if changed else []),
)
if not changed:
    kubernetes.core.v1.PersistentVolumeClaim(
        "cache",
        metadata={"name": "cache", "namespace": "spark"},
        spec={"access_modes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}},
        opts=machines,
    )

nomad.Job(
    "train",
    jobspec=JOBSPEC % (2 if changed else 1),
    hcl2={"vars": {"image": f"registry.example/train:{'b2c3d4' if changed else 'a1b2c3'}"}},
    opts=workloads,
)
kubernetes.apps.v1.Deployment(
    "serve",
    metadata={"name": "serve", "namespace": "models"},
    spec={
        "selector": {"match_labels": {"app": "serve"}},
        "template": {
            "metadata": {"labels": {"app": "serve"}},
            "spec": {
                "containers": [
                    {
                        "name": "serve",
                        "image": f"registry.example/serve:{'1.1.0' if changed else '1.0.0'}",
                        "env": [{"name": "BUCKET", "value": models.url}],
                    }
                ]
            },
        },
    },
    opts=workloads,
)
if changed:
    kubernetes.core.v1.Service(
        "serve",
        metadata={"name": "serve", "namespace": "models"},
        spec={"type": "LoadBalancer", "selector": {"app": "serve"}, "ports": [{"port": 80}]},
        opts=workloads,
    )
    pulumi.log.warn("the bucket models has no retention policy", resource=models)

pulumi.export("models", models.url)
pulumi.export("pool", pool.name)
