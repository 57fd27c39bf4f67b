"""One trial: a GBM trained and stopped on the validation part, and what it leaves behind.

Owns: the calls to H2O, in an order and with the settings that make two runs give the same model; the trial's files.
Deliberately not: metrics on the test part, which are computed through the packaged Java library, so that no reported
number rests on an untranslated model.
"""

# This image's own environment has them, the platform's has not:
# pyright: reportMissingImports=false

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import h2o
from digest import model_digest
from errors import InputError, TrainingError
from features import Features
from h2o.estimators import H2OGradientBoostingEstimator
from h2o.exceptions import H2OResponseError
from params import Number

MODEL = "gbm"


def train(features: Features, params: dict[str, Number], seed: int) -> H2OGradientBoostingEstimator:
    """Train on the server that is connected to.

    Raises:
      InputError: H2O takes the parameters for no data, or not for this.
      TrainingError: H2O gave up.
    """
    target = features.target
    # Frame names are fixed because the MOJO's uuid is made of them. Uploaded, as H2O's server refuses to read what lies
    # below a hidden folder, such as a state folder (its `file_deny_glob`).
    frames = {
        part: h2o.upload_file(str(path), destination_frame=f"{part}.hex") for part, path in features.files.items()
    }
    for part, frame in frames.items():
        if frame.nrow != features.rows[part]:
            raise TrainingError(
                f"H2O read {frame.nrow} rows of {part}.parquet, which has {features.rows[part]}; nothing was trained"
            )
        for name, kind in frame.types.items():
            if kind == "string" or name == target:
                frame[name] = frame[name].asfactor()
    settings: dict[str, Any] = {**params, "stopping_metric": "AUC"}
    if not params["stopping_rounds"]:
        del settings["stopping_metric"], settings["stopping_tolerance"]
    model = H2OGradientBoostingEstimator(model_id=MODEL, distribution="bernoulli", seed=seed, **settings)
    try:
        model.train(x=features.columns, y=target, training_frame=frames["train"], validation_frame=frames["validation"])
    except H2OResponseError as error:
        # What H2O can only judge with the data before it, such as more `min_rows` than there are.
        said = str(getattr(error.args[0], "msg", error)).rpartition("Details: ")[2]
        said = said.replace("ERRR on field: _", "").strip().rstrip(".")
        raise InputError(f"H2O refuses these parameters: {said}; nothing was trained") from None
    return model


def write(model: H2OGradientBoostingEstimator, features: Features, output: Path) -> dict[str, Any]:
    """Write the MOJO, its examples, its importance and its validation metrics; give what `trial.json` says of them."""
    (output / "model").mkdir()
    mojo = output / "model" / "model.zip"
    Path(model.download_mojo(path=str(output / "model"))).rename(mojo)
    features.write_test(output / "test.csv")

    positions, inputs = features.examples()
    # H2O prints a double with all digits that tell it from its neighbours, so nothing is lost on the way through text.
    header, *rows = model.predict(h2o.get_frame("test.hex")).as_data_frame(use_pandas=False)
    label, positive = header.index("predict"), header.index(features.labels[1])
    examples = [
        {"input": row, "prediction": float(rows[at][positive]), "label": rows[at][label]}
        for at, row in zip(positions, inputs, strict=True)
    ]
    _dump(
        output / "examples.json",
        {"target": features.target, "positive": features.labels[1], "columns": features.columns, "examples": examples},
    )

    importance = [
        {"variable": name, "relative": relative, "scaled": scaled, "percentage": percentage}
        for name, relative, scaled, percentage in model.varimp() or []
    ]
    _dump(output / "variable_importance.json", importance)

    found = model.model_performance(valid=True)
    validation = {
        "rows": features.rows["validation"],
        "auc": found.auc(),
        "pr_auc": found.aucpr(),
        "log_loss": found.logloss(),
        "brier": found.mse(),
    }
    trees = int(model.summary()["number_of_trees"][0])
    _dump(
        output / "metrics.json",
        {"validation": validation, "training": {"trees_built": trees, "train_auc": model.auc(train=True)}},
    )
    return {
        "validation": validation,
        "trees_built": trees,
        "model_digest": model_digest(mojo),
        "h2o_version": h2o.__version__,
        "tools": {
            "h2o": h2o.__version__,
            "python": platform.python_version(),
            "java": _java(),
        },
    }


def _java() -> str:
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    return said.split('"')[1]


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
