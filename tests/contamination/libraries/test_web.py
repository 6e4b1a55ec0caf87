"""Profiles of Flask, FastAPI, Starlette and Jinja2, against the libraries."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contamination.libraries.conftest import Check, Own

FLASK = """
import flask

app = flask.Flask("own_app")
app.config["L"] = [1]
app.config["MODE"] = "a"


@app.get("/a")
def a():
    return {"x": 1}
"""


def test_flask(own: Own, check: Check) -> None:
    """Configuration, hooks, error handlers, rules, blueprints, template names of a Flask application."""
    flask = pytest.importorskip("flask")
    app: Any = own(FLASK).app

    def get(path: str = "/a") -> Any:
        return app.test_client().get(path)

    def serves() -> None:
        assert get().get_json() == {"x": 1}

    def not_found() -> None:
        assert get("/nope").status_code == 404

    def renders() -> None:
        with app.app_context():
            assert flask.render_template_string("{{ who }}") == ""

    healthy = (serves, not_found, renders, serves)

    def equal(read: Any, wanted: Any) -> Any:
        def victim() -> None:
            assert read() == wanted

        return victim

    check(
        lambda: app.config.update(MODE="b"),
        equal(lambda: app.config["MODE"], "a"),
        *healthy,
        named=r"own_app\.app\.config\['MODE'\]",
    )
    check(lambda: app.config["L"].append(2), equal(lambda: app.config["L"], [1]), named=r"config\['L'\]")
    check(lambda: setattr(app, "secret_key", "s"), equal(lambda: app.secret_key, None), named="SECRET_KEY")
    check(
        lambda: app.before_request(lambda: ("blocked", 503)),
        serves,
        *healthy,
        named=r"app\.before_request_funcs\[None\]",
    )
    check(
        lambda: app.register_error_handler(404, lambda error: ("mine", 299)),
        not_found,
        *healthy,
        named="error_handler_spec",
    )
    check(lambda: app.add_url_rule("/nope", "b", lambda: "b"), not_found, *healthy, named=r"app\.url_map")
    check(lambda: app.extensions.update(mail=1), equal(lambda: "mail" in app.extensions, False), named="extensions")
    check(lambda: app.view_functions.update(a=lambda: {"x": 2}), serves, *healthy, named="view_functions")
    check(lambda: setattr(app, "wsgi_app", lambda environ, start: 1 / 0), serves, *healthy, named="wsgi_app")
    check(
        lambda: app.cli.command("go")(lambda: 1),
        equal(lambda: "go" in app.cli.commands, False),
        *healthy,
        named="commands",
    )
    check(lambda: app.jinja_env.globals.update(who="x"), renders, *healthy, named=r"jinja_env\.globals\['who'\]")

    def add_blueprint() -> None:
        blueprint = flask.Blueprint("adm", "adm")
        blueprint.add_url_rule("/nope", "x", lambda: "1")
        app.register_blueprint(blueprint)

    check(add_blueprint, not_found, *healthy, named="blueprints")


def test_flask_late_set_up(own: Own, check: Check) -> None:
    """An application that served a request takes routes again in the next test, in silence."""
    pytest.importorskip("flask")
    app: Any = own(FLASK).app
    check(
        lambda: app.test_client().get("/a"),
        lambda: app.add_url_rule("/late", "late", lambda: "x"),
        lambda: app.test_client().get("/a"),
        named="_got_first_request",
    )


def test_flask_template_environment_made_in_the_test(own: Own, check: Check) -> None:
    """What a test puts into an environment that it was the first to use is taken out of it."""
    pytest.importorskip("flask")
    app: Any = own(FLASK).app

    def victim() -> None:
        assert "who" not in app.jinja_env.globals

    check(lambda: app.jinja_env.globals.update(who="x"), victim, named=r"jinja_env\.globals\['who'\]")


FASTAPI = """
from fastapi import APIRouter, Depends, FastAPI

app = FastAPI()
router = APIRouter(prefix="/r")
app.state.db = "real"


def dep():
    return 1


@app.get("/a")
def a(x: int = Depends(dep)):
    return x


@app.get("/boom")
def boom():
    raise KeyError("k")


app.include_router(router)
"""


@pytest.mark.filterwarnings("ignore")
def test_fastapi(own: Own, check: Check) -> None:
    """Overrides, state, routes, handlers and middleware of a FastAPI application."""
    pytest.importorskip("fastapi")
    testclient = pytest.importorskip("fastapi.testclient")
    responses = pytest.importorskip("starlette.responses")
    module = own(FASTAPI)
    app: Any = module.app

    def get(path: str = "/a") -> Any:
        return testclient.TestClient(app, raise_server_exceptions=False).get(path)

    def serves() -> None:
        assert get().json() == 1

    def not_found() -> None:
        assert get("/nope").status_code == 404

    def describes() -> None:
        assert "/nope" not in get("/openapi.json").json()["paths"]

    def fails() -> None:
        assert get("/boom").status_code == 500

    def real_state() -> None:
        assert app.state.db == "real" and not hasattr(app.state, "y")

    healthy = (serves, not_found, describes, fails, serves)
    fake = {module.dep: lambda: 2}
    check(lambda: app.dependency_overrides.update(fake), serves, *healthy, named=r"own_app\.app\.dependency_overrides")
    check(lambda: setattr(app, "dependency_overrides", dict(fake)), serves, *healthy, named="dependency_overrides")
    check(lambda: setattr(app.state, "db", "fake"), real_state, *healthy, named="state")
    check(lambda: setattr(app.state, "y", 1), real_state, *healthy, named="state")

    def add_route() -> None:
        app.add_api_route("/nope", lambda: 5, methods=["GET"])
        get("/nope")
        get("/openapi.json")

    check(add_route, not_found, *healthy, named=r"app\.router\.routes")
    check(add_route, describes, *healthy, named=r"app\.router\.routes")

    def add_handler() -> None:
        app.middleware_stack = None
        app.add_exception_handler(KeyError, lambda request, error: responses.PlainTextResponse("mine", 299))
        get("/boom")

    check(add_handler, fails, *healthy, named="exception_handlers")

    class Blocks:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await responses.PlainTextResponse("blocked", 298)(scope, receive, send)

    def add_middleware() -> None:
        app.middleware_stack = None
        app.add_middleware(Blocks)
        get()

    check(add_middleware, serves, *healthy, named="user_middleware")
    check(lambda: setattr(app, "title", "X"), lambda: app.title == "FastAPI" or pytest.fail("title"), named="title")

    def extend_included() -> None:
        module.router.add_api_route("/n", lambda: 5)
        get("/r/n")

    check(extend_included, lambda: get("/r/n").status_code == 404 or pytest.fail("route"), *healthy, named="router")


def test_jinja2(own: Own, check: Check) -> None:
    """Filters and globals of an environment go back together with the templates compiled from them."""
    jinja2 = pytest.importorskip("jinja2")
    source = "import jinja2\nENV = jinja2.Environment(loader=jinja2.DictLoader({'a': \"{{ who }}{{ 'q'|upper }}\"}))"
    env: Any = own(source).ENV

    def renders() -> None:
        assert env.get_template("a").render() == "Q"

    def no_shout(text: str) -> str:
        return "no"

    def fold() -> None:
        env.cache.clear()
        env.filters["upper"] = no_shout
        env.get_template("a").render()

    check(fold, renders, renders, renders, named=r"own_app\.ENV\.filters\['upper'\]")
    check(lambda: env.globals.update(who="me"), renders, renders, named="globals")
    check(lambda: env.loader.mapping.update(a="changed"), renders, renders, named=r"mapping\['a'\]")
    check(lambda: setattr(env, "undefined", jinja2.StrictUndefined), renders, renders, named="undefined")

    def default() -> None:
        assert jinja2.Environment().from_string("{{ 'a'|upper }}").render() == "A"

    filters = jinja2.defaults.DEFAULT_FILTERS
    check(lambda: filters.update(upper=no_shout), default, default, named=r"DEFAULT_FILTERS\['upper'\]")
