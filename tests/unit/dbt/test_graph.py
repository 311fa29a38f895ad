"""Questions about the graph."""

from dbt_operator.api.commands import Command
from dbt_operator.dbt.graph import Graph, GraphNode
from tests.unit.dbt.logs import RunnerLog, data_test, ephemeral, model, unit_test


def _graph(*nodes: dict[str, object]) -> Graph:
    graph = RunnerLog().select(*nodes).state.graph
    assert graph is not None
    return graph


def test_what_is_not_selected_is_replaced_by_its_own_parents() -> None:
    unselected = {**model("x", "a"), "selected": False}
    graph = _graph(model("a"), ephemeral("e", "a"), unselected, model("b", "e", "x", "elsewhere"))
    assert graph.parents("model.shop.b") == ("model.shop.e", "model.shop.a")
    assert graph.reads("model.shop.b") == ("model.shop.e", "model.shop.x")
    assert graph.ancestors("model.shop.b") == {"model.shop.e", "model.shop.x", "model.shop.a"}


def test_a_table_that_the_run_does_not_build_stays_as_it_is_whatever_it_was_built_from() -> None:
    between = [{**model(name, "a"), "selected": False} for name in ("table", "view")]
    between = [one | {"materialized": one["name"]} for one in between]
    below = (model("below_table", "table"), model("below_view", "view"), model("below_e", "e"))
    graph = _graph(model("a"), ephemeral("e", "a"), *between, *below)
    found = {name: graph.sources(f"model.shop.{name}") for name in ("below_table", "below_view", "below_e")}
    assert found == {"below_table": (), "below_view": ("model.shop.a",), "below_e": ("model.shop.a",)}


def test_a_test_is_listed_on_the_node_it_is_attached_to_else_on_all_it_reads() -> None:
    attached = data_test("rel", "a", "b", attached_node="model.shop.b")
    graph = _graph(model("a"), model("b"), attached, data_test("singular", "a", "b"))
    assert graph.tested_nodes("test.shop.rel") == ("model.shop.b",)
    assert graph.tested_nodes("test.shop.singular") == ("model.shop.a", "model.shop.b")
    assert [test.name for test in graph.tests_of("model.shop.b")] == ["rel", "singular"]
    assert graph.tested_nodes("model.shop.a") == ()


def test_a_unit_test_tests_the_model_its_id_names() -> None:
    node = {**unit_test("ut", "b"), "depends_on": ["model.shop.a", "model.shop.b"]}
    graph = _graph(model("a"), model("b", "a"), node)
    assert graph.tested_nodes("unit_test.shop.b.ut") == ("model.shop.b",)


def test_objects_exist_for_what_is_built_for_what_is_tested_and_for_tests_of_nothing() -> None:
    source = {"resource_type": "source", "selected": False}
    graph = _graph(
        model("a", "source.shop.raw.tested"),
        ephemeral("e"),
        ephemeral("tested_e"),
        {**ephemeral("elsewhere_e"), "selected": False},
        {"unique_id": "source.shop.raw.tested", **source},
        {"unique_id": "source.shop.raw.fresh", "freshness": True, **source},
        {"unique_id": "source.shop.raw.plain", **source},
        {"unique_id": "exposure.shop.dash", "resource_type": "exposure"},
        {"unique_id": "saved_query.shop.q", "resource_type": "saved_query"},
        {**model("elsewhere"), "selected": False},
        {**model("tested_elsewhere"), "selected": False},
        data_test("on_source", "source.shop.raw.tested"),
        data_test("on_e", "tested_e", attached_node="model.shop.tested_e"),
        data_test("on_elsewhere_e", "elsewhere_e"),
        data_test("rel", "a", "tested_elsewhere", attached_node="model.shop.tested_elsewhere"),
        data_test("of_nothing"),
        data_test("of_what_is_not_listed", "gone", attached_node="model.shop.gone"),
        {**data_test("not_asked_for"), "selected": False},
    )
    assert {node.unique_id for node in graph.model_nodes()} == {
        "model.shop.a",
        "model.shop.e",
        "model.shop.tested_e",
        "model.shop.elsewhere_e",
        "source.shop.raw.tested",
        "model.shop.tested_elsewhere",
        "test.shop.of_nothing",
        "test.shop.of_what_is_not_listed",
    }


def test_a_test_of_an_ephemeral_model_is_listed_on_it() -> None:
    graph = _graph(model("a"), ephemeral("e", "a"), data_test("singular", "e"))
    assert graph.tested_nodes("test.shop.singular") == ("model.shop.e",)
    assert graph.subjects("test.shop.singular") == ("model.shop.a",)


def test_a_test_is_listed_on_what_is_not_selected_only_where_it_reads_nothing_else() -> None:
    source = {"unique_id": "source.shop.raw.s", "resource_type": "source", "selected": False}
    elsewhere = {**model("elsewhere"), "selected": False}
    graph = _graph(
        *(model("a"), source, elsewhere, data_test("some", "elsewhere", "a", "source.shop.raw.s")),
        *(data_test("none", "elsewhere"), data_test("of_source", "elsewhere", "source.shop.raw.s")),
    )
    assert graph.tested_nodes("test.shop.some") == ("model.shop.a", "source.shop.raw.s")
    assert graph.tested_nodes("test.shop.of_source") == ("source.shop.raw.s",)
    assert graph.tested_nodes("test.shop.none") == ("model.shop.elsewhere",)
    assert graph.subjects("test.shop.some") == ("model.shop.elsewhere", "model.shop.a")  # nobody builds a source


def test_what_is_not_selected_but_tested_stands_for_itself_among_the_objects() -> None:
    tested, plain = ({**model(name, "a"), "selected": False} for name in ("tested", "plain"))
    graph = _graph(model("a"), tested, plain, model("b", "tested", "plain"), data_test("t", "tested"))
    assert graph.parents("model.shop.b") == ("model.shop.tested", "model.shop.a")
    assert graph.parents("model.shop.tested") == ("model.shop.a",)


def test_entries_of_one_node_are_merged() -> None:
    graph = _graph(model("a"), model("b"), model("c", "a"), model("c", "b", tags=["x"]))
    assert graph.parents("model.shop.c") == ("model.shop.a", "model.shop.b")
    assert graph.nodes["model.shop.c"].tags == ("x",)


def test_circles_in_a_damaged_graph_end() -> None:
    hidden = [{**ephemeral(one, other), "selected": False} for one, other in ("ab", "ba")]
    graph = _graph(*hidden, model("c", "a", "c"), model("d", "e"), model("e", "d"))
    assert graph.parents("model.shop.c") == graph.order.gates("model.shop.c") == ()
    assert graph.ancestors("model.shop.d") == {"model.shop.e"}


def test_a_long_chain_is_no_problem() -> None:
    chain = [GraphNode(unique_id="model.shop.m0", resource_type="model")]
    for number in range(1, 2000):
        parent = f"model.shop.m{number - 1}"
        kind = "ephemeral" if number < 1999 else "table"
        chain.append(
            GraphNode(
                unique_id=f"model.shop.m{number}",
                resource_type="model",
                materialized=kind,
                depends_on=(parent,),
                selected=number == 1999,
            )
        )
    graph = Graph.of(chain)
    assert graph.parents("model.shop.m1999") == graph.order.gates("model.shop.m1999") == ("model.shop.m0",)


def test_executed_are_the_selected_nodes_that_dbt_has_something_to_do_for() -> None:
    graph = _graph(
        model("a"),
        ephemeral("e"),
        {**model("elsewhere"), "selected": False},
        data_test("t", "a"),
        unit_test("u", "a"),
        {"unique_id": "source.shop.raw.s", "resource_type": "source", "selected": False},
        {"unique_id": "exposure.shop.dash", "resource_type": "exposure"},
        {"unique_id": "function.shop.f", "resource_type": "function"},
    )
    assert graph.executables() == (
        "model.shop.a",
        "model.shop.e",
        "test.shop.t",
        "unit_test.shop.a.u",
        "function.shop.f",
    )


def test_a_node_needs_its_parents_their_tests_and_its_own_unit_tests() -> None:
    graph = _graph(
        *(model("a"), model("b", "a"), model("c", "b")),
        *(data_test("t", "a"), unit_test("u", "b")),
    )
    assert set(graph.order.needs("model.shop.b")) == {"model.shop.a", "test.shop.t", "unit_test.shop.b.u"}
    assert graph.order.needs("model.shop.a") == ()
    assert graph.order.needs("test.shop.t") == ("model.shop.a",)
    # What is further down is held back by what is directly below the tested node.
    assert graph.order.needs("model.shop.c") == ("model.shop.b",)


def test_a_test_of_several_nodes_holds_back_only_what_depends_on_all_of_them() -> None:
    graph = _graph(
        *(
            model("a"),
            model("b"),
            model("below_a", "a"),
            model("below_both", "below_a", "b"),
            model("far", "below_both"),
        ),
        data_test("match", "a", "b"),
    )
    assert "test.shop.match" not in graph.order.needs("model.shop.below_a")
    assert "test.shop.match" in graph.order.needs("model.shop.below_both")
    assert set(graph.order.needs("test.shop.match")) == {"model.shop.a", "model.shop.b"}


def test_an_ephemeral_model_and_its_tests_hold_back_what_is_built_from_it() -> None:
    graph = _graph(model("a"), ephemeral("e", "a"), model("b", "e"), data_test("t", "a"), data_test("on_e", "e"))
    assert set(graph.order.gates("model.shop.e")) == {"model.shop.a", "test.shop.t"}
    assert set(graph.order.gates("model.shop.b")) == {"model.shop.e", "test.shop.on_e"}
    assert graph.subjects("test.shop.on_e") == ("model.shop.a",)
    assert set(graph.tests_about("model.shop.a")) == {"test.shop.t", "test.shop.on_e"}
    assert graph.tests_about("model.shop.e") == ("test.shop.on_e",)


def test_a_test_of_a_node_that_is_not_selected_holds_back_what_is_built_from_that() -> None:
    below = {**model("below", "a"), "selected": False}
    graph = _graph({**model("a"), "selected": False}, below, model("b", "below"), data_test("t", "a"))
    assert graph.order.gates("model.shop.b") == ("test.shop.t",)


def test_a_node_waits_for_one_that_it_reads_by_way_of_another_that_is_not_selected() -> None:
    graph = _graph(model("a"), {**model("x", "a"), "selected": False}, model("b", "x"), data_test("t", "a"))
    assert set(graph.order.gates("model.shop.b")) == {"model.shop.a", "test.shop.t"}


def test_a_test_that_also_reads_what_nothing_else_reads_holds_nothing_back() -> None:
    graph = _graph(model("a"), model("b", "a"), data_test("t", "a", "elsewhere"))
    assert graph.order.gates("model.shop.b") == ("model.shop.a",)


def test_a_unit_test_is_held_back_by_what_holds_its_model_back() -> None:
    graph = _graph(model("a"), model("b", "a"), data_test("t", "a"), unit_test("u", "b"))
    assert set(graph.order.gates("unit_test.shop.b.u")) == {"model.shop.a", "test.shop.t"}
    assert "model.shop.b" in graph.order.needs("unit_test.shop.b.u")


def test_nobody_needs_what_this_run_does_not_execute() -> None:
    source = {"unique_id": "source.shop.raw.s", "resource_type": "source", "selected": False}
    unselected = {**data_test("t", "a"), "selected": False}
    graph = _graph(source, model("a", "source.shop.raw.s"), model("b", "a", "elsewhere"), unselected)
    assert graph.order.needs("model.shop.a") == ()
    assert graph.order.needs("model.shop.b") == ("model.shop.a",)


def test_everything_below_a_node_depends_on_it_tests_included() -> None:
    graph = _graph(model("a"), ephemeral("e", "a"), model("b", "e"), model("c"), data_test("t", "b"))
    assert graph.descendants("model.shop.a") == {"model.shop.e", "model.shop.b", "test.shop.t"}
    assert graph.descendants("test.shop.t") == frozenset()


def test_nodes_that_need_each_other_in_a_damaged_graph_do_not_keep_it_from_answering() -> None:
    graph = _graph(model("a", "b"), model("b", "a"), data_test("t", "a", "b"))
    assert set(graph.order.needs("test.shop.t")) == {"model.shop.a", "model.shop.b"}
    assert graph.descendants("model.shop.a") == {"model.shop.b", "test.shop.t"}


def test_tests_hold_nothing_back_where_the_command_executes_nothing_else() -> None:
    nodes = (model("a"), model("b", "a"), data_test("t", "a"), data_test("on_b", "b"), unit_test("u", "model.shop.b"))
    listed = [{**node, "selected": node["resource_type"] != "model"} for node in nodes]
    line = {"part": 1, "parts": 1, "total": len(listed), "nodes": listed, "command": "test"}
    graph = RunnerLog().add("SelectedNodes", line).state.graph
    assert graph is not None
    assert (graph.command, len(graph.executables())) == (Command.TEST, 3)
    assert {graph.order.needs(one) for one in graph.executables()} == {()}
    assert graph.order.needing("test.shop.t") == frozenset()


def test_a_test_is_listed_on_all_that_it_reads_where_the_command_executes_none_of_it() -> None:
    source = GraphNode(unique_id="source.shop.raw.s", resource_type="source", selected=False)
    orders = GraphNode(unique_id="model.shop.a", resource_type="model", selected=False)
    test = GraphNode(unique_id="test.shop.t", resource_type="test", depends_on=(source.unique_id, orders.unique_id))
    nodes = (source, orders, test)
    assert Graph.of(nodes).tested_nodes("test.shop.t") == (source.unique_id,)
    assert Graph.of(nodes, command=Command.TEST).tested_nodes("test.shop.t") == (source.unique_id, orders.unique_id)
