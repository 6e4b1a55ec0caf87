"""Profiles of SQLAlchemy, pandas, numpy, matplotlib, cattrs and Hypothesis, against the libraries."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contamination.libraries.conftest import Check, Own, barrier

MODEL = """
from sqlalchemy import Column, Integer, create_engine, orm


class Base(orm.DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id = Column(Integer, primary_key=True)


engine = create_engine("sqlite://")
Maker = orm.sessionmaker(engine)
Session = orm.scoped_session(Maker)
"""


@pytest.mark.filterwarnings("ignore")
def test_sqlalchemy(own: Own, check: Check) -> None:
    """Tables, classes of tests, listeners, options and scoped sessions; lazy mapper configuration stays."""
    sa = pytest.importorskip("sqlalchemy")
    orm = pytest.importorskip("sqlalchemy.orm")
    model = own(MODEL)

    def table() -> None:
        sa.Table("extra", model.Base.metadata, sa.Column("id", sa.Integer, primary_key=True))

    def tables() -> None:
        assert set(model.Base.metadata.tables) == {"users"}

    def queries() -> None:
        model.Base.metadata.create_all(model.engine)
        with model.Maker() as session:
            assert session.query(model.User).count() >= 0
            session.commit()

    check(table, tables, queries, tables, named=r"own_app\.Base\.metadata\.tables\['extra'\]")

    def mapped() -> None:
        type("Row", (model.Base,), {"__tablename__": "rows", "id": sa.Column(sa.Integer, primary_key=True)})

    check(mapped, tables, queries, named=r"tables\['rows'\]")

    seen: list[int] = []

    def listen() -> None:
        sa.event.listen(orm.Session, "before_commit", lambda session: seen.append(1))

    def commits() -> None:
        seen.clear()
        queries()
        assert seen == []

    check(listen, commits, commits, named=r"sqlalchemy\.event\.listen\('before_commit'\)")

    def pending() -> None:
        model.Session.add(model.User(id=1))

    def nothing_pending() -> None:
        assert len(model.Session.new) == 0

    check(pending, nothing_pending, nothing_pending, named=r"own_app\.Session")


@pytest.mark.filterwarnings("ignore")
def test_a_mapped_class_that_lives_on_keeps_its_table(own: Own) -> None:
    """A class that something holds would not work without its table, so both stay."""
    sa = pytest.importorskip("sqlalchemy")
    model = own(MODEL)
    held: list[Any] = []
    with barrier(mode="strict") as around:
        held.append(
            type("Row", (model.Base,), {"__tablename__": "rows", "id": sa.Column(sa.Integer, primary_key=True)})
        )
    assert "rows" in model.Base.metadata.tables
    assert [change.decision for change in around.changes] == ["UND030"]


def test_pandas(own: Own, check: Check) -> None:
    """Options, and the content of frames and series."""
    pd = pytest.importorskip("pandas")
    module = own("import pandas as pd\nDF = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\nSE = pd.Series([1.0, 2.0])")
    frame: Any = module.DF

    def frames() -> None:
        assert frame.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}
        assert not frame.attrs
        assert module.SE.tolist() == [1.0, 2.0] and module.SE.name is None

    def uses() -> None:
        assert frame.groupby("b").sum()["a"].tolist() == [1, 2]
        repr(frame)

    def pollute() -> None:
        frame.loc[0, "a"] = 99
        frame["c"] = 1
        frame.columns = ["a", "q", "c"]
        frame.attrs["k"] = 1
        module.SE.iloc[0] = 7
        module.SE.name = "zz"

    check(pollute, frames, uses, frames, uses, named=r"own_app\.DF")

    rows = pd.get_option("display.max_rows")

    def options() -> None:
        assert pd.get_option("display.max_rows") == rows

    check(lambda: pd.set_option("display.max_rows", 3), options, uses, named=r"pandas\.options\.display\.max_rows")


def test_numpy(own: Own, check: Check) -> None:
    """Arrays of own code, and the global generator if it was seeded."""
    np = pytest.importorskip("numpy")
    module = own("import numpy as np\nX = np.zeros(3)")

    def zeros() -> None:
        assert module.X.tolist() == [0, 0, 0] and module.X.flags.writeable

    def pollute() -> None:
        module.X[0] = 9
        module.X.setflags(write=False)

    check(pollute, zeros, zeros, module.X.sum, named=r"own_app\.X")

    def unseeded() -> None:
        assert round(float(np.random.rand()), 6) != 0.548814

    def draws() -> None:
        np.random.rand(1000)

    check(lambda: np.random.seed(0), unseeded, draws, named=r"numpy\.random")


def test_matplotlib(check: Check) -> None:
    """Parameters with their lists, and open figures."""
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    plt = pytest.importorskip("matplotlib.pyplot")
    size = matplotlib.rcParams["lines.linewidth"]

    def parameters() -> None:
        assert matplotlib.rcParams["lines.linewidth"] == size
        assert "nonsense" not in matplotlib.rcParams["font.serif"]

    def pollute() -> None:
        matplotlib.rcParams["lines.linewidth"] = 9.0
        matplotlib.rcParams["font.serif"].append("nonsense")

    def draws() -> None:
        figure = plt.figure()
        plt.close(figure)

    check(pollute, parameters, draws, named=r"matplotlib\.rcParams\['lines.linewidth'\]")

    def none_open() -> None:
        assert plt.get_fignums() == []

    check(lambda: plt.plot([1, 2]), none_open, draws, named=r"matplotlib\.pyplot\.figure\(1\)")


def test_cattrs(own: Own, check: Check) -> None:
    """Hooks of the global converter; those it makes for a class that it meets stay."""
    cattrs = pytest.importorskip("cattrs")
    module = own("import attrs\n\n\n@attrs.define\nclass P:\n    x: int\n")

    def converts() -> None:
        assert cattrs.unstructure(module.P(1)) == {"x": 1}

    def pollute() -> None:
        cattrs.global_converter.register_unstructure_hook(module.P, lambda p: "P!")
        cattrs.unstructure(module.P(1))

    converts()
    check(pollute, converts, converts, named=r"cattrs\.global_converter\.register_unstructure_hook")


def test_hypothesis(check: Check) -> None:
    """Profiles of settings, with the default made from the one in force."""
    from hypothesis import settings

    examples = settings().max_examples

    def pollute() -> None:
        settings.register_profile("slow", max_examples=999)
        settings.load_profile("slow")

    def victim() -> None:
        assert settings().max_examples == examples

    check(pollute, victim, victim, named=r"hypothesis\._settings\.settings\._current_profile")


def test_xml(own: Own, check: Check) -> None:
    """Attributes, text and children of elements, at any depth."""
    import xml.etree.ElementTree as ET

    module = own("import xml.etree.ElementTree as ET\nROOT = ET.fromstring('<root><a k=\"v\">text</a></root>')\n")
    child = module.ROOT[0]

    def unchanged() -> None:
        assert ET.tostring(module.ROOT) == b'<root><a k="v">text</a></root>'
        assert module.ROOT[0] is child

    def pollute() -> None:
        child.set("k", "other")
        child.text = "other"
        ET.SubElement(child, "b")
        module.ROOT.insert(0, ET.Element("first"))

    check(pollute, unchanged, unchanged, named=r"own_app\.ROOT")


def test_fakeredis(check: Check) -> None:
    """Data of servers that clients share is put back in silence, also that of a server used for the first time."""
    fakeredis = pytest.importorskip("fakeredis")
    before = fakeredis.FakeRedis(host="known", port=1)
    before.set("kept", "1")
    before.rpush("list", "a")

    def victim() -> None:
        assert fakeredis.FakeRedis(host="new", port=1).get("k") is None
        assert before.get("kept") == b"1" and before.lrange("list", 0, -1) == [b"a"]

    def pollute() -> None:
        fakeredis.FakeRedis(host="new", port=1).set("k", 1)
        before.delete("kept")
        before.rpush("list", "b")

    check(pollute, victim, victim, named=r"fakeredis\.FakeServer\._servers_map")


@pytest.mark.filterwarnings("ignore")
def test_sentry(check: Check) -> None:
    """A client and what is set on scopes; scopes that are only made do not count as a change."""
    sentry_sdk = pytest.importorskip("sentry_sdk")

    def pollute() -> None:
        sentry_sdk.init(dsn="http://k@localhost/1", default_integrations=False, transport=lambda event: None)
        sentry_sdk.set_tag("a", "b")
        sentry_sdk.get_current_scope().set_extra("e", 1)

    def victim() -> None:
        assert not sentry_sdk.is_initialized()
        assert "a" not in sentry_sdk.get_isolation_scope()._tags
        assert not sentry_sdk.get_current_scope()._extras

    check(pollute, victim, sentry_sdk.get_current_scope, named=r"sentry_sdk\.get_global_scope\(\)\.client")


def test_prometheus(own: Own, check: Check) -> None:
    """Values of metrics, and the labels they were asked for; a child that is held goes on from nothing."""
    pytest.importorskip("prometheus_client")
    module = own(
        "from prometheus_client import CollectorRegistry, Counter, Histogram\nR = CollectorRegistry()\n"
        "C = Counter('c', 'd', registry=R)\nL = Counter('l', 'd', ['who'], registry=R)\n"
        "H = Histogram('h', 'd', registry=R)\n"
    )

    def pollute() -> None:
        module.C.inc()
        module.L.labels("a").inc()
        module.H.observe(1)

    def victim() -> None:
        read = module.R.get_sample_value
        assert (read("c_total"), read("l_total", {"who": "a"}), read("h_count")) == (0, None, 0)

    check(pollute, victim, victim, named=r"own_app\.L\.labels")


def test_requests(own: Own, check: Check) -> None:
    """Headers, cookies, adapters and attributes of a session."""
    requests = pytest.importorskip("requests")
    session: Any = own("import requests\nS = requests.Session()").S

    def clean() -> None:
        assert "Authorization" not in session.headers and not list(session.cookies)
        assert session.auth is None and list(session.adapters) == ["https://", "http://"]

    def pollute() -> None:
        session.headers["Authorization"] = "x"
        session.cookies.set("a", "b")
        session.auth = ("a", "b")
        session.mount("http://x", requests.adapters.HTTPAdapter())

    def uses() -> None:
        session.prepare_request(requests.Request("GET", "http://x/"))

    check(pollute, clean, clean, uses, named=r"own_app\.S\.cookies\['a'\]")


@pytest.mark.filterwarnings("ignore")
def test_celery(own: Own, check: Check) -> None:
    """Configuration set before and after it is read for the first time; reading it is not a change."""
    pytest.importorskip("celery")
    source = (
        "from celery import Celery\napp = Celery('own_app', broker='memory://', backend='cache+memory://')\n\n\n"
        "@app.task\ndef add(a, b):\n    return a + b\n"
    )
    module = own(source)

    def victim() -> None:
        assert module.app.conf.task_always_eager is False

    def pollute() -> None:
        module.app.conf.task_always_eager = True
        assert module.add.delay(1, 2).get() == 3

    def uses() -> None:
        assert module.add.s(1, 2).apply().get() == 3

    check(pollute, victim, victim, uses, named=r"own_app\.app\.conf\['task_always_eager'\]")
