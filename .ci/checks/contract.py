"""`docs/contract.md` beside the code: routes, problems, legal moves, and the checker's sentences."""
import re

from .repository import Repository, sections

PAGE = "docs/contract.md"


def check(repository: Repository):
    page = repository.get(PAGE)
    parts = {head: body for head, _, body in sections(page)}
    yield from routes(repository, page)
    yield from problems(repository, parts.get("Problems", ""))
    yield from moves(repository, parts)
    yield from sentences(repository, parts)


def routes(repository: Repository, page: str):
    """Every operation of the OpenAPI documents has a row, and says in its description what a client may rely on."""
    operation = re.compile(r'((?:^///.*\n)*)#\[utoipa::path\(\s*(\w+), path = "([^"]+)"', re.M)
    for path, text in repository.files.items():
        for comment, method, route in operation.findall(text) if path.startswith("services/") else ():
            name = f"{method.upper()} {route}"
            if f"| `{name}` |" not in page:
                yield f"{path}: {name} is not in the routes of {PAGE}"
            if "Consistency: " not in comment:
                yield f"{path}: the description of {name} has no sentence that begins with `Consistency: `"


def problems(repository: Repository, body: str):
    """The table has every problem name that the code gives, and no other."""
    name = r'\s*"([a-z][a-z-]*)"'
    given = re.compile(rf"(?:StatusCode::[A-Z_]+,|Problem::new\(\s*status,|\b(?:busy|refused)\(){name}")
    written = set(re.findall(r"^\| `([a-z-]+)`", body, flags=re.M))
    found = {}
    for path, text in repository.files.items():
        if re.match(r"(crates|services)/.*/?src/.*\.rs$", path):
            code = text.split("#[cfg(test)]\nmod tests")[0]
            found.update({match: path for match in given.findall(code)})
    for problem in sorted(found.keys() - written):
        yield f"{found[problem]}: the problem {problem} is not in the table of {PAGE}"
    for problem in sorted(written - found.keys()):
        yield f"{PAGE}: no code gives the problem {problem}"


def moves(repository: Repository, parts: dict):
    """The tables of states have the moves that the migrations allow."""
    allowed: dict[str, set] = {}
    for path, text in repository.files.items():
        if path.startswith("migrations/"):
            for kind, before, after in re.findall(r"\('(\w+)',\s*'(\w+)',\s*'(\w+)'\)", text):
                allowed.setdefault(kind, set()).add((before, after))
    for kind, pairs in allowed.items():
        body = parts.get(f"States of {'an' if kind[0] in 'aeiou' else 'a'} {kind}", "")
        rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", body, flags=re.M)
        written = {(before, after) for before, cell in rows for after in re.findall(r"`(\w+)`", cell)}
        for before, after in sorted(pairs ^ written):
            which = "lacks" if (before, after) in pairs else "has, and the migrations do not,"
            yield f"{PAGE}: the table of {kind} {which} {before} to {after}"


def sentences(repository: Repository, parts: dict):
    """The section of each invariant quotes what the checker prints for it."""
    report = repository.get("crates/checker/src/report.rs")
    for rule, number, says in re.findall(r'^    (\w+) = (\d+), "([^"]+)";', report, flags=re.M):
        body = next((text for head, text in parts.items() if head.startswith(f"Invariant {number}:")), "")
        if f"| `{rule}` | {says} |" not in body:
            yield f"{PAGE}: invariant {number} lacks the row `{rule}`: {says}"
