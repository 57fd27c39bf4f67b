"""Rules on what holds data: buckets, registries of images, keys.

Numbers are those of the CIS Google Cloud Platform Foundation Benchmark 2.0.
"""

from collections.abc import Iterator

from infra.naming import SIGNATURES
from inventory.resources import Resource
from policy.rule import Level, Part, Rule, Stack

BUCKET = "gcp:storage/bucket:Bucket"
REPOSITORY = "gcp:artifactregistry/repository:Repository"
KEY = "gcp:kms/cryptoKey:CryptoKey"
_WEEK = 7 * 24 * 3600
_QUARTER = 90 * 24 * 3600
# What a stack cannot make anew; a network or an address would only be another one.
_HOLDS = (
    BUCKET,
    REPOSITORY,
    KEY,
    "gcp:compute/disk:Disk",
    "gcp:compute/regionDisk:RegionDisk",
    "gcp:container/cluster:Cluster",
    "gcp:kms/keyRing:KeyRing",
    "gcp:secretmanager/secret:Secret",
)


def _closed(bucket: Part, _: Stack) -> Iterator[str]:
    if (found := bucket.get("publicAccessPrevention")) != "enforced":
        yield f"publicAccessPrevention is {found or 'inherited'}"
    if bucket.get("uniformBucketLevelAccess") is not True:
        yield "uniformBucketLevelAccess is not true, so that single objects can be given away"


def _recoverable(bucket: Part, _: Stack) -> Iterator[str]:
    if bucket.get("versioning", "enabled") is not True and not bucket.get("retentionPolicy", "retentionPeriod"):
        yield "it keeps no former versions of objects, and no retention forbids to overwrite them"
    seconds = bucket.get("softDeletePolicy", "retentionDurationSeconds")
    if seconds is not None and int(seconds) < _WEEK:
        yield f"what is deleted can be had back for {int(seconds) // 86400} days only"
    if bucket.get("forceDestroy") is True:
        yield "forceDestroy deletes all objects with the bucket"


def _forgets(bucket: Part, _: Stack) -> Iterator[str]:
    if bucket.get("versioning", "enabled") is not True:
        return
    for rule in bucket.each("lifecycleRules"):
        part = bucket.inner(rule, "")
        former = part.get("condition", "daysSinceNoncurrentTime") or part.get("condition", "numNewerVersions")
        if former and part.get("action", "type") == "Delete":
            return
    yield "former versions are kept and paid for without end"


def _keeps(bucket: Part, stack: Stack) -> Iterator[str]:
    use = bucket.get("labels", "use")
    if use not in ("models", "data"):
        return
    for rule in bucket.each("lifecycleRules"):
        part = bucket.inner(rule, "")
        former = part.get("condition", "withState") == "ARCHIVED" or part.get("condition", "daysSinceNoncurrentTime")
        if part.get("action", "type") == "Delete" and not former:
            yield f"what is in it is deleted after {part.get('condition', 'age')} days, whoever uses it"
    days = int(bucket.get("retentionPolicy", "retentionPeriod") or 0) // 86400
    if use == "data" and days < stack.parameters.data_retention_days:
        wanted = stack.parameters.data_retention_days
        yield f"what is in it is kept for {days} days, and the stack asks for {wanted}"


def _disk_stays(group: Part, stack: Stack) -> Iterator[str]:
    for disk in group.each("statefulDisks"):
        rule = group.inner(disk, "").get("deleteRule")
        if stack.parameters.protect and rule != "NEVER":
            yield f"its disk {disk.get('deviceName')} is deleted with the machine"


def _own_key(what: Part, _: Stack) -> Iterator[str]:
    if not (what.get("encryption", "defaultKmsKeyName") or what.get("kmsKeyName")):
        yield "it is encrypted with a key of Google's alone"


def _immutable(repository: Part, _: Stack) -> Iterator[str]:
    # Signatures are tags that grow; they are in a repository of their own.
    images = repository.get("format") == "DOCKER" and repository.get("mode") in (None, "STANDARD_REPOSITORY")
    signatures = repository.get("repositoryId") == SIGNATURES
    if images and not signatures and repository.get("dockerConfig", "immutableTags") is not True:
        yield "a tag in it can be moved to another image"


def _rotated(key: Part, _: Stack) -> Iterator[str]:
    if key.get("purpose") not in (None, "ENCRYPT_DECRYPT"):
        return
    period = key.get("rotationPeriod")
    if period is None or float(str(period).removesuffix("s")) > _QUARTER:
        yield f"rotationPeriod is {period or 'not set'}, more than 90 days"


def _protected(what: Part, stack: Stack) -> Iterator[str]:
    resource = what.resource
    if not stack.parameters.protect or not isinstance(resource, Resource):
        return
    if not resource.protect:
        yield "it is not protected"
    if resource.type.endswith(":Cluster") and what.get("deletionProtection") is not True:
        yield "deletionProtection is not true"


RULES = (
    Rule(
        id="bucket-public",
        level=Level.MANDATORY,
        holds="No bucket can be opened to everyone, and access is by IAM alone.",
        why="CIS GCP 5.1 and 5.2; buckets that one grant opened are the commonest leak of training data.",
        fix="Keep public_access_prevention enforced and uniform_bucket_level_access true.",
        check=_closed,
        types=(BUCKET,),
    ),
    Rule(
        id="bucket-recoverable",
        level=Level.MANDATORY,
        holds="What is overwritten or deleted in a bucket can be had back for a week at least.",
        why="A model version is what others rely on: a wrong lifecycle rule or `rm -r` must not be the end of it.",
        fix="Keep versioning on, or a retention period, and soft delete at 7 days or more; no force_destroy.",
        check=_recoverable,
        types=(BUCKET,),
    ),
    Rule(
        id="bucket-keeps",
        level=Level.MANDATORY,
        holds="Models and data are deleted by people alone, and data not before its time.",
        why="A version that serves may be a year old; without its data it can be neither reproduced nor explained.",
        fix="Remove the use from storage.delete_after_days in stacks/, and raise storage.retention_days.data.",
        check=_keeps,
        types=(BUCKET,),
    ),
    Rule(
        id="server-disk-kept",
        level=Level.MANDATORY,
        holds="The disk that holds a server's state outlives its machine.",
        why="Nomad's state is on it: with the disks of two of three servers the whole schedule is lost.",
        fix="Set delete_rule NEVER on the stateful disk, as infra/nomad/servers.py does in a protected stack.",
        check=_disk_stays,
        types=("gcp:compute/instanceGroupManager:InstanceGroupManager",),
    ),
    Rule(
        id="bucket-lifecycle",
        level=Level.ADVISORY,
        holds="A bucket that keeps former versions deletes them at some time.",
        why="Each overwritten object is paid for as long as it is kept: Cloud Storage's documentation of versioning.",
        fix="Add a lifecycle rule that deletes noncurrent objects, as infra/foundation/buckets.py does.",
        check=_forgets,
        types=(BUCKET,),
    ),
    Rule(
        id="storage-key",
        level=Level.MANDATORY,
        holds="Buckets and repositories are encrypted with a key of the stack's.",
        why="Whoever may revoke the key can make every copy of the data unreadable; Cloud KMS documentation, CMEK.",
        fix="Set the key of the stack's key ring, as infra/foundation/keys.py gives it.",
        check=_own_key,
        types=(BUCKET, REPOSITORY),
    ),
    Rule(
        id="registry-immutable",
        level=Level.MANDATORY,
        holds="A tag in the repository of images always means the same image.",
        why="Jobs name images by content hash: were a tag moved, a run could not be reproduced, nor be trusted.",
        fix="Keep immutable_tags on the repository `images`.",
        check=_immutable,
        types=(REPOSITORY,),
    ),
    Rule(
        id="key-rotation",
        level=Level.MANDATORY,
        holds="Keys are rotated every 90 days or more often.",
        why="CIS GCP 1.10: a key that leaked decrypts only what was written in its period.",
        fix="Set rotation_period to 7776000s or less.",
        check=_rotated,
        types=(KEY,),
    ),
    Rule(
        id="stateful-protected",
        level=Level.MANDATORY,
        holds="What holds data cannot be deleted by an update.",
        why="A renamed resource is a deleted and a new one: without protection the first of them is executed.",
        fix="Set protect on it, as `gcp.protect` of the stack says; a stack on trial sets the parameter false.",
        check=_protected,
        types=_HOLDS,
    ),
)
