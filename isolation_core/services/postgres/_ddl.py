"""CREATE TABLE, CREATE INDEX, DROP TABLE, TRUNCATE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve, fields

from isolation_core.errors import UnsupportedSQLError
from isolation_core.services.postgres import _ast as ast
from isolation_core.services.postgres._catalog import CheckRule, ForeignRule, Table, TableColumn, UniqueRule
from isolation_core.services.postgres._errors import pg_error
from isolation_core.services.postgres._scope import Scope
from isolation_core.services.postgres._select import QueryCompiler
from isolation_core.services.postgres._types import SERIALS, display, resolve_type

if TYPE_CHECKING:
    from isolation_core.services.postgres._store import Store, Work

__all__ = ["create_index", "create_table", "drop_tables", "truncate_tables"]


def _column(definition: ast.ColumnDef, sql: str) -> TableColumn:
    identity = definition.identity
    if definition.type.name in SERIALS:
        if definition.default is not None:
            raise pg_error("PostgresSyntaxError", f'multiple default values specified for column "{definition.name}"')
        return TableColumn(definition.name, SERIALS[definition.type.name], (), True, None, "serial")  # noqa: FBT003
    type_, modifiers = resolve_type(definition.type, sql)
    return TableColumn(definition.name, type_, modifiers, definition.not_null, definition.default, identity)


def _positions(table: Table, names: tuple[str, ...]) -> tuple[int, ...]:
    found = []
    for name in names:
        at = table.position(name)
        if at is None:
            raise pg_error("UndefinedColumnError", f'column "{name}" named in key does not exist')
        if table.columns[at].type == "json":
            raise pg_error("UndefinedObjectError", "data type json has no default operator class for access method")
        if table.columns[at].type == "jsonb" or table.columns[at].type.endswith("[]"):
            raise UnsupportedSQLError(name, f"a key of {display(table.columns[at].type)}")
        found.append(at)
    return tuple(found)


def create_table(statement: ast.CreateTable, sql: str, store: Store, work: Work) -> bool:
    """Make a table; tell whether there was none.

    Raises:
        DuplicateTableError: if there is one, and ``IF NOT EXISTS`` was not said.
    """
    if store.table_of(statement.name, work) is not None:
        if statement.if_not_exists:
            return False
        raise pg_error("DuplicateTableError", f'relation "{statement.name}" already exists')
    names = [each.name for each in statement.columns]
    for name in names:
        if names.count(name) > 1:
            raise pg_error("DuplicateColumnError", f'column "{name}" specified more than once')
    columns = tuple(_column(each, sql) for each in statement.columns)
    table = Table(statement.name, columns, "", work.numbers[-1])
    if sum(1 for each in statement.constraints if isinstance(each, ast.Unique) and each.primary) > 1:
        raise pg_error("InvalidTableDefinitionError", f'multiple primary keys for table "{table.name}" are not allowed')
    for constraint in statement.constraints:
        if isinstance(constraint, ast.Unique):
            _add_unique(table, constraint)
    _check_expressions(table, sql, store, work)
    for constraint in statement.constraints:
        if isinstance(constraint, ast.Check):
            _add_check(table, constraint, sql, store, work)
        elif isinstance(constraint, ast.ForeignKey):
            _add_foreign(table, constraint, sql, store, work)
    store.make(table, work)
    return True


def _add_unique(table: Table, constraint: ast.Unique) -> None:
    positions = _positions(table, constraint.columns)
    suffix = "pkey" if constraint.primary else f"{'_'.join(constraint.columns)}_key"
    name = constraint.name or _free_name(table, f"{table.name}_{suffix}")
    table.uniques.append(UniqueRule(name, positions, constraint.primary))
    if constraint.primary:
        table.uniques.sort(key=lambda rule: not rule.primary)
        table.columns = tuple(
            evolve(each, not_null=True) if at in positions else each for at, each in enumerate(table.columns)
        )


def _free_name(table: Table, name: str) -> str:
    rules: list[UniqueRule | CheckRule | ForeignRule] = [*table.uniques, *table.checks, *table.foreigns]
    taken = {rule.name for rule in rules}
    number, found = 0, name
    while found in taken:
        number += 1
        found = f"{name}{number}"
    return found


def _compiler(sql: str, store: Store, work: Work) -> QueryCompiler:
    return QueryCompiler(sql, lambda name: store.table_of(name, work), lambda table: store.rows_of(table, work))


def _check_expressions(table: Table, sql: str, store: Store, work: Work) -> None:
    """Raise for a default that cannot be put into its column."""
    for column in table.columns:
        if column.default is None:
            continue
        compiler = _compiler(sql, store, work)
        if any(isinstance(each, ast.Column) for each in _nodes(column.default)):
            raise pg_error("FeatureNotSupportedError", "cannot use column reference in DEFAULT expression")
        typed = compiler.compile(column.default, Scope(aggregates_allowed="DEFAULT expressions"))
        try:
            compiler.assigned(typed, column.type, column.modifiers, column.name)
        except BaseException as error:
            if "is of type" not in str(error):
                raise
            raise pg_error(
                "DatatypeMismatchError",
                f'column "{column.name}" is of type {display(column.type)} but default expression is of type '
                f"{display(typed.type)}",
                hint="You will need to rewrite or cast the expression.",
            ) from None


def _nodes(node: object) -> list[ast.Expr]:
    """Return *node* and every expression in it."""
    found: list[ast.Expr] = []
    pending = [node]
    while pending:
        each = pending.pop()
        if isinstance(each, ast.Expr):
            found.append(each)
            pending.extend(getattr(each, name.name) for name in fields(type(each)))
        elif isinstance(each, tuple):
            pending.extend(each)
    return found


def _add_check(table: Table, constraint: ast.Check, sql: str, store: Store, work: Work) -> None:
    nodes = _nodes(constraint.expr)
    if any(isinstance(each, (ast.Exists, ast.Scalar, ast.InSelect)) for each in nodes):
        raise pg_error("FeatureNotSupportedError", "cannot use subquery in check constraint")
    compiler = _compiler(sql, store, work)
    scope = Scope(aggregates_allowed="check constraints")
    scope.add(compiler.relation(table, None))
    compiler.condition(constraint.expr, scope, "CHECK")
    # Named after the column if only one is used.
    used = {each.name for each in nodes if isinstance(each, ast.Column)}
    middle = f"{next(iter(used))}_" if len(used) == 1 else ""
    name = constraint.name or _free_name(table, f"{table.name}_{middle}check")
    table.checks.append(CheckRule(name, constraint.expr))
    # Checked in the order of their names.
    table.checks.sort(key=lambda rule: rule.name)


def _add_foreign(table: Table, constraint: ast.ForeignKey, sql: str, store: Store, work: Work) -> None:
    target = table if constraint.table == table.name else store.table_of(constraint.table, work)
    if target is None:
        raise pg_error("UndefinedTableError", f'relation "{constraint.table}" does not exist')
    positions = _foreign_positions(table, constraint.columns)
    if constraint.targets:
        targets = _foreign_positions(target, constraint.targets)
    else:
        primary = next((rule for rule in target.uniques if rule.primary), None)
        if primary is None:
            raise pg_error("UndefinedObjectError", f'there is no primary key for referenced table "{target.name}"')
        targets = primary.columns
    if len(positions) != len(targets):
        raise pg_error(
            "InvalidForeignKeyError", "number of referencing and referenced columns for foreign key disagree"
        )
    if not any(sorted(rule.columns) == sorted(targets) for rule in target.uniques):
        raise pg_error(
            "InvalidForeignKeyError",
            f'there is no unique constraint matching given keys for referenced table "{target.name}"',
        )
    for at, other in zip(positions, targets, strict=True):
        if table.columns[at].type != target.columns[other].type:
            raise UnsupportedSQLError(sql, "a foreign key between columns of different types")
    name = constraint.name or _free_name(table, f"{table.name}_{'_'.join(constraint.columns)}_fkey")
    table.foreigns.append(ForeignRule(name, positions, target, targets, constraint.on_delete))


def _foreign_positions(table: Table, names: tuple[str, ...]) -> tuple[int, ...]:
    found = []
    for name in names:
        at = table.position(name)
        if at is None:
            raise pg_error(
                "UndefinedColumnError", f'column "{name}" referenced in foreign key constraint does not exist'
            )
        found.append(at)
    return tuple(found)


def create_index(statement: ast.CreateIndex, store: Store, work: Work) -> None:
    """Add an index; only a unique one has a consequence."""
    table = store.table_of(statement.table, work)
    if table is None:
        raise pg_error("UndefinedTableError", f'relation "{statement.table}" does not exist')
    for name in statement.columns:
        if table.position(name) is None:
            raise pg_error("UndefinedColumnError", f'column "{name}" does not exist')
    if not statement.unique:
        return
    positions = _positions(table, statement.columns)
    name = statement.name or _free_name(table, f"{table.name}_{'_'.join(statement.columns)}_idx")
    if any(rule.name == name for rule in table.uniques):
        if statement.if_not_exists:
            return
        raise pg_error("DuplicateTableError", f'relation "{name}" already exists')
    if table.created not in work.numbers and not work.implicit:
        raise UnsupportedSQLError(f"CREATE UNIQUE INDEX ON {table.name}", "CREATE UNIQUE INDEX in a transaction")
    listed = ", ".join(f"c{at}" for at in positions)
    missing = " OR ".join(f"c{at} IS NULL" for at in positions)
    rows = store.rows_of(table, work)
    if store.run(f"SELECT 1 FROM ({rows}) WHERE NOT ({missing}) GROUP BY {listed} HAVING count(*) > 1"):
        raise pg_error("UniqueViolationError", f'could not create unique index "{name}"', constraint_name=name)
    table.uniques.append(UniqueRule(name, positions))
    store.index(table, positions)


def drop_tables(statement: ast.DropTable, store: Store, work: Work) -> None:
    """Drop tables.

    Raises:
        UndefinedTableError: for one that is none, unless ``IF EXISTS`` was said.
        DependentObjectsStillExistError: if a foreign key of another table needs one.
    """
    doomed = []
    for name in statement.names:
        table = store.table_of(name, work)
        if table is None:
            if not statement.if_exists:
                raise pg_error("UndefinedTableError", f'table "{name}" does not exist')
            continue
        doomed.append(table)
    for table in doomed:
        for other in store.tables:
            held = [rule for rule in other.foreigns if rule.target is table]
            if not held or other in doomed or other.dropped:
                continue
            if not statement.cascade:
                raise pg_error(
                    "DependentObjectsStillExistError",
                    f"cannot drop table {table.name} because other objects depend on it",
                    detail=f"constraint {held[0].name} on table {other.name} depends on table {table.name}",
                    hint="Use DROP ... CASCADE to drop the dependent objects too.",
                )
            if not work.implicit:
                raise UnsupportedSQLError(f"DROP TABLE {table.name} CASCADE", "DROP TABLE CASCADE in a transaction")
            other.foreigns = [rule for rule in other.foreigns if rule.target is not table]
        table.dropped = work.numbers[-1]
        work.wrote = True


def truncate_tables(statement: ast.Truncate, sql: str, store: Store, work: Work) -> None:
    """Empty tables."""
    tables = []
    for name in statement.names:
        table = store.table_of(name, work)
        if table is None:
            raise pg_error("UndefinedTableError", f'relation "{name}" does not exist')
        tables.append(table)
    for table in tables:
        for other in store.tables:
            if other not in tables and any(rule.target is table for rule in other.foreigns):
                if statement.cascade:
                    raise UnsupportedSQLError(sql, "TRUNCATE ... CASCADE")
                raise pg_error(
                    "FeatureNotSupportedError",
                    "cannot truncate a table referenced in a foreign key constraint",
                    detail=f'Table "{other.name}" references "{table.name}".',
                    hint=f'Truncate table "{other.name}" at the same time, or use TRUNCATE ... CASCADE.',
                )
        for (number,) in store.run(f"SELECT _id FROM ({store.rows_of(table, work)})"):
            store.claim(table, number, work)
            store.delete(table, number, work)
        if statement.restart:
            table.sequences.clear()
