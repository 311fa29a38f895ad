"""From the data of an event to its meaning: one function for each kind, found by the event's name."""

from collections.abc import Callable, Mapping

from dbt_operator.api.commands import Command, Mode, WhenTested
from dbt_operator.dbt import bodies, statuses, values
from dbt_operator.dbt.graph_node import GraphNode, NodeSettings

# Which text about a node wins: the higher one. The text of the result wins over texts before it.
FREE_TEXT, DIGEST, ON_THE_WAY, END_OF_RUN, RESULT, NODE_RESULT = range(6)

_BATCHES_LIMIT = 100_000  # ten years of hours

_RESOURCE_TYPES = (
    "model", "seed", "snapshot", "test", "unit_test", "source", "operation", "exposure", "saved_query", "function",
    "analysis", "metric", "semantic_model",
)  # fmt: skip


def resource_type_of(unique_id: str) -> str:
    """The resource type with which dbt's unique ids begin."""
    return unique_id.partition(".")[0]


def name_of(unique_id: str) -> str:
    """The node's name as far as the unique_id tells it: tests have a hash after it, models maybe a version."""
    parts = unique_id.split(".")
    return parts[2] if len(parts) > 3 and parts[0] in ("model", "test") else parts[-1]


def looks_like_node(name: str) -> bool:
    """Whether the name of a connection is a node's unique_id; others are called "master" or "list_…"."""
    return name.count(".") >= 2 and resource_type_of(name) in _RESOURCE_TYPES


def node_info(data: Mapping[str, object]) -> bodies.NodeInfo | None:
    """The node an event is about, or None when it names none."""
    info = values.mapping(data.get("node_info"))
    unique_id = values.identifier(info.get("unique_id")) or values.identifier(data.get("unique_id"))
    if not unique_id:
        return None
    relation = values.mapping(info.get("node_relation"))
    return bodies.NodeInfo(
        unique_id=unique_id,
        name=values.identifier(info.get("node_name")) or values.identifier(data.get("name")),
        resource_type=values.identifier(info.get("resource_type")) or resource_type_of(unique_id),
        status=values.identifier(info.get("node_status")),
        started_at=values.moment(info.get("node_started_at")),
        finished_at=values.moment(info.get("node_finished_at")),
        relation=values.identifier(relation.get("relation_name")),
        materialized=values.identifier(info.get("materialized")),
        path=values.identifier(info.get("node_path")),
    )


def started(data: Mapping[str, object]) -> bodies.Body | None:
    node = node_info(data)
    return bodies.NodeStarted(node=node) if node else None


def mentioned(data: Mapping[str, object]) -> bodies.Body | None:
    # dbt fires NodeStart for nodes that it is about to skip as well.
    node = node_info(data)
    return bodies.NodeMentioned(node=node) if node else None


def batch(data: Mapping[str, object]) -> bodies.Body | None:
    """LogStartBatch and LogBatchResult."""
    node = node_info(data)
    number, total = values.count(data.get("batch_index")), values.count(data.get("total_batches"))
    if node is None or number is None or total is None or not 1 <= number <= total <= _BATCHES_LIMIT:
        return None if node is None else bodies.NodeStarted(node=node)
    # As for a model: its status may be a sentence of the warehouse's ("MERGE 1").
    text = values.text(data.get("status"), limit=200)
    status = statuses.worst(node.status, text if statuses.known(text) else "")
    return bodies.BatchReported(node=node, number=number, total=total, status=status)


def ended(data: Mapping[str, object], *, level: str) -> bodies.Body | None:
    """LogModelResult and its like. `data.status` is a sentence for models ("CREATE TABLE (1.0k rows)")."""
    node = node_info(data)
    if node is None:
        return None
    text = values.text(data.get("status"), limit=200)
    status = statuses.worst(
        node.status,
        text if statuses.known(text) else "",
        "error" if level == "error" and not statuses.failing(node.status) and not statuses.failing(text) else "",
    )
    sentence = "" if statuses.known(text) and not statuses.did_nothing(text) else text
    return bodies.NodeEnded(
        node=node,
        status=status or statuses.normal(text) or "unknown",
        message=values.text(data.get("result_message")) or sentence,
        authority=FREE_TEXT,
        facts=bodies.NodeFacts(
            execution_seconds=values.seconds(data.get("execution_time")),
            num_failures=values.count(data.get("num_failures")),
            attached_node=values.identifier(data.get("attached_node")),
        ),
    )


def test_ended(data: Mapping[str, object], *, level: str) -> bodies.Body | None:
    """LogTestResult: here `data.status` is the status itself, and node_info's is "None" for unit tests."""
    body = ended(data, level=level)
    if not isinstance(body, bodies.NodeEnded):
        return body
    text = values.text(data.get("status"), limit=200)
    failing = statuses.failing(text) or statuses.failing(body.node.status)
    status = statuses.worst(text, body.node.status, "error" if level == "error" and not failing else "") or "unknown"
    return bodies.NodeEnded(node=body.node, status=status, facts=body.facts, authority=FREE_TEXT)


def skipped(data: Mapping[str, object]) -> bodies.Body | None:
    node = node_info(data)
    return bodies.NodeEnded(node=node, status="skipped", authority=FREE_TEXT) if node else None


def finished(data: Mapping[str, object]) -> bodies.Body | None:
    """dbt's NodeFinished: the result itself."""
    node = node_info(data)
    result = values.mapping(data.get("run_result"))
    if node is None:
        return None
    response = values.mapping(result.get("adapter_response"))
    return bodies.NodeFinished(
        node=node,
        status=statuses.worst(node.status, values.text(result.get("status"), limit=200)),
        message=values.text(result.get("message")),
        authority=RESULT,
        facts=bodies.NodeFacts(
            execution_seconds=values.seconds(result.get("execution_time")),
            rows_affected=values.count(response.get("rows_affected")),
            bytes_processed=values.count(response.get("bytes_processed")),
            bytes_billed=values.count(response.get("bytes_billed")),
            slot_milliseconds=values.count(response.get("slot_ms")),
            cache_hit=values.known_truth(response.get("cache_hit")),
            job_id=values.identifier(response.get("job_id")),
            num_failures=values.count(result.get("num_failures")),
        ),
    )


def node_result(data: Mapping[str, object]) -> bodies.Body | None:
    """The runner's NodeResult."""
    unique_id = values.identifier(data.get("unique_id"))
    if not unique_id:
        return None
    node = bodies.NodeInfo(
        unique_id=unique_id,
        name=values.identifier(data.get("name")),
        resource_type=values.identifier(data.get("resource_type")) or resource_type_of(unique_id),
        started_at=values.moment(data.get("started_at")),
        finished_at=values.moment(data.get("completed_at")),
        relation=values.identifier(data.get("relation")),
        materialized=values.identifier(data.get("materialized")),
    )
    text = values.text(data.get("status"), limit=200)
    return bodies.NodeEnded(
        node=node,
        status=statuses.worst(text) or statuses.normal(text) or "unknown",
        message=values.text(data.get("message")),
        authority=NODE_RESULT,
        facts=bodies.NodeFacts(
            execution_seconds=values.seconds(data.get("execution_time")),
            rows_affected=values.count(data.get("rows_affected")),
            bytes_processed=values.count(data.get("bytes_processed")),
            bytes_billed=values.count(data.get("bytes_billed")),
            slot_milliseconds=values.count(data.get("slot_ms")),
            cache_hit=values.known_truth(data.get("cache_hit")),
            job_id=values.identifier(data.get("job_id")),
            num_failures=values.count(data.get("num_failures")),
            attached_node=values.identifier(data.get("attached_node")),
            excerpt=values.text(data.get("excerpt"), limit=1000),
            deadline_seconds=values.seconds(data.get("deadline_seconds")),
        ),
    )


def message_of_node(field: str, authority: int) -> Callable[[Mapping[str, object]], bodies.Body | None]:
    """A parser for events that hold a text about a node in this field."""

    def parse(data: Mapping[str, object]) -> bodies.Body | None:
        node = node_info(data)
        message = values.text(data.get(field))
        if node is None or not message.strip():
            return None
        return bodies.NodeMessage(unique_id=node.unique_id, message=message, authority=authority)

    return parse


def marked(data: Mapping[str, object]) -> bodies.Body | None:
    """MarkSkippedChildren repeats the result of the node that blocks others."""
    unique_id = values.identifier(data.get("unique_id"))
    message = values.text(values.mapping(data.get("run_result")).get("message"))
    if not unique_id or not message.strip():
        return None
    return bodies.NodeMessage(unique_id=unique_id, message=message, authority=RESULT)


def generic(data: Mapping[str, object], *, level: str, text: str) -> bodies.Body | None:
    """Fusion's event for everything that has no name of its own; its errors are the only place for error texts."""
    message = (values.text(data.get("msg")) or text).strip().removeprefix("[error] ")
    if level != "error" or not message.strip():
        return None
    node = node_info(data)
    if node is None:
        return bodies.Complaint(message=message)
    return bodies.NodeMessage(unique_id=node.unique_id, message=message, authority=ON_THE_WAY)


def complaint(data: Mapping[str, object], *, text: str) -> bodies.Body | None:
    """An error in an event that is not read otherwise, and about no node: an error of a node is in its result, too."""
    return bodies.Complaint(message=text) if text.strip() and node_info(data) is None else None


def node_settings(value: object) -> NodeSettings | None:
    """What the project says of a node, as the runner has understood it."""
    data = values.mapping(value)
    resources = tuple(
        (kind, tuple(sorted((name, values.identifier(amount)) for name, amount in values.mapping(amounts).items())))
        for kind, amounts in sorted(values.mapping(data.get("resources")).items())
    )
    settings = NodeSettings(retry=dict(values.mapping(data.get("retry"))), resources=resources)
    return settings if settings.retry or settings.resources else None


def graph_node(entry: object) -> GraphNode | None:
    """One node of SelectedNodes."""
    data = values.mapping(entry)
    unique_id = values.identifier(data.get("unique_id"))
    if not unique_id:
        return None
    return GraphNode(
        unique_id=unique_id,
        name=values.identifier(data.get("name")) or name_of(unique_id),
        resource_type=values.identifier(data.get("resource_type")) or resource_type_of(unique_id),
        package=values.identifier(data.get("package")) or package_of(unique_id),
        path=values.identifier(data.get("path")),
        materialized=values.identifier(data.get("materialized")),
        relation=values.identifier(data.get("relation")) or None,
        tags=values.texts(data.get("tags")),
        depends_on=values.texts(data.get("depends_on")),
        fqn=values.texts(data.get("fqn")),
        severity=values.identifier(data.get("severity")).upper(),
        warn_if=values.text(data.get("warn_if"), limit=64),
        error_if=values.text(data.get("error_if"), limit=64),
        attached_node=values.identifier(data.get("attached_node")) or None,
        freshness=values.truth(data.get("freshness")),
        selected=data.get("selected") is not False,
        overrides=values.integers(data.get("overrides")),
        settings=node_settings(data.get("settings")),
        settings_ignored=values.text(data.get("settings_ignored"), limit=400),
    )


def package_of(unique_id: str) -> str:
    """The package in a unique_id."""
    return unique_id.split(".")[1] if unique_id.count(".") else ""


def graph_part(data: Mapping[str, object]) -> bodies.Body | None:
    part, parts = values.integer(data.get("part")), values.integer(data.get("parts"))
    if part is None or parts is None or not 1 <= part <= parts:
        return None
    nodes = tuple(node for entry in values.sequence(data.get("nodes")) if (node := graph_node(entry)))
    # A runner of an older version, which had only `build`, does not name the command.
    command = Command.of_words(values.identifier(data.get("command"))) or Command.BUILD
    words = values.identifier(data.get("tests"))
    tests = next((each for each in command.choices if each.value == words), WhenTested.BUILD)
    words = values.identifier(data.get("mode"))
    mode = next((each for each in command.modes if each.value == words), Mode.PRODUCER)
    return bodies.GraphPart(part=part, parts=parts, nodes=nodes, command=command, tests=tests, mode=mode)


def digest_part(data: Mapping[str, object]) -> bodies.Body | None:
    part, parts = values.integer(data.get("part")), values.integer(data.get("parts"))
    if part is None or parts is None or not 1 <= part <= parts:
        return None
    results = tuple(entry for item in values.sequence(data.get("results")) if (entry := digest_entry(item)))
    total = values.count(data.get("total"))
    return bodies.DigestPart(part=part, parts=parts, total=-1 if total is None else total, results=results)


def digest_entry(item: object) -> bodies.DigestEntry | None:
    data = values.mapping(item)
    unique_id, text = values.identifier(data.get("unique_id")), values.text(data.get("status"), limit=200)
    if not unique_id or statuses.undecided(text):
        return None
    return bodies.DigestEntry(
        unique_id=unique_id,
        status=statuses.normal(text),
        message=values.text(data.get("message")),
        execution_seconds=values.seconds(data.get("execution_time")),
        num_failures=values.count(data.get("failures")),
        deadline_seconds=values.seconds(data.get("deadline_seconds")),
    )
