"""Which cluster a kubeconfig means: the context by its name, so that a preview shows it and a state keeps nothing else.

Owns how the file is found and what of it is refused. Deliberately not: credentials and addresses, which are the
provider's affair, and belong to whoever runs it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from definitions import documents
from infra.settings import PROJECT, SettingsError

VARIABLE = "KUBECONFIG"
_SHOWN = 5


def context(wanted: str | None) -> str:
    """The context to use: the wanted one, or else the current one, which is then known by its name.

    Raises:
        SettingsError: There is no such context, or no one file to find it in. Nothing is registered then.
    """
    path = _path()
    found = _read(path)
    names = [one["name"] for one in found.get("contexts") or () if isinstance(one, dict) and "name" in one]
    name = wanted or found.get("current-context")
    if not name:
        raise SettingsError(
            f"{path}: has no current context, so there is no cluster to register with; run `kubectl config "
            f"use-context`, or set {PROJECT}:kubernetes.context"
        )
    if name not in names:
        there = ", ".join(map(str, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
        raise SettingsError(
            f"{path}: has no context {name}, so there is no cluster to register with; it has {there or 'none'}: "
            f"correct {PROJECT}:kubernetes.context, or point {VARIABLE} at the right file"
        )
    return str(name)


@contextmanager
def out_of_the_state() -> Iterator[None]:
    """Keep the path of the caller's kubeconfig out of what is registered.

    The SDK makes the variable an input of the provider, and so a part of the state: from another machine every preview
    would show a change, and a destroy would look for the file of whoever was there last. The provider itself reads the
    variable of the process that it runs in.
    """
    path = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if path is not None:
            os.environ[VARIABLE] = path


def _path() -> Path:
    given = os.environ.get(VARIABLE)
    if not given:
        return Path.home() / ".kube" / "config"
    if os.pathsep in given:
        raise SettingsError(
            f"{VARIABLE} names more than one file, which the provider does not read, so nothing could be registered; "
            f"name one (`kubectl config view --flatten` makes one of several)"
        )
    return Path(given)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = documents.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem, fix = f"cannot be read ({error.strerror})", f"point {VARIABLE} at a kubeconfig"
    except UnicodeDecodeError:
        problem, fix = "is no text", f"point {VARIABLE} at a kubeconfig"
    except documents.DocumentError as error:
        problem, fix = error.problem, error.fix
    else:
        if isinstance(found, dict):
            return found
        problem, fix = "is no kubeconfig", f"point {VARIABLE} at one"
    raise SettingsError(f"{path}: {problem}, so there is no cluster to register with; {fix}")
