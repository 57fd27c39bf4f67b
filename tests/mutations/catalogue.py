"""The list of changes: one file a theme, each change an edit of one to three lines of a real file.

Owns reading them and making one in a checkout. A change whose text is not there any more is an error and not a pass:
the list is held to the files that it is about.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

HERE = Path(__file__).parent


class CatalogueError(Exception):
    """The list cannot be used as it is; the message says which change and why."""


class Mutation(BaseModel):
    """One change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9-]+$", description="Its name.")
    what: str = Field(pattern=r"^[A-Z][^|\n]*\.$", description="What would follow, in one sentence.")
    file: str = Field(description="The file that is edited, relative to the checkout.")
    old: str = Field(min_length=1, description="The text that is replaced.")
    new: str = Field(description="The text in its place.")
    count: int = Field(default=1, ge=1, description="How often the text is there; each is replaced.")
    stacks: tuple[str, ...] = Field(min_length=1, description="The stacks in which it shows.")
    theme: str = Field(default="", description="The list's file, by which it is found.")

    def edited(self, text: str) -> str:
        """The file's text with the change.

        Raises:
            CatalogueError: The text is not there, or not as often as is said.
        """
        if (found := text.count(self.old)) != self.count:
            raise CatalogueError(
                f"{self.id}: {self.file} has its text {found} times and not {self.count}, so it changes nothing that "
                f"is known; mend tests/mutations/{self.theme}.yaml"
            )
        return text.replace(self.old, self.new)


def read(folder: Path = HERE) -> list[Mutation]:
    """Every change, by theme.

    Raises:
        CatalogueError: A file of the list is wrong, or two changes have one id.
    """
    found: list[Mutation] = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            listed = TypeAdapter(list[Mutation]).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
        except (yaml.YAMLError, ValidationError) as error:
            raise CatalogueError(f"{file.name}: {' '.join(str(error).split())[:300]}") from None
        found += [one.model_copy(update={"theme": file.stem}) for one in listed]
    if twice := [name for name, times in Counter(one.id for one in found).items() if times > 1]:
        raise CatalogueError(f"{', '.join(twice)}: several changes have this id; give each its own")
    return found


def check(mutations: Sequence[Mutation], root: Path) -> None:
    """Hold the list to a checkout.

    Raises:
        CatalogueError: A change cannot be made in it, or would change nothing.
    """
    problems = []
    for one in mutations:
        file = root / one.file
        try:
            text = file.read_text(encoding="utf-8") if file.is_file() else ""
            if one.edited(text) == text:
                problems.append(f"{one.id}: old and new text are the same, so it changes nothing; mend it")
        except CatalogueError as error:
            problems.append(str(error))
    if problems:
        raise CatalogueError("\n".join(problems))


@contextmanager
def made(mutation: Mutation, tree: Path) -> Iterator[None]:
    """Make a change in a checkout, and take it back."""
    file = tree / mutation.file
    before = file.read_text(encoding="utf-8")
    file.write_text(mutation.edited(before), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")
