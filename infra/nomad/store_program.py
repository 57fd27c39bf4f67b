"""The store program in the data bucket, for the clients of all regions: one object for each version that was deployed.

Owns the upload. What the program is, and that a client starts only the version of its own boot script, is in `boot.py`.
"""

import pulumi
import pulumi_random
from pulumi_gcp import storage

from infra import outputs
from infra.foundation.foundation import Foundation
from infra.nomad.boot import StoreProgram
from infra.settings import PROJECT


class StoreProgramUpload(pulumi.ComponentResource):
    """The store program, uploaded.

    Attributes:
        program: The program.
        uploaded: The object.
    """

    program: StoreProgram
    uploaded: storage.BucketObject

    def __init__(self, name: str, *, foundation: Foundation, opts: pulumi.ResourceOptions | None = None) -> None:
        """Upload it; `opts` has the providers of Google Cloud and random."""
        super().__init__(f"{PROJECT}:nomad:StoreProgramUpload", name, None, opts)
        self.program = StoreProgram()
        # The bucket may have a retention policy, under which no name is written twice: so a version that comes back,
        # by a revert, gets another name than it had. Clients look for it by what all its names begin with.
        upload = pulumi_random.RandomId(
            f"{name}-name",
            byte_length=4,
            keepers={"content": self.program.content},
            opts=pulumi.ResourceOptions(parent=self),
        )
        files = {path: pulumi.FileAsset(str(file)) for path, file in self.program.files.items()}
        self.uploaded = storage.BucketObject(
            f"{name}-object",
            name=outputs.concat(self.program.objects, upload.hex, ".zip"),
            bucket=foundation.buckets.by_use["data"].name,
            source=pulumi.AssetArchive(dict(files)),
            content_type="application/zip",
            # Machines of an older template still start with it.
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True, delete_before_replace=False),
        )
        self.register_outputs({})
