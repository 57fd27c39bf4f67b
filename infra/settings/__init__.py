"""The settings of a stack: one frozen tree that mirrors `stacks/Pulumi.<stack>.yaml`.

The tree is in `tree.py` and the files that it is put together from, a subject each; `checks.py` holds what no single
field can know; `reading.py` reads a stack; `reference.py` writes the schema and the table of keys.
"""

from infra.settings.fields import SettingsError
from infra.settings.jobs import JobSettings
from infra.settings.kubernetes import KubernetesSettings
from infra.settings.reading import (
    PROJECT,
    ROOT,
    STACKS,
    from_pulumi,
    load,
    mistakes_told_plainly,
    parse,
    read_config,
    stacks,
)
from infra.settings.tree import Settings

__all__ = [
    "PROJECT",
    "ROOT",
    "STACKS",
    "JobSettings",
    "KubernetesSettings",
    "Settings",
    "SettingsError",
    "from_pulumi",
    "load",
    "mistakes_told_plainly",
    "parse",
    "read_config",
    "stacks",
]
