"""Whether what a stack sets of a Kubernetes object are fields that its kind has, with values of their types.

Types are pulumi_kubernetes' own, which are generated from Kubernetes' API; hera's and kubeflow-spark-api's for Argo and
Spark, as `tests.argo.checks` reads them; and for a kind that neither has, the model written down here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pulumi import _types
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inventory.resources import SECRET, UNKNOWN, Resource
from tests.argo import checks
from tests.engine.provider import properties


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Endpoint(_Model):
    port: str | int
    path: str = "/metrics"
    scheme: Literal["http", "https"] = "http"
    interval: str = Field(pattern=r"^[0-9]+(s|m|h)$")
    timeout: str | None = None


class _Selector(_Model):
    matchLabels: dict[str, str] = {}  # noqa: N815 - Kubernetes' name


class _PodMonitoringSpec(_Model):
    selector: _Selector
    endpoints: list[_Endpoint] = Field(min_length=1)


class _PodMonitoring(_Model):
    """What is set here, of https://github.com/GoogleCloudPlatform/prometheus-engine/blob/main/doc/api.md#podmonitoring."""

    apiVersion: Literal["monitoring.googleapis.com/v1"]  # noqa: N815 - Kubernetes' name
    kind: Literal["PodMonitoring"]
    metadata: dict[str, Any]
    spec: _PodMonitoringSpec


_OWN = {"kubernetes:monitoring.googleapis.com/v1:PodMonitoring": _PodMonitoring}
_NAMESPACE = "kubernetes:core/v1:Namespace"
_ARGO = ("kubernetes:argoproj.io/v1alpha1:WorkflowTemplate", "kubernetes:argoproj.io/v1alpha1:CronWorkflow")


def problems(resource: Resource) -> list[str]:
    """What of an object its kind does not have, a line each."""
    if resource.type in _ARGO:
        return checks.typed([resource.inputs])
    if model := _OWN.get(resource.type):
        try:
            model.model_validate(resource.inputs, strict=True)
        except ValidationError as error:
            return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        # Every kind's is the same.
        return list(_typed(resource.inputs["metadata"], properties(_NAMESPACE).inputs["metadata"], "metadata"))
    declared = properties(resource.type)
    if not declared.outputs and "spec" in declared.inputs and declared.inputs["spec"] is dict:
        return [f"{resource.type}: no typed model is known, so nothing is checked; add one to tests/platform"]
    return list(_fields(resource.inputs, declared.inputs, ""))


def _fields(value: Mapping[str, Any], types: Mapping[str, Any], where: str) -> Iterator[str]:
    for key, inner in value.items():
        if key not in types:
            yield f"{where}{key}: is no field"
        else:
            yield from _typed(inner, types[key], f"{where}{key}")


def _typed(value: Any, typ: Any, where: str) -> Iterator[str]:
    typ = _types.unwrap_optional_type(typ)
    origin = get_origin(typ) or typ
    if value in (UNKNOWN, SECRET) or origin is Any:
        return
    if isinstance(origin, type) and _types.is_output_type(origin):
        if isinstance(value, Mapping):
            yield from _fields(value, _types.output_type_types(origin), f"{where}.")
        else:
            yield f"{where}: {value!r} is no {origin.__name__}"
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            yield f"{where}: {value!r} is no map"
        elif len(get_args(typ)) == 2:
            for key, inner in value.items():
                yield from _typed(inner, get_args(typ)[1], f"{where}.{key}")
    elif isinstance(origin, type) and issubclass(origin, Sequence) and not issubclass(origin, str):
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for index, inner in enumerate(value):
            yield from _typed(inner, get_args(typ)[0], f"{where}[{index}]")
    elif (
        origin in (str, int, bool, float) and type(value) is not origin and not (origin is float and type(value) is int)
    ):
        yield f"{where}: {value!r} is no {origin.__name__}"
