"""Finds the mutants of a module, and draws a sample of them."""

import ast
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
# A `+` of lists or texts would only fail with a `-`, so of a sum the right side is left out.
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}
_OTHER_FUNCTION: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_ORDER_IS_OF_NO_MATTER: Final = {"cast", "isinstance", "max", "min"}
# Words are names of the protocol; other texts are messages for people.
_WORD: Final = re.compile(r"[A-Za-z]\w*")
_NO_CODE: Final = {"annotation", "returns", "decorator_list", "type_params", "pattern"}


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a node hangs in its tree."""

    owner: ast.AST
    field: str
    index: int | None

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.owner, self.field, node)
        else:
            getattr(self.owner, self.field)[self.index] = node


@dataclass(frozen=True, eq=False)
class Mutant:
    """One small change of a module."""

    path: Path
    line: int
    operator: str
    before: str
    after: str
    rank: str
    _tree: ast.Module
    _place: _Place
    _node: ast.AST

    def __str__(self) -> str:
        return f"{self.path.as_posix()}:{self.line} [{self.operator}] {self.before} → {self.after}"

    def source_tree(self) -> ast.Module:
        """Make the change. The tree is the one of all mutants of the module: do it only once."""
        self._place.put(self._node)
        return ast.fix_missing_locations(self._tree)


@dataclass(frozen=True, eq=False)
class _Site:
    """A node that can be changed, and what it belongs to."""

    node: ast.AST
    place: _Place
    statement: ast.stmt
    function: ast.FunctionDef | ast.AsyncFunctionDef | None


def mutants_of(path: Path, source: str, seed: int) -> list[Mutant]:
    """Find all mutants of a module, each with its rank, in the order of the code.

    Args:
        path: Where the module is, for reports.
        source: Its text.
        seed: Decides the ranks.
    """
    tree = ast.parse(source)
    seen: Counter[str] = Counter()
    headings: dict[ast.stmt, str] = {}
    mutants: list[Mutant] = []
    for site in _sites(tree):
        for operator, node in _changes(site):
            if site.statement not in headings:
                headings[site.statement] = _heading(site.statement)
            before, after = _heading(site.node), _heading(node)
            text = "|".join((headings[site.statement], operator, before, after))
            key = f"{seed}|{text}|{seen[text]}"
            seen[text] += 1
            rank = hashlib.sha256(key.encode()).hexdigest()
            line = getattr(site.node, "lineno", site.statement.lineno)
            mutants.append(
                Mutant(path, line, operator, before, after, rank, tree, site.place, node)
            )
    return mutants


def sample_of(mutants: Sequence[Mutant], size: int) -> list[Mutant]:
    """Draw a sample in which each module has its share, in the order of the code."""
    modules: defaultdict[Path, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        modules[mutant.path].append(mutant)
    share = min(1.0, size / max(1, len(mutants)))
    sizes = {path: int(len(found) * share) for path, found in modules.items()}
    # The largest remainders get what rounding has left.
    by_remainder = sorted(modules, key=lambda p: sizes[p] - len(modules[p]) * share)
    for path in by_remainder[: min(size, len(mutants)) - sum(sizes.values())]:
        sizes[path] += 1
    drawn = {
        mutant
        for path, found in modules.items()
        for mutant in sorted(found, key=lambda m: m.rank)[: sizes[path]]
    }
    return [mutant for mutant in mutants if mutant in drawn]


def _heading(node: ast.AST) -> str:
    """The first line of a node's code; of a function or class, its name."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    return ast.unparse(node).strip().splitlines()[0]


def _sites(tree: ast.Module) -> Iterator[_Site]:
    """All nodes below a module that are code, from the top down."""
    for index, statement in enumerate(tree.body):
        place = _Place(tree, "body", index)
        yield from _below(_Site(statement, place, statement, None))


def _below(site: _Site) -> Iterator[_Site]:
    node = site.node
    if _is_no_code(node):
        return
    yield site
    function = site.function
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function = node
    for name, value in ast.iter_fields(node):
        if name in _NO_CODE:
            continue
        several = isinstance(value, list)
        for index, child in enumerate(value if several else [value]):
            if not isinstance(child, ast.AST):
                continue
            if isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant):
                continue
            statement = child if isinstance(child, ast.stmt) else site.statement
            place = _Place(node, name, index if several else None)
            yield from _below(_Site(child, place, statement, function))


def _is_no_code(node: ast.AST) -> bool:
    match node:
        case ast.Expr(ast.Constant()) | ast.Import() | ast.ImportFrom():
            return True
        case ast.Assign([ast.Name("__all__")]):
            return True
        case ast.AnnAssign(annotation=ast.Name("TypeAlias")) | ast.Subscript(ast.Name("Literal")):
            return True
        case _:
            return False


#
# The operators
#


def _changes(site: _Site) -> Iterator[tuple[str, ast.AST]]:
    """What can be put in the place of a node, each with the name of the operator."""
    node = site.node
    if isinstance(node, ast.expr):
        yield from _changes_of_expression(node)
    elif isinstance(node, ast.stmt):
        yield from _changes_of_statement(node, site.function)
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield "condition", ast.comprehension(node.target, node.iter, [], node.is_async)


def _changes_of_expression(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Compare(left, ops, comparators):
            for index, op in enumerate(ops):
                for other in _COMPARISONS[type(op)]:
                    turned = [*ops[:index], other(), *ops[index + 1 :]]
                    yield "comparison", ast.Compare(left, turned, comparators)
        case ast.BoolOp(op, values):
            yield "and/or", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for index in range(len(values)):
                rest = [*values[:index], *values[index + 1 :]]
                yield "operand", rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield "sign", operand
        case ast.BinOp(left, ast.Add()):
            yield "operand", left
        case ast.BinOp(left, op, right) if type(op) in _ARITHMETIC:
            yield "arithmetic", ast.BinOp(left, _ARITHMETIC[type(op)](), right)
        case ast.IfExp(_, body, orelse):
            yield "condition", body
            yield "condition", orelse
        case ast.Call():
            yield from _changes_of_call(node)
        case ast.Constant(value):
            yield from (("constant", ast.Constant(other)) for other in _other_values(value))
        case _:
            pass


def _changes_of_call(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    name = node.func.id if isinstance(node.func, ast.Name) else None
    if name in _OTHER_FUNCTION:
        other = ast.Name(_OTHER_FUNCTION[name], ast.Load())
        yield "function", ast.Call(other, node.args, node.keywords)
    if len(node.args) > 1 and name not in _ORDER_IS_OF_NO_MATTER:
        first, second, *rest = node.args
        yield "arguments", ast.Call(node.func, [second, first, *rest], node.keywords)


def _other_values(value: object) -> Iterable[bool | int | float | str]:
    match value:
        case bool():
            return (not value,)
        case int() | float():
            # By one more a limit is hardly another.
            return (value * 2 if abs(value) > 1 or 0 < abs(value) < 1 else value + 1,)
        case str() if _WORD.fullmatch(value):
            return (f"{value}_",)
        case _:
            return ()


def _changes_of_statement(
    node: ast.stmt, function: ast.FunctionDef | ast.AsyncFunctionDef | None
) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.If(_, body, orelse):
            yield "condition", ast.If(ast.Constant(True), body, orelse)
            yield "condition", ast.If(ast.Constant(False), body, orelse)
        case ast.While(_, body, orelse):
            yield "condition", ast.While(ast.Constant(False), body, orelse)
        case ast.Return(value) if value is not None and function is not None:
            empty = _empty(function.returns)
            if empty is not None and ast.dump(empty) != ast.dump(value):
                yield "result", ast.Return(empty)
        case ast.AugAssign(target, _, value):
            yield "statement", ast.Pass()
            yield "assignment", ast.Assign([target], value, lineno=node.lineno)
        case ast.Assign([ast.Attribute() | ast.Subscript()]) | ast.AnnAssign(ast.Attribute()):
            # What is not assigned in a constructor is missing everywhere.
            if function is not None and function.name != "__init__":
                yield "statement", ast.Pass()
        case ast.Assign([_, _, *_] as targets, value):
            for index in range(len(targets)):
                rest = [*targets[:index], *targets[index + 1 :]]
                yield "assignment", ast.Assign(rest, value, lineno=node.lineno)
        case ast.Expr(ast.Call()) | ast.Delete() | ast.Raise() | ast.Continue() | ast.Break():
            yield "statement", ast.Pass()
        case _:
            pass


def _empty(annotation: ast.expr | None) -> ast.expr | None:
    """The least that a function can return, by what it says to return; None if unknown."""
    match annotation:
        case ast.Subscript(ast.Name("list")):
            return ast.List([], ast.Load())
        case ast.Subscript(ast.Name("dict")):
            return ast.Dict([], [])
        case ast.Name("float" | "int"):
            return ast.Constant(0)
        case ast.Name("str"):
            return ast.Constant("")
        case ast.BinOp(_, ast.BitOr(), ast.Constant(None)):
            return ast.Constant(None)
        case _:
            return None
