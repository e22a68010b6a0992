"""sbom.py VENV LOCK OUT: CycloneDX of an environment, with the lock's hashes and the model's parts.

cyclonedx-py lists packages with licences and who needs whom. Added are what it cannot know: the sha256
of the files that the lock allows, and the wheels from which the model is assembled. Fails where a
package is installed in another version than the lock's, or missing, or not in the lock.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Makers of environments bring these along; Sparsight's own start needs pip, in whichever version.
TOOLS = {"pip", "setuptools"}
PARTS = """
import json
from sparse_encoder.mini_parts import IMAGE_TRUNK_PART, TEXT_TRUNK_PART
from vlm.llm_part import LLM_PART
print(json.dumps([[p.requirement, p.filename, p.sha256]
                  for p in (IMAGE_TRUNK_PART, TEXT_TRUNK_PART, LLM_PART)]))
"""


def locked(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Version and sha256s of each package of the lock whose marker holds here."""
    found = {}
    for entry in re.split(r"\n(?=\S)", path.read_text().replace("\\\n", " ")):
        if entry.startswith("#") or not entry.strip():
            continue
        words, *hashes = entry.partition("\n")[0].split("--hash=sha256:")
        wanted = Requirement(words.strip())
        if wanted.marker is None or wanted.marker.evaluate():
            version = next(iter(wanted.specifier)).version
            found[canonicalize_name(wanted.name)] = (version, [one.strip() for one in hashes])
    return found


def listed(venv: Path) -> dict[str, Any]:
    """What cyclonedx-py says of the environment, its root being Sparsight."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    return dict(json.loads(subprocess.check_output([*command, str(venv)])))


def parts(venv: Path) -> list[dict[str, Any]]:
    said = json.loads(subprocess.check_output([str(venv / "bin" / "python"), "-c", PARTS]))
    found = []
    for requirement, filename, sha256 in said:
        name, version = requirement.split("==")
        found.append(
            {
                "bom-ref": f"part:{requirement}",
                "type": "machine-learning-model",
                "name": name,
                "version": version,
                "description": f"{filename}: part of sparsight-mini, fetched at the first start",
                "hashes": [{"alg": "SHA-256", "content": sha256}],
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "purl": f"pkg:pypi/{name}@{version}",
            }
        )
    return found


def main(venv: Path, lock: Path, out: Path) -> None:
    bom, wanted, models = listed(venv), locked(lock), parts(venv)
    components = {canonicalize_name(one["name"]): one for one in bom["components"]}
    for tool in TOOLS - set(wanted):
        components.pop(tool, None)
    ours = components.pop("sparsight")
    differs = {
        name
        for name in components.keys() | wanted
        if components.get(name, {}).get("version") != wanted.get(name, ("",))[0]
    }
    if differs:
        raise SystemExit(f"sbom: not installed as locked: {', '.join(sorted(differs))}")
    for name, one in components.items():
        # Of several files of a version one was installed; each of them is allowed by the lock.
        one["externalReferences"] = one.get("externalReferences", []) + [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{name}/{one['version']}/#files",
                "hashes": [{"alg": "SHA-256", "content": digest} for digest in wanted[name][1]],
            }
        ]
    # Where the wheel lay when it was installed is nobody's business, and differs from place to place.
    ours.pop("externalReferences", None)
    ours["type"] = "application"
    bom["metadata"]["component"] = ours
    bom["components"] = [*components.values(), *models]
    kept = {one["bom-ref"] for one in (ours, *bom["components"])}
    bom["dependencies"] = [
        {**one, "dependsOn": [ref for ref in one.get("dependsOn", []) if ref in kept]}
        for one in bom["dependencies"]
        if one["ref"] in kept
    ]
    root = next(one for one in bom["dependencies"] if one["ref"] == ours["bom-ref"])
    root["dependsOn"] += [model["bom-ref"] for model in models]
    text = json.dumps(bom, indent=1, sort_keys=True) + "\n"
    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise SystemExit(f"sbom: not CycloneDX 1.6: {error}")
    out.write_text(text)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
