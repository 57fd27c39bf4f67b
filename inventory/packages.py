"""Providers' packages of which only the modules are loaded that the program uses.

A package such as `pulumi_gcp.compute` imports each of its 350 resources when it is imported. In a recorded program it
imports the one that is asked for. Owns that alone, for packages that Pulumi's generator wrote; a name whose module
cannot be told from it makes the whole package load, as Python would have. Standard library only: it is run in the
process of `program.py`.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, cast

_GENERATED = "# Export this package's modules as members:"
"""What stands in the `__init__.py` of each generated package that has resources."""


def load_what_is_used() -> None:
    """Apply it to every package of a provider that is imported from now on."""
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # A provider's outermost package registers its types, so it is loaded as it is.
        if path is None or not fullname.startswith("pulumi_"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if (
            spec
            and spec.loader
            and spec.origin
            and spec.submodule_search_locations
            and _GENERATED in Path(spec.origin).read_text(encoding="utf-8")
        ):
            spec.loader = _Package(spec.loader, Path(spec.origin).parent)
        return spec


class _Package(Loader):
    def __init__(self, loader: Loader, folder: Path) -> None:
        self._whole = loader
        self._modules = {_plain(path.stem): path.stem for path in folder.glob("*.py")}

    def homes(self, name: str) -> list[str]:
        """The modules that a name may be in."""
        if name.startswith("__"):
            return []
        # Instance is in instance.py, Namespace in Namespace.py, get_zones_output in get_zones.py, others in _inputs.py.
        homes = self._modules.get(_plain(name.removesuffix("_output"))), self._modules.get("inputs")
        return [home for home in homes if home]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._whole.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _Members

    def load(self, module: ModuleType) -> None:
        """Run the package's own code."""
        module.__class__ = ModuleType
        self._whole.exec_module(module)


class _Members(ModuleType):
    """A package whose own code runs only when a name is asked for whose module is not known."""

    def __getattr__(self, name: str) -> Any:
        loader = cast("_Package", self.__loader__)
        for home in loader.homes(name):
            module = importlib.import_module(f"{self.__name__}.{home}")
            if name == home or hasattr(module, name):
                setattr(self, name, getattr(module, name, module))
                return self.__dict__[name]
        loader.load(self)
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # Python puts each imported module into its package. The package's own code puts the class of that name there.
        own_name = isinstance(value, ModuleType) and hasattr(value, name)
        super().__setattr__(name, getattr(value, name) if own_name else value)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
