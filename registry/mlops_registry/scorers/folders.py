"""Where the folder of an image is whose program scores.

Owns the order of looking: the variable, `/app` where the image has it, the checkout's `images/` (so the registry's
image is laid out). Deliberately not: what the program is called with.
"""

import os
from pathlib import Path

from mlops_registry.errors import ScorerError


def find(image: str, program: str, variable: str) -> Path:
    """The folder of `images/<image>`.

    Args:
        image: its name.
        program: path in it that must be there.
        variable: of the environment, that names the folder.

    Raises:
        ScorerError: none has the program.
    """
    if named := os.environ.get(variable):
        folders = [Path(named)]
    else:
        folders = [Path("/app"), Path(__file__).parents[3] / "images" / image]
    for folder in folders:
        if (folder / program).is_file():
            return folder
    raise ScorerError(
        f"no {program} in {' or '.join(map(str, folders))}, so the model cannot be loaded: set {variable} to the "
        f"folder of the {image} image"
    )
