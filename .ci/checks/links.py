"""Links between files: the target exists, and so does the heading it names."""
import re

from .repository import Repository, line_of, resolve


def check(repository: Repository):
    for page, text in repository.markdown():
        for link in re.finditer(r"\]\(([^)\s]+)\)", text):
            target = link.group(1)
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            where = f"{page}:{line_of(text, link.start())}"
            found = resolve(page, path) if path else page
            if not repository.exists(found):
                yield f"{where}: the link to {target} leads nowhere"
            elif anchor and found.endswith(".md") and anchor not in slugs(repository.get(found)):
                yield f"{where}: {target} names no heading"


def slugs(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
