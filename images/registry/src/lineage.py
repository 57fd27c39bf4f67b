"""What became of a run, written down when it has ended: OpenLineage events and the outcome.

Owns: the events of a run as a whole, where they lie in the bucket (beside the version; under the model's `lineage/`
where no version came of it), and the line that says how it ended. Deliberately not: the run itself, and the manifest,
which it only reads. `OPENLINEAGE_URL` sends the same events to a lineage server too; that it does not answer fails
nothing.

It may add to the bucket and never overwrite, and a step that failed is started again. So the outcome is written first,
and once: a repeat takes from it what only the first attempt could say, and comes to the same events.
"""

import argparse
import functools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from errors import BucketError, InputError

PRODUCER = "urn:hybrid-mlops:registry"
EVENTS = "events.jsonl"
OUTCOME = "outcome.json"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    root = _Parser(prog="lineage.py", description="Record what became of a run.", allow_abbrev=False)
    root.add_argument("--status", required=True, help="Succeeded, Failed or Error")
    root.add_argument("--failures", default="", metavar="JSON", help="the steps that failed, as Argo lists them")
    root.add_argument("--started", required=True, metavar="TIME", help="when the run began")
    root.add_argument("--parameters", required=True, metavar="JSON", help="the run's parameters, as Argo lists them")
    root.add_argument("--namespace", required=True, help="of the job in the lineage")
    root.add_argument("--job", required=True, help="the pipeline")
    return root


def main(argv: list[str] | None = None) -> int:
    """Run the command line; give its exit code."""
    logging.basicConfig(level=logging.ERROR)
    try:
        options = parser().parse_args(argv)
        wanted = ("GCP_BUCKET_PATH", "MODEL", "VERSION_ID", "ENGINE_RUN", "ALLOC_ID")
        if missing := [name for name in wanted if not os.environ.get(name)]:
            raise InputError(f"{', '.join(missing)} not set")
        record(options, {name: os.environ[name] for name in wanted})
    except InputError as error:
        return _say(error, 2)
    except BucketError as error:
        return _say(error, 1)
    return 0


def record(options: argparse.Namespace, run: Mapping[str, str]) -> None:
    """Write events and outcome to the bucket, and say the outcome.

    Raises:
      InputError: What is to be written down is not what Argo gives, or something else of this run already is.
      BucketError: The bucket did not answer.
    """
    parameters = {one["name"]: one["value"] for one in _json(options.parameters, "--parameters")}
    failures = _failures(options.failures)
    bucket, prefix = _place(run["GCP_BUCKET_PATH"])
    model = f"{prefix}{run['MODEL']}/"
    manifest = _bucket_read(bucket, f"{model}{run['VERSION_ID']}/manifest.json")
    folder = f"{model}{run['VERSION_ID']}/lineage/" if manifest else f"{model}lineage/{run['VERSION_ID']}/"
    outcome = {
        "workflow": run["ENGINE_RUN"],
        "uid": run["ALLOC_ID"],
        "status": options.status,
        "version_id": run["VERSION_ID"] if manifest else None,
        "started": options.started,
        "finished": datetime.now(UTC).isoformat(),
        "failures": failures,
        "reused": list(manifest["parents"]) if manifest else [],
    }
    if first := _bucket_read(bucket, f"{folder}{OUTCOME}"):
        # When the run was found to have ended, and what had failed by then: among that is, later, this step itself.
        outcome |= {key: first[key] for key in ("finished", "failures") if key in first}
    _bucket_create(bucket, f"{folder}{OUTCOME}", json.dumps(outcome, indent=1) + "\n")
    events = _events(options, run, parameters, manifest, outcome, (bucket, model))
    _bucket_create(bucket, f"{folder}{EVENTS}", events)
    failures = outcome["failures"]
    if manifest:
        metrics = manifest["metrics"]
        scores = f"test AUC {metrics['test']['auc']:.4f}, baseline {metrics['baseline']['auc']:.4f}"
        print(f"{options.status}: {run['MODEL']}/{run['VERSION_ID']}, {scores}", flush=True)
    else:
        why = f": {failures[0]['step']}: {failures[0]['message']}" if failures else ""
        print(f"{options.status}, no version was stored{why}", flush=True)


def _events(
    options: argparse.Namespace,
    run: Mapping[str, str],
    parameters: Mapping[str, str],
    manifest: Mapping[str, Any] | None,
    outcome: Mapping[str, Any],
    models: tuple[str, str],
) -> str:
    from openlineage.client import OpenLineageClient, set_producer
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.facet_v2 import (
        dataset_version_dataset,
        error_message_run,
        job_type_job,
        schema_dataset,
        source_code_location_job,
    )
    from openlineage.client.transport.file import FileConfig, FileTransport

    set_producer(PRODUCER)
    data_bucket, data_name = _place(parameters.get("data_uri", "gs://unknown/unknown"))
    inputs, outputs = [InputDataset(f"gs://{data_bucket}", data_name.rstrip("/"))], []
    job_facets: dict[str, Any] = {"jobType": job_type_job.JobTypeJobFacet("BATCH", "ARGO", "WORKFLOW")}
    if manifest:
        data = manifest["data"]
        fields = [schema_dataset.SchemaDatasetFacetFields(one["name"], one["type"]) for one in data["schema"]]
        inputs[0].facets = {
            "version": dataset_version_dataset.DatasetVersionDatasetFacet(data["sha256"]),
            "schema": schema_dataset.SchemaDatasetFacet(fields),
        }
        version: dict[str, Any] = {
            "version": dataset_version_dataset.DatasetVersionDatasetFacet(manifest["model_digest"])
        }
        outputs = [OutputDataset(f"gs://{models[0]}", f"{models[1]}{run['VERSION_ID']}", facets=version)]
        if commit := manifest["code"]["commit"]:
            job_facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
                "git", f"git:{commit}", version=commit
            )
    run_facets: dict[str, Any] = {}
    if outcome["failures"]:
        said = "; ".join(f"{one['step']}: {one['message']}" for one in outcome["failures"])
        run_facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(said, "argo")
    job = Job(options.namespace, options.job, job_facets)
    end = RunState.COMPLETE if options.status == "Succeeded" else RunState.FAIL
    events = [
        RunEvent(
            eventType=kind,
            eventTime=at,
            run=Run(run["ALLOC_ID"], facets),
            job=job,
            inputs=inputs,
            outputs=outputs,
            producer=PRODUCER,
        )
        for kind, at, facets in (
            (RunState.START, outcome["started"], {}),
            (end, outcome["finished"], run_facets),
        )
    ]
    with tempfile.TemporaryDirectory(prefix="lineage-") as scratch:
        path = Path(scratch) / EVENTS
        client = OpenLineageClient(transport=FileTransport(FileConfig(log_file_path=str(path), append=True)))
        for event in events:
            client.emit(event)
        text = path.read_text()
    if url := os.environ.get("OPENLINEAGE_URL"):
        try:
            server = OpenLineageClient(url=url)
            for event in events:
                server.emit(event)
        except Exception as error:  # noqa: BLE001 - whatever a lineage server does, the run was what it was
            print(f"registry: the lineage server at {url} did not take the events: {error}", file=sys.stderr)
    return text


def _failures(text: str) -> list[dict[str, str]]:
    if not text:
        return []
    found = _json(text, "--failures")
    # Argo quotes the list once more.
    found = _json(found, "--failures") if isinstance(found, str) else found
    # What ended first is the cause; what called it failed with it.
    ended = sorted(found or [], key=lambda one: one.get("finishedAt") or "")
    return [
        {"step": one.get("displayName", "?"), "message": one.get("message") or one.get("phase", "")} for one in ended
    ]


def _place(uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket:
        raise InputError(f"{uri!r} is not gs://<bucket>/<prefix>")
    return bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""


def _bucket_read(bucket: str, name: str) -> dict[str, Any] | None:
    text = _bucket_text(bucket, name)
    return None if text is None else _json(text, name)


def _bucket_text(bucket: str, name: str) -> str | None:
    from google.api_core.exceptions import NotFound

    with _Translated(bucket) as client:
        try:
            return client.bucket(bucket).blob(name).download_as_text()
        except NotFound:
            return None


def _bucket_create(bucket: str, name: str, text: str) -> None:
    """Write an object that must not exist yet; the same text may."""
    from google.api_core.exceptions import PreconditionFailed

    # Looked for first: to who may not overwrite, the bucket may refuse a repeat instead of telling what is there.
    found = _bucket_text(bucket, name)
    if found is None:
        with _Translated(bucket) as client:
            blob = client.bucket(bucket).blob(name)
            try:
                blob.upload_from_string(text, content_type="application/json", checksum="crc32c", if_generation_match=0)
                return
            except PreconditionFailed:
                # Another attempt, or this one, whose answer was lost and which the library sent again.
                found = _bucket_text(bucket, name)
    if found != text:
        raise InputError(f"gs://{bucket}/{name} says something else of this run and is never overwritten; compare them")


@functools.cache
def _client() -> Any:
    # Without this the library asks for the bucket's own metadata beside the first request, which costs a request and a
    # permission, for traces that nobody collects.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    from google.cloud import storage

    return storage.Client(project=os.environ.get("GOOGLE_CLOUD_PROJECT", "none"))


class _Translated:
    """The bucket's client, and its errors as one line."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    def __enter__(self) -> Any:
        from google.auth.exceptions import GoogleAuthError

        try:
            return _client()
        except GoogleAuthError as error:
            raise BucketError(f"gs://{self._bucket}: {error}") from None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        if isinstance(error, GoogleAPIError | GoogleAuthError | RequestException):
            raise BucketError(f"gs://{self._bucket}: {' '.join(str(error).split())[:300]}") from None


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise InputError(f"{what} is not JSON") from None


def _say(error: object, code: int) -> int:
    print(f"registry: {' '.join(str(error).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
