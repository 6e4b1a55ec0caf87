"""The recorded facts, and how each polluted state may be spelled in a journal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, Literal

from attrs import frozen

__all__ = ["FACTS", "Case", "load_cases"]

FACTS: Final = Path(__file__).with_name("order_dependent.json")
Kind = Literal["victim", "brittle", "nio"]

# The facts tell the state in words. One pattern per part that must be named: the tail of a path, because the
# same object is often reachable under several first names (the module that made it, the tests that import it).
_PATTERNS: Final = {
    "yunomi.core.metrics_registry._global_registry._counters": [r"_global_registry\._counters\b"],
    "yunomi.core.metrics_registry._global_registry._histograms": [r"_global_registry\._histograms\b"],
    "yunomi.core.metrics_registry._global_registry._timers": [r"_global_registry\._timers\b"],
    "yunomi.core.metrics_registry._global_registry._meters": [r"_global_registry\._meters\b"],
    "mock.mock.MagicMock.error (also .ok, .status_code)": [r"\bMagicMock\.error$"],
    "zanna.decorators._module._methodcalls": [r"_module\._methodcalls\b"],
    "tests.test_singleton_class_binding_spec.SINGLETON_CLASS_INITIALIZED": [r"\.SINGLETON_CLASS_INITIALIZED$"],
    "dynamic_conf._conf.Config._registry": [r"\bConfig\._registry\b"],
    'handlers of logging.getLogger("logzero")': [r"logging\.getLogger\(['\"]logzero['\"]\)\.handlers"],
    'handlers of logging.getLogger("test_write_to_logfile_and_stderr")': [
        r"logging\.getLogger\(['\"]test_write_to_logfile_and_stderr['\"]\)\.handlers"
    ],
    'sys.modules["html.parser"] and the html_parser lazy descriptor of type(six.moves) '
    "(it deletes itself and caches a value on the instance)": [
        r"sys\.modules\[['\"]html\.parser['\"]\]",
        r"(_MovedItems|type\(six\.moves\))\.html_parser$",
    ],
    'sys.modules["html.parser"] and the html_parser lazy descriptor of type(six.moves)': [
        r"sys\.modules\[['\"]html\.parser['\"]\]",
        r"(_MovedItems|type\(six\.moves\))\.html_parser$",
    ],
    "knack.parser.CLICommandParser.error": [r"\bCLICommandParser\.error$"],
    "TestSkill.skill (built in setUpClass), attributes .logic and .valid.app_id": [
        r"\bTestSkill\.skill\.(logic\b|valid\.app_id$)"
    ],
    "textblob.formats._registry": [r"\bformats\._registry\b"],
    "flask_smorest.pagination.PaginationMixin.PAGINATION_ARGUMENTS_PARSER.DEFAULT_VALIDATION_STATUS": [
        r"\.PAGINATION_ARGUMENTS_PARSER\.DEFAULT_VALIDATION_STATUS$"
    ],
    "tests.unit.test_struct.TestStruct._msg_cls": [r"\bTestStruct\._msg_cls$"],
    "pyeventdispatcher.event_dispatcher.global_registry": [r"\bglobal_registry\b"],
    "value of the module-scoped fixture mock_router (Router._routes)": [r"\bmock_router\b.*_routes\b"],
    "httpretty.core.fakesock.socket._sent_data": [r"\bsocket\._sent_data\b"],
    "dill.tests.test_classdef.o, .oc, .n, .nc and its classes (DELETED from globals by the test)": [
        r"\btest_classdef\.o$",
        r"\btest_classdef\.oc$",
        r"\btest_classdef\.n$",
        r"\btest_classdef\.nc$",
    ],
    "dill.tests.test_mixins.double_add.inverted[0]": [r"\bdouble_add\b.*\binverted\b"],
    "dill._testcapsule (attribute ADDED to the package, left as None)": [r"\bdill\._testcapsule$"],
    'sys.modules["markdown.extensions.fenced_code"] and the attribute fenced_code on package markdown.extensions': [
        r"sys\.modules\[['\"]markdown\.extensions\.fenced_code['\"]\]",
        r"\bmarkdown\.extensions\.fenced_code$",
    ],
}

# Files a tree needs before its tests can be imported at all.
_STAND_INS: Final = {
    # unittest2 cannot be imported since Python 3.10; what it backported is in unittest.
    "dreid/yunomi": {"unittest2.py": "from unittest import *\n"},
}


@frozen
class Case:
    """One recorded order-dependent test; see the fields of ``order_dependent.json``."""

    number: int
    project: str
    requirement: str
    python: str
    requirements: tuple[str, ...]
    test_root: str
    polluters: tuple[str, ...]
    victim: str
    kind: Kind
    state: str

    @property
    def name(self) -> str:
        """The project's short name."""
        return self.project.rpartition("/")[2]

    @property
    def culprits(self) -> tuple[str, ...]:
        """The tests that may be blamed: the polluters, or the victim itself when it poisons its own second run."""
        return self.polluters or (self.victim,)

    @property
    def patterns(self) -> list[re.Pattern[str]]:
        """One pattern for each part of the state that must be named."""
        return [re.compile(pattern) for pattern in _PATTERNS.get(self.state, [re.escape(self.state)])]

    @property
    def stand_ins(self) -> dict[str, str]:
        """Files to write into the tree, by name."""
        return _STAND_INS.get(self.project, {})


def load_cases(names: list[str]) -> list[Case]:
    """Return the recorded cases, or those of the projects (or with the numbers) in *names*.

    Raises:
        SystemExit: if a name fits no case.
    """
    facts = json.loads(FACTS.read_text())
    cases = [
        Case(
            number=number,
            project=fact["project"],
            requirement=fact["source"].split()[-1],
            python=".".join(fact["python"].split(".")[:2]),
            requirements=(f"pytest=={fact['pytest']}", *fact["pip_deps"]),
            test_root=fact["test_root"],
            polluters=tuple(fact["polluters"]),
            victim=fact["victim"],
            kind=fact["kind"],
            state=fact["state"],
        )
        for number, fact in enumerate(facts, 1)
    ]
    chosen = [case for case in cases if not names or case.name in names or str(case.number) in names]
    unknown = [name for name in names if not any(name in (case.name, str(case.number)) for case in cases)]
    if unknown:
        known = ", ".join(sorted({case.name for case in cases}))
        raise SystemExit(
            f"no case called {', '.join(unknown)}; there are: {known} (or a number from 1 to {len(cases)})"
        )
    return chosen
