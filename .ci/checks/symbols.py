"""Links whose text is a symbol in a code span: [`name`](file.rs) and [`name`](file.rs#L12).

The file contains the name. With a line, that line defines the name, or contains it when the file does not define it.
`Type::name` stands for `name`. Edits elsewhere move lines, so `fixed` gives every page with its line links moved to the
nearest line that fits.
"""
import re

from .repository import Repository, line_of, resolve

LINE_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s#]+)#L(\d+)\)")
SYMBOL_LINK = re.compile(r"\[`([^`\]]+)`\]\(([^)\s#]+\.(?:rs|sql|sh|py))\)")
KEYWORDS = r"(?:fn|struct|enum|trait|mod|const|static|type|macro_rules!|TABLE|FUNCTION|INDEX)"


def check(repository: Repository):
    for page, text in repository.markdown():
        for link in LINE_LINK.finditer(text):
            label, target, number = link.groups()
            where = f"{page}:{line_of(text, link.start())}"
            lines = repository.get(resolve(page, target)).splitlines()
            name = symbol(label)
            if name is None:
                yield f"{where}: a link to a line names a symbol in a code span, not {label!r}"
            elif not (candidates := places(lines, name)):
                yield f"{where}: {target} does not contain {name!r}"
            elif int(number) not in candidates:
                yield f"{where}: {name!r} is not at line {number} of {target}; run .ci/check-docs --fix"
        for link in SYMBOL_LINK.finditer(text):
            label, target = link.groups()
            if re.search(r"[/.]", label) or target.endswith(("/lib.rs", "/main.rs")):
                continue  # the text names a file or a crate, not a symbol
            if not has(repository.get(resolve(page, target)), symbol(f"`{label}`") or label):
                yield f"{page}:{line_of(text, link.start())}: {target} does not contain {label!r}"


def fixed(repository: Repository):
    """Every page whose line links have moved, as (path, new text)."""
    for page, text in repository.files.items():
        if page.endswith(".md"):
            moved = LINE_LINK.sub(lambda link: moved_link(repository, page, link), text)
            if moved != text:
                yield page, moved


def moved_link(repository: Repository, page: str, link: re.Match) -> str:
    label, target, number = link.groups()
    name, old = symbol(label), int(number)
    candidates = places(repository.get(resolve(page, target)).splitlines(), name) if name else []
    if not candidates:
        return link.group()
    return f"[{label}]({target}#L{min(candidates, key=lambda n: abs(n - old))})"


def places(lines: list[str], name: str) -> list[int]:
    """The lines that define `name`; if none does, those that contain it."""
    named = [n for n, line in enumerate(lines, 1) if has(line, name)]
    escaped = re.escape(name)
    definition = rf"\b{KEYWORDS}\s+{escaped}\b"
    if name[:1].isupper():
        definition += rf"|^\s+{escaped}(?:\s*[{{(]|,$)"  # a variant of an enum
    return [n for n in named if re.search(definition, lines[n - 1])] or named


def symbol(label: str) -> str | None:
    """`Type::name()` in a code span, as `name`."""
    span = re.fullmatch(r"`([^`]+)`", label)
    return span and span.group(1).split("::")[-1].split("(")[0].strip()


def has(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
