"""The files under check: path to text. Tests make one from a dict; `at` reads those that git tracks or would track."""
import pathlib
import re
import subprocess


class Repository:
    def __init__(self, files: dict[str, str]):
        self.files = files

    @classmethod
    def at(cls, root: pathlib.Path) -> "Repository":
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.check_output(command, cwd=root, text=True).splitlines()
        files = {}
        for name in sorted(set(names)):
            try:
                files[name] = (root / name).read_text()
            except (UnicodeDecodeError, FileNotFoundError):
                files.pop(name, None)
        return cls(files)

    def get(self, path: str) -> str:
        """The text of `path`; empty when there is no such file."""
        return self.files.get(path, "")

    def exists(self, path: str) -> bool:
        """Whether `path` is a file or a folder with files in it."""
        return path in self.files or any(name.startswith(path.rstrip("/") + "/") for name in self.files) or path == "."

    def markdown(self):
        """Every Markdown file as (path, text). Code blocks are blanked, so that line numbers stay true."""
        blank = lambda block: re.sub(r"[^\n]", "", block.group())  # noqa: E731
        for path, text in self.files.items():
            if path.endswith(".md"):
                yield path, re.sub(r"^```.*?^```", blank, text, flags=re.S | re.M)

    def sources(self):
        """Every file that people write by hand, as (path, text)."""
        for path, text in self.files.items():
            if not path.endswith((".lock", ".svg", ".png")) and not path.startswith(("LICENSE", "crates/mainstay/LICENSE")):
                yield path, text


def resolve(page: str, target: str) -> str:
    """The path that a link `target` in `page` leads to, from the root."""
    parts: list[str] = []
    for part in [*page.split("/")[:-1], *target.split("/")]:
        if part == ".." and parts:
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def sections(text: str):
    """Each heading of a page with the text up to the next heading, as (heading, line, body)."""
    heads = list(re.finditer(r"^#+ (.*)$", text, flags=re.M))
    for head, after in zip(heads, [*heads[1:], None]):
        yield head.group(1), line_of(text, head.start()), text[head.end() : after.start() if after else len(text)]
