"""The layers inside a service: what each folder of a service's `src/` may not name, outside of comments and tests."""
import re

from .repository import Repository

DATABASE = r"\bsqlx\b|\bPgConnection\b|\bBatch\b|\bStep::(?:Commit|Rollback)\b|\bjournal::Step\b"
FORBIDDEN = {
    "domain": {
        "a database": DATABASE,
        "async code": r"\basync\b|\.await\b",
        "HTTP": r"\baxum\b",
        "an outer layer": r"\bcrate::(?:app|clients|http|reconcile|store)\b",
    },
    "store": {"HTTP": r"\baxum\b", "an outer layer": r"\bcrate::(?:app|clients|http|reconcile)\b"},
    "app": {"a database": DATABASE, "HTTP": r"\baxum\b", "an outer layer": r"\bcrate::(?:http|reconcile)\b"},
    "http": {"a database": DATABASE, "an outer layer": r"\bcrate::reconcile\b"},
    "reconcile": {"a database": DATABASE, "an outer layer": r"\bcrate::http\b"},
}


def check(repository: Repository):
    for path, text in repository.files.items():
        parts = re.fullmatch(r"services/(\w+)/src/(\w+)(?:/.*)?\.rs", path)
        if not parts or path.endswith("/tests.rs"):
            continue
        code = text.split("#[cfg(test)]")[0]
        for number, line in enumerate(code.splitlines(), 1):
            line = re.sub(r"//.*", "", line)
            for thing, pattern in FORBIDDEN.get(parts[2], {}).items():
                if found := re.search(pattern, line):
                    yield f"{path}:{number}: `{parts[2]}` may not name {thing}: {found[0]}"
