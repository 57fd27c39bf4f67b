"""The index in CONTRIBUTING.md of the files that a change touches, against one sample change of each kind."""

from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.house import sample_changes

INDEX = sample_changes.index((CHECKOUT / sample_changes.PAGE).read_text(encoding="utf-8"))


def test_each_kind_of_change_stands_in_the_index_and_has_a_sample() -> None:
    assert INDEX.keys() == sample_changes.SAMPLES.keys()


def test_what_the_index_does_not_name_and_what_is_not_touched_are_told() -> None:
    found = ["stacks/Pulumi.dev.yaml", "images/dice/src/dice.py", "infra/a.py"]
    named = ["stacks/Pulumi.<stack>.yaml", "images/<name>/**", "infra/<room>/<file>.py"]
    assert sample_changes.differences("setting", found, named) == [
        "setting: CONTRIBUTING.md does not name infra/a.py",
        "setting: CONTRIBUTING.md names infra/<room>/<file>.py, which the sample does not touch",
    ]


@pytest.mark.whole
def test_a_change_touches_the_files_that_the_index_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample_changes.main() == 0, capsys.readouterr().out
