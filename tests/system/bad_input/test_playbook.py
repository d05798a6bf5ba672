"""A playbook that contradicts itself."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from services.ops.__main__ import app as command_line
from services.shared.settings import ROOT
from services.shared.startup import EXIT_CONFIG
from tests.support import present
from tests.support.running_system import PEPPER, System


def test_a_loop_of_prerequisites_is_named_with_file_line_and_remedy(
    system: System, tmp_path: Path
) -> None:
    folder = tmp_path / "playbook"
    shutil.copytree(ROOT / "deploy" / "playbook", folder)
    content = folder / "content.yaml"
    marked = "    url: https://www.millwarden.example/papers/four-kinds-of-software\n"
    text = content.read_text()
    content.write_text(text.replace(marked, f"{marked}    prerequisites: [video-planning-board]\n"))
    assert content.read_text() != text
    line = next(
        number
        for number, line in enumerate(content.read_text().splitlines(), 1)
        if "prerequisites: [video-planning-board]" in line
    )
    found = CliRunner().invoke(command_line, ["playbook", "check", str(folder)])
    assert found.exit_code == 1
    assert f"content.yaml:{line}: " in found.stdout
    assert "whitepaper-four-kinds -> video-planning-board -> whitepaper-four-kinds" in found.stdout
    assert "Take one of them out" in found.stdout
    as_json = CliRunner().invoke(command_line, ["playbook", "check", str(folder), "--json"])
    assert as_json.exit_code == 1
    problems = json.loads(as_json.stdout)["problems"]
    assert [(problem["file"], problem["line"]) for problem in problems] == [("content.yaml", line)]
    service = present.environment() | {
        "RIPELINE_PLAYBOOK": str(folder),
        "RIPELINE_DATABASE_URL": system.database,
        "RIPELINE_PEPPER": PEPPER,
    }
    started = subprocess.run(
        [sys.executable, "-m", "services.nurture"],
        cwd=ROOT,
        env=service,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert started.returncode == EXIT_CONFIG
    assert "a loop of prerequisites" in started.stderr
    assert "Traceback" not in started.stderr
