"""A small program with a resource of every kind that the analyses read, and a recorder for it."""

from pathlib import Path

from inventory.recorder import record
from inventory.resources import Inventory

PROGRAM = """
import json
import pulumi
import pulumi_gcp as gcp
import pulumi_kubernetes as k8s
import pulumi_nomad

google = pulumi.ResourceOptions(provider=gcp.Provider('google', project='example', region='europe-west1'))
kubernetes = pulumi.ResourceOptions(provider=k8s.Provider('kubernetes', kubeconfig='x'))
nomad = pulumi.ResourceOptions(provider=pulumi_nomad.Provider('nomad', address='http://127.0.0.1:4646'))

# Who may do what.
clients = gcp.serviceaccount.Account('clients', account_id='nomad-clients', opts=google)
key = gcp.kms.CryptoKey('data', key_ring='projects/example/locations/europe-west1/keyRings/r', opts=google)
models = gcp.storage.Bucket(
    'models',
    name='example-models',
    location='EU',
    public_access_prevention='enforced',
    opts=pulumi.ResourceOptions(protect=True).merge(google),
)
gcp.storage.BucketIAMMember(
    'clients-models', bucket=models.name, role='roles/storage.objectViewer', member=clients.member, opts=google
)
gcp.projects.IAMBinding(
    'logs',
    project='example',
    role='roles/logging.logWriter',
    members=[pulumi.Output.concat('serviceAccount:', clients.email), 'group:ops@example.com'],
    opts=google,
)
gcp.secretmanager.SecretIamMember(
    'token',
    secret_id='nomad-token',
    role='roles/secretmanager.secretAccessor',
    member='group:ops@example.com',
    condition={'title': 'this year', 'expression': 'request.time < timestamp("2027-01-01T00:00:00Z")'},
    opts=google,
)
gcp.kms.CryptoKeyIAMMember(
    'gcs', crypto_key_id=key.id, role='roles/cloudkms.cryptoKeyEncrypterDecrypter', member='user:a@x.com', opts=google
)
gcp.serviceaccount.IAMMember(
    'workload',
    service_account_id=clients.name,
    role='roles/iam.workloadIdentityUser',
    member='principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/s',
    opts=google,
)
gcp.storage.BucketIAMPolicy(
    'all-of-it',
    bucket='other',
    policy_data=json.dumps({'bindings': [{'role': 'roles/storage.admin', 'members': ['allUsers', 'user:a@x.com']}]}),
    opts=google,
)
gcp.projects.IAMCustomRole(
    'tunnel', role_id='tunnel', title='Tunnel', permissions=['compute.instances.get'], opts=google
)
gcp.serviceaccount.Key('leaked', service_account_id='old@example.iam.gserviceaccount.com', opts=google)
k8s.rbac.v1.Role(
    'spark',
    metadata={'name': 'spark', 'namespace': 'mlops'},
    rules=[
        {'api_groups': [''], 'resources': ['pods', 'services'], 'verbs': ['get', 'create']},
        {'api_groups': ['sparkoperator.k8s.io'], 'resources': ['sparkapplications'], 'verbs': ['*']},
    ],
    opts=kubernetes,
)
k8s.rbac.v1.RoleBinding(
    'spark',
    metadata={'name': 'spark', 'namespace': 'mlops'},
    role_ref={'kind': 'Role', 'name': 'spark', 'api_group': 'rbac.authorization.k8s.io'},
    subjects=[{'kind': 'ServiceAccount', 'name': 'spark', 'namespace': 'mlops'}],
    opts=kubernetes,
)
policy = pulumi_nomad.AclPolicy(
    'dispatch',
    name='dispatch',
    rules_hcl='''
namespace "default" {
  capabilities = ["dispatch-job"]
  variables {
    path "nomad/jobs/*" {
      capabilities = ["read"]
    }
  }
}
agent {
  policy = "read"
}
''',
    job_acl={'namespace': 'default', 'job_id': 'train'},
    opts=nomad,
)
pulumi_nomad.AclRole('dispatcher', name='dispatcher', policies=[{'name': policy.name}], opts=nomad)

# How much there can be.
train = gcp.compute.InstanceTemplate(
    'train',
    machine_type='n1-standard-4',
    labels={'mlops-min': '0', 'mlops-max': '4'},
    disks=[{'boot': True, 'source_image': 'debian', 'disk_size_gb': 50}],
    network_interfaces=[{'network': 'n'}],
    opts=google,
)
gcp.compute.RegionInstanceGroupManager(
    'train', base_instance_name='train', versions=[{'instance_template': train.self_link_unique}], opts=google
)
for i in range(2):
    template = gcp.compute.InstanceTemplate(
        f'server-{i}',
        machine_type='n1-highcpu-2',
        disks=[{'boot': True, 'disk_size_gb': 20}, {'disk_size_gb': 10}],
        network_interfaces=[{'network': 'n', 'access_configs': [{}] if i else None}],
        opts=google,
    )
    gcp.compute.InstanceGroupManager(
        f'server-{i}',
        base_instance_name=f's-{i}',
        zone='europe-west1-b',
        target_size=1,
        versions=[{'instance_template': template.id}],
        opts=google,
    )
web = gcp.compute.InstanceTemplate('web', machine_type='e2-medium', disks=[{'boot': True}], opts=google)
group = gcp.compute.InstanceGroupManager(
    'web', base_instance_name='web', versions=[{'instance_template': web.id}], opts=google
)
gcp.compute.Autoscaler(
    'web', target=group.id, autoscaling_policy={'min_replicas': 1, 'max_replicas': 3}, opts=google
)
cluster = gcp.container.Cluster(
    'gke',
    name='gke',
    location='europe-west1',
    remove_default_node_pool=True,
    initial_node_count=1,
    private_cluster_config={'enable_private_nodes': True},
    control_plane_endpoints_config={
        'dns_endpoint_config': {'allow_external_traffic': True},
        'ip_endpoints_config': {'enabled': False},
    },
    opts=google,
)
gcp.container.NodePool(
    'system',
    cluster=cluster.id,
    autoscaling={'min_node_count': 1, 'max_node_count': 2},
    node_config={'machine_type': 'custom-2-8192', 'disk_size_gb': 50},
    opts=google,
)
gcp.container.NodePool(
    'spark',
    cluster=cluster.name,
    autoscaling={'total_min_node_count': 0, 'total_max_node_count': 10},
    node_config={'machine_type': 'n1-highmem-8', 'spot': True},
    opts=google,
)
gcp.compute.Disk('scratch', size=100, zone='europe-west1-b', opts=google)

# What can be reached.
gcp.compute.Firewall(
    'ssh',
    network='n',
    source_ranges=['35.235.240.0/20'],
    target_service_accounts=[clients.email],
    allows=[{'protocol': 'tcp', 'ports': ['22']}],
    opts=google,
)
gcp.compute.Firewall('ping', network='n', allows=[{'protocol': 'icmp'}], opts=google)
gcp.compute.Firewall('out', network='n', direction='EGRESS', allows=[{'protocol': 'all'}], opts=google)
gcp.compute.ForwardingRule('lb', load_balancing_scheme='INTERNAL', ports=['4646'], opts=google)
gcp.storage.Bucket('open', name='example-open', location='EU', opts=google)
k8s.core.v1.Service(
    'ui',
    metadata={'name': 'ui', 'namespace': 'mlops'},
    spec={'type': 'LoadBalancer', 'ports': [{'port': 80}]},
    opts=kubernetes,
)
"""


def recorded(folder: Path, program: str = PROGRAM, *, preview: bool = False) -> Inventory:
    """What a program registers, run in a checkout of its own."""
    (folder / "stacks").mkdir(parents=True, exist_ok=True)
    (folder / "stacks" / "Pulumi.local.yaml").write_text("config: {}\n")
    (folder / "__main__.py").write_text(program)
    return record("local", preview=preview, root=folder)
