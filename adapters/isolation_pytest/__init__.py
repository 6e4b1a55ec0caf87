"""The pytest plugin of isolation-core.

Installed, it is loaded through its entry point; with autoloading off, load it
by ``-p isolation_pytest.plugin`` or ``pytest_plugins = ["isolation_pytest.plugin"]``.
"""
