"""Raw mappings as typed values: parsed once, with every wrong leaf said in one line by its path.

Owns the base of the models, the leaf types that several of them have, and the wording of refusals. It knows no
definition.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from definitions.quantities import jvm_mebibytes, quantity
from definitions.scalars import as_text


class DefinitionError(ValueError):
    """A definition cannot be read.

    Attributes:
        problems: One line each: where, and what is wrong.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Typed(BaseModel):
    """An object of a definition. Fields that its type does not have are kept as they are, in `model_extra`."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, alias_generator=to_camel, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        # To Kubernetes a field that is null is absent.
        return {key: inner for key, inner in value.items() if inner is not None} if isinstance(value, dict) else value

    def given(self) -> Iterator[tuple[str, Any]]:
        """The fields that are set, by the name that they have in a definition."""
        for name, field in type(self).model_fields.items():
            if name in self.model_fields_set:
                yield field.alias or name, getattr(self, name)
        yield from (self.model_extra or {}).items()


T = TypeVar("T", bound=Typed)


def parse(kind: type[T], value: Any, where: str) -> T:
    """A mapping as its type.

    Args:
        kind: The type.
        value: What YAML or JSON gave.
        where: The name of the whole, which each problem begins with.

    Raises:
        DefinitionError: It is of another shape, or a leaf of another type.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise DefinitionError([_problem(each, value, where) for each in error.errors(include_url=False)]) from None


def place(where: str, *names: str) -> str:
    """The path of a field below something that has a name."""
    return ".".join((where, *names)) if ": " in where else f"{where}: {'.'.join(names)}"


def label(item: Any, index: int) -> str:
    """What an item of a list is called: by its name if it has one."""
    name = item.get("name") if isinstance(item, Mapping) else getattr(item, "name", None)
    return f"[{name or index}]"


def _problem(error: Any, value: Any, where: str) -> str:
    path = ""
    for step in error["loc"]:
        if isinstance(step, int):
            path += label(value[step], step)
            value = value[step]
        else:
            path += f".{step}"
            value = value.get(step) if isinstance(value, Mapping) else None
    kinds = {
        "missing": "is missing",
        "string_type": f"is {shown(value)}, not text; write it in quotes",
        "int_type": f"is {shown(value)}, not a whole number",
        "bool_type": f"is {shown(value)}, not true or false",
        "list_type": f"is {shown(value)}, not a list",
        "dict_type": f"is {shown(value)}, not an object",
        "model_type": f"is {shown(value)}, not an object",
    }
    said = str(error["ctx"]["error"]) if error["type"] == "value_error" else kinds.get(error["type"], error["msg"])
    return f"{place(where, path.removeprefix('.')) if path else where} {said}"


def shown(value: Any) -> str:
    """A value in a message: scalars as they are, the rest by its kind."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return repr(value)[:60]


def has_tag(text: str) -> bool:
    """Whether Argo puts a value into a text, so that what it is shows only in a run."""
    return "{{" in text


def _whole(value: Any) -> str:
    text = str(value)
    digits = text.removeprefix("-")
    if isinstance(value, bool) or not isinstance(value, int | str) or not (digits.isdecimal() or has_tag(text)):
        raise ValueError(f"is {shown(value)}, not a whole number")
    return text


def _cores_or_bytes(value: Any) -> str:
    text = str(as_text(value))
    if not has_tag(text) and quantity(text) is None:
        raise ValueError(f"is {shown(value)}, not a quantity: write it like 500m or 2, and 512Mi or 2Gi")
    return text


def _jvm_memory(value: Any) -> str:
    # Without a unit spark-submit takes it as bytes, and the operator as MiB.
    if not isinstance(value, str) or not (has_tag(value) or (jvm_mebibytes(value) and not value[-1].isdecimal())):
        raise ValueError(f"is {shown(value)}, not like 512m or 2g")
    return value


Whole = Annotated[str, BeforeValidator(_whole)]
"""A whole number, as a number or as text, which may have tags."""
Quantity = Annotated[str, BeforeValidator(_cores_or_bytes)]
"""An amount as Kubernetes writes it, which may have tags."""
JvmMemory = Annotated[str, BeforeValidator(_jvm_memory)]
"""Memory as Spark writes it, which may have tags."""
