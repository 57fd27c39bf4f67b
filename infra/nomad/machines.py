"""One kind of machine: an instance template, for servers and clients alike.

Owns what all machines have in common: no public address, an encrypted boot disk, a verified boot, logins by OS Login
only, and an identity that reaches what the boot script needs and no more.
"""

from collections.abc import Mapping, Sequence

import pulumi
from pulumi_gcp import compute

from infra.foundation.foundation import Foundation
from infra.settings.nomad import MachineSettings

IMAGE = "projects/debian-cloud/global/images/family/debian-12"
"""Debian 12's newest image: a machine made later has that day's security updates."""


def template(
    name: str,
    prefix: str,
    *,
    description: str,
    machine: MachineSettings,
    region: str,
    account: pulumi.Input[str],
    foundation: Foundation,
    script: str,
    metadata: Mapping[str, pulumi.Input[str]],
    labels: Mapping[str, str],
    tags: Sequence[str],
    data_disk_gb: int | None = None,
    spot: bool = False,
    opts: pulumi.ResourceOptions,
) -> compute.InstanceTemplate:
    """Make a template. Its name is chosen by Google after `prefix`: a template is never changed, only replaced.

    Args:
        name: The logical name.
        prefix: What the physical name begins with.
        description: What the machines are for.
        machine: Type, platform and boot disk.
        region: The region of Google Cloud.
        account: The e-mail address of the machines' identity.
        foundation: Network and keys.
        script: What machines run whenever they start.
        metadata: What the script reads beside it; no secret.
        labels: Labels of machines and disks.
        tags: Network tags: by these agents find each other. The firewall knows none of them.
        data_disk_gb: Size of a second disk, called `data`, that is not deleted with its machine.
        spot: Machines that Google may take back.
        opts: The options; the parent is among them.
    """
    key = compute.InstanceTemplateDiskDiskEncryptionKeyArgs(kms_key_self_link=foundation.keys.at(region).disks.id)
    disks = [
        compute.InstanceTemplateDiskArgs(
            boot=True,
            auto_delete=True,
            source_image=IMAGE,
            disk_size_gb=machine.boot_disk_gb,
            disk_type="pd-balanced",
            disk_encryption_key=key,
            labels=labels,
        )
    ]
    if data_disk_gb:
        disks.append(
            compute.InstanceTemplateDiskArgs(
                device_name="data",
                auto_delete=False,
                disk_size_gb=data_disk_gb,
                disk_type="pd-ssd",
                disk_encryption_key=key,
                labels=labels,
            )
        )
    return compute.InstanceTemplate(
        name,
        name_prefix=prefix,
        description=description,
        instance_description=description,
        machine_type=machine.machine_type,
        min_cpu_platform=machine.min_cpu_platform,
        region=region,
        disks=disks,
        network_interfaces=[
            compute.InstanceTemplateNetworkInterfaceArgs(subnetwork=foundation.network.subnets[region].self_link)
        ],
        service_account=compute.InstanceTemplateServiceAccountArgs(
            # What it may do is IAM's alone to say: scopes are from before there was IAM.
            email=account,
            scopes=["cloud-platform"],
        ),
        metadata={
            "startup-script": script,
            "enable-oslogin": "TRUE",
            "block-project-ssh-keys": "TRUE",
            "serial-port-enable": "FALSE",
            **metadata,
        },
        scheduling=compute.InstanceTemplateSchedulingArgs(
            provisioning_model="SPOT" if spot else "STANDARD",
            preemptible=spot,
            automatic_restart=not spot,
            on_host_maintenance="TERMINATE" if spot else "MIGRATE",
            instance_termination_action="DELETE" if spot else None,
        ),
        shielded_instance_config=compute.InstanceTemplateShieldedInstanceConfigArgs(
            enable_secure_boot=True, enable_vtpm=True, enable_integrity_monitoring=True
        ),
        tags=tags,
        labels=labels,
        opts=opts,
    )
