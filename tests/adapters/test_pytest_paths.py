"""The paths in findings: of the module that defines a thing, each thing once, and true about what became of it."""

from __future__ import annotations

import pytest

PLUGINS = ("--disable-plugin-autoload", "-p", "isolation", "-p", "no:cacheprovider")


def section(pytester: pytest.Pytester, *args: str) -> str:
    """Run the tests, which must pass, and return what isolation says of them."""
    result = pytester.runpytest_subprocess(*PLUGINS, *args)
    assert result.ret == 0
    return result.stdout.str().partition("= isolation =")[2]


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_a_thing_is_named_after_the_module_that_defines_it(pytester: pytest.Pytester, mode: str) -> None:
    """Neither a test module nor a module of the application that imports a name gives its path."""
    pytester.makepyfile(
        data="SETTINGS = {'debug': False}\nclass Box: items = []\nBOX = Box()\nBOX.lid = []",
        views="from data import SETTINGS, BOX",
        a_package="from views import SETTINGS",
        test_a_innocent="from data import SETTINGS, BOX\nimport a_package\ndef test_reads(): assert SETTINGS",
        test_z_polluter="""
        import views
        def test_pollutes():
            views.SETTINGS['debug'] = True
            views.BOX.lid.append(1)
        """,
    )
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\npythonpath = ['.']")
    text = section(pytester, f"--import-mode={mode}")
    assert "data.SETTINGS['debug']: False -> True" in text
    assert "data.BOX.lid: [] -> [1]" in text
    assert "innocent." not in text
    assert "views." not in text


def test_a_package_that_gathers_names_is_not_where_they_are(pytester: pytest.Pytester) -> None:
    """A definition of a submodule is named after it, not after the package that imports it from there."""
    package = pytester.mkpydir("shop")
    (package / "__init__.py").write_text("from shop.rates import RATES\n")
    (package / "rates.py").write_text("RATES = {'vip': 1}\n")
    pytester.makepyfile("import shop\ndef test_pollutes(): shop.RATES['vip'] = 2")
    assert "shop.rates.RATES['vip']: 1 -> 2" in section(pytester)


def test_what_was_put_back_is_not_said_to_be_lost(pytester: pytest.Pytester) -> None:
    """A function of an installed module that was replaced by None is put back, and reported so."""
    pytester.makepyfile(
        """
        import shutil
        def test_leaves_none():
            shutil.which = None
        def test_next():
            assert callable(shutil.which)
        """
    )
    text = section(pytester)
    assert "shutil.which" in text
    assert "put back" in text
    assert "cannot be undone" not in text


def test_another_name_for_state_of_the_interpreter_is_not_reported_twice(pytester: pytest.Pytester) -> None:
    """`from sys import modules, path` and `from os import environ` give no findings of their own."""
    pytester.makepyfile(
        mine="X = 1",
        test_it="""
        from os import environ
        from sys import modules, path
        import mine
        def test_leaves():
            del modules["mine"]
            path.append("/nowhere")
            environ["LEFT"] = "1"
        """,
    )
    text = section(pytester)
    assert "sys.modules['mine']" in text
    assert "sys.path" in text
    assert "os.environ['LEFT']" in text
    assert "MOD0" not in text
    assert "test_it.path" not in text
