"""What may be given to a run passes every later check of it: nothing is refused after a training that the start let in.

One table has each parameter's longest and strangest values, on both sides of the limit; numbers bring theirs with them.
The later checks are the real ones: of the images, of Maven's coordinates, of the registry.
"""

import json
import subprocess
import sys
from decimal import Context, Decimal
from typing import Any

import pytest

from infra.settings import ROOT
from mlops import parameters
from mlops.parameters import RUN_FILES, ParameterError
from mlops_registry.manifest import Data
from mlops_registry.names import BucketPath, file_path, model_name, version_id

IMAGES = ROOT / "images"
CONTEXT = Context(prec=60)
UID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
BUCKET = ".".join(["b" * 63, "b" * 63, "b" * 63, "b" * 30])
PREFIX = "/" + "/".join(["p" * 149] * 4)
PATH = "/".join(["d" * 9] * 19 + ["f" * 10])
# As long as an address may be, of what grows most when it is recorded.
QUOTES, KEYS = ["http://h/" + '"' * 2039, "http://h/?" + "&".join(f"key{n}" for n in range(270))]

RUN_PATH = (
    [PATH, "/".join("a" * 32), "a", "_a.b-c/d"],
    [PATH + "f", "/".join("a" * 33), "../a", "a..b", "/a", ".a", *RUN_FILES, *(f"{name}/x" for name in RUN_FILES)],
)
VERSION = (["1", "9" * 32, "1.0-rc.1", "1.", "1-SNAPSHOT"], ["9" * 33, "1..2", ".1", "-1", "1_0", "1+2"])
# By pipeline and parameter: what is let in, and what is not.
TEXTS: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "sales-close-prediction": {
        "save_path": (["s" * 64, "a_v1_", "0-"], ["s" * 65, "a.b", "_a", "a/b"]),
        "data_path": RUN_PATH,
        "prediction_path": RUN_PATH,
        "data_url": (
            [
                QUOTES,
                KEYS,
                "https://a-b.example.:8443/x?a=|",
                "salesforce+https://login.example.com:8443",
                "http://[::1]/",
            ],
            [
                QUOTES + '"',
                "http://256.0.0.1/",
                "http://1/",
                "http://0x7f.1/",
                "http://a.0x/",
                "http://a%62.example/",
                "http://a..b/",
                "http://metadata.google.internal/",
                "salesforce+https://login.example.com/services",
            ],
        ),
        "gcp_bucket_path": (
            [f"gs://{BUCKET}{PREFIX}", "gs://abc"],
            [f"gs://{BUCKET}{PREFIX}p", f"gs://{'b' * 64}", f"gs://{BUCKET}.bb", "gs://ab", "gs://abc/p/"],
        ),
        "model_version": VERSION,
    },
    "model-refit": {
        "model": (["m" * 63, "int", "a-", "a--b"], ["m" * 64, "A", "1a", "a_b", "a.b"]),
        "model_version": VERSION,
        "data_uri": (
            [f"gs://{BUCKET}{PREFIX}", "gs://abc"],
            [f"gs://{BUCKET}{PREFIX}p", "gs://abc/a b", "gs://abc/*", "gs://ab"],
        ),
        "memoise": (["true", "false"], ["True", "1"]),
    },
    "package-mojo": {
        "model_key": ([PATH, "model/a"], [PATH + "f", "../a"]),
        "group": (
            ["g" * 64, ".".join(["g" * 64] * 10), "a.int", "a-b_c"],
            ["g" * 65, ".".join("g" * 11), "A", "a.", "1a"],
        ),
        "artifact": (["a" * 63, "int"], ["a" * 64, "A", "a.b"]),
        "version": (["9" * 64, "1.0-SNAPSHOT.1"], ["9" * 65, "1..2", "1-SNAPSHOT", "1-snapshot"]),
    },
}
GIVEN = {
    "sales-close-prediction": {
        "save_path": "sales",
        "data_path": "data.csv",
        "prediction_path": "predictions.csv",
        "data_url": "https://example.com/data.csv",
        "gcp_bucket_path": "gs://abc/models",
        "model_version": "1",
    },
    "model-refit": {"data_uri": "gs://abc/raw"},
    "package-mojo": {"model_key": "models/a", "artifact": "a", "version": "1"},
}
PIPELINES = {name: parameters.load(path) for name, path in parameters.files(ROOT / "jobs").items() if name in GIVEN}


def bounds(parameter: parameters.Parameter) -> tuple[list[str], list[str]]:
    """A number's least and greatest value, written at length, and the next ones beyond."""
    least, most = Decimal(str(parameter.minimum)), Decimal(str(parameter.maximum))
    step = Decimal(1) if parameter.type == "integer" else Decimal("1e-25")
    longest = [] if parameter.type == "integer" else [f"{CONTEXT.add(least, step):f}", "0.9" + "9" * 29]
    good = [f"{least:f}", f"{most:f}", *(text for text in longest if least <= Decimal(text) <= most)]
    return good, [f"{beyond:f}" for beyond in (CONTEXT.subtract(least, step), CONTEXT.add(most, step))]


def values(pipeline: str, name: str) -> tuple[list[str], list[str]]:
    parameter = PIPELINES[pipeline].parameters[name]
    return TEXTS[pipeline][name] if parameter.type == "string" else bounds(parameter)


CASES = [(pipeline, name) for pipeline, declared in PIPELINES.items() for name in declared.parameters]
GOOD = [(pipeline, name, text) for pipeline, name in CASES for text in values(pipeline, name)[0]]
BAD = [(pipeline, name, text) for pipeline, name in CASES for text in values(pipeline, name)[1]]


def resolved(pipeline: str, name: str, text: str) -> dict[str, str]:
    return PIPELINES[pipeline].resolve(GIVEN[pipeline] | {name: text})


@pytest.mark.parametrize(("pipeline", "name", "text"), BAD)
def test_what_a_later_step_would_refuse_is_refused_at_the_start(pipeline: str, name: str, text: str) -> None:
    with pytest.raises(ParameterError):
        resolved(pipeline, name, text)


TENSORNODE = """
const { readConfig, readRunDir } = await import(`${process.argv[1]}/config.js`);
const { parseUrl, publicUrl } = await import(`${process.argv[1]}/net.js`);
const { loginUrl } = await import(`${process.argv[1]}/salesforce.js`);
const answers = JSON.parse(process.argv[2]).map((env) => {
  try {
    const { dataUrl } = readConfig(env);
    readRunDir(env);
    if (!dataUrl.startsWith('salesforce+')) return { uri: publicUrl(parseUrl(dataUrl).href) };
    loginUrl(dataUrl, [new URL(dataUrl.replace('salesforce+', '')).hostname]);
    return { uri: dataUrl };
  } catch (error) {
    return { error: error.message };
  }
});
console.log(JSON.stringify(answers));
"""
PACKAGER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from project import parse_coordinates
print(json.dumps([vars(parse_coordinates(*each)) for each in json.loads(sys.argv[2])]))
"""
TRAINER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from params import PARAMETERS, choose
given = json.loads(sys.argv[2])
for each in given:
    choose(each, 1, 0)
print(json.dumps([parameter.name for parameter in PARAMETERS]))
"""


def asked(*command: str, of: object) -> Any:
    done = subprocess.run([*command, json.dumps(of)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def of(pipeline: str) -> list[dict[str, str]]:
    """A run's values for each value that the start lets in."""
    return [resolved(pipeline, name, text) for of_, name, text in GOOD if of_ == pipeline]


def checked_version(path: str, model: str, version: str, files: list[str]) -> None:
    """What the registry looks at when a version is stored; an object's name has 1,024 bytes at the most."""
    place = BucketPath.parse(path)
    assert len(f"{version}.part") <= 255, "the run's own directory"
    for file in files:
        assert len(place.version(model_name(model), version_id(version), file_path(file))) <= 1024
    assert len(place.version(model, version, "verifications/20261130T200000.000000Z.json")) <= 1024


def test_a_training_of_tensornode_takes_what_the_start_takes() -> None:
    runs = of("sales-close-prediction")
    given = []
    for run in runs:
        version = f"{run['save_path']}_v{run['model_version']}_{UID}"
        checked_version(run["gcp_bucket_path"], "sales-close-prediction", version, [run["prediction_path"]])
        given.append(
            {name.upper(): value for name, value in run.items()} | {"ALLOC_ID": UID, "RUN_DIR": f"/m/{version}"}
        )
    sources = str(IMAGES / "tensornode" / "src")
    for run, answer in zip(
        runs, asked("node", "--input-type=module", "--eval", TENSORNODE, sources, of=given), strict=True
    ):
        assert "error" not in answer, run
        Data.model_validate({"uri": answer["uri"], "sha256": "0" * 64, "rows": 1, "schema": []})


def test_a_refit_takes_what_the_start_takes() -> None:
    runs = of("model-refit")
    group, digest = "io.hybrid_mlops.models", "0123456789abcdef"
    wanted = [(f"{group}:{run['model']}:{run['model_version']}-{{digest}}", digest) for run in runs]
    libraries = asked(sys.executable, "-c", PACKAGER, str(IMAGES / "mojo-packager" / "src"), of=wanted)
    for run, library in zip(runs, libraries, strict=True):
        version = f"{run['model']}_v{run['model_version']}_{UID}"
        jar = f"model/{library['artifact']}-{library['version']}-sources.jar"
        checked_version(f"gs://abc{PREFIX}", run["model"], version, [jar])
        Data.model_validate({"uri": run["data_uri"], "sha256": "0" * 64, "rows": 1, "schema": []})
        assert len(f"{run['data_uri']}/customers.csv".split("/", 3)[3]) <= 1024
        assert 0 <= int(run["seed"]) < 2**31
    own = ("model", "model_version", "data_uri", "trials", "seed", "memoise")
    asked_for = [{name: value for name, value in run.items() if name not in own} for run in runs]
    known = asked(sys.executable, "-c", TRAINER, str(IMAGES / "h2o-trainer" / "src"), of=asked_for)
    assert {name for each in asked_for for name in each} <= set(known)


def test_a_packaging_takes_what_the_start_takes() -> None:
    wanted = [(f"{run['group']}:{run['artifact']}:{run['version']}", "") for run in of("package-mojo")]
    asked(sys.executable, "-c", PACKAGER, str(IMAGES / "mojo-packager" / "src"), of=wanted)


def test_one_kind_of_value_is_declared_alike_everywhere() -> None:
    versions = {
        PIPELINES[name].parameters["model_version"].pattern for name in ("sales-close-prediction", "model-refit")
    }
    assert len(versions) == 1


def test_the_training_reserves_the_names_that_the_start_reserves() -> None:
    script = "console.log(JSON.stringify((await import(`${process.argv[1]}/config.js`)).RESERVED))"
    sources = str(IMAGES / "tensornode" / "src")
    assert sorted(asked("node", "--input-type=module", "--eval", script, sources, of=None)) == sorted(RUN_FILES)
