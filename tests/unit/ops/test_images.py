"""What Compose and the image start is there (O1)."""

import re
from importlib.util import find_spec

from services.shared.settings import ROOT


def test_every_module_that_compose_starts_exists() -> None:
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    modules = set(re.findall(r"SERVICE: ([\w.]+)", compose))
    assert {"ingest", "scorer", "nurture"} < modules
    missing = [name for name in sorted(modules) if not find_spec(f"services.{name}")]
    assert missing == [], "name the modules where they lie now, in docker-compose.yml"
