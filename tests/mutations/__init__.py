"""Changes that a review must not miss, and what catches each: `python -m tests.mutations`."""
