"""The code blocks of a page of documentation."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    """What stands behind the fence: "python", "json kafka"."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, language: str) -> list[Block]:
    """Those in one language, in order. `page`: a path below the project's root."""
    text = (ROOT / page).read_text()
    found = re.finditer(r"^ *```(\w+(?: \w+)*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    every = [Block(page, text[: match.start()].count("\n") + 1, match[1], match[2]) for match in found]
    return [block for block in every if block.language.split()[0] == language]
