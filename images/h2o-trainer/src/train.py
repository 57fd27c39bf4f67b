"""`train`: one trial of the refit, features in, MOJO out; `select`: the best of several trials on validation.

Owns: the command line, its messages and exit codes, and that a folder holds a whole trial or none: `trial.json` is
written last. Deliberately not: which trials to run and where (the workflow does).
"""

import argparse
import contextlib
import hashlib
import json
import math
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from errors import InputError, TrainingError
from params import PARAMETERS, choose

SEEDS = 2**31
FILES = ("model", "test.csv", "examples.json", "variable_importance.json", "metrics.json", "trial.json")
LOG = "h2o.log"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    root = _Parser(
        prog="train.py",
        description="Train an H2O GBM on features, or pick the best of several trials.",
        allow_abbrev=False,
    )
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train one trial",
        description="Train one trial. Options without a value, or with an empty one, are chosen: trial 0 takes the "
        "defaults, each further trial draws from a fixed grid by seed and trial number.",
        allow_abbrev=False,
    )
    train.add_argument(
        "--features", required=True, metavar="FOLDER|gs://...", help="holds train, validation and test .parquet"
    )
    train.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="the trial's files; what it held of them is replaced",
    )
    train.add_argument("--trial", default="0", metavar="N", help="the trial's number (default 0)")
    train.add_argument("--seed", default="", metavar="S", help=f"0 to {SEEDS - 1}; empty: made of --run-id")
    train.add_argument("--run-id", default="", help="the run's unique id, which a seed is made of if none is given")
    train.add_argument("--target", default="Purchase", help="the column to predict (default Purchase)")
    train.add_argument("--nthreads", default="2", metavar="N", help="H2O's threads, 1 to 256 (default 2)")
    train.add_argument("--memory", default="1g", help="H2O's heap, like 512m or 2g (default 1g)")
    for parameter in PARAMETERS:
        default = f"default {parameter.default}" + (", drawn from trial 1 on" if parameter.grid else "")
        train.add_argument(
            parameter.option,
            default="",
            metavar=parameter.type.__name__.upper(),
            help=f"{parameter.description} ({default})",
        )

    select = commands.add_parser(
        "select",
        help="copy the best trial",
        description="Copy the trial with the highest validation AUC; of equals, the lowest number.",
    )
    select.add_argument("trials", nargs="+", type=Path, metavar="FOLDER", help="a trial's folder, or a folder of such")
    select.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="must not exist, or be empty")
    select.add_argument("--allow-failed", action="store_true", help="choose among the finished trials if some are not")
    return root


def main(argv: list[str] | None = None) -> int:
    """Run the command line; give its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    warnings.showwarning = lambda message, *_, **__: print(f"note: {' '.join(str(message).split())}", flush=True)
    try:
        options = parser().parse_args(argv)
        (_train if options.command == "train" else _select)(options)
    except InputError as error:
        return _say(error, 2)
    except TrainingError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("interrupted; nothing was kept", 130)
    except Exception as error:  # noqa: BLE001  the last line of stderr is the message for people, whatever happened
        return _say(f"{type(error).__name__}: {error}", 1)
    return 0


def _say(error: object, code: int) -> int:
    text = " ".join(str(error).split())
    print(f"h2o-trainer: {text if len(text) < 600 else text[:600] + '...'}", file=sys.stderr)
    return code


def _integer(name: str, text: str, low: int, high: int) -> int:
    # `int` alone would take "1_0" and " 1".
    if not (text.isascii() and text.isdigit() and len(text) < 19 and low <= int(text) <= high):
        raise InputError(f"{name}={text!r}: must be a whole number from {low} to {high}; nothing was trained")
    return int(text)


def _seed(options: argparse.Namespace) -> tuple[int, str]:
    if options.seed:
        return _integer("--seed", options.seed, 0, SEEDS - 1), "parameter"
    if not options.run_id:
        raise InputError("neither --seed nor --run-id is given; a model that cannot be trained again is not trained")
    return int.from_bytes(hashlib.sha256(options.run_id.encode()).digest()) % SEEDS, "run"


def _train(options: argparse.Namespace) -> None:
    trial = _integer("--trial", options.trial, 0, 9999)
    seed, source = _seed(options)
    params = choose(vars(options), seed, trial)
    nthreads = _integer("--nthreads", options.nthreads, 1, 256)

    import features as parts
    import server

    memory = server.parse_memory(options.memory)
    with tempfile.TemporaryDirectory(prefix="h2o-trainer-") as scratch:
        features = parts.read(options.features, options.target, Path(scratch))
        rows = ", ".join(f"{count} {part}" for part, count in features.rows.items())
        with _clean(options.output):
            print(f"trial {trial}: seed {seed}, {rows} rows, {len(features.columns)} columns", flush=True)
            print(f"trial {trial}: " + ", ".join(f"{name} {value}" for name, value in params.items()), flush=True)
            values = features.rows["train"] * len(features.columns)
            with server.running(nthreads, memory, values, Path(scratch), options.output / LOG) as address:
                print(f"trial {trial}: H2O is up on {address}", flush=True)
                import gbm

                result = gbm.write(gbm.train(features, params, seed), features, options.output)
            facts = {
                "trial": trial,
                "seed": seed,
                "seed_source": source,
                "params": params,
                "target": options.target,
                **result,
            }
            _write_last(options.output / "trial.json", facts)
    auc = result["validation"]["auc"]
    print(
        f"trial {trial}: {result['trees_built']} trees, validation AUC {auc:.4f}, model {result['model_digest'][:12]}",
        flush=True,
    )


@contextlib.contextmanager
def _clean(output: Path) -> Iterator[None]:
    """Begin without an earlier trial's files in `output`; after a failure, leave only the log there."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        _remove(output, LOG, *FILES)
    except OSError as error:
        raise InputError(f"--output={output}: {error.strerror}; nothing was trained") from None
    try:
        yield
    except BaseException:
        _remove(output, *FILES)
        raise


def _remove(output: Path, *names: str) -> None:
    for name in names:
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_last(path: Path, value: Any) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.rename(path)


def _select(options: argparse.Namespace) -> None:
    folders = [found for given in options.trials for found in _trial_folders(given)]
    trials: list[tuple[dict[str, Any], Path]] = []
    unfinished = []
    for folder in folders:
        try:
            facts = json.loads((folder / "trial.json").read_text())
            if not (math.isfinite(facts["validation"]["auc"]) and isinstance(facts["trial"], int)):
                raise ValueError
            trials.append((facts, folder))
        except FileNotFoundError:
            unfinished.append(str(folder))
        except (ValueError, TypeError, KeyError, OSError):
            raise InputError(f"{folder}/trial.json is not a trial's record; train that trial again") from None
    if unfinished and not options.allow_failed:
        raise InputError(
            f"no trial.json in {', '.join(unfinished)}: not finished; train again, "
            "or choose among the others with --allow-failed"
        )
    if not trials:
        raise InputError("no finished trial among " + ", ".join(map(str, options.trials)))
    numbers = [facts["trial"] for facts, _ in trials]
    if len(set(numbers)) != len(numbers):
        raise InputError(f"trial numbers {sorted(numbers)} repeat; trials of one refit are numbered apart")
    if options.output.exists() and (not options.output.is_dir() or any(options.output.iterdir())):
        raise InputError(f"--output={options.output}: exists and is not an empty folder; name another")

    # Beyond 12 digits an AUC is rounding, which must not decide.
    trials.sort(key=lambda found: (-round(found[0]["validation"]["auc"], 12), found[0]["trial"]))
    best, folder = trials[0]
    partial = options.output.with_name(options.output.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial, ignore=shutil.ignore_patterns(LOG))
    kept = ("trial", "seed", "params", "validation", "trees_built", "model_digest")
    in_order = sorted((facts for facts, _ in trials), key=lambda facts: facts["trial"])
    candidates = [{key: facts[key] for key in kept} for facts in in_order]
    chosen = {"winner": best["trial"], "by": "validation auc", "candidates": candidates, "unfinished": unfinished}
    (partial / "selection.json").write_text(json.dumps(chosen, indent=1) + "\n")
    if options.output.exists():
        options.output.rmdir()
    partial.rename(options.output)
    for facts in candidates:
        mark = "  <- best" if facts["trial"] == best["trial"] else ""
        print(
            f"trial {facts['trial']}: validation AUC {facts['validation']['auc']:.4f}, "
            f"{facts['trees_built']} trees{mark}"
        )


def _trial_folders(given: Path) -> list[Path]:
    if not given.is_dir():
        raise InputError(f"{given}: no such folder; name the folders that trials were written to")
    if (given / "trial.json").exists():
        return [given]
    inner = sorted(path for path in given.iterdir() if path.is_dir() and path.name != "model")
    return inner or [given]


if __name__ == "__main__":
    sys.exit(main())
