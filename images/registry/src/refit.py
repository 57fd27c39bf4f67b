"""`store`: what the steps of a refit left, put together as one finished training, and stored as a version.

Owns: which of the steps' files make up a version, and what `training.json` says of them. Deliberately not: storing (it
ends as `mlops-registry store`), and any judgement of the model: what is not whole is refused.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

from errors import InputError

FORMAT = "h2o-mojo"
TRAINING = "training.json"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    root = _Parser(prog="refit.py", description="Make a version of what a refit's steps left.", allow_abbrev=False)
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in (
        ("assemble", "write RUN_DIR with its training.json"),
        ("store", "assemble, then run `mlops-registry store`, which reads its own settings from the environment"),
    ):
        command = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        command.add_argument("--model", required=True, type=Path, metavar="FOLDER", help="the winning trial")
        command.add_argument("--library", required=True, type=Path, metavar="FOLDER", help="the packager's output")
        command.add_argument(
            "--evaluation", required=True, type=Path, metavar="FILE", help="test metrics by the library"
        )
        command.add_argument("--features", required=True, type=Path, metavar="FOLDER", help="what was trained on")
        command.add_argument("--baseline", required=True, type=Path, metavar="FOLDER", help="the baseline's metrics")
        command.add_argument(
            "--parameters", required=True, metavar="JSON", help="the workflow's parameters, as Argo lists them"
        )
        command.add_argument(
            "--made-by",
            action="append",
            default=[],
            metavar="STEP=UID",
            help="the workflow whose step's result was used",
        )
    return root


def main(argv: list[str] | None = None) -> int:
    """Run the command line; give its exit code."""
    try:
        options = parser().parse_args(argv)
        run_dir = Path(_environment("RUN_DIR"))
        assemble(options, run_dir, _environment("ALLOC_ID"))
        if options.command == "store":
            sys.stdout.flush()
            os.execvp("mlops-registry", ["mlops-registry", "store"])  # noqa: S606 - its exit code and message are ours
    except InputError as error:
        return _say(error, 2)
    except KeyError as error:
        return _say(f"a step did not leave what it should: {error} is missing in its record", 2)
    except OSError as error:
        return _say(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    return 0


def assemble(options: argparse.Namespace, run_dir: Path, run: str) -> None:
    """Write a finished training to `run_dir`; training.json last.

    Raises:
      InputError: A step left something else than it should.
    """
    trial = _read(options.model / "trial.json")
    package = _read(options.library / "package.json")
    features, schema = _read(options.features / "features.json"), _read(options.features / "schema.json")
    if package["model_digest"] != trial["model_digest"]:
        raise InputError("the library carries another model than the trial that was chosen; package it again")
    shutil.rmtree(run_dir, ignore_errors=True)
    (run_dir / "model").mkdir(parents=True)
    jar = options.library / package["jar"]
    base = jar.name.removesuffix(".jar")
    for source in (
        options.model / "model" / "model.zip", jar, jar.with_name(f"{base}.pom"), jar.with_name(f"{base}-sources.jar"),
    ):  # fmt: skip
        _copy(source, run_dir / "model" / source.name)
    for name in ("examples.json", "variable_importance.json", "selection.json"):
        _copy(options.model / name, run_dir / name)
    _copy(options.library / "package.json", run_dir / "package.json")
    for name in ("features.json", "schema.json"):
        _copy(options.features / name, run_dir / name)
    _write(run_dir / "metrics.json", _metrics(options, trial, package))
    given = {one["name"]: one["value"] for one in _json(options.parameters, "--parameters")}
    sources = dict(one.partition("=")[::2] for one in options.made_by)
    training = {
        "format": FORMAT,
        "parameters": {**_typed(given), **trial["params"], "trial": trial["trial"], "library": package["coordinates"]},
        "seed": trial["seed"],
        "seed_source": "parameter" if trial["seed_source"] == "parameter" else "allocation",
        "data": _data(given, features, schema),
        "code": {
            "commit": os.environ.get("CODE_COMMIT") or None,
            "dirty": {"true": True, "false": False}.get(os.environ.get("CODE_DIRTY", "")),
        },
        "tools": _tools(trial, package, features),
        "model_digest": trial["model_digest"],
        # A result that an earlier run left is named by that run.
        "parents": [f"{step} of workflow {uid}" for step, uid in sorted(sources.items()) if uid != run],
        "files": [_file(path, run_dir) for path in sorted(run_dir.rglob("*")) if path.is_file()],
    }
    partial = run_dir / f"{TRAINING}.part"
    _write(partial, training)
    partial.rename(run_dir / TRAINING)
    reused = f"; reused: {', '.join(training['parents'])}" if training["parents"] else ""
    print(f"{package['coordinates']}: trial {trial['trial']} of seed {trial['seed']}{reused}", flush=True)


def _metrics(options: argparse.Namespace, trial: dict[str, Any], package: dict[str, Any]) -> dict[str, Any]:
    evaluation = _read(options.evaluation)
    baseline = {key: value for key, value in _read(options.baseline / "metrics.json").items() if key != "spark"}
    selection = _read(options.model / "selection.json")
    return {
        # By the packaged library, so that no reported number rests on an untranslated model.
        "test": evaluation["test"],
        "baseline": baseline,
        "training": {
            "trees_built": trial["trees_built"],
            "trial": trial["trial"],
            "trials": len(selection["candidates"]),
        },
        "validation": trial["validation"],
        "replay": package["replay"],
    }


def _typed(given: dict[str, str]) -> dict[str, Any]:
    def number(text: str) -> Any:
        return int(text) if text.isascii() and text.isdigit() else text

    kept = {name: value for name, value in given.items() if name not in ("data_uri", "model") and value != ""}
    return {name: value if name == "model_version" else number(value) for name, value in kept.items()}


def _data(given: dict[str, str], features: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "uri": given["data_uri"],
        # Of the rows in their order; those of the raw objects are in features.json.
        "sha256": features["row_digest"],
        "rows": sum(features["rows"].values()),
        "schema": schema["columns"],
    }


def _tools(trial: dict[str, Any], package: dict[str, Any], features: dict[str, Any]) -> dict[str, str]:
    return {**features["tools"], **trial["tools"], "h2o-genmodel": package["genmodel"]}


def _file(path: Path, root: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "path": path.relative_to(root).as_posix(),
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise InputError(f"{source}: {error.strerror}; a step did not leave what it should") from None


def _read(path: Path) -> Any:
    try:
        return _json(path.read_text(), str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; a step did not leave what it should") from None


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise InputError(f"{what} is not JSON") from None


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise InputError(f"{name} is not set")
    return value


def _say(error: object, code: int) -> int:
    print(f"registry: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
