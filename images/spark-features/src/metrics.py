"""Measures of a binary classifier's probabilities, as the platform's other programs define them, ties included."""

# This image's own environment has them, the platform's has not:
# pyright: reportMissingImports=false
import numpy as np

EPSILON = 1e-7


def measures(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Give ROC AUC, average precision, log loss and Brier score of probabilities against labels 0 and 1."""
    order = np.argsort(-scores, kind="stable")
    positive = labels[order].astype(float)
    # Rows of equal score stand at one threshold: they count together.
    last = np.r_[np.nonzero(np.diff(scores[order]))[0], len(scores) - 1]
    hits, selected = np.cumsum(positive)[last], last + 1.0
    new_hits = np.diff(hits, prepend=0)
    new_misses = np.diff(selected - hits, prepend=0)
    p = np.clip(scores, EPSILON, 1 - EPSILON)
    return {
        "auc": float(np.sum(new_misses * (hits - new_hits / 2)) / (hits[-1] * (selected - hits)[-1])),
        "pr_auc": float(np.sum(new_hits * hits / selected) / hits[-1]),
        "log_loss": float(-np.mean(np.where(labels == 1, np.log(p), np.log(1 - p)))),
        "brier": float(np.mean((scores - labels) ** 2)),
    }
