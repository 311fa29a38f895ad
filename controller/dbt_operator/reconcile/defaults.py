"""What the spec of a run is given where it is silent: by its namespace, and where that is silent too, by the operator.

Pure: values in, values out. There is one rule (`merged`). A run takes its defaults when it starts, and keeps them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from dbt_operator.api import names
from dbt_operator.api.problems import InvalidSpec, Path, dotted, in_the_run
from dbt_operator.api.project import Project
from dbt_operator.api.spec import OF_EACH_RUN, DbtRunSpec, parse_run_spec
from dbt_operator.api.status import RunDefaults
from dbt_operator.pods import template

Fields = Mapping[str, Any]

# It is kept in the status of each run, and parsed while all other runs wait.
_LIMIT = 64 * 1024
_IN_NAMESPACE = f"the ConfigMap {names.DEFAULTS} ({names.DEFAULTS_KEY})"
_IN_OPERATOR = "the operator's defaults (defaults in the values of its chart)"
TTL = "ttlSecondsAfterFinished"
_POD_TEMPLATES = (("podTemplate",), ("producer", "podTemplate"), ("retry", "podTemplate"))

# Fields that exclude each other. One of them takes the place of all of the layer below, and is never mixed with its
# namesake there: a token belongs to one server.
ALTERNATIVES: Mapping[Path, frozenset[str]] = {
    ("project",): frozenset(field.alias or name for name, field in Project.model_fields.items()),
    ("profile",): frozenset({"inProject", "secretRef", "connection", "connectionRef"}),
    ("state",): frozenset({"runRef", "artifactsFrom"}),
    ("state", "runRef"): frozenset({"name", "selector"}),
    ("state", "artifactsFrom"): frozenset({"configMapRef", "volume", "archive"}),
    ("environment", "virtualenv"): frozenset({"requirements", "requirementsFrom"}),
}


def taken(operator: Fields, config_map: Mapping[str, Any] | None) -> RunDefaults | None:
    """The defaults of a run that starts now, for its status; None where there are none.

    operator: those of the operator. config_map: that with those of the namespace, if there is one.
    """
    # How long runs are kept is asked when they have ended: a setting of the operator that changes counts for all.
    lasting = {key: value for key, value in operator.items() if key != TTL}
    try:
        own, namespace = _fields(lasting, source=_IN_OPERATOR), _of_namespace(config_map)
    except InvalidSpec as error:
        return RunDefaults(problem=str(error))
    return RunDefaults(operator=own or None, namespace=namespace or None) if own or namespace else None


def spec_of(own: Fields, *, defaults: RunDefaults | None) -> DbtRunSpec:
    """The spec of a run: its own fields over the defaults that it has taken.

    Raises: InvalidSpec with a sentence that names the field, and who has given it.
    """
    defaults = defaults or RunDefaults()
    if defaults.problem is not None:
        raise InvalidSpec(defaults.problem)
    layers = [(_IN_OPERATOR, defaults.operator or {}), (_IN_NAMESPACE, defaults.namespace or {})]
    spec: dict[str, Any] = {}
    for source, layer in layers:
        _check(layer, source=source)
        spec = merged(spec, layer)
    return parse_run_spec(merged(spec, own), called=lambda path: _called(path, layers=layers, own=own))


def merged(base: Fields, over: Fields, *, path: Path = ()) -> dict[str, Any]:
    """`base` with `over` laid on it: mappings key by key, all else replaced.

    An empty mapping takes away what is below. A pod template is merged as it is with the operator's pod.
    """
    alternatives = ALTERNATIVES.get(path, frozenset())
    chosen = alternatives & over.keys()
    result = {key: value for key, value in base.items() if not (chosen and key in alternatives)}
    for key, value in over.items():
        below = result.get(key)
        whole = path == ("vars",)  # for dbt, too, a variable is one value
        if whole or not (isinstance(below, Mapping) and isinstance(value, Mapping) and value):
            result[key] = value
        elif (*path, key) in _POD_TEMPLATES:
            result[key] = template.merge(base=below, over=value)
        else:
            result[key] = merged(below, value, path=(*path, key))
    return result


def _check(layer: Fields, *, source: str) -> None:
    for name in layer:
        if name in OF_EACH_RUN:
            raise InvalidSpec(f"{name} in {source} cannot have a default: each run says it itself.")
    for path in _POD_TEMPLATES:
        pod: Any = layer
        for part in path:
            pod = pod.get(part) if isinstance(pod, Mapping) else None
        if isinstance(pod, Mapping):
            try:
                template.check(pod, called=dotted(path)[1:])
            except template.InvalidPodTemplate as error:
                raise InvalidSpec(f"In {source}: {error}") from error


def _called(path: Path, *, layers: Sequence[tuple[str, Fields]], own: Fields) -> str:
    """What a field is called where it was written: in the uppermost layer that has it, or the most of its path."""
    where, known = "", _depth(own, path)
    for source, layer in reversed(layers):
        depth = _depth(layer, path)
        if depth > known:
            where, known = source, depth
    return f"{dotted(path)[1:]} in {where}" if where else in_the_run(path)


def _depth(value: Any, path: Path) -> int:
    for depth, part in enumerate(path):
        if isinstance(value, Mapping) and part in value:
            value = value[str(part)]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return depth
    return len(path)


def _of_namespace(config_map: Mapping[str, Any] | None) -> dict[str, Any]:
    """The defaults that the ConfigMap of a namespace has. Raises: InvalidSpec."""
    if config_map is None:
        return {}
    text = (config_map.get("data") or {}).get(names.DEFAULTS_KEY)
    if text is None:
        raise InvalidSpec(f"The ConfigMap {names.DEFAULTS} has no key {names.DEFAULTS_KEY}.")
    if len(text.encode()) > _LIMIT:
        raise InvalidSpec(f"The text in {_IN_NAMESPACE} is too long: it can have {_LIMIT // 1024} KiB at most.")
    try:
        value = _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise InvalidSpec(
            f"The text in {_IN_NAMESPACE} is no YAML{where}: {error.problem or error.context}."
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidSpec(f"The text in {_IN_NAMESPACE} is no YAML that can be read.") from error
    if not isinstance(value, Mapping | None):
        raise InvalidSpec(f"The text in {_IN_NAMESPACE} has to be a mapping, with the fields of a DbtRun's spec.")
    return _fields(value or {}, source=_IN_NAMESPACE)


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: a date is a text. Without aliases, which make a short text a huge value."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - what the base class has, less one
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases cannot be used here", self.get_mark())
        return super().compose_node(parent, index)


def _fields(value: Fields, *, source: str) -> dict[str, Any]:
    """The same without the keys that say nothing, which a status cannot store. Raises: InvalidSpec."""
    fields: dict[str, Any] = _json(value, path=(), source=source)
    return fields


def _json(value: Any, *, path: Path, source: str) -> Any:
    if isinstance(value, Mapping):
        items = _items(value, path=path, source=source)
        return {key: _json(item, path=(*path, key), source=source) for key, item in items}
    if isinstance(value, list):
        return [_json(item, path=(*path, index), source=source) for index, item in enumerate(value)]
    if isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise InvalidSpec(f"{dotted(path)[1:]} in {source} has a value that JSON does not have: {value!r}.")


def _items(value: Mapping[Any, Any], *, path: Path, source: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if not isinstance(key, str):
            raise InvalidSpec(
                f"{dotted((*path, str(key)))[1:]} in {source} has a name that is no text: put it in quotes."
            )
        if item is not None:
            yield key, item
