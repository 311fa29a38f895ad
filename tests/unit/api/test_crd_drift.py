"""The CRDs and the typed Python say the same: names, types, limits, enums, required fields and defaults.

Both sides are brought into one form, a nested mapping, and compared as a whole: what only one of them has shows up,
whichever it is.
"""

import types
import typing
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import annotated_types
import pytest
import yaml
from msgspec import NODEFAULT, inspect
from pydantic import BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from dbt_operator.api.connection import Connection
from dbt_operator.api.spec import DURATION, DURATION_LIMIT, OF_EACH_RUN, DbtRunSpec, parse_run_spec
from dbt_operator.api.status import DbtModelSpec, DbtModelStatus, DbtRunStatus
from dbt_operator.api.values import Value
from dbt_operator.reconcile.defaults import ALTERNATIVES

CRDS = Path(__file__).resolve().parents[3] / "crds"
Shape = dict[str, Any]
ANYTHING: Shape = {"type": "any"}


def crd_schema(plural: str, part: str) -> Shape:
    """The schema of spec or status in a CRD file."""
    crd = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    schema: Shape = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
    return schema


def of_schema(schema: Shape) -> Shape:
    """The shape of a schema of a CRD."""
    if "type" not in schema:
        return ANYTHING
    shape: Shape = {"type": "date-time" if schema.get("format") == "date-time" else schema["type"]}
    shape |= {
        key: schema[key] for key in ("maxLength", "maxItems", "maxProperties", "minimum", "maximum") if key in schema
    }
    shape |= {key: schema[key] for key in ("minLength", "pattern") if key in schema}
    if "enum" in schema:
        shape["enum"] = schema["enum"]
    if "properties" in schema:
        shape["fields"] = {name: of_schema(each) for name, each in schema["properties"].items()}
        shape["required"] = sorted(schema.get("required", ()))
        shape["defaults"] = {k: v["default"] for k, v in schema["properties"].items() if "default" in v}
    if "items" in schema:
        shape["items"] = of_schema(schema["items"])
    if "type" in schema.get("additionalProperties", ()):
        shape["values"] = of_schema(schema["additionalProperties"])
    return shape


def of_struct(kind: type[Value]) -> Shape:
    """The shape of a msgspec value."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    defaults = {field.encode_name: field.default for field in info.fields if field.default is not NODEFAULT}
    # Zero counts and the empty summary are defaults of Python only: they are always written.
    told = {
        key: getattr(value, "value", value)
        for key, value in defaults.items()
        if isinstance(value, Enum) or value is True
    }
    always = {key for key, value in defaults.items() if value == "" or (value == 0 and value is not None)}
    return {
        "type": "object",
        "fields": {field.encode_name: of_msgspec(field.type) for field in info.fields},
        "required": sorted({field.encode_name for field in info.fields if field.default is NODEFAULT} | always),
        "defaults": told,
    }


def of_msgspec(kind: inspect.Type) -> Shape:
    """The shape of a type as msgspec sees it."""
    match kind:
        case inspect.UnionType(types=options):
            (option,) = (each for each in options if not isinstance(each, inspect.NoneType))
            return of_msgspec(option)
        case inspect.StructType(cls=cls):
            assert issubclass(cls, Value)
            return of_struct(cls)
        case inspect.VarTupleType(item_type=item, max_length=limit):
            return {"type": "array", "maxItems": limit, "items": of_msgspec(item)}
        case inspect.EnumType(cls=cls):
            return {"type": "string", "enum": [member.value for member in cls]}
        case inspect.StrType(max_length=limit):
            return {"type": "string", "maxLength": limit}
    return {"type": PLAIN[type(kind)]}


PLAIN = {
    inspect.DictType: "object",
    inspect.BoolType: "boolean",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.DateTimeType: "date-time",
}


def of_model(model: type[BaseModel]) -> Shape:
    """The shape of a pydantic model."""
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    defaults = {
        alias: field.get_default(call_default_factory=True)
        for alias, field in fields.items()
        if not field.is_required()
    }
    return {
        "type": "object",
        "fields": {alias: of_annotation(field.annotation, limits_of(field)) for alias, field in fields.items()},
        "required": sorted(alias for alias, field in fields.items() if field.is_required()),
        "defaults": {alias: plain(value) for alias, value in defaults.items() if value not in (None, (), {})},
    }


def plain(default: Any) -> Any:
    """A default of a model as a CRD has it."""
    if isinstance(default, BaseModel):
        assert default == type(default)(), "a default of an object that is not made of those of its fields"
        return {}
    if isinstance(default, timedelta):
        minutes, seconds = divmod(round(default.total_seconds()), 60)
        return f"{60 * minutes + seconds}s" if seconds else f"{minutes}m"
    return [plain(each) for each in default] if isinstance(default, tuple) else default


def limits_of(field: FieldInfo) -> list[Any]:
    """Everything that the annotation of a field adds to its type."""
    return list(field.metadata)


def of_annotation(annotation: Any, limits: list[Any]) -> Shape:
    """The shape of a type hint with its limits."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return of_annotation(arguments[0], [*limits, *arguments[1:]])
    if origin in (typing.Union, types.UnionType):
        (option,) = (each for each in arguments if each is not type(None))
        return of_annotation(option, limits)
    if origin is typing.Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is tuple:
        return {
            "type": "array",
            "items": of_annotation(arguments[0], []),
            "maxItems": limit(limits, annotated_types.MaxLen),
        }
    if origin is dict:
        limited = typing.get_origin(arguments[1]) is typing.Annotated
        typed = limited or (isinstance(arguments[1], type) and issubclass(arguments[1], BaseModel))
        values = {"values": of_annotation(arguments[1], [])} if typed else {}
        return {"type": "object", **known(maxProperties=limit(limits, annotated_types.MaxLen)), **values}
    return of_class(annotation, limits)


def of_class(annotation: Any, limits: list[Any]) -> Shape:
    """The shape of a class with the limits that its annotation adds."""
    assert isinstance(annotation, type), f"no rule for {annotation}"
    if issubclass(annotation, BaseModel):
        return of_model(annotation)
    if issubclass(annotation, StrEnum):
        return {"type": "string", "enum": [member.value for member in annotation]}
    if annotation is timedelta:
        return {"type": "string", "minLength": 1, "maxLength": DURATION_LIMIT, "pattern": DURATION}
    if annotation is str:
        return {"type": "string", **text_limits(limits)}
    if annotation is bool:
        return {"type": "boolean"}
    if annotation in (int, float):
        return {
            "type": "integer" if annotation is int else "number",
            "minimum": limit(limits, annotated_types.Ge),
            "maximum": limit(limits, annotated_types.Le),
        }
    raise AssertionError(f"no rule for {annotation}")


def text_limits(limits: list[Any]) -> Shape:
    """The limits of a text, however pydantic keeps them."""
    found: Shape = {}
    for each in limits:
        nested = getattr(each, "metadata", ())
        found |= text_limits(list(nested)) if nested else {}
        if isinstance(each, StringConstraints):
            found |= known(minLength=each.min_length, maxLength=each.max_length, pattern=each.pattern)
        elif isinstance(each, annotated_types.MinLen):
            found["minLength"] = each.min_length
        elif isinstance(each, annotated_types.MaxLen):
            found["maxLength"] = each.max_length
        elif getattr(each, "pattern", None):
            found["pattern"] = each.pattern
    return found


def limit(limits: list[Any], kind: type) -> Any:
    """The limit of this kind among the annotations, if there is one."""
    for each in limits:
        if isinstance(each, kind):
            return next(getattr(each, name) for name in ("max_length", "ge", "le") if hasattr(each, name))
        for nested in getattr(each, "metadata", ()):
            if isinstance(nested, kind):
                return limit([nested], kind)
    return None


def known(**values: Any) -> Shape:
    """The values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def without(shape: Shape, *keys: str) -> Shape:
    """A shape without the attributes that one side does not say."""
    return {
        key: {name: without(each, *keys) for name, each in value.items()}
        if key == "fields"
        else (without(value, *keys) if key == "items" else value)
        for key, value in shape.items()
        if key not in keys
    }


def test_the_spec_of_a_run_is_the_same_in_the_crd_and_in_python() -> None:
    schema = of_schema(crd_schema("dbtruns", "spec"))
    model = of_model(DbtRunSpec)
    # Free in Python: where they are merged into a pod their fields are checked, with better sentences.
    for path in ((), ("producer",), ("retry",), ("nodes",)):
        assert set(fields_at(schema, path).pop("podTemplate")["fields"]) == {"metadata", "spec"}
        assert fields_at(model, path).pop("podTemplate") == {"type": "object"}
    # What the API server filled in would hide what defaults give; and what they give, a run need not have.
    assert {path[0] for path in filled_in(crd_schema("dbtruns", "spec"))} <= OF_EACH_RUN
    assert schema.pop("required") == []
    assert model.pop("required") == ["profile", "project"]
    assert_same_defaults(schema, model)
    assert without(schema, "defaults") == without(model, "defaults")


def fields_at(shape: Shape, path: tuple[str, ...]) -> Shape:
    """The fields of what is at this path, of the items where that is a list."""
    for name in path:
        shape = shape["fields"][name]
    fields: Shape = shape.get("items", shape)["fields"]
    return fields


def filled_in(schema: Shape, path: tuple[str, ...] = ()) -> typing.Iterator[tuple[str, ...]]:
    """The fields with a default, but for those within what is never merged with defaults."""
    for name, each in schema.get("properties", {}).items():
        if name not in ALTERNATIVES.get(path, ()):
            here = (*path, name)
            yield from (here,) if "default" in each else filled_in(each, here)


def assert_same_defaults(schema: Shape, model: Shape) -> None:
    """What the API server fills in is what the operator takes where nothing is given."""
    assert schema.get("defaults", {}).items() <= model.get("defaults", {}).items()
    for name, each in schema.get("fields", {}).items():
        assert_same_defaults(each, model["fields"][name])


def test_a_connection_is_the_same_in_a_run_and_by_itself() -> None:
    own = crd_schema("dbtconnections", "spec")
    assert own == crd_schema("dbtruns", "spec")["properties"]["profile"]["properties"]["connection"]
    assert of_schema(own) == of_model(Connection)


def defaulted(schema: Shape, value: Any) -> Any:
    """The value with the defaults of its schema, as the apiserver fills them in."""
    if not isinstance(value, dict):
        return value
    fields = schema.get("properties", {})
    given = {name: each["default"] for name, each in fields.items() if "default" in each} | value
    return {name: defaulted(fields.get(name, {}), each) for name, each in given.items()}


@pytest.mark.parametrize(
    "given",
    [{}, {"command": "run"}, {"fullRefresh": True, "suspend": True}],
)
def test_a_spec_means_the_same_with_the_defaults_of_the_crd_and_without(given: Shape) -> None:
    required = {"project": {"image": {"path": "/dbt"}}, "profile": {"secretRef": {"name": "dwh"}}, "image": "dbt:1"}
    filled = defaulted(crd_schema("dbtruns", "spec"), required | given)
    assert filled.keys() > {"command", "suspend"}
    assert parse_run_spec(filled) == parse_run_spec(required | given)


@pytest.mark.parametrize(
    ("plural", "part", "kind"),
    [("dbtruns", "status", DbtRunStatus), ("dbtmodels", "status", DbtModelStatus), ("dbtmodels", "spec", DbtModelSpec)],
)
def test_what_the_operator_writes_is_the_same_on_both_sides(plural: str, part: str, kind: type[Value]) -> None:
    # The lower limits are what a value of dbt's always keeps; only the upper ones need care when writing.
    assert without(of_schema(crd_schema(plural, part)), "minLength", "pattern") == of_struct(kind)


def test_every_field_of_the_crds_is_described() -> None:
    for plural in ("dbtruns", "dbtmodels"):
        crd = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
        assert not list(undescribed(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], plural))


def undescribed(schema: Shape, path: str) -> typing.Iterator[str]:
    """The paths of the fields without a description."""
    # What all objects have is described by Kubernetes itself.
    if not schema.get("description", "").strip() and path.partition(".")[2] not in ("apiVersion", "kind", "metadata"):
        yield path
    for name, each in schema.get("properties", {}).items():
        yield from undescribed(each, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from undescribed(schema[key], f"{path}[]")


def test_the_crds_are_small_enough_for_a_client_side_apply() -> None:
    # It keeps an object once more in an annotation of that, which has room for 256 KiB.
    assert max(path.stat().st_size for path in CRDS.glob("*.yaml")) < 200_000


def test_a_time_is_a_time_on_both_sides() -> None:
    assert of_msgspec(inspect.type_info(datetime)) == of_schema({"type": "string", "format": "date-time"})
