"""Packages of which a recorded program loads only what it uses: it must get what it would have got anyway."""

import json
import subprocess
import sys
from pathlib import Path

from infra.settings import ROOT, stacks
from tests.bench.plan import classes
from tests.stack_inventories import inventory

_PROGRAM = """
import importlib, json, runpy, sys
runpy.run_path(sys.argv[1])["load_what_is_used"]()
import pulumi
names = json.loads(sys.argv[2])
lazy = {(module, name): getattr(importlib.import_module(module), name) for module, name in names}
for (module, name), value in lazy.items():
    package = sys.modules[module]
    try:
        package.no_such_name
    except AttributeError:
        # Asking for what is not there has made Python run the package's own code.
        print(module, name, type(package).__name__, getattr(package, name) is value)
"""


def _run(program: str, *arguments: str, path: Path = ROOT) -> list[str]:
    command = [sys.executable, "-c", program, str(ROOT / "inventory" / "packages.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=path, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_a_stack_uses_is_what_the_whole_package_has() -> None:
    names = sorted({each for stack in stacks() for each in classes(inventory(stack))})
    names += [
        ("pulumi_gcp.compute", "InstanceBootDiskArgs"),
        ("pulumi_gcp.storage", "get_project_service_account_output"),
    ]
    names += [("pulumi_gcp.compute", "outputs"), ("pulumi_kubernetes.core.v1", "Namespace")]
    lines = _run(_PROGRAM, json.dumps(names))
    assert lines == [f"{module} {name} module True" for module, name in dict.fromkeys(names)]


def test_a_resource_is_loaded_without_the_others_of_its_package() -> None:
    program = """
import runpy, sys
runpy.run_path(sys.argv[1])["load_what_is_used"]()
from pulumi_gcp import compute
compute.Network, compute.InstanceBootDiskArgs
print(*sorted(name for name in sys.modules if name.startswith("pulumi_gcp.compute.")))
"""
    loaded = ["pulumi_gcp.compute._inputs", "pulumi_gcp.compute.network", "pulumi_gcp.compute.outputs"]
    assert _run(program) == [" ".join(loaded)]


def test_a_name_that_tells_no_module_loads_the_whole_package(tmp_path: Path) -> None:
    package = tmp_path / "pulumi_x" / "y"
    package.mkdir(parents=True)
    (tmp_path / "pulumi_x" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("# Export this package's modules as members:\nfrom .one import *\n")
    (package / "one.py").write_text("class One: pass\nclass Another: pass\n")
    program = """
import runpy, sys
sys.path.insert(0, "")
runpy.run_path(sys.argv[1])["load_what_is_used"]()
import pulumi_x.y as y
print(y.One.__name__, type(y).__name__, y.Another.__name__, type(y).__name__, y.one.One is y.One)
"""
    assert _run(program, path=tmp_path) == ["One _Members Another module True"]
    star = program.replace("import pulumi_x.y as y\n", "from pulumi_x.y import *\n").replace(
        "print(y.One.__name__", "y = sys.modules['pulumi_x.y']; print(One.__name__"
    )
    assert _run(star, path=tmp_path) == ["One module Another module True"]


def test_a_module_that_was_imported_by_itself_does_not_stand_for_its_class() -> None:
    program = """
import runpy, sys
runpy.run_path(sys.argv[1])["load_what_is_used"]()
import pulumi_kubernetes.core.v1.Namespace
print(type(pulumi_kubernetes.core.v1.Namespace).__name__)
"""
    assert _run(program) == ["type"]
