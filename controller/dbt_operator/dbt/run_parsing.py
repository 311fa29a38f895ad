"""From the data of an event about the whole invocation to its meaning."""

from collections.abc import Mapping

from dbt_operator.api.commands import Command
from dbt_operator.dbt import bodies, statuses, values


def report_version(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.Version(dbt_version=values.identifier(data.get("version")).lstrip("="))


def runner_started(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.Version(dbt_version=values.identifier(data.get("dbt_version")).lstrip("="), runner=True)


def adapter(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.Adapter(
        name=values.identifier(data.get("adapter_name")),
        version=values.identifier(data.get("adapter_version")).lstrip("="),
    )


def concurrency(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.Concurrency(
        nodes=values.count(data.get("node_count")),
        threads=values.count(data.get("num_threads")),
        target=values.identifier(data.get("target_name")),
    )


def no_match(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.NoMatch(criterion=values.text(data.get("spec_raw"), limit=500), final=False)


def nothing_to_do(data: Mapping[str, object]) -> bodies.Body | None:  # noqa: ARG001 - all parsers look the same
    return bodies.NoMatch(criterion="", final=True)


def main_error(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.FatalError(message=values.text(data.get("exc")).strip())


def stack_trace(data: Mapping[str, object]) -> bodies.Body | None:
    """dbt prints ctrl-c as an error without text; only the trace after it names the exception."""
    trace = data.get("stack_trace")
    last = trace.rstrip().rpartition("\n")[2] if isinstance(trace, str) else ""
    return bodies.FatalError(message="", interrupted=True) if last.startswith("KeyboardInterrupt") else None


def cancel_line(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.QueryCancelled(connection=values.identifier(data.get("conn_name")))


def cancel_requested(data: Mapping[str, object]) -> bodies.Body | None:  # noqa: ARG001 - all parsers look the same
    return bodies.CancelRequested()


def summary(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.Summary(
        interrupted=values.truth(data.get("keyboard_interrupt")),
        errors=(values.count(data.get("num_errors")) or 0) + (values.count(data.get("num_partial_success")) or 0),
    )


def stats(data: Mapping[str, object]) -> bodies.Body | None:
    found = data.get("stats")
    if not isinstance(found, dict):
        return None
    numbers = {key: values.count(value) or 0 for key, value in found.items()}
    # An error count that cannot be read must not pass for "no errors".
    unreadable = "error" in found and values.count(found["error"]) is None
    return bodies.Stats(
        passed=numbers.get("pass", 0),
        warned=numbers.get("warn", 0),
        errors=1 if unreadable else numbers.get("error", 0),
        skipped=numbers.get("skip", 0),
        total=numbers.get("total", 0),
    )


def command_completed(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.CommandDone(success=values.truth(data.get("success")))


def last_step(data: Mapping[str, object]) -> bodies.Body | None:  # noqa: ARG001 - all parsers look the same
    """The last event of commands that print no StatsLine."""
    return bodies.CommandDone(success=None)


def failed_step(data: Mapping[str, object]) -> bodies.Body | None:  # noqa: ARG001 - all parsers look the same
    """`docs generate` says that it wrote the catalog even when it could not read all of it."""
    return bodies.CommandDone(success=False)


def runner_finished(data: Mapping[str, object]) -> bodies.Body | None:
    error = values.mapping(data.get("error"))
    text = values.text(error.get("message")).strip()
    fatal = bodies.FatalError(message=text, kind=values.identifier(error.get("kind"))) if error else None
    return bodies.RunnerFinished(
        exit_code=values.integer(data.get("exit_code")),
        success=data.get("success") is True,
        cancelled=values.truth(data.get("cancelled")),
        invocation_id=values.identifier(data.get("invocation_id")),
        error=fatal,
        phase=values.identifier(data.get("phase")),
        command=Command.of_words(values.identifier(data.get("command"))),
        results=values.count(data.get("results")),
        peak_memory_bytes=values.count(data.get("peak_memory_bytes")),
    )


def command_started(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.CommandStarted(command=Command.of_words(values.identifier(data.get("command"))))


def hooks(data: Mapping[str, object]) -> bodies.Body | None:
    on_run_end = values.count(data.get("on_run_end"))
    return None if on_run_end is None else bodies.Hooks(on_run_end=on_run_end)


def microbatch(data: Mapping[str, object]) -> bodies.Body | None:
    end = values.identifier(data.get("end"))
    return bodies.Microbatch(
        end=end if values.moment(end) is not None else "",
        unique_id=values.identifier(data.get("unique_id")),
        window=_periods(data.get("window")),
        left=_periods(data.get("left")),
    )


def _periods(value: object) -> tuple[tuple[str, str], ...]:
    """Periods of time; none unless all can be read, as with a part of them less would be executed than is left."""
    pairs = [values.texts(item) for item in values.sequence(value)]
    readable = all(len(pair) == 2 and None not in map(values.moment, pair) for pair in pairs)
    return tuple((pair[0], pair[1]) for pair in pairs) if readable else ()


def database_file(data: Mapping[str, object]) -> bodies.Body | None:
    file, kept = values.identifier(data.get("file")), data.get("kept")
    return bodies.DatabaseFile(file=file, kept=kept) if file and isinstance(kept, bool) else None


def found(data: Mapping[str, object]) -> bodies.Body | None:
    pairs = {values.identifier(name): values.identifier(value) for name, value in data.items()}
    known = {name: value for name, value in pairs.items() if name and value}
    return bodies.Found(found=known) if known else None


def freshness(data: Mapping[str, object]) -> bodies.Body | None:
    unique_id = values.identifier(data.get("unique_id"))
    loaded, looked = values.moment(data.get("max_loaded_at")), values.moment(data.get("snapshotted_at"))
    age = values.seconds(data.get("age_seconds"))
    if not unique_id or loaded is None or looked is None or age is None:
        return None
    found = bodies.Freshness(
        max_loaded_at=loaded,
        snapshotted_at=looked,
        age_seconds=age,
        status=values.identifier(data.get("status")),
        warn_after=values.text(data.get("warn_after"), limit=64),
        error_after=values.text(data.get("error_after"), limit=64),
    )
    return bodies.FreshnessFound(unique_id=unique_id, freshness=found)


def deadlines_ignored(data: Mapping[str, object]) -> bodies.Body | None:
    adapter = values.identifier(data.get("adapter_name"))
    return bodies.DeadlinesIgnored(adapter=adapter) if adapter else None


def executors(data: Mapping[str, object]) -> bodies.Body | None:
    nodes = (
        bodies.ExecutedBy(
            unique_id=unique_id,
            executor=values.identifier(each.get("executor")),
            reason=values.text(each.get("reason"), limit=400),
        )
        for each in map(values.mapping, values.sequence(data.get("nodes")))
        if (unique_id := values.identifier(each.get("unique_id")))
    )
    return bodies.Executors(nodes=tuple(nodes))


def job_ids_unknown(data: Mapping[str, object]) -> bodies.Body | None:
    program = values.text(data.get("program"), limit=64)
    return bodies.JobIdsUnknown(program=program) if program else None


def held_back(data: Mapping[str, object]) -> bodies.Body | None:
    part, parts = values.integer(data.get("part")), values.integer(data.get("parts"))
    if part is None or parts is None or not 1 <= part <= parts:
        return None
    nodes = tuple(node for item in values.sequence(data.get("nodes")) if (node := _held_node(item)))
    return bodies.HeldBack(part=part, parts=parts, nodes=nodes)


def _held_node(item: object) -> bodies.HeldNode | None:
    data = values.mapping(item)
    unique_id, blocked_by = values.identifier(data.get("unique_id")), values.identifier(data.get("blocked_by"))
    status = values.identifier(data.get("status"))
    if not unique_id or not blocked_by or status not in statuses.HELD_BACK:
        return None
    return bodies.HeldNode(unique_id=unique_id, blocked_by=blocked_by, status=status)


def memory_peak(data: Mapping[str, object]) -> bodies.Body | None:
    peak = values.count(data.get("peak_memory_bytes"))
    return None if peak is None else bodies.MemoryPeak(peak_memory_bytes=peak)


def artifact_part(data: Mapping[str, object]) -> bodies.Body | None:
    part, parts = values.count(data.get("part")), values.count(data.get("parts"))
    size, content = values.count(data.get("size")), data.get("data")
    if part is None or parts is None or size is None or part >= parts or not isinstance(content, str):
        return None
    return bodies.ArtifactPart(
        name=values.identifier(data.get("name")),
        part=part,
        parts=parts,
        size=size,
        sha256=values.identifier(data.get("sha256")).lower(),
        data=content,
    )


def artifact_omitted(data: Mapping[str, object]) -> bodies.Body | None:
    return bodies.ArtifactOmitted(
        name=values.identifier(data.get("name")), reason=values.identifier(data.get("reason"))
    )
