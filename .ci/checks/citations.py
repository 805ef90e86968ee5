"""Numbered rules: each number that is cited is defined, and each law and invariant has a test.

A definition is a heading, `### Law 6: ...`. A citation is `law 6`, `laws 1, 6 and 9`, `laws 10 to 13` or a test named
`law_06_...`; the same for `invariant` and `idempotency rule`. A test is a link in the section of its rule whose text is
the test function in a code span and whose target is the file that has it.

In the page of isolation, each row of a table with the column `test` ends in such a link.
"""
import re
from dataclasses import dataclass

from .repository import Repository, line_of, resolve, sections


@dataclass(frozen=True)
class Kind:
    name: str
    page: str
    cited: str
    needs_test: bool


KINDS = [
    Kind("law", "docs/laws.md", r"[Ll]aws?", True),
    Kind("invariant", "docs/contract.md", r"[Ii]nvariants?", True),
    Kind("idempotency rule", "docs/contract.md", r"[Ii]dempotency[ -]rules?", False),
]
# 6 | 1, 6 and 9 | 10 to 13
NUMBERS = r"(\d+(?:(?:,| and|, and| or| to)\s+\d+)*)(?![\w%]|\.\d)"
ISOLATION = "docs/isolation.md"
TEST_LINK = re.compile(r"\[`(\w+)`\]\(([^)\s#]+\.rs)(?:#L\d+)?\)")


def check(repository: Repository):
    for kind in KINDS:
        defined = {}
        heading = re.compile(rf"{kind.name} (\d+)\b", re.I)
        for head, line, body in sections(repository.get(kind.page)):
            if found := heading.match(head):
                number = int(found.group(1))
                if number in defined:
                    yield f"{kind.page}:{line}: {kind.name} {number} is defined twice"
                defined[number] = (line, body)
        if not defined:
            yield f"{kind.page}: no {kind.name} is defined"
        yield from undefined(repository, kind, set(defined))
        yield from bad_tests(repository, kind, defined)
    yield from rows_without_test(repository)


def undefined(repository: Repository, kind: Kind, defined: set[int]):
    cited = re.compile(rf"\b{kind.cited}\s+{NUMBERS}")
    test_name = re.compile(rf"\b{kind.name.replace(' ', '_')}_(\d+)_")
    for path, text in repository.sources():
        for citation in [*cited.finditer(text), *test_name.finditer(text)]:
            for number in expanded(citation.group(1)):
                if number not in defined:
                    where = f"{path}:{line_of(text, citation.start())}"
                    yield f"{where}: {kind.name} {number} is not defined in {kind.page}"


def expanded(numbers: str):
    """`1, 6 and 9` as 1, 6, 9; `10 to 13` as 10, 11, 12, 13."""
    numbers = re.sub(r"(\d+)\s+to\s+(\d+)", lambda r: ", ".join(map(str, range(int(r[1]), int(r[2]) + 1))), numbers)
    return [int(number) for number in re.findall(r"\d+", numbers)]


def bad_tests(repository: Repository, kind: Kind, defined: dict):
    for number, (line, body) in defined.items():
        links = TEST_LINK.findall(body)
        tests = [name for name, target in links if is_test(repository.get(resolve(kind.page, target)), name)]
        for name, target in links:
            if "/tests/" in target and name not in tests:
                yield f"{kind.page}:{line}: {kind.name} {number}: {target} has no test {name}"
        if kind.needs_test and not tests:
            yield f"{kind.page}:{line}: {kind.name} {number} links to no test"


def rows_without_test(repository: Repository):
    for line, text in enumerate(repository.get(ISOLATION).splitlines(), 1):
        if not text.startswith("|") or re.match(r"\|-|\| component ", text):
            continue
        links = TEST_LINK.findall(text.rstrip("| ").split(" | ")[-1])
        if not links:
            yield f"{ISOLATION}:{line}: the row links to no test"
        for name, target in links:
            if not is_test(repository.get(resolve(ISOLATION, target)), name):
                yield f"{ISOLATION}:{line}: {target} has no test {name}"


def is_test(source: str, name: str) -> bool:
    """Whether `source` has a function `name` with a test attribute directly above it."""
    function = rf"^\s*(?:#\[.*\]\s*|///?.*\n\s*)*#\[(?:\w+::)*test\b.*\]\s*(?:#\[.*\]\s*|///?.*\n\s*)*(?:pub )?(?:async )?fn {name}\b"
    return re.search(function, source, flags=re.M) is not None
