"""The packager as its users meet it: a program with options, files and exit codes. Real Maven, real Java, offline."""

import csv
import json
import math
import os
import shutil
import subprocess
import zipfile
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from conftest import COORDINATES
from mojo_files import FIXTURE, jar_of, rewrite, set_ini


def read(path):
    return json.loads(path.read_text())


def edited_examples(target, edit):
    found = read(FIXTURE / "examples.json")
    edit(found["examples"])
    target.write_text(json.dumps(found))
    return target


def one_line(done, code):
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    return done.stderr


def test_the_library_is_a_maven_release_with_sources_and_checksums(library):
    package = read(library / "package.json")
    digest = package["model_digest"]
    assert package["coordinates"] == f"com.example.models:tiny-model:1-{digest[:12]}"
    assert package["replay"] == {"examples": 60, "differing": 0, "largest_difference": 0.0}
    base = f"tiny-model-1-{digest[:12]}"
    files = {
        path.name for path in (library / "repository/com/example/models/tiny-model" / f"1-{digest[:12]}").iterdir()
    }
    released = {f"{base}.jar", f"{base}-sources.jar", f"{base}.pom"}
    assert files == released | {f"{name}.{kind}" for name in released for kind in ("sha1", "sha256", "sha512")}
    with zipfile.ZipFile(jar_of(library)) as jar:
        names = set(jar.namelist())
        assert "com/example/models/tiny_model/Predictor.class" in names
        assert "com/example/models/tiny_model/model.zip" in names
        assert not [name for name in names if "Test" in name or "examples" in name]
    with zipfile.ZipFile(jar_of(library).with_name(f"{base}-sources.jar")) as sources:
        assert not [name for name in sources.namelist() if name.endswith((".class", ".zip"))]


@pytest.mark.whole
def test_the_jar_has_the_same_bytes_whatever_modes_new_files_get(packager, library, tmp_path):
    """A pod's volume passes its setgid bit to every folder in it, and a person's umask may be strict."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2777)
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "TMPDIR": str(shared)}
    given = ("--mojo", FIXTURE / "model.zip", "--examples", FIXTURE / "examples.json", "--coordinates", COORDINATES)
    command = packager.command("package", *given, "--output", tmp_path / "out")
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert jar_of(tmp_path / "out").read_bytes() == jar_of(library).read_bytes()


@pytest.mark.whole
def test_the_same_model_gives_the_same_bytes_and_rounding_is_forgiven(packager, library, tmp_path):
    """Only the time of training differs, and an example by less than the tolerance: the jar does not."""
    mojo = rewrite(
        tmp_path / "again.zip",
        lambda name, content: (
            b"{}"
            if name.startswith("experimental/")
            else set_ini(timestamp="1999-09-09T09:09:09.999Z", uuid="-1")(name, content)
        ),
    )

    def nudge(examples):
        examples[0]["prediction"] += 1e-10

    done = packager.package(tmp_path / "out", mojo, edited_examples(tmp_path / "examples.json", nudge))
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "out" / "package.json")["replay"]["largest_difference"] == pytest.approx(1e-10, rel=0.01)
    for ending in (".jar", ".pom", "-sources.jar"):
        first = jar_of(library).with_name(jar_of(library).name.removesuffix(".jar") + ending)
        assert (tmp_path / "out" / first.relative_to(library)).read_bytes() == first.read_bytes()


@pytest.mark.whole
@pytest.mark.parametrize("what", ["prediction", "label", "model", "input"])
def test_a_difference_to_training_time_fails_the_build(packager, tmp_path, what):
    mojo, examples = FIXTURE / "model.zip", FIXTURE / "examples.json"
    if what == "model":
        mojo = rewrite(tmp_path / "model.zip", set_ini(init_f="-2.7"))
        said = "60 of 60 examples differ; first example 1: recorded"
    else:

        def edit(rows):
            if what == "prediction":
                rows[7]["prediction"] += 1e-6
            elif what == "label":
                rows[7]["label"] = {"No": "Yes", "Yes": "No"}[rows[7]["label"]]
            else:
                rows[7]["input"]["MKOOPKLA"] = "class 99"

        examples = edited_examples(tmp_path / "examples.json", edit)
        said = "1 of 60 examples differ; first example 8: recorded"
        if what == "input":
            said = "example 8 of 60 cannot be predicted: column MKOOPKLA is class 99, must be one of [class 1"
    done = packager.package(tmp_path / "out", mojo, examples)
    assert said in one_line(done, 2)
    assert "is not released" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.whole
def test_a_failed_build_leaves_the_earlier_library_alone(packager, library, tmp_path):
    shutil.copytree(library, tmp_path / "out")
    mojo = rewrite(tmp_path / "model.zip", set_ini(init_f="-2.7"))
    assert packager.package(tmp_path / "out", mojo).returncode == 2
    assert read(tmp_path / "out" / "package.json") == read(library / "package.json")
    assert jar_of(tmp_path / "out").read_bytes() == jar_of(library).read_bytes()


def cut(path):
    path.write_bytes((FIXTURE / "model.zip").read_bytes()[:9000])


def flip(path):
    content = bytearray((FIXTURE / "model.zip").read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


BAD_MOJOS = {
    "missing": (lambda _: None, "no such file"),
    "text": (lambda path: path.write_text("no zip"), "not a whole MOJO"),
    "cut": (cut, "not a whole MOJO"),
    "flipped": (flip, "not a whole MOJO"),
    "other zip": (lambda path: rewrite(path, lambda n, c: None if n == "model.ini" else c), "it has no model.ini"),
    "no version": (
        lambda path: rewrite(path, lambda n, c: c.replace(b"h2o_version", b"h2o_") if n == "model.ini" else c),
        "does not say h2o_version",
    ),
    "three classes": (lambda path: rewrite(path, set_ini(category="Multinomial")), "a Multinomial model"),
    "other H2O": (
        lambda path: rewrite(path, set_ini(h2o_version="3.44.0.3")),
        "written by H2O 3.44.0.3, but this packages with h2o-genmodel 3.46.0.11",
    ),
}


@pytest.mark.parametrize("kind", BAD_MOJOS)
def test_a_damaged_or_foreign_model_is_refused_before_anything_is_built(packager, tmp_path, kind):
    make, said = BAD_MOJOS[kind]
    make(tmp_path / "model.zip")
    done = packager.package(tmp_path / "out", tmp_path / "model.zip")
    assert said in one_line(done, 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.whole
def test_a_model_that_lost_a_tree_is_not_released(packager, tmp_path):
    """The archive is whole, but the model in it is not: only loading it shows that."""
    mojo = rewrite(tmp_path / "model.zip", lambda n, c: None if n == "trees/t00_001.bin" else c)
    done = packager.package(tmp_path / "out", mojo)
    assert "is not released" in one_line(done, 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.whole
def test_a_genmodel_that_is_not_there_is_named(packager, tmp_path):
    mojo = rewrite(tmp_path / "model.zip", set_ini(h2o_version="3.44.0.3"))
    done = packager.package(tmp_path / "out", mojo, more=("--genmodel-version", "3.44.0.3"))
    assert "ai.h2o:h2o-genmodel:jar:3.44.0.3" in one_line(done, 1)
    assert "packager.py prime" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "coordinates",
    [
        *("a:b", "a:b:c:d", "Com.example:b:1", "com..example:b:1", "com.example:../b:1", "com.example:b:1/../2"),
        *("com.example:b:1-SNAPSHOT", "com.example:b:", "com.example:b:1\n", "com.example:$(reboot):1", ""),
        "com.example:b:<version>",
    ],
)
def test_coordinates_that_are_none_are_refused(packager, tmp_path, coordinates):
    done = packager.package(tmp_path / "out", more=("--coordinates", coordinates))
    assert "coordinates" in one_line(done, 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "[]",
            "{}",
            '{"target": "Purchase", "examples": []}',
            '{"target": "Purchase", "examples": [{"input": {}}]}',
        ),
        '{"target": "Purchase", "examples": [{"input": {}, "prediction": NaN, "label": "No"}]}',
        '{"target": "Purchase", "examples": [{"input": {}, "prediction": "0.5", "label": "No"}]}',
        '{"target": 1, "examples": [{"input": {}, "prediction": 0.5, "label": "No"}]}',
    ],
)
def test_examples_that_are_none_are_refused(packager, tmp_path, text):
    (tmp_path / "examples.json").write_text(text)
    done = packager.package(tmp_path / "out", examples=tmp_path / "examples.json")
    assert "examples.json: must be" in one_line(done, 2)
    assert not (tmp_path / "out").exists()


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def as_json(row):
    return json.dumps(
        {name: value if name == "MKOOPKLA" else int(value) for name, value in row.items() if name != "Purchase"}
    )


def test_the_test_metrics_are_those_of_the_librarys_own_predictions(packager, library, version, tmp_path):
    done = packager.run(
        "evaluate", "--package", library, "--test", FIXTURE / "test.csv", "--output", tmp_path / "m.json"
    )
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "m.json")["test"]

    rows = rows_of(FIXTURE / "test.csv")
    scored = packager.run("score", version, stdin="\n".join(map(as_json, rows)))
    said = [json.loads(line) for line in scored.stdout.splitlines()]
    yes = [row["Purchase"] == "Yes" for row in rows]
    p = [row["prediction"] for row in said]
    assert (found["rows"], found["positives"]) == (len(rows), sum(yes)) == (60, len([y for y in yes if y]))

    above = [
        (a > b) + (a == b) / 2 for a, x in zip(p, yes, strict=True) if x for b, y in zip(p, yes, strict=True) if not y
    ]
    assert found["auc"] == pytest.approx(sum(above) / len(above), abs=1e-12)
    precision = 0
    for at in sorted({a for a, x in zip(p, yes, strict=True) if x}):
        hit = sum(x for a, x in zip(p, yes, strict=True) if a == at)
        precision += hit * sum(x for a, x in zip(p, yes, strict=True) if a >= at) / sum(a >= at for a in p)
    assert found["pr_auc"] == pytest.approx(precision / sum(yes), abs=1e-12)
    loss = [-math.log(a if x else 1 - a) for a, x in zip(p, yes, strict=True)]
    assert found["log_loss"] == pytest.approx(sum(loss) / 60, abs=1e-12)
    assert found["brier"] == pytest.approx(sum((a - x) ** 2 for a, x in zip(p, yes, strict=True)) / 60, abs=1e-12)
    counts = [(row["label"] == "Yes", x) for row, x in zip(said, yes, strict=True)]
    pairs = {"tp": (True, True), "fp": (True, False), "tn": (False, False), "fn": (False, True)}
    assert {k: found["confusion"][k] for k in pairs} == {k: counts.count(v) for k, v in pairs.items()}
    threshold = found["confusion"]["threshold"]
    assert [a >= threshold for a in p] == [row["label"] == "Yes" for row in said]
    assert [tenth["rows"] for tenth in found["calibration"]] == [6] * 10
    lowest = sorted(p)[:6]
    assert found["calibration"][0]["predicted"] == pytest.approx(sum(lowest) / 6)
    assert (found["calibration"][0]["from"], found["calibration"][0]["to"]) == (lowest[0], lowest[-1])


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace("PBRAND", "OTHER"), "has no column PBRAND"),
        (lambda text: text.replace('"No"', "Maybe", 1), "Purchase is Maybe, must be one of [No, Yes]"),
        (lambda text: text.replace("Yes", "No"), "needs rows of both labels"),
    ],
)
def test_test_rows_that_are_none_are_refused(packager, library, tmp_path, edit, said):
    (tmp_path / "test.csv").write_text(edit((FIXTURE / "test.csv").read_text()))
    given = ("--package", library, "--test", tmp_path / "test.csv", "--output", tmp_path / "m.json")
    done = packager.run("evaluate", *given)
    assert said in one_line(done, 2)
    assert not (tmp_path / "m.json").exists()


def test_a_library_whose_bytes_changed_is_not_used(packager, library, tmp_path):
    shutil.copytree(library, tmp_path / "package")
    jar = jar_of(tmp_path / "package")
    jar.write_bytes(jar.read_bytes() + b"\0")
    for more in (
        ("evaluate", "--test", FIXTURE / "test.csv", "--output", tmp_path / "m.json"),
        ("publish", "--url", "file:///x"),
    ):
        done = packager.run(*more, "--package", tmp_path / "package")
        assert "not the bytes that were packaged" in one_line(done, 2)


def test_building_leaves_no_model_in_mavens_repository(packager, library):
    """Maven would take the next library of these coordinates from there."""
    assert read(library / "package.json")
    repository = packager.image / "target" / "m2" / "repository"
    assert not (repository / "com" / "example").exists()
    assert not (repository / "prime").exists()


def test_score_answers_each_row_as_it_comes(packager, version):
    rows = rows_of(FIXTURE / "test.csv")[:3]
    process = subprocess.Popen(
        packager.command("score", version), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    for row in rows:
        process.stdin.write(as_json(row) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert 0 < answer["prediction"] < 1
        assert answer["label"] in {"No", "Yes"}
    process.stdin.close()
    assert process.wait() == 0


GOOD = '{"PPERSAUT": 6, "MINKGEM": 4, "PBRAND": 5, "MKOOPKLA": "class 3"}'


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("no JSON", "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        (GOOD.replace('"PBRAND": 5, ', ""), "line 2: column PBRAND is missing"),
        (GOOD.replace("{", '{"EXTRA": 1, '), "line 2: column EXTRA is not one of the model's"),
        (GOOD.replace("6", '"six"'), "line 2: column PPERSAUT is six, must be a finite number"),
        (GOOD.replace("6", "1e999"), "line 2: column PPERSAUT is Infinity, must be a finite number"),
        (GOOD.replace("6", "[6]"), "line 2: column PPERSAUT is [6], must be a finite number"),
        (GOOD.replace('"class 3"', "3"), "line 2: column MKOOPKLA is 3.0, must be one of"),
        (GOOD.replace('"class 3"', '"class 99"'), "line 2: column MKOOPKLA is class 99, must be one of"),
    ],
)
def test_score_names_the_line_of_a_row_that_is_none(packager, version, row, said):
    done = packager.run("score", version, stdin=f"{GOOD}\n{row}\n{GOOD}\n")
    assert said in one_line(done, 2)
    assert len(done.stdout.splitlines()) == 1


def test_an_unknown_value_is_scored(packager, version):
    done = packager.run("score", version, stdin=GOOD.replace("6", "null"))
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["prediction"] < 1


def test_score_refuses_a_folder_that_is_no_version(packager, version, tmp_path):
    assert "holds 0 jars" in one_line(packager.run("score", tmp_path, stdin=""), 2)
    shutil.copytree(version, tmp_path / "other")
    rewrite(tmp_path / "other" / "model.zip", set_ini(init_f="-2.7"), version / "model.zip")
    assert "model.zip: not the model that" in one_line(packager.run("score", tmp_path / "other", stdin=GOOD), 2)
    (jar,) = (tmp_path / "other").glob("*.jar")
    jar.write_bytes(jar.read_bytes()[:3000])
    assert "or damaged" in one_line(packager.run("score", tmp_path / "other", stdin=GOOD), 2)


class _Server(ThreadingHTTPServer):
    """What was uploaded, by its path."""

    files: dict[str, bytes]


class _Google(BaseHTTPRequestHandler):
    """Artifact Registry and the metadata server of a pod, as far as publishing goes; a release is written once."""

    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format, *args):  # noqa: A002  http.server's name
        pass

    def do_GET(self):
        if self.path.startswith("/computeMetadata/"):
            assert self.headers["Metadata-Flavor"] == "Google"
            self._answer(200, b'{"access_token": "of-the-pod"}')
        elif not self._known():
            self._answer(401)
        elif self.path in self.server.files:
            self._answer(200, self.server.files[self.path])
        else:
            self._answer(404)

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._known():
            self._answer(401)
        elif self.path in self.server.files and "maven-metadata" not in self.path:
            self._answer(409)
        else:
            self.server.files[self.path] = content
            self._answer(201)

    def _known(self):
        return self.headers["Authorization"] == "Basic " + b64encode(b"oauth2accesstoken:of-the-pod").decode()

    def _answer(self, code, content=b""):
        self.send_response(code)
        if code == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="google"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def google():
    with _Server(("127.0.0.1", 0), _Google) as server:
        server.files = {}
        Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.mark.whole
def test_a_pod_publishes_to_artifact_registry_with_its_own_identity(packager, library, google):
    """The program itself but for one pattern: which addresses are Artifact Registry's."""
    address = f"127.0.0.1:{google.server_port}"
    program = (
        "import re, sys; sys.path.insert(0, 'src'); import maven_registry, packager; "
        "maven_registry.ARTIFACT_REGISTRY = re.compile('http://127'); sys.exit(packager.main(sys.argv[1:]))"
    )
    command = [
        packager.command()[0],
        "-c",
        program,
        "publish",
        "--package",
        library,
        "--url",
        f"http://{address}/maven",
    ]

    def publish(metadata=address):
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "GCE_METADATA_HOST": metadata}
        return subprocess.run(command, cwd=packager.image, env=environment, capture_output=True, text=True, check=False)

    done = publish()
    assert done.returncode == 0, done.stderr
    path = f"/maven/{jar_of(library).relative_to(library / 'repository')}"
    assert google.files[path] == jar_of(library).read_bytes()
    assert "of-the-pod" not in done.stdout + done.stderr
    # A refit that took an earlier one's library publishes it again: Artifact Registry would refuse the second upload.
    again = publish()
    assert (again.returncode, "already there, the same bytes" in again.stdout) == (0, True), again.stderr
    google.files[path] = b"other"
    assert "releases never change" in one_line(publish(), 2)
    assert "gives no token" in one_line(publish(metadata="127.0.0.1:9"), 1)


@pytest.mark.whole
def test_a_library_is_published_once_and_never_changed(packager, library, tmp_path):
    url = f"file://{tmp_path}/registry"
    done = packager.run("publish", "--package", library, "--url", url)
    assert done.returncode == 0, done.stderr
    published = tmp_path / "registry" / jar_of(library).relative_to(library / "repository")
    assert published.read_bytes() == jar_of(library).read_bytes()
    assert published.with_suffix(".pom").exists()
    assert (published.parent.parent / "maven-metadata.xml").exists()
    again = packager.run("publish", "--package", library, "--url", url)
    assert again.returncode == 0
    assert "already there, the same bytes" in again.stdout
    published.write_bytes(b"other")
    assert "releases never change" in one_line(packager.run("publish", "--package", library, "--url", url), 2)
    assert published.read_bytes() == b"other"


@pytest.mark.parametrize("url", ["http://example.com/x", "registry", "file://x", "https://exa mple.com", ""])
def test_registries_that_are_none_are_refused(packager, library, url):
    assert "--url=" in one_line(packager.run("publish", "--package", library, "--url", url), 2)


@pytest.mark.whole
def test_both_images_give_a_model_the_same_digest(packager, library):
    """The trainer records the digest, the packager puts it into the library: they must mean the same."""
    trainer = packager.image.parent / "h2o-trainer" / "src"
    script = (
        "import sys; from pathlib import Path; from digest import model_digest; print(model_digest(Path(sys.argv[1])))"
    )
    command = [packager.image / ".venv" / "bin" / "python", "-c", script, FIXTURE / "model.zip"]
    said = subprocess.run(command, cwd=trainer, capture_output=True, text=True, check=True).stdout.strip()
    assert said == read(Path(library) / "package.json")["model_digest"]
