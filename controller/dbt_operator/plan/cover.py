"""What one attempt executes so that a node is built again, or a failed one is tried again: with it go some others."""

from collections.abc import Iterable, Sequence

from dbt_operator.api.spec import RetryReason
from dbt_operator.dbt.graph import Graph, is_test
from dbt_operator.plan.ledger import Ledger, Standing


def build_of(ledger: Ledger, unique_ids: Sequence[str]) -> frozenset[str]:
    """The nodes, their unit tests, and those of their tests that can run after them.

    Tests that passed run again as well: what they had found is about the build before. So do nodes below that are
    stale: what they were built from has changed since.
    """
    built = {one for one in unique_ids if one in ledger.standings}
    if ledger.stale:
        below = ledger.stale & ledger.graph.descendants(*unique_ids)
        built |= ledger.ready(built | below)
    tests = [test for one in built for test in ledger.graph.tests_about(one)]
    cover = built | {test for test in tests if test.startswith("unit_test.")}
    for test in tests:
        if test in ledger.standings and ledger.satisfied(test, within=cover):
            cover.add(test)
    return frozenset(one for one in cover if one in ledger.standings)


def retry_of(ledger: Ledger, unique_id: str) -> tuple[str, frozenset[str]]:
    """What to execute so that a failed node is tried again, and the node by which that is called.

    A test that found rows would find them again: the nodes that it tests are built again before it. One that did not
    come to a result (an error) is only run again; so is one whose nodes others were built from, which happens where a
    test reads what is below the node that it is listed on.
    """
    node = ledger.graph.nodes[unique_id]
    if not node.test:
        return unique_id, build_of(ledger, [unique_id])
    failure = ledger.failures.get(unique_id)
    again = node.resource_type == "unit_test" or (failure is not None and failure.kind is RetryReason.TESTS_FAILED)
    tested = [one for one in _rebuildable(ledger.graph, unique_id) if one in ledger.standings] if again else []
    if not tested or _built_upon(ledger, tested):
        return unique_id, frozenset({unique_id})
    return tested[0], build_of(ledger, tested) | {unique_id}


def _built_upon(ledger: Ledger, unique_ids: Iterable[str]) -> bool:
    """Whether something else that was built from these nodes is done, or at work.

    To build them again would leave that behind: on some warehouses the views among it are dropped with the table.
    What an attempt has not come to yet, and will skip when it does, is neither.
    """
    below = (one for one in ledger.graph.descendants(*unique_ids) if not is_test(one))
    relations = (one for one in below if not ledger.graph.nodes[one].ephemeral)
    return any(ledger.standings.get(one) is Standing.DONE or one in ledger.at_work for one in relations)


def _rebuildable(graph: Graph, test: str) -> tuple[str, ...]:
    """The nodes whose new build may change what the test finds. An ephemeral model is built with what reads it."""
    tested = graph.tested_nodes(test)
    return graph.subjects(test) if any(one in graph.nodes and graph.nodes[one].ephemeral for one in tested) else tested
