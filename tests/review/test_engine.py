"""Pulumi's own engine still says what the golden previews say, and what `mlops review` reads."""

from pathlib import Path

import pytest

from mlops.changes.findings import review as judged
from mlops.changes.findings import summary
from mlops.changes.preview import read_preview
from tests.engine.stack import needs_pulumi
from tests.review import engine

pytestmark = [pytest.mark.engine, pytest.mark.whole, needs_pulumi]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of previews, made now."""
    folder = tmp_path_factory.mktemp("made")
    engine.store(engine.make(tmp_path_factory.mktemp("engine")), folder)
    return folder


@pytest.mark.parametrize("name", engine.GOLDEN)
def test_a_preview_made_now_becomes_the_golden_comment(made: Path, name: str) -> None:
    golden = (engine.PREVIEWS / f"{name}.md").read_text(encoding="utf-8")
    assert engine.comment(made, name) == golden, "if so it shall be: python -m tests.review.engine"


def test_a_preview_that_tells_every_step_is_reviewed_the_same(made: Path) -> None:
    """With `--show-replacement-steps` a replacement is three steps, with `--show-sames` what stays is steps too."""
    short, long = (summary(judged([read_preview(made / f"{name}.json")])) for name in ("change", "change.steps"))
    assert long == short
