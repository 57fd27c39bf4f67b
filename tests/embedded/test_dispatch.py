"""Dispatching over HTTP: Nomad's rules and words, one run for one token, and python-nomad as a client."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote, urlsplit

import nomad
import pytest
import requests
from nomad.api.exceptions import BadRequestNomadException, URLNotFoundNomadException

from mlops.engines.embedded import platform
from mlops.engines.embedded.platform import PlatformError
from tests.embedded.conftest import Engine, job, task


@pytest.fixture(scope="module")
def client(engine: Engine) -> nomad.Nomad:
    return nomad.Nomad(address=engine.platform.nomad_address)


@pytest.fixture(scope="module")
def meta(engine: Engine) -> str:
    return engine.register(
        job("meta", task("main", "echo $NOMAD_META_b; echo err >&2"), required='["a"]', optional='["b"]')
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Dispatch did not provide required meta keys: [a]"),
        ({"a": "1", "c": "2"}, "Dispatch request included unpermitted metadata keys: [c]"),
        ({"a": 1}, "Meta must be an object of strings"),
        ("text", "Meta must be an object of strings"),
    ],
)
def test_meta_is_checked_in_nomads_words(engine: Engine, meta: str, given: Any, message: str) -> None:
    answer = requests.post(engine.url(f"/v1/job/{meta}/dispatch"), json={"Meta": given}, timeout=30)
    assert (answer.status_code, answer.text) == (400, message)


def test_jobs_that_are_not_there_or_stopped(engine: Engine) -> None:
    answer = requests.post(engine.url("/v1/job/none/dispatch"), json={}, timeout=30)
    assert (answer.status_code, answer.text) == (404, "parameterized job not found")
    engine.register(source := job("closed", task("main", "true")))
    assert requests.delete(engine.url("/v1/job/closed"), timeout=30).ok
    answer = requests.post(engine.url("/v1/job/closed/dispatch"), json={}, timeout=30)
    assert (answer.status_code, answer.text) == (400, 'Specified job "closed" is stopped')
    engine.register(source)
    assert engine.dispatch("closed")


def test_a_payload_is_refused(engine: Engine, meta: str) -> None:
    answer = requests.post(
        engine.url(f"/v1/job/{meta}/dispatch"), json={"Meta": {"a": ""}, "Payload": "eA=="}, timeout=30
    )
    assert (answer.status_code, "payload" in answer.text) == (400, True)


def test_one_token_starts_one_run_however_often_and_together_it_is_sent(engine: Engine, meta: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(lambda _: engine.dispatch(meta, {"a": ""}, "t/1"), range(32)))
    assert len(ids) == 1
    assert engine.dispatch(meta, {"a": ""}, "t/2") not in ids
    engine.register(job("meta2", task("main", "true")))
    assert engine.dispatch("meta2", {}, "t/1") not in ids  # a token belongs to its job


def test_a_token_outlives_the_supervisor(own: Engine) -> None:
    own.register(job("kept", task("main", "true")))
    run = own.dispatch("kept", {}, "once")
    own.finished(run)
    assert platform.down(own.state)
    again = Engine(own.state, own.checkout)
    assert again.dispatch("kept", {}, "once") == run
    assert [allocation["ClientStatus"] for allocation in again.allocations(run)] == ["complete"]
    assert again.dispatch("kept") != run  # the job itself is remembered too


def test_python_nomad_can_do_everything_with_it(engine: Engine, client: nomad.Nomad, meta: str) -> None:
    token = {"idempotency_token": "python"}
    with pytest.raises(BadRequestNomadException):
        client.job.dispatch_job(meta, meta={})
    answer = client.job.dispatch_job(meta, meta={"a": "1", "b": "two"}, **token)
    run = answer["DispatchedJobID"]
    assert set(answer) >= {"DispatchedJobID", "EvalID", "EvalCreateIndex", "JobCreateIndex", "Index"}
    assert client.job.dispatch_job(meta, meta={"a": "1"}, **token)["DispatchedJobID"] == run
    engine.finished(run)
    (stub,) = client.job.get_allocations(run)
    allocation = client.allocation.get_allocation(stub["ID"])
    assert allocation["Job"]["Meta"] == {"a": "1", "b": "two"}
    assert allocation["TaskStates"]["main"]["State"] == "dead"
    assert client.client.stream_logs.stream(stub["ID"], "main", "stdout", plain=True) == "two\n"
    framed = client.client.stream_logs.stream(stub["ID"], "main", "stderr")
    assert '"Data": "ZXJyCg=="' in framed
    assert {item["ID"]: item["ParentID"] for item in client.jobs.get_jobs(prefix="meta/")}[run] == "meta"
    assert client.jobs.get_jobs(prefix=run, meta=True)[0]["Meta"]["b"] == "two"
    assert client.job.get_job(meta)["ParameterizedJob"]["MetaRequired"] == ["a"]
    assert [item["ID"] for item in client.allocations.get_allocations(prefix=stub["ID"][:8])] == [stub["ID"]]
    assert client.status.leader.get_leader()
    running = client.job.dispatch_job(engine.register(job("long", task("main", "exec sleep 1000"))))["DispatchedJobID"]
    assert "JobModifyIndex" in client.job.deregister_job(running)
    assert engine.finished(running)[0]["DesiredStatus"] == "stop"
    with pytest.raises(URLNotFoundNomadException):
        client.job.get_job("none")


def test_what_has_not_ended_is_listed_alone_if_asked(engine: Engine) -> None:
    engine.register(job("asked", task("main", "sleep $NOMAD_META_seconds"), required='["seconds"]'))
    ended, running = (engine.dispatch("asked", {"seconds": seconds}) for seconds in ("0", "1000"))
    engine.finished(ended)
    listed = [each["ID"] for each in engine.get("/v1/jobs", filter='Status != "dead"')]
    assert {"asked", running} <= set(listed)
    assert ended not in listed
    requests.delete(engine.url("/v1/job/asked"), timeout=30)
    requests.delete(engine.url(f"/v1/job/{running}"), timeout=30)
    engine.finished(running)
    assert not {"asked", running} & {each["ID"] for each in engine.get("/v1/jobs", filter='Status != "dead"')}


def test_an_id_may_be_escaped(engine: Engine, meta: str) -> None:
    run = engine.dispatch(meta, {"a": ""})
    assert engine.get(f"/v1/job/{quote(run, safe='')}")["ID"] == run
    assert len(engine.get(f"/v1/job/{quote(run, safe='')}/allocations")) == 1


def test_a_registration_that_is_refused_leaves_the_job_as_it_was(engine: Engine) -> None:
    engine.register(job("steady", task("main", "echo old")))
    with pytest.raises(PlatformError, match=r'^line \d+: task "main": .*"artifact"'):
        engine.register(job("steady", task("main", "echo new", more="artifact {\n}")))
    assert engine.log(engine.finished(engine.dispatch("steady"))[0], "main") == "old\n"
    version = engine.get("/v1/job/steady")["Version"]
    engine.register(job("steady", task("main", "echo old")))
    assert engine.get("/v1/job/steady")["Version"] == version
    engine.register(job("steady", task("main", "echo new")))
    assert engine.get("/v1/job/steady")["Version"] == version + 1


def test_what_has_no_effect_is_said_with_every_run(engine: Engine) -> None:
    source = job("noted", task("main", "true", more='user = "nobody"'))
    registered = requests.put(
        engine.url("/v1/jobs"), json={"Submission": {"Source": source, "Format": "hcl2"}}, timeout=30
    )
    dispatched = requests.post(engine.url("/v1/job/noted/dispatch"), json={}, timeout=30)
    note = "task.user has no effect here: a task is a process of the user who started the platform"
    assert [registered.json()["Warnings"], dispatched.json()["Warnings"]] == [note, note]


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost", "127.0.0.1",
    "LOCALHOST:5", "[::1]:1",
])  # fmt: skip
def test_requests_to_another_host_are_refused(engine: Engine, host: str) -> None:
    answer = requests.get(engine.url("/v1/jobs"), headers={"Host": host}, timeout=30)
    assert answer.status_code in (400, 403)
    assert "\n" not in answer.text


@pytest.mark.parametrize(
    "content", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_a_form_in_a_web_page_starts_nothing(engine: Engine, meta: str, content: str) -> None:
    before = len(engine.get("/v1/jobs"))
    answer = requests.post(
        engine.url(f"/v1/job/{meta}/dispatch"),
        data='{"Meta": {"a": ""}}',
        headers={"Content-Type": content},
        timeout=30,
    )
    assert (answer.status_code, len(engine.get("/v1/jobs"))) == (415, before)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/jobs", "{"),
        ("PUT", "/v1/jobs", "[]"),
        ("PUT", "/v1/jobs", "{}"),
        ("PUT", "/v1/jobs", '{"Submission": {"Source": 5}}'),
        ("PUT", "/v1/jobs", '{"Submission": {"Source": "", "VariableFlags": {"a": 1}}}'),
        ("PUT", "/v1/jobs", '{"Submission": {"Source": "job \\"x\\" {"}}'),
        ("GET", "/v1/jobs?index=x", ""),
        ("GET", '/v1/jobs?filter=Status == "dead"', ""),
        ("GET", "/v1/nothing", ""),
        ("GET", "/v1/allocation/none", ""),
        ("GET", "/v1/job/none/allocations", ""),
        ("DELETE", "/v1/job/none", ""),
        ("GET", "/v1/client/fs/logs/none?task=a&type=stdout", ""),
        ("GET", "/v1/client/fs/logs/none?task=a&type=other", ""),
        ("PATCH", "/v1/jobs", ""),
    ],
)
def test_bad_requests_are_told_in_one_line(engine: Engine, method: str, path: str, body: str) -> None:
    answer = requests.request(
        method, engine.url(path), data=body, headers={"Content-Type": "application/json"}, timeout=30
    )
    assert 400 <= answer.status_code < 500
    assert answer.text
    assert "\n" not in answer.text
    assert "Traceback" not in answer.text


def test_it_listens_on_this_machine_only(engine: Engine) -> None:
    for address in (engine.platform.nomad_address, engine.platform.storage_address):
        assert urlsplit(address).hostname == "127.0.0.1"


DEEP = {
    "parentheses": ("(", "1", ")"),
    "lists": ("[", "1", "]"),
    "objects": ("{a=", "1", "}"),
    "blocks": ("a {\n", "", "}\n"),
    "calls": ("f(", "1", ")"),
    "templates": ('"${', "1", '}"'),
    "parentheses in a template": ("(", "1", ")"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_a_job_that_is_nested_without_end_is_refused_before_it_is_parsed(engine: Engine, kind: str) -> None:
    before, inside, after = DEEP[kind]
    text = before * 20_000 + inside + after * 20_000
    if "in a template" in kind:
        text = f'"${{{text}}}"'
    source = job("deep", task("main", "true"), top=text if kind == "blocks" else f"x = {text}")
    with pytest.raises(PlatformError, match=r"^line \d+: more than \d+ brackets stand in each other") as caught:
        engine.register(source)
    assert caught.value.exit_code == 2


def test_brackets_in_text_are_no_nesting(engine: Engine) -> None:
    script = "# ((((" + "(" * 200 + '\ncase "$1" in a) echo ok;; esac; echo "[ ${NOMAD_JOB_ID} ] // {"'
    data = f"<<EOH\n# {'({[' * 200}\nEOH\n"
    more = f'template {{\n destination = "secrets/f"\n env = true\n data = {data}}}\n# {"(" * 200}'
    allocation = engine.run(job("smileys", task("main", script, more=more)), None)
    assert allocation["ClientStatus"] == "complete"


@pytest.mark.parametrize("depth", [500, 900, 20_000])
def test_a_body_that_is_nested_without_end_is_refused(engine: Engine, depth: int) -> None:
    for path, member in (("/v1/jobs", "Submission"), ("/api/v1/workflow-templates/ns", "template")):
        text = f'{{"{member}": {"[" * depth}{"]" * depth}}}'
        method = "PUT" if path == "/v1/jobs" else "POST"
        headers = {"Content-Type": "application/json"}
        answer = requests.request(method, engine.url(path), data=text, headers=headers, timeout=30)
        assert 400 <= answer.status_code < 500, answer.text
        assert "\n" not in answer.text
