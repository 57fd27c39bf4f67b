"""What a change does to running stacks, from Pulumi's own previews, as one comment that a reviewer decides from."""

from mlops.plan.comment import LIMIT
from mlops.review.findings import Finding, Review, review, summary
from mlops.review.markdown import MARKER, render
from mlops.review.preview import Preview, ReviewError, Step, read_plan, read_preview

__all__ = [
    "LIMIT",
    "MARKER",
    "Finding",
    "Preview",
    "Review",
    "ReviewError",
    "Step",
    "read_plan",
    "read_preview",
    "render",
    "review",
    "summary",
]
