"""Features and baseline as their users meet them: real Spark, real data, a bucket that speaks the real storage API."""

import gzip
import hashlib
import json
import math
import random
import shutil
import subprocess

import pytest
from raw_objects import to_csv

PARTS = ("train", "validation", "test")


def read(path):
    return json.loads(path.read_text())


def last_line(done, code):
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.fixture(scope="session")
def split_of_the_other_lane(spark):
    """Each part's rows as images/tensornode splits the same data, in its order: values, then 1 for a positive label."""
    script = """
import { pathToFileURL } from 'node:url';
const { transform } = await import(pathToFileURL(process.argv[1]));
const parts = await transform(process.argv[2]);
const rows = (part) => parts[part].rows.map(({ values, label }) => [...values, label]);
console.log(JSON.stringify(Object.fromEntries(['train', 'validation', 'test'].map((part) => [part, rows(part)]))));
"""
    module = spark.image.parent / "tensornode" / "src" / "transform.js"
    command = ["node", "--input-type=module", "--eval", script, module, spark.data]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@pytest.mark.whole
def test_both_lanes_hold_out_the_same_rows_in_the_same_order(features, split_of_the_other_lane, answers):
    facts = read(features / "features.json")
    for part in PARTS:
        expected = [[*values, ["No", "Yes"][label]] for *values, label in split_of_the_other_lane[part]]
        assert answers["rows"][part] == expected
        assert facts["rows"][part] == len(expected)
        assert facts["positives"][part] == sum(row[-1] == "Yes" for row in expected)
        lines = "".join(",".join(map(str, row)) + "\n" for row in expected)
        assert facts["row_digests"][part] == hashlib.sha256(lines.encode()).hexdigest()
    assert sum(facts["rows"].values()) == 5822


def test_both_lanes_mean_the_same_columns(spark):
    other = spark.image.parent / "tensornode" / "src" / "schema.json"
    assert read(spark.image / "src" / "schema.json") == read(other)


@pytest.mark.whole
def test_a_part_is_one_file_and_the_folder_says_what_it_holds(raw, features, objects):
    files = {path.name for path in features.iterdir()}
    assert files == {"train.parquet", "validation.parquet", "test.parquet", "schema.json", "features.json"}
    assert all(path.is_file() for path in features.iterdir())
    schema = read(features / "schema.json")
    assert [column["name"] for column in schema["columns"]] == [*objects["areas"][0][1:], *objects["customers"][0][2:]]
    assert schema["target"] == {"name": "Purchase", "negative": "No", "positive": "Yes"}
    facts = read(features / "features.json")
    for name, source in facts["sources"].items():
        content = (raw / f"{name}.csv").read_bytes()
        assert source == {
            "uri": str(raw / f"{name}.csv"),
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        }
    assert facts["tools"]["spark"] == "4.0.5"


@pytest.fixture(scope="session")
def dirty(spark, objects, bucket):
    """Transforms, in the bucket, the same records in another order with dirt among them; gives what it said."""
    pick = random.Random(1)  # noqa: S311
    area_header, areas = objects["areas"]
    header, customers = objects["customers"]

    def changed(record, at, value):
        return [*record[:at], value, *record[at + 1 :]]

    first = customers[0]
    more_areas = [changed(["B1", *areas[0][1:]], 5, ""), changed(["B2", *areas[0][1:]], 5, "3.5"), areas[7]]
    more = [
        changed(["X8", *first[1:]], 9, "1\u00a02"),
        changed(["X0", *first[1:]], 9, "  "),
        changed(["X1", *first[1:]], 9, "many"),
        changed(["X2", *first[1:]], 9, "99999999999999999999"),
        changed(["X7", *first[1:]], 9, str(-(2**63))),
        ["X3", *first[1:-1], "Maybe"],
        changed(["X4", *first[1:]], 1, "nowhere"),
        changed(["X5", *first[1:]], 1, "B1"),
        customers[3],
    ]
    # Salesforce answers numbers as doubles, and people leave blanks: the same values.
    written = [changed(record, 4, f" {record[4]}.0 ") if pick.random() < 0.5 else record for record in customers]
    shuffled = {"areas": [*areas, *more_areas], "customers": [*written, *more]}
    for records in shuffled.values():
        pick.shuffle(records)
    shuffled["customers"] = [[*record[:1], "note", *record[1:]] for record in shuffled["customers"]]
    there, address = bucket
    there.blob("raw/areas.csv").upload_from_string(to_csv(area_header, shuffled["areas"]))
    there.blob("raw/customers.csv").upload_from_string(to_csv([header[0], "Note", *header[1:]], shuffled["customers"]))
    given = ("--areas", "gs://data/raw/areas.csv", "--customers", "gs://data/raw/customers.csv")
    done = spark.submit("src/transform.py", *given, "--output", "gs://data/features/", STORAGE_EMULATOR_HOST=address)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.whole
def test_dirt_is_dropped_and_counted_and_order_does_not_matter(features, dirty, bucket):
    there, _ = bucket
    facts = json.loads(there.blob("features/features.json").download_as_text())
    assert facts["cleaning"]["areas"] == {
        "read": 1737,
        "malformed": 0,
        "null": 1,
        "not_an_integer": 1,
        "repeated": 1,
        "kept": 1734,
    }
    assert facts["cleaning"]["customers"] == {
        "read": 5831,
        "malformed": 0,
        "null": 1,
        "not_an_integer": 4,
        "unknown_label": 1,
        "repeated": 1,
        "without_area": 2,
        "kept": 5822,
    }
    assert "left out: Note" in dirty
    assert facts["row_digest"] == read(features / "features.json")["row_digest"]
    assert facts["row_digests"] == read(features / "features.json")["row_digests"]


@pytest.mark.whole
def test_nothing_but_the_features_is_left_in_the_bucket(dirty, bucket):
    assert dirty
    names = {blob.name for blob in bucket[0].list_blobs(prefix="features") if not blob.name.endswith("/")}
    assert names == {f"features/{name}" for name in (*(f"{p}.parquet" for p in PARTS), "schema.json", "features.json")}


@pytest.fixture(scope="session")
def answers(spark, raw, features, objects, bucket, tmp_path_factory):
    """What bad inputs are answered with, by name, and the rows of the features."""
    folder = tmp_path_factory.mktemp("cases")
    area_header, areas = objects["areas"]
    header, customers = objects["customers"]
    files = {
        "empty": "",
        "html": "<!DOCTYPE html>\n<html></html>\n",
        "header": to_csv(header, []),
        "missing": to_csv(header[:5] + header[6:], [record[:5] + record[6:] for record in customers]),
        "double": to_csv([*header, "PBRAND"], [[*record, "1"] for record in customers]),
        "conflict": to_csv(header, [*customers, ["C5", *customers[6][1:]]]),
        "lost": to_csv(
            header,
            [["C", *record[1:]] if n % 2 else [record[0], "?", *record[2:]] for n, record in enumerate(customers)],
        ),
        "one-label": to_csv(header, [[*record[:-1], "No"] for record in customers]),
        "areas-conflict": to_csv(area_header, [*areas, ["A5", *areas[6][1:]]]),
    }
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    for name, content in not_csv(header, customers).items():
        (folder / f"{name}.csv").write_bytes(content)
        files[name] = ""
    for name, content in well_formed(header, customers).items():
        (folder / f"{name}.csv").write_bytes(content)
    there, address = bucket
    packed = there.blob("packed/customers.csv")
    packed.content_encoding = "gzip"
    packed.upload_from_string(gzip.compress(to_csv(header, customers).encode()))
    (folder / "part").mkdir()
    shutil.copy(features / "train.parquet", folder / "part")
    good = {"--areas": raw / "areas.csv", "--customers": raw / "customers.csv", "--output": folder / "out"}

    def transform(**changed):
        given = good | {f"--{name.replace('_', '-')}": value for name, value in changed.items()}
        return "transform", [str(word) for pair in given.items() for word in pair]

    def gbt(**changed):
        given = {"features": features, "output": folder / "out"} | changed
        return "gbt", [str(word) for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]

    runs = {name: transform(customers=folder / f"{name}.csv") for name in files if name != "areas-conflict"}
    runs |= {
        f"well-formed {name}": transform(customers=folder / f"{name}.csv", output=folder / "good" / name)
        for name in well_formed(header, customers)
    }
    runs |= {
        "packed": transform(customers="gs://data/packed/customers.csv"),
        "areas-conflict": transform(areas=folder / "areas-conflict.csv"),
        "no-file": transform(areas=folder / "none.csv"),
        "folder": transform(areas=folder),
        "scheme": transform(areas="ftp://example.com/areas.csv"),
        "control": transform(output=f"{folder}/a\nb"),
        "blank": transform(output=""),
        "pattern": transform(areas=f"{raw}/areas*.csv"),
        "bucket": transform(output="gs://data"),
        "share": transform(max_dropped="2"),
        "words": ("transform", ["--areas", "x"]),
        "gbt-part": gbt(features=folder / "part"),
        "gbt-target": gbt(target="Nothing"),
        "gbt-name": gbt(features=folder / "renamed"),
        "gbt-seed": gbt(seed="-1"),
        "gbt-depth": gbt(max_depth="99"),
    }
    asked = {"src": str(spark.image / "src"), "runs": runs, "answers": str(folder / "answers.json")}
    asked["parquet"] = {part: str(features / f"{part}.parquet") for part in PARTS}
    (folder / "renamed").mkdir()
    asked["renamed"] = [
        (str(features / f"{part}.parquet"), str(folder / "renamed" / f"{part}.parquet"), "MOSTYPE", "prediction")
        for part in PARTS
    ]
    (folder / "asked.json").write_text(json.dumps(asked))
    done = spark.submit("tests/cases.py", folder / "asked.json", STORAGE_EMULATOR_HOST=address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / "out").exists(), "bad input left something behind"
    facts = {path.parent.name: read(path) for path in (folder / "good").glob("*/features.json")}
    return read(folder / "answers.json") | {"facts": facts}


NOTES = {
    "quotes": 'answered "yes, later" twice',
    "breaks": "first line\nsecond, line\r\nthird",
    "blanks": "",
    "names": "",
    "ends": "",
}


def well_formed(header, customers):
    """The customers in other words: the same rows, whatever a reader would like to make of them."""
    made = {}
    for name, note in NOTES.items():
        marked = [[*record[:2], note if n % 40 == 0 else "-", *record[2:]] for n, record in enumerate(customers)]
        if name == "blanks":
            marked[5] = [f"\u00a0{value}\t\u202f" for value in marked[5]]
        head = [*header[:2], "malformed" if name == "names" else "" if name == "blanks" else "Note", *header[2:]]
        made[name] = to_csv(head, marked).encode()
    made["ends"] = made["ends"].replace(b"\n", b" \r\n", 2).replace(b",", b"\t, ")
    made["cr"] = made["quotes"].replace(b"\n", b"\r")
    return made


def not_csv(header, customers):
    """The customers in files that are no CSV, or not one of this lane's."""
    plain = to_csv(header, customers)
    return {
        "stray": plain.replace("C7,", 'C7 3",', 1).encode(),
        "ragged": plain.replace("\nC7,", "\nC7,,", 1).replace("\nC9,", "\nC9,,", 1).encode(),
        "unclosed": f'{plain.removesuffix(chr(10)).rpartition(",")[0]},"No'.encode(),
        "gzip": gzip.compress(plain.encode()),
        "latin": plain.replace("C7,", "\u00e97,", 1).encode("latin-1"),
        "utf-16": plain.encode("utf-16"),
        "nul": plain.replace("C7,", "C\0007,", 1).encode(),
        "json": json.dumps([dict(zip(header, customers[0], strict=True))]).encode(),
    }


@pytest.mark.whole
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("empty", "empty.csv: is empty"),
        ("html", "html.csv: is HTML or XML"),
        ("stray", "stray.csv: 1 of 5822 rows are malformed, the first on line 9, a quote stands inside a value: 'C7 3"),
        ("ragged", "ragged.csv: 2 of 5822 rows are malformed, the first on line 9, it has 46 values and the header 45"),
        ("unclosed", "unclosed.csv: 1 of 5822 rows are malformed, the first on line 5823, a quote is never closed"),
        ("gzip", "gzip.csv: is packed by gzip"),
        ("packed", "gs://data/packed/customers.csv: is packed by gzip"),
        ("latin", "latin.csv: line 9 is not UTF-8"),
        ("utf-16", "utf-16.csv: is UTF-16"),
        ("nul", "nul.csv: line 9 has the control character U+0000"),
        ("json", "json.csv: is JSON"),
        ("header", "customers: 0 of 0 rows had to be dropped (none was there)"),
        ("missing", "missing.csv: lacks the column PPERSAUT"),
        ("double", "double.csv: has more than one column PBRAND"),
        ("conflict", "conflict.csv: the Id C5 stands for different records"),
        ("lost", "the Id C stands for different records"),
        ("one-label", "the train part has no row with Purchase Yes"),
        ("areas-conflict", "areas-conflict.csv: the Id A5 stands for different records"),
        ("no-file", "none.csv: no such file"),
        ("folder", "no such file"),
        ("scheme", "'ftp://example.com/areas.csv': must be a path"),
        ("control", "a\\nb': must be a path, file:///... or gs://bucket/..."),
        ("blank", "'': must be a path"),
        ("pattern", "areas*.csv': must be a path"),
        ("bucket", "'gs://data': must be a path"),
        ("share", "--max-dropped='2': must be a number from 0 to 1"),
        ("words", "the following arguments are required: --customers, --output"),
        ("gbt-part", "validation.parquet: no such file; run transform.py first"),
        ("gbt-name", "train.parquet has the column 'prediction', which training adds"),
        ("gbt-target", "has no column 'Nothing'"),
        ("gbt-seed", "--seed='-1': must be a whole number from 0 to 2147483647"),
        ("gbt-depth", "--max-depth='99': must be a whole number from 1 to 15"),
    ],
)
def test_bad_input_is_answered_in_one_line_and_leaves_nothing(answers, case, said):
    assert said in answers["runs"][case]
    assert "\n" not in answers["runs"][case].strip()


@pytest.mark.whole
@pytest.mark.parametrize("name", [*NOTES, "cr"])
def test_every_row_of_well_formed_csv_is_kept(answers, features, name):
    assert answers["runs"][f"well-formed {name}"] == "done"
    facts = answers["facts"][name]
    assert facts["cleaning"]["customers"]["kept"] == facts["cleaning"]["customers"]["read"] == 5822
    assert facts["row_digest"] == read(features / "features.json")["row_digest"]


@pytest.mark.whole
def test_the_digest_of_the_data_is_the_one_of_stored_versions(features):
    assert read(features / "features.json")["row_digest"] == (
        "10a8115a9914ce2e66dae14c2a8a96da4f88d38fa7240bfe901935d8964df423"
    )


@pytest.mark.whole
def test_the_message_is_the_last_line_and_the_exit_code_tells_input_from_failure(spark, raw, features, tmp_path):
    given = ("--areas", raw / "areas.csv", "--customers", raw / "customers.csv")
    refused = spark.submit("src/transform.py", *given, "--output", tmp_path / "out", "--max-dropped", "x")
    assert last_line(refused, 2) == "spark-features: --max-dropped='x': must be a number from 0 to 1"
    shutil.copytree(features, tmp_path / "features")
    (tmp_path / "features" / "train.parquet").write_text("no Parquet")
    failed = spark.submit("src/gbt.py", "--features", tmp_path / "features", "--output", tmp_path / "out")
    assert last_line(failed, 1).startswith("spark-gbt: ")
    assert "train.parquet" in last_line(failed, 1)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="session")
def baselines(spark, features, dirty, bucket, tmp_path_factory):
    """The baseline of the local features, and of those in the bucket, which are equal."""
    assert dirty
    there, address = bucket
    folder = tmp_path_factory.mktemp("gbt")
    local = spark.submit("src/gbt.py", "--features", features, "--output", folder, "--max-iter", "5")
    assert local.returncode == 0, local.stderr
    given = ("--features", "gs://data/features", "--output", "gs://data/gbt", "--max-iter", "5")
    remote = spark.submit("src/gbt.py", *given, STORAGE_EMULATOR_HOST=address)
    assert remote.returncode == 0, remote.stderr
    return read(folder / "metrics.json"), json.loads(there.blob("gbt/metrics.json").download_as_text())


@pytest.mark.whole
def test_the_baseline_is_judged_on_the_test_part_and_reproducible(features, baselines):
    local, remote = baselines
    assert local == remote
    assert local["name"] == "spark-gbt"
    assert local["rows"] == read(features / "features.json")["rows"]["test"]
    assert 0.6 < local["auc"] < 0.9
    assert 0 < local["brier"] < 0.1
    assert {"pr_auc", "log_loss", "trees", "parameters"} <= set(local)


def test_measures_are_those_of_the_definitions(spark):
    pick = random.Random(2)  # noqa: S311
    labels = [int(pick.random() < 0.3) for _ in range(200)]
    scores = [round(min(1, max(0, pick.gauss(0.3 + 0.2 * label, 0.2))), 1) for label in labels]
    script = """
import json, sys, numpy as np
from metrics import measures
print(json.dumps(measures(*map(np.array, json.load(sys.stdin)))))
"""
    python = spark.image / ".venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", script],
        cwd=spark.image / "src",
        input=json.dumps([labels, scores]),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    both = list(zip(labels, scores, strict=True))
    pairs = [(p > q) + (p == q) / 2 for y, p in both if y for z, q in both if not z]
    assert found["auc"] == pytest.approx(sum(pairs) / len(pairs))
    precision = {p: sum(y for y, q in both if q >= p) / sum(q >= p for _, q in both) for p in set(scores)}
    assert found["pr_auc"] == pytest.approx(sum(precision[p] for y, p in both if y) / sum(labels))
    kept = [(y, min(max(p, 1e-7), 1 - 1e-7)) for y, p in both]
    assert found["log_loss"] == pytest.approx(-sum(math.log(p if y else 1 - p) for y, p in kept) / 200)
    assert found["brier"] == pytest.approx(sum((p - y) ** 2 for y, p in both) / 200)


@pytest.mark.whole
def test_spark_maps_its_classes_and_has_the_settings_of_its_folder(spark, tmp_path):
    program = tmp_path / "settings.py"
    program.write_text(
        "import json, sys\n"
        f"sys.path.insert(0, {str(spark.image / 'src')!r})\n"
        "import job, pyspark\n"
        "session = job.SparkSession.builder.getOrCreate()\n"
        "session.range(3).count()\n"
        "print('pyspark', pyspark.__file__)\n"
        "print('settings', json.dumps(dict(session.sparkContext.getConf().getAll())))\n"
    )
    log = tmp_path / "classes.log"
    given = ("--conf", "spark.sql.shuffle.partitions=7", program)
    done = spark.submit(*given, SPARK_SUBMIT_OPTS=f"-Xlog:class+load=info,cds=info:file={log}")
    assert done.returncode == 0, done.stderr
    (python,) = (line for line in done.stdout.splitlines() if line.startswith("pyspark "))
    assert "/site-packages/pyspark/__init__.py" in python  # not of the archive that spark-submit names first
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("settings "))
    settings = json.loads(said.removeprefix("settings "))
    lines = (spark.image / "conf" / "spark-defaults.conf").read_text().splitlines()
    folder = dict(line.split() for line in lines if line.startswith("spark."))
    assert settings | folder | {"spark.sql.shuffle.partitions": "7"} == settings  # who runs it has the last word
    assert "at an alternative address" not in log.read_text()
    loaded = [line for line in log.read_text().splitlines() if "org.apache.spark." in line and "Lambda" not in line]
    mapped = [line for line in loaded if "shared objects file" in line]
    assert len(mapped) > 0.9 * len(loaded) > 900


def test_a_connector_with_other_bytes_is_not_kept(spark, tmp_path):
    (tmp_path / "src").mkdir()
    shutil.copy(spark.image / "src" / "prime.py", tmp_path / "src")
    maven = tmp_path / "mvn"
    maven.write_text(
        """#!/bin/sh
for word; do
    case $word in -DoutputDirectory=*) echo other > "${word#*=}/gcs-connector-4.0.4-shaded.jar" ;; esac
done
"""
    )
    maven.chmod(0o755)
    environment = spark.environment(PATH=f"{tmp_path}:{spark.environment()['PATH']}")
    command = ["python", tmp_path / "src" / "prime.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "it was not kept" in done.stderr
    assert not list((tmp_path / "target" / "jars").iterdir())


@pytest.mark.whole
def test_a_connector_that_cannot_be_fetched_is_told_with_mavens_cause(spark, tmp_path):
    """No proxy listens there: Maven cannot even fetch its own plugin, and must say so, not what follows from it."""
    (tmp_path / "src").mkdir()
    shutil.copy(spark.image / "src" / "prime.py", tmp_path / "src")
    shutil.copy(spark.image / "pom.xml", tmp_path)
    options = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9"
    environment = spark.environment(HOME=str(tmp_path), MAVEN_OPTS=options)
    command = ["python", tmp_path / "src" / "prime.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "127.0.0.1:9" in done.stderr
    assert "refused" in done.stderr
    assert not (tmp_path / "target" / "jars" / "gcs-connector-4.0.4-shaded.jar").exists()
