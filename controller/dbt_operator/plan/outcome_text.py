"""One sentence for a person about how an attempt, or a run, ended."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from dbt_operator.api.commands import Command
from dbt_operator.api.reason_table import about
from dbt_operator.api.reasons import NodeReason, RunReason
from dbt_operator.api.status import Counts, NodeCounts
from dbt_operator.dbt.error_texts import not_granted, points_back
from dbt_operator.dbt.node_types import TEST_TYPES
from dbt_operator.dbt.state import AttemptState, RunError
from dbt_operator.dbt.values import headline, shorten
from dbt_operator.dbt.view import NodeView

_NAMED = 3  # nodes named in one message; the rest is in the run's list of failures


def fatal(error: RunError, reason: RunReason, *, complaints: Sequence[str] = ()) -> str:
    """About an error that ended the whole invocation. `complaints`: errors about no node that came before it."""
    what, check = about(reason).sentence, about(reason).check
    if not_granted(error.message):
        check = "check the rights of the user in spec.profile"
    texts = [flattened(error.message)] if error.message.strip() else []
    if not what and texts:
        return _sentence(texts[0])  # the runner's own, which says what to do
    if complaints and points_back(error.message):
        more = len(complaints) - 1
        texts.append(flattened(complaints[0]) + (f" (and {_plural(more, 'more error')})" if more else ""))
    return _sentence(f"{what}: {': '.join(texts) or 'it gave no text'}" + (f"; {check}" if check else ""))


# What dbt prints around the texts of a YAML parser: the lines of the file, and rulers.
_EXCERPT = re.compile(r"^(?:\d+\s*\| .*|\d+\s*\||-{3,}|Raw Error:)$")
_HEADING = re.compile(r"(?:^|- )(?:\w+ )?Error(?: in .*)?$")
_FLAT_LENGTH = 700


def flattened(message: str) -> str:
    """An error text in one line. dbt names the files in the first line or in the last ones, so all of them count."""
    lines = [" ".join(line.split()) for line in message.replace('in "<unicode string>", line', "in line").splitlines()]
    lines = [line for line in lines if line and not _EXCERPT.match(line)]
    flat = "".join(line.removeprefix("- ") + _after(line, then=then) for line, then in pairwise([*lines, ""]))
    return shorten(flat.rstrip(" :."), limit=_FLAT_LENGTH)


def _after(line: str, *, then: str) -> str:
    """What stands between a line of a text and the next one when they become one line."""
    if line[-1] in ".,:;!?" or not then:
        return " "
    if line.startswith("- ") or then.startswith("- "):
        return ", "
    return ": " if _HEADING.search(line) or then[0].isupper() else " "


def out_of_memory(*, limit: str | None, peak_bytes: int | None) -> str:
    """About a pod that the kernel killed. Without a limit of its own it was the node that had no memory left.

    The peak is what the runner has seen last: the kernel kills between two looks, so it may be below the limit.
    """
    peak = f" (dbt had {peak_bytes / 2**20:.0f} MiB when it was last seen)" if peak_bytes else ""
    if limit is None:
        return f"The node had no memory left, and the pod was killed{peak}; give the pod a memory request"
    return f"The pod needed more memory than its limit of {limit} and was killed{peak}; raise the memory limit"


def nothing_selected(state: AttemptState) -> str:
    """About a selection that matches nothing; dbt itself calls that a success."""
    detail = f" (select: {', '.join(state.unmatched[:_NAMED])})" if state.unmatched else ""
    fields = "spec.command, spec.select, spec.exclude and spec.selector"
    return f"No node that the command executes matches the selection{detail}: check {fields}."


def done(command: Command, *, omitted: Mapping[str, str]) -> str:
    """About a command without nodes that ended well. `omitted`: files that it was asked for and that are not kept."""
    left_out = [f"{name} is not kept, as it {_OMITTED.get(why, 'cannot be')}" for name, why in omitted.items()]
    return f"{'; '.join([f'dbt {command.rules.words} ended successfully', *left_out])}."


_OMITTED = {"TooLarge": "is too large", "Secret": "has the value of a secret in it"}


def command_failed(command: Command, *, complaints: Sequence[str]) -> str:
    """About a command without nodes that ended badly."""
    said = flattened(complaints[0]) if complaints else "it gave no reason"
    return _sentence(f"dbt {command.rules.words} failed: {said}")


def failures(
    nodes: Sequence[NodeView], tests: Sequence[NodeView], hooks: Sequence[NodeView], all_views: "Views"
) -> str:
    """About nodes, tests and hooks that failed."""
    parts = []
    if hooks:
        parts.append(f"{_plural(len(hooks), 'hook')} failed: {_named(hooks)}")
    if nodes:
        total = max(all_views.nodes.total, len(nodes))
        parts.append(f"{len(nodes)} of {_plural(total, 'node')} failed: {_named(nodes)}")
    if tests:
        parts.append(
            f"{len(tests)} of {_plural(max(all_views.tests.total, len(tests)), 'test')} failed: {_named(tests)}"
        )
    skipped, cancelled = all_views.nodes.skipped - all_views.nodes_passed_over, all_views.nodes.cancelled
    if skipped:
        blame = "of it" if len(nodes) + len(tests) + len(hooks) == 1 else "of them"
        parts.append(f"{skipped} {_were(skipped)} skipped because {blame}")
    if cancelled:
        parts.append(f"{cancelled} {_were(cancelled)} stopped")
    if all_views.passed_over:
        parts.append(_passed_over(all_views))
    return _sentence("; ".join(parts))


class Views:
    """The counts that messages quote. `nodes`: none where the run executes only tests of what is there already."""

    def __init__(self, *, nodes: NodeCounts, tests: Counts, lost: int, passed_over: Sequence[NodeView] = ()) -> None:
        self.nodes = nodes
        self.tests = tests
        self.lost = lost  # of the failed nodes, or tests where there are no nodes, those whose outcome is unknown
        self.passed_over = passed_over  # as a source is stale
        self.nodes_passed_over = sum(view.shown and view.resource_type not in TEST_TYPES for view in passed_over)
        self.tests_passed_over = sum(view.resource_type in TEST_TYPES for view in passed_over)

    @property
    def progress(self) -> str:
        """How far the nodes had come, or the tests where nothing else is executed."""
        counts, what = (self.nodes, "node") if self.nodes.total else (self.tests, "test")
        if not counts.total:
            return ""
        failed = f", {counts.failed - self.lost} had failed" if counts.failed > self.lost else ""
        lost = f", {self.lost} {_were(self.lost)} running" if self.lost else ""
        return f"{counts.good} of {_plural(counts.total, what)} had succeeded{failed}{lost}"


def success(views: Views) -> str:
    """About a run that ended well."""
    nodes, tests = views.nodes, views.tests
    what = _counted(nodes.total - views.nodes_passed_over, tests.total - views.tests_passed_over)
    if not what:
        return "dbt ended successfully."
    warned = nodes.warned + tests.warned
    reused = f"; {nodes.reused} of the nodes {_were(nodes.reused)} reused, and not built" if nodes.reused else ""
    stale = f"; {_passed_over(views)}" if views.passed_over else ""
    if not warned:
        return f"{what} succeeded{reused}{stale}."
    return f"{what} ended without failure; {_counted(nodes.warned, tests.warned)} warned{reused}{stale}."


def _counted(nodes: int, tests: int) -> str:
    return " and ".join(_plural(count, noun) for count, noun in ((nodes, "node"), (tests, "test")) if count)


def _passed_over(views: Views) -> str:
    sources = sorted({view.blocked_by for view in views.passed_over if view.blocked_by})
    named = ", ".join(sources[:_NAMED]) + (", …" if len(sources) > _NAMED else "") or "a source"
    count = views.nodes_passed_over + views.tests_passed_over
    what = _counted(views.nodes_passed_over, views.tests_passed_over)
    return f"{what} {_were(count)} skipped, as {named} {'are' if len(sources) > 1 else 'is'} stale"


def _named(views: Sequence[NodeView]) -> str:
    named = ", ".join(f"{view.name} ({detail})" if (detail := _detail(view)) else view.name for view in views[:_NAMED])
    return f"{named}, …" if len(views) > _NAMED else named


def _detail(view: NodeView) -> str:
    if view.reason is NodeReason.LOST:
        return "its outcome is unknown"
    return headline(view.message, limit=160).rstrip(".")


def unproven(views: Sequence[NodeView]) -> str:
    """About nodes that neither failed nor succeeded although dbt ended well."""
    names = ", ".join(view.name for view in views[:_NAMED]) + (", …" if len(views) > _NAMED else "")
    return f"dbt ended, but {_plural(len(views), 'node')} did not run to success: {names}."


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _sentence(message: str) -> str:
    message = shorten(message.rstrip(". "))
    return message if message.endswith(("!", "?", "…")) else f"{message}."
