"""The dependency graph: validation, order, explanations and pictures."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isolation_core.errors import ConfigurationError, GraphError, GraphProblem, IsolationError
from isolation_core.graph import EMPTY_GRAPH, DependencyGraph, Node


def nothing() -> None:
    """A factory for nodes that are never set up."""


def node(name: str, *needs: str, **fields: object) -> Node:
    """Return a node that needs others and would do nothing."""
    return Node(name, nothing, dependencies=needs, **fields)  # type: ignore[arg-type]


def names(graph: DependencyGraph) -> list[str]:
    """Return the names in order of set-up."""
    return [each.name for each in graph.order]


def problems(*nodes: Node, external: tuple[str, ...] = ()) -> dict[str, list[GraphProblem]]:
    """Return the problems of a graph by code, as its error holds them."""
    with pytest.raises(GraphError) as caught:
        DependencyGraph(nodes, external=external).validate()
    found: dict[str, list[GraphProblem]] = {}
    for problem in caught.value.problems:
        assert str(problem) in str(caught.value)
        found.setdefault(problem.code, []).append(problem)
    return found


class TestNode:
    def test_of_reads_the_signature(self) -> None:
        """Parameters without a default are dependencies and are passed by name."""

        def api(db: object, cache: object, retries: int = 3) -> None: ...

        made = Node.of(api)
        assert (made.name, made.dependencies) == ("api", ("db", "cache"))
        assert made.arguments == (("db", "db"), ("cache", "cache"))

    def test_of_passes_only_what_there_is_a_parameter_for(self) -> None:
        """A dependency without a parameter is waited for and not passed."""

        def api(db: object) -> None: ...

        made = Node.of(api, dependencies=["db", "migrations"])
        assert made.dependencies == ("db", "migrations")
        assert made.arguments == (("db", "db"),)

    def test_says_where_it_was_defined(self) -> None:
        """The site is file and line of the factory."""
        line = nothing.__code__.co_firstlineno
        assert node("a").defined_at == f"{__file__}:{line}"

    def test_unknown_scope_is_refused(self) -> None:
        """An unknown scope is an error that names the known ones."""
        with pytest.raises(ConfigurationError, match=r"'galaxy', which is none of .*session") as caught:
            node("a", scope="galaxy")
        assert (caught.value.name, caught.value.value) == ("scope", "galaxy")
        assert node("a", scope="galaxy", rank=99).rank == 99

    def test_values_cannot_be_changed(self) -> None:
        """A node is frozen."""
        with pytest.raises(AttributeError):
            node("a").name = "b"  # type: ignore[misc]


class TestValidation:
    def test_all_problems_come_at_once(self) -> None:
        """One error holds every cycle, missing name, inversion and duplicate, each with its stable code."""
        found = problems(
            node("a", "b"),
            node("b", "a"),
            node("selfish", "selfish"),
            node("wide", "narrow", scope="session"),
            node("narrow"),
            node("twice"),
            node("twice"),
            node("lost", "nowhere"),
            node("lost too", "elsewhere"),
        )
        assert {code: [problem.nodes for problem in each] for code, each in found.items()} == {
            "ISO001": [("a", "b"), ("selfish",)],
            "ISO002": [("lost", "nowhere"), ("lost too", "elsewhere")],
            "ISO003": [("wide", "narrow")],
            "ISO004": [("twice",)],
        }

    def test_error_is_a_value_error_of_ours(self) -> None:
        """The error can be caught as what it is and as what it means."""
        with pytest.raises(ValueError, match="1 problem in the dependency graph, nothing was set up"):
            DependencyGraph([node("a", "a")]).validate()
        assert issubclass(GraphError, IsolationError)

    def test_cycle_is_drawn_as_a_loop(self) -> None:
        """A cycle shows one row per edge with file and line, and closes."""
        (problem,) = problems(node("api", "db"), node("db", "cache"), node("cache", "api"))["ISO001"]
        site = node("x").defined_at
        assert problem.message == textwrap.dedent(
            f"""\
            3 nodes need one another in a circle, so none of them can be first
                ┌─> 'api'   needs 'db'     {site}
                │   'db'    needs 'cache'  {site}
                └── 'cache' needs 'api'    {site}
                take one of these dependencies away, or split the node they meet in"""
        )

    def test_every_cycle_of_a_tangle_is_drawn_once(self) -> None:
        """Two loops that share a node are two problems."""
        found = problems(node("a", "b", "c"), node("b", "a"), node("c", "a"))["ISO001"]
        assert [problem.nodes for problem in found] == [("a", "b"), ("a", "c")]

    def test_a_hopeless_tangle_stays_readable(self) -> None:
        """Of exponentially many loops only some are drawn."""
        everybody = [f"n{number}" for number in range(12)]
        found = problems(*(node(name, *(other for other in everybody if other != name)) for name in everybody))
        assert 1 <= len(found["ISO001"]) <= 20

    def test_long_cycle_needs_no_recursion(self) -> None:
        """A loop longer than the recursion limit is found and drawn."""
        count = sys.getrecursionlimit() + 100
        found = problems(*(node(f"n{number}", f"n{(number + 1) % count}") for number in range(count)))
        assert len(found["ISO001"][0].nodes) == count

    def test_missing_name_says_who_asked_and_what_was_meant(self) -> None:
        """A missing name comes with the chain of those who need it and the similar name, introduced."""
        (problem,) = problems(
            node("web", "api"), node("api", "databse"), node("database", scope="session", group="storage")
        )["ISO002"]
        assert "'databse' is needed by 'api' (function scope, defined at" in problem.message
        assert "asked for by: web -> api -> databse" in problem.message
        assert "did you mean 'database' (group 'storage', session scope, defined at" in problem.message

    def test_missing_name_with_no_similar_one(self) -> None:
        """Without anything similar the message says how to provide it."""
        (problem,) = problems(node("api", "zzz"))["ISO002"]
        assert "define it, or declare it as provided from outside with external=" in problem.message

    def test_missing_name_may_differ_in_case_only(self) -> None:
        """A name in other letters is suggested first."""
        (problem,) = problems(node("api", "DB"), node("db"))["ISO002"]
        assert "did you mean 'db'" in problem.message

    def test_external_names_are_not_missing(self) -> None:
        """A node may depend on a name provided from outside, which is also suggested."""
        assert names(DependencyGraph([node("a", "tmp_path")], external=["tmp_path"])) == ["a"]
        (problem,) = problems(node("a", "tmp_pth"), external=("tmp_path",))["ISO002"]
        assert "did you mean 'tmp_path' (provided from outside)?" in problem.message

    def test_scope_inversion_names_both_sides(self) -> None:
        """A wide node on a narrow one is drawn with both scopes and two ways out."""
        (problem,) = problems(node("db", "tmp", scope="session"), node("tmp"))["ISO003"]
        assert "'db' lives for a whole session and needs 'tmp', which ends with each function" in problem.message
        assert "make 'tmp' at least as wide as session, or 'db' no wider than function" in problem.message

    def test_duplicate_shows_every_site(self) -> None:
        """A name defined twice is reported with where and how."""
        (problem,) = problems(node("db"), node("db", scope="session", group="storage"))["ISO004"]
        assert "defined 2 times" in problem.message
        assert "(session scope, group 'storage')" in problem.message

    def test_making_a_graph_checks_nothing(self) -> None:
        """A broken graph can be made, looked at and drawn; only using it raises."""
        graph = DependencyGraph([node("a", "b")])
        assert len(graph) == 1
        assert "b (missing)" in graph.to_mermaid()
        with pytest.raises(GraphError):
            _ = graph.order

    def test_asking_for_an_unknown_name(self) -> None:
        """A request for a name that is not there is a graph error with a suggestion."""
        with pytest.raises(GraphError, match=r"ISO002 'dbb' is requested.*\n.*did you mean 'db'"):
            DependencyGraph([node("db")]).order_for(["dbb"])


class TestOrder:
    def test_scope_then_priority_then_declaration(self) -> None:
        """Wide scopes come first, then higher priority, then what was declared first."""
        graph = DependencyGraph(
            [
                node("late"),
                node("later"),
                node("urgent", priority=5),
                node("session", scope="session", priority=-9),
                node("class", scope="class"),
            ]
        )
        assert names(graph) == ["session", "class", "urgent", "late", "later"]

    def test_dependencies_beat_priority(self) -> None:
        """However urgent, a node waits for what it needs, and for nothing else."""
        graph = DependencyGraph([node("other"), node("slow"), node("urgent", "slow", priority=100)])
        assert names(graph) == ["other", "slow", "urgent"]

    def test_order_of_the_input_does_not_matter(self) -> None:
        """Nodes collected in any order give the same order of set-up."""
        needs = [[f"n{number // 2}"] if number else [] for number in range(30)]
        nodes = [node(f"n{number}", *needs[number], priority=number % 3) for number in range(30)]
        expected = names(DependencyGraph(nodes))
        for seed in range(5):
            shuffled = nodes[:]
            random.Random(seed).shuffle(shuffled)
            assert names(DependencyGraph(shuffled)) == expected

    def test_nothing_depends_on_hash_order(self) -> None:
        """The order is the same in processes with different hash seeds."""
        script = textwrap.dedent(
            """
            from isolation_core.graph import DependencyGraph, Node
            def f(): pass
            needs = [{f"n{i // 2}", f"n{i // 3}"} if i else () for i in range(40)]
            graph = DependencyGraph({Node(f"n{i}", f, dependencies=needs[i], index=0) for i in range(40)})
            print([[node.name for node in each] for each in (graph, graph.order, graph.order_for({"n7", "n9"}))])
            """
        )
        texts = {
            subprocess.run(
                [sys.executable, "-c", script],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2", "3")
        }
        assert len(texts) == 1

    def test_part_of_the_graph_keeps_its_order(self) -> None:
        """A selection of nodes with their dependencies keeps the order of the whole graph."""
        graph = DependencyGraph([node("a"), node("b"), node("c", "b"), node("d", "a")])
        assert [each.name for each in graph.order_for(["d", "c"])] == ["a", "b", "c", "d"]
        assert [each.name for each in graph.order_for(["c"])] == ["b", "c"]

    def test_what_is_given_is_left_out(self) -> None:
        """Names that are up already are not asked for again, nor what only they need."""
        graph = DependencyGraph([node("a"), node("b", "a"), node("c", "b")])
        assert [each.name for each in graph.order_for(["c"], given={"b"})] == ["c"]

    def test_closure_and_dependents(self) -> None:
        """The graph lists the dependencies and the dependents of a node."""
        graph = DependencyGraph([node("a"), node("b", "a"), node("c", "b", "out")], external=["out"])
        assert graph.closure("c") == {"a", "b", "out"}
        assert graph.dependents("a") == ("b",)

    def test_empty_graph(self) -> None:
        """The graph for plain cleanups has an order, too."""
        assert EMPTY_GRAPH.order == ()
        assert EMPTY_GRAPH.validate() is EMPTY_GRAPH


@st.composite
def acyclic_nodes(draw: st.DrawFn) -> list[Node]:
    """Nodes of a graph without problems, shuffled."""
    count = draw(st.integers(1, 25))
    scopes = ["session", "module", "function"]
    made: list[Node] = []
    for number in range(count):
        place = draw(st.integers(0, 2))
        wider = [each.name for each in made if scopes.index(each.scope) <= place]
        needs = draw(st.lists(st.sampled_from(wider), max_size=4)) if wider else []
        made.append(node(f"n{number}", *needs, scope=scopes[place], priority=draw(st.integers(-2, 2))))
    return draw(st.permutations(made))


class TestOrderProperties:
    @given(acyclic_nodes())
    def test_order_is_total_and_respects_dependencies(self, nodes: list[Node]) -> None:
        """Every node comes exactly once, after everything it needs; wide scopes come before narrow ones."""
        graph = DependencyGraph(nodes)
        order = names(graph)
        assert sorted(order) == sorted(each.name for each in nodes)
        for each in nodes:
            assert all(order.index(needed) < order.index(each.name) for needed in each.dependencies)
        ranks = [each.rank for each in graph.order]
        assert ranks == sorted(ranks, reverse=True)

    @given(acyclic_nodes())
    def test_neighbours_are_in_order_for_a_reason(self, nodes: list[Node]) -> None:
        """Of two neighbours the first has the lesser key, unless the second needs it: so `explain` never lies."""
        order = DependencyGraph(nodes).order
        for first, second in pairwise(order):
            assert first.name in second.dependencies or first.key < second.key

    @given(acyclic_nodes(), st.randoms(use_true_random=False))
    def test_a_part_is_in_the_order_of_the_whole(self, nodes: list[Node], chance: random.Random) -> None:
        """Whatever is asked for, it comes with all it needs and in the same relative order."""
        graph = DependencyGraph(nodes)
        wanted = [each.name for each in nodes if chance.random() < 0.3]
        part = [each.name for each in graph.order_for(wanted)]
        assert part == [name for name in names(graph) if name in set(part)]
        assert set(part) == set(wanted).union(*(graph.closure(name) for name in wanted))

    @given(acyclic_nodes(), st.data())
    def test_an_edge_back_is_found(self, nodes: list[Node], data: st.DataObject) -> None:
        """Turning any acyclic graph into a cyclic one is noticed, and the loop drawn is a loop of the graph."""
        first = data.draw(st.sampled_from(nodes))
        users = [each for each in nodes if first.name in DependencyGraph(nodes).closure(each.name)]
        last = data.draw(st.sampled_from(users)) if users else first
        broken = [
            node(each.name, *each.dependencies, last.name) if each is first else node(each.name, *each.dependencies)
            for each in nodes
        ]
        graph = DependencyGraph(broken)
        loops = [problem.nodes for problem in graph.problems if problem.code == "ISO001"]
        assert loops
        for loop in loops:
            for asker, needed in zip(loop, (*loop[1:], loop[0]), strict=True):
                assert needed in graph[asker].dependencies


class TestExplain:
    graph = DependencyGraph(
        [
            node("db", scope="session"),
            node("cache", "tmp"),
            node("api", "db", "cache", priority=2),
            node("urgent", priority=1),
            node("last"),
        ],
        external=["tmp"],
    )

    def test_tells_place_neighbours_and_reasons(self) -> None:
        """The text names the place, the dependencies, the users and why the neighbours are where they are."""
        text = self.graph.explain("cache")
        assert "'cache' is set up as number 3 of 5" in text
        assert "needs 'tmp' (provided from outside)" in text
        assert "is needed by 'api' (number 4)" in text
        assert "after 'urgent', because priority 1 comes before priority 0" in text
        assert "before 'api', because 'api' needs 'cache', and dependencies always win" in text

    def test_the_other_reasons(self) -> None:
        """Scope and declaration are reasons as well."""
        assert "because session scope is wider than function scope" in self.graph.explain("db")
        graph = DependencyGraph([node("one"), node("two")])
        assert "after 'one', because 'one' was declared before 'two'" in graph.explain("two")

    def test_unknown_name(self) -> None:
        """Asking about a name that is not there suggests one that is."""
        with pytest.raises(GraphError, match="did you mean 'cache'"):
            self.graph.explain("cahe")


class TestPictures:
    graph = DependencyGraph(
        [node('we"ird\n[name]', scope="session"), node("api", 'we"ird\n[name]', "tmp")], external=["tmp"]
    )

    def test_mermaid(self) -> None:
        """The flowchart has a box per scope, escaped labels and an arrow per dependency."""
        assert self.graph.to_mermaid() == (
            "flowchart TD\n"
            '    subgraph s0["session"]\n'
            '        n0["we#34;ird#10;#91;name#93;"]\n'
            "    end\n"
            '    subgraph s1["function"]\n'
            '        n1["api"]\n'
            "    end\n"
            '    x0(["tmp (external)"])\n'
            "    n1 --> n0\n"
            "    n1 --> x0\n"
        )

    def test_dot(self) -> None:
        """The digraph has a cluster per scope, quoted labels and an arrow per dependency."""
        text = self.graph.to_dot()
        assert text.startswith("digraph dependencies {\n")
        assert text.endswith("}\n")
        assert 'n0 [label="we\\"ird\\n[name]"' in text
        assert "    n1 -> n0;\n    n1 -> x0;\n" in text

    def test_json(self) -> None:
        """The data hold the order, every node and no problem."""
        data = json.loads(self.graph.to_json())
        assert data["schema"] == 1
        assert data["order"] == ['we"ird\n[name]', "api"]
        assert data["external"] == ["tmp"]
        assert data["problems"] == []
        api = data["nodes"][1]
        assert (api["name"], api["kind"], api["scope"]) == ("api", "plain", "function")
        assert api["dependencies"] == ['we"ird\n[name]', "tmp"]
        assert data["nodes"][0]["dependents"] == ["api"]

    def test_json_of_a_broken_graph(self) -> None:
        """A broken graph has no order and says why."""
        data = json.loads(DependencyGraph([node("a", "a")]).to_json())
        assert data["order"] is None
        assert data["problems"][0]["code"] == "ISO001"

    def test_pictures_are_the_same_every_time(self) -> None:
        """Rendering twice gives the same text."""
        again = DependencyGraph(reversed(self.graph.nodes), external=["tmp"])
        assert (again.to_mermaid(), again.to_dot()) == (self.graph.to_mermaid(), self.graph.to_dot())
