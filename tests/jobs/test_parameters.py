"""Parameters of a run: a wrong one gets one line, a right one its one spelling, and layers win in their order."""

from pathlib import Path

import pytest
import yaml

from infra.settings import ROOT, load, stacks
from mlops import parameters
from mlops.parameters import ParameterError, Pipeline

GIVEN = {
    "save_path": "sales",
    "data_path": "data.csv",
    "prediction_path": "out/predictions.csv",
    "data_url": "salesforce+https://example.my.salesforce.com",
    "gcp_bucket_path": "gs://example-models/models",
    "model_version": "7",
}


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return parameters.load(parameters.files(ROOT / "jobs")["sales-close-prediction"])


GOOD = [
    ("model_version", "7", "7"),
    ("model_version", "1.2.3-rc1", "1.2.3-rc1"),
    ("epochs", "7", "7"),
    ("epochs", "+007", "7"),
    ("epochs", "5.0", "5"),
    ("epochs", "1e2", "100"),
    ("learning_rate", "1e-3", "0.001"),
    ("learning_rate", "0.0050", "0.005"),
    ("learning_rate", "1", "1"),
    ("min_auc", "-0", "0"),
    ("seed", "4294967295", "4294967295"),
    ("seed", "", ""),
    ("data_path", "a/b-c/d.csv", "a/b-c/d.csv"),
    ("data_url", "http://localhost:8080/data.csv?x=1", "http://localhost:8080/data.csv?x=1"),
    ("gcp_bucket_path", "gs://bucket", "gs://bucket"),
]


@pytest.mark.parametrize(("name", "text", "canonical"), GOOD)
def test_a_value_has_one_spelling(pipeline: Pipeline, name: str, text: str, canonical: str) -> None:
    assert pipeline.check({name: text}) == {name: canonical}


PATTERN = r"does not match (?!.*\.\.)[0-9A-Za-z][0-9A-Za-z.-]{0,31}"
BAD = [
    ("model_version", "../../etc/passwd", PATTERN),
    ("model_version", "$(reboot)", PATTERN),
    ("model_version", "1..50", PATTERN),
    ("model_version", "v 7", PATTERN),
    ("model_version", "7\n", "has a control character, such as a line break"),
    ("model_version", "7\x00", "has a control character, such as a line break"),
    ("model_version", "7\u2028", "has a control character, such as a line break"),
    ("model_version", "", "is empty"),
    ("model_version", "7" * 33, PATTERN),
    ("model_version", "7" * 5000, "is longer than 2048 characters"),
    ("model_version", "\uff17", PATTERN),
    ("save_path", "../x", "does not match [0-9A-Za-z][0-9A-Za-z_-]{0,63}"),
    ("save_path", "a/b", "does not match [0-9A-Za-z][0-9A-Za-z_-]{0,63}"),
    ("epochs", "0", "is not an integer from 1 to 1000"),
    ("epochs", "1001", "is not an integer from 1 to 1000"),
    ("epochs", "1.5", "is not an integer from 1 to 1000"),
    ("epochs", "", "is empty"),
    ("epochs", "nan", "is not an integer from 1 to 1000"),
    ("epochs", "1_0", "is not an integer from 1 to 1000"),
    ("epochs", "0x10", "is not an integer from 1 to 1000"),
    ("epochs", " 5", "is not an integer from 1 to 1000"),
    ("epochs", "\u0665", "is not an integer from 1 to 1000"),
    ("epochs", "9e99", "is not an integer from 1 to 1000"),
    ("learning_rate", "inf", "is not a number from 0.000001 to 1"),
    ("learning_rate", "1e-99", "is not a number from 0.000001 to 1"),
    ("min_auc", "1.0000001", "is not a number from 0 to 1"),
    ("seed", "-1", "is not an integer from 0 to 4294967295"),
    ("data_path", "/etc/passwd", "is an absolute path"),
    ("data_path", "../../etc/passwd", "leads out of the run's directory"),
    ("data_path", "a/../../b", "leads out of the run's directory"),
    ("data_path", "a..csv", "has two dots in a row, which no stored file may have"),
    ("data_path", ".hidden", "is not a path of letters, digits, dots, dashes and underscores"),
    ("data_path", "a/-b", "is not a path of letters, digits, dots, dashes and underscores"),
    ("data_path", "a/" * 32 + "b", "is not a path of letters, digits, dots, dashes and underscores"),
    ("data_path", "a//b", "is not a path of letters, digits, dots, dashes and underscores"),
    ("data_path", "./a", "is not a path of letters, digits, dots, dashes and underscores"),
    ("data_path", "a\\..\\b", "is not a path of letters, digits, dots, dashes and underscores"),
    ("data_path", "$(reboot)", "is not a path of letters, digits, dots, dashes and underscores"),
    ("data_path", "", "is empty"),
    ("prediction_path", "a\nb", "has a control character, such as a line break"),
    ("data_url", "ftp://host/x", "has a scheme other than salesforce+https, https and http"),
    ("data_url", "file:///etc/passwd", "has a scheme other than salesforce+https, https and http"),
    ("data_url", "salesforce+http://host", "has a scheme other than salesforce+https, https and http"),
    ("data_url", "https://", "names no host"),
    ("data_url", "https://host:x/", "is not an address"),
    ("data_url", "https://[::1/", "is not an address"),
    ("data_url", "http://169.254.169.254/latest", "is a link-local address, where clouds keep their credentials"),
    ("data_url", "http://[fe80::1]/", "is a link-local address, where clouds keep their credentials"),
    ("data_url", "https://host/${NOMAD_TOKEN}", "has a character that an address cannot have"),
    ("data_url", "https://host/a b", "has a character that an address cannot have"),
    ("data_url", "", "is empty"),
    ("gcp_bucket_path", "s3://bucket", "is not gs://BUCKET or gs://BUCKET/PREFIX"),
    ("gcp_bucket_path", "gs://", "is not gs://BUCKET or gs://BUCKET/PREFIX"),
    ("gcp_bucket_path", "gs://bucket/../other", "is not gs://BUCKET or gs://BUCKET/PREFIX"),
    ("gcp_bucket_path", "gs://bucket/a..b", "is not gs://BUCKET or gs://BUCKET/PREFIX"),
    ("gcp_bucket_path", "gs://bucket/.models", "is not gs://BUCKET or gs://BUCKET/PREFIX"),
    ("gcp_bucket_path", "gs://bucket" + "/a" * 9, "is not gs://BUCKET or gs://BUCKET/PREFIX"),
    ("gcp_bucket_path", "gs://bucket/", "is not gs://BUCKET or gs://BUCKET/PREFIX"),
]


@pytest.mark.parametrize(("name", "text", "problem"), BAD)
def test_a_wrong_value_is_told_in_one_line(pipeline: Pipeline, name: str, text: str, problem: str) -> None:
    with pytest.raises(ParameterError) as raised:
        pipeline.resolve(GIVEN | {name: text})
    message = str(raised.value)
    assert message.isprintable()
    assert message.startswith(f"parameter {name}=")
    assert f" {problem}, so nothing was started; give " in message
    assert len(message) < 400


ADDRESSES = [
    *("https://user:hunter2@host/x", "https://hunter2@host/x", "https://:hunter2@host/"),
    *("https://host/x?access_token=hunter2", "https://host/x?a=b&api_key=hunter2", "https://host/x?a=b;token=hunter2"),
    *("https://host/x?X-Goog-Signature=hunter2", "https://host/x?X-Amz-Signature=hunter2&X-Amz-Date=1"),
    *("https://host/x?sv=1&sig=hunter2", "https://host/x?key=hunter2", "https://host/x?Password=hunter2"),
    *("https://host/x?%61ccess_token=hunter2", "https://host/x?auth[token]=hunter2", "https://host/x#id_token=hunter2"),
    *("https://host/x?GoogleAccessId=hunter2", "salesforce+https://host?sessionId=hunter2"),
    *("https://host/ghp_hunter2" + "a" * 36, "https://host/x?q=ghp_hunter2" + "a" * 36),
    *("https://user:hun/ter2hunter2@host/", "https://user:hunter2@host:x/"),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_credential_in_an_address_is_refused_and_not_repeated(pipeline: Pipeline, address: str) -> None:
    with pytest.raises(ParameterError) as raised:
        pipeline.check({"data_url": address})
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ParameterError) as raised:
        pipeline.check({"epochs": address})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    ["https://host/@user/x?q=a@b&page=2", "https://host/x?keyword=tokens&author=me&design=1", "https://host/x#part"],
)
def test_an_address_without_one_is_taken(pipeline: Pipeline, address: str) -> None:
    assert pipeline.check({"data_url": address}) == {"data_url": address}


def test_a_missing_parameter_is_told(pipeline: Pipeline) -> None:
    with pytest.raises(ParameterError) as raised:
        pipeline.resolve({name: value for name, value in GIVEN.items() if name != "model_version"})
    assert str(raised.value) == (
        "parameter model_version is missing, so nothing was started; give -p model_version=VALUE (The version "
        "to train, written without the v.)"
    )


@pytest.mark.parametrize(
    ("name", "fix"),
    [("epoch", "did you mean 'epochs'?"), ("zzz", "there are: save_path, data_path, "), ("a\nb", "there are: ")],
)
def test_an_unknown_parameter_is_told(pipeline: Pipeline, name: str, fix: str) -> None:
    with pytest.raises(ParameterError) as raised:
        pipeline.resolve(GIVEN | {name: "1"})
    assert str(raised.value).startswith(f"parameter {name!r} is unknown, so nothing was started; {fix}")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(("text", "name"), [("epochs", "epochs"), ("=5", "KEY"), ("", "KEY")])
def test_what_is_no_assignment_is_told(text: str, name: str) -> None:
    with pytest.raises(ParameterError) as raised:
        parameters.assignments([text])
    assert str(raised.value) == f"{text!r} is no KEY=VALUE, so nothing was started; write -p {name}=VALUE"


def test_a_key_given_twice_is_told() -> None:
    with pytest.raises(ParameterError, match="parameter 'a' is given twice, so nothing was started; give it once"):
        parameters.assignments(["a=1", "b=2", "a=1"])


def test_a_value_may_hold_what_it_likes_to_be_checked_later() -> None:
    assert parameters.assignments(["a=b=c", "d="]) == {"a": "b=c", "d": ""}


def test_a_value_is_given_for_every_parameter(pipeline: Pipeline) -> None:
    assert pipeline.resolve(GIVEN) == GIVEN | {
        name: pipeline.parameters[name].default_text
        for name in ("batch_size", "epochs", "learning_rate", "seed", "min_auc")
    }


def test_layers_win_in_their_order(pipeline: Pipeline) -> None:
    resolved = pipeline.resolve({"epochs": "1"}, GIVEN | {"epochs": "2", "seed": "2"}, {"seed": "3", "batch_size": "3"})
    assert (resolved["epochs"], resolved["seed"], resolved["batch_size"]) == ("1", "2", "3")


def test_a_wrong_default_of_the_stack_is_told_too(pipeline: Pipeline) -> None:
    with pytest.raises(ParameterError, match=r"^parameter epochs='0' is not an integer from 1 to 1000, "):
        pipeline.resolve(GIVEN, {"epochs": "0"})


@pytest.mark.parametrize("stack", stacks())
def test_the_defaults_of_every_stack_are_parameters_of_their_pipeline(stack: str) -> None:
    files = parameters.files(ROOT / "jobs")
    for name, job in load(stack).jobs.items():
        parameters.load(files[name]).check(job.parameters)


@pytest.mark.parametrize(
    ("parameter", "problem"),
    [
        ({"type": "string"}, "a string has a pattern or a format: without one, anything would be let through"),
        ({"type": "string", "pattern": "a", "format": "gs-uri"}, "a string has a pattern or a format"),
        ({"type": "string", "pattern": "a", "minimum": 1}, "a string has no minimum or maximum"),
        ({"type": "integer"}, "a number has a minimum and a maximum"),
        ({"type": "integer", "minimum": 1, "maximum": 2, "pattern": "a"}, "a number has no pattern and no format"),
        ({"type": "integer", "minimum": 1, "maximum": 2, "default": 3}, "is not an integer from 1 to 2"),
        ({"type": "string", "pattern": "a", "default": "b"}, "does not match a"),
        ({"type": "string", "pattern": "a", "required": True, "default": "a"}, "a required parameter has no default"),
        ({"type": "text"}, "Input should be 'string', 'integer' or 'number'"),
        ({"type": "string", "pattern": "a", "unit": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_declaration_is_told(tmp_path: Path, parameter: dict[str, object], problem: str) -> None:
    folder = tmp_path / "jobs" / "some_job"
    folder.mkdir(parents=True)
    declaration = {"description": "x", "parameters": {"p": {"description": "x", **parameter}}}
    (folder / "parameters.yaml").write_text(yaml.safe_dump(declaration))
    with pytest.raises(ParameterError) as raised:
        parameters.load(folder / "parameters.yaml")
    assert str(raised.value).startswith("jobs/some_job/parameters.yaml: parameters.p")
    assert problem in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("written", ["1.10", "010", "12:30:45", "yes"])
def test_a_default_that_yaml_reads_as_another_text_is_refused(tmp_path: Path, written: str) -> None:
    path = tmp_path / "parameters.yaml"
    declared = "{type: string, pattern: '.*', description: x, default: %s}"
    path.write_text(f"description: x\nparameters:\n  p: {declared % written}\n")
    with pytest.raises(ParameterError, match=r"parameters\.p\.default: .*put it into quotes"):
        parameters.load(path)
    path.write_text(path.read_text().replace(written, f"'{written}'"))
    assert parameters.load(path).parameters["p"].default_text == written


def test_a_pipeline_is_named_by_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "some_job"
    folder.mkdir()
    (folder / "parameters.yaml").write_text("description: x\nparameters: {}\n")
    assert list(parameters.files(tmp_path)) == ["some-job"]
