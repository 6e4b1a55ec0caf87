"""Making one mock from its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isolation_core.mocks._contract import Contract, contract_for
from isolation_core.mocks._kinds import KINDS, OWN_KINDS
from isolation_core.mocks._light import born, fulfil

__all__ = ["make"]


def make(
    spec: Any = None,
    spec_set: Any = None,
    *,
    name: str | None = None,
    deep: bool = True,
    own_class: bool = False,
    attributes: Sequence[str] = (),
    configure: Mapping[str, Any] | None = None,
) -> Any:
    """Make one mock; see `isolated_mock` for the arguments."""
    kinds = OWN_KINDS if own_class else KINDS
    fixed = spec_set is not None and spec_set is not False
    if fixed and spec_set is not True:
        spec = spec_set  # as in the standard library, it wins when both are given
    if spec is None or type(spec) in (list, tuple):
        if spec is None and not configure:
            return born(kinds["async"], None, name, "", None)
        names = None if spec is None else [*spec, *attributes]
        return kinds["async"](
            None if fixed else names, spec_set=names if fixed else None, name=name, **(configure or {})
        )
    contract = contract_for(spec, attributes)
    shape, contract = _root_of(contract)
    mock = born(kinds[shape], None, name, "", None)
    mock._isolation_state.shallow = not deep
    fulfil(mock, contract)
    options = dict(configure or {})
    if "wraps" in options:
        object.__setattr__(mock, "_mock_wraps", options.pop("wraps"))
    if options.pop("unsafe", False):
        object.__setattr__(mock, "_mock_unsafe", True)
    if fixed:
        object.__setattr__(mock, "_spec_set", True)
    if options:
        mock.configure_mock(**options)
    return mock


def _root_of(contract: Contract) -> tuple[str, Contract]:
    """Return the kind of a mock a user makes of *contract*, and what it promises."""
    if contract.is_class and not contract.constructs and not contract.instances_callable:
        contract = contract.factory()
    shape = contract.call.shape
    return ("root" if shape == "sync" and not contract.is_function else shape), contract
