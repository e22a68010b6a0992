"""Prints what a pyproject.toml requires, with an extra of that name where it has one: a line each."""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extra: str) -> list[str]:
    project = tomllib.loads(Path(pyproject).read_text())["project"]
    more = project.get("optional-dependencies", {}).get(extra, [])
    return [*project["dependencies"], *more]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(*sys.argv[1:])) + "\n")
