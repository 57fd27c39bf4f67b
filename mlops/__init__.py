"""The `mlops` command: plan, run and look after model versions of every lane."""
