"""Words that may not be in the repository."""
import re

from .repository import Repository

# Spelled apart, so that this file does not find itself.
NEVER = [r"\bto" + r"do!\(", r"\bunimpl" + r"emented!\(", r"#\[ign" + r"ore", "FIX" + "ME", r"crates-io-" + r"proxy"]


def check(repository: Repository):
    for path, text in repository.sources():
        for number, line in enumerate(text.splitlines(), 1):
            for pattern in NEVER:
                if re.search(pattern, line):
                    yield f"{path}:{number}: {pattern} may not land"
