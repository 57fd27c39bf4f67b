"""Pulumi's policy pack; starting it blocks, so everything else is importable from `policy.pack`."""

import datetime
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pulumi_policy import PolicyPack

from policy.pack import policies
from policy.rules import ALL
from policy.settings import load

PolicyPack(
    name="hybrid-mlops",
    policies=policies(ALL, load(os.environ.get("PULUMI_STACK", "")), datetime.datetime.now(tz=datetime.UTC).date()),
)
