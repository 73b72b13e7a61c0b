"""The mutants of a module, and the sample that is drawn of them."""

import ast
from pathlib import Path

import pytest

from mutation.mutants import Mutant, mutants_of, sample_of

PATH = Path("package/module.py")


def changes(source: str) -> set[tuple[str, str]]:
    return {(mutant.before, mutant.after) for mutant in mutants_of(PATH, source, 1)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {("a < b", "a <= b"), ("a < b", "a >= b")}),
        ("x = a is b", {("a is b", "a is not b")}),
        ("x = a and b", {("a and b", "a or b"), ("a and b", "a"), ("a and b", "b")}),
        ("x = not a", {("not a", "a")}),
        ("x = a + b", {("a + b", "a")}),
        ("x = a - b", {("a - b", "a + b")}),
        ("x = a if b else c", {("a if b else c", "a"), ("a if b else c", "c")}),
        ("x = max(a, b)", {("max(a, b)", "min(a, b)")}),
        ("x = f(a, b)", {("f(a, b)", "f(b, a)")}),
        ("x = [a for a in b if a]", {("for a in b if a", "for a in b")}),
        ("x = 0", {("0", "1")}),
        ("x = 5", {("5", "10")}),
        ("x = 0.5", {("0.5", "1.0")}),
        ("x = True", {("True", "False")}),
        ("x = 'word'", {("'word'", "'word_'")}),
        ("if a:\n    x = b", {("if a:", "if True:"), ("if a:", "if False:")}),
        ("a += b", {("a += b", "pass"), ("a += b", "a = b")}),
        ("a.b = a.c = d", {("a.b = a.c = d", "a.b = d"), ("a.b = a.c = d", "a.c = d")}),
        ("f(a)", {("f(a)", "pass")}),
        ("def f(a):\n    a.b = c", {("a.b = c", "pass")}),
        ("def f() -> list[int]:\n    return a", {("return a", "return []")}),
        ("def f() -> int | None:\n    return a", {("return a", "return None")}),
    ],
)
def test_what_is_changed(source: str, expected: set[tuple[str, str]]):
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "from a import b",
        "__all__ = ['a']",
        "x: Literal['a']",
        "x = Literal['a']",
        "x: TypeAlias = 'a'",
        "x = 'A message for people.'",
        "x = f'word {a}'",
        "@a(True)\nclass A: ...",
        "def f(self):\n    a = b",
        "def __init__(self):\n    self.a = b",
    ],
)
def test_what_is_left_as_it_is(source: str):
    assert changes(source) == set()


SOURCE = """
def clamp(value: int, low: int, high: int) -> int:
    if value < low:
        return low
    return high if value > high else value
"""


def test_each_mutant_differs_from_the_code_in_its_own_way():
    count = len(mutants_of(PATH, SOURCE, 1))
    mutated = {ast.unparse(mutants_of(PATH, SOURCE, 1)[n].source_tree()) for n in range(count)}
    assert len(mutated) == count == 10
    assert ast.unparse(ast.parse(SOURCE)) not in mutated
    for text in mutated:
        compile(text, "mutant", "exec")


def names(mutants: list[Mutant]) -> set[tuple[str, str]]:
    return {(mutant.before, mutant.after) for mutant in mutants}


def module(name: str, functions: range) -> list[Mutant]:
    source = "\n".join(f"def f{n}(a):\n    return a < limit_{n}" for n in functions)
    return mutants_of(Path(f"package/{name}.py"), source, 1)


def test_a_sample_has_of_each_module_its_share():
    drawn = sample_of(module("large", range(60)) + module("small", range(20)), 40)
    assert [sum(m.path.stem == name for m in drawn) for name in ("large", "small")] == [30, 10]


def test_a_sample_is_all_there_is_if_that_is_less():
    mutants = module("large", range(3))
    assert sample_of(mutants, 1_000) == mutants
    assert sample_of([], 10) == []


def test_a_seed_decides_the_sample():
    source = "\n".join(f"x = a < limit_{n}" for n in range(100))
    one, again, other = (sample_of(mutants_of(PATH, source, seed), 50) for seed in (1, 1, 2))
    assert names(one) == names(again) != names(other)


def test_code_that_is_moved_keeps_its_mutants_in_the_sample():
    before = sample_of(module("one", range(100)), 100)
    after = sample_of(module("two", range(50)) + module("three", range(50, 100)), 100)
    assert len(names(before) & names(after)) >= 80
