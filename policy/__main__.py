"""Pulumi's policy pack; starting it blocks, so everything else is importable from `policy.pack`."""

import datetime
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pulumi_policy import PolicyPack

from policy.pack import mark_secrets, policies
from policy.rules import ALL
from policy.settings import PolicyError, load

stack = os.environ.get("PULUMI_STACK")
if not stack:
    sys.exit("Pulumi does not say which stack it is (PULUMI_STACK), so no policy was applied; use a newer `pulumi`")
try:
    found = policies(ALL, load(stack), datetime.datetime.now(tz=datetime.UTC).date())
except PolicyError as error:
    sys.exit(str(error))
mark_secrets()
PolicyPack(name="hybrid-mlops", policies=found)
