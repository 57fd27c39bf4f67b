"""How good a version is, as a table of any command shows it."""

from typing import TYPE_CHECKING

from mlops.cli.output import number

if TYPE_CHECKING:
    from mlops_registry import VersionSummary

QUALITY = ("best trial", "auc", "baseline", "verified")
"""Columns that say how good a version is; `quality` gives their cells."""


def quality(version: "VersionSummary") -> tuple[str, ...]:
    """The cells of `QUALITY`; trials are numbered from 0, and a model of which there was one trial has no best."""
    trial = "-" if version.trial is None else f"#{version.trial} of {version.trials}"
    baseline = " ".join(filter(None, (version.baseline, number(version.baseline_auc))))
    return trial, number(version.auc), baseline, version.verdict
