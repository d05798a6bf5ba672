"""Rules under the default playbook with other parts."""

from functools import partial
from typing import Any

import pytest

from services.shared.playbook.sections import Playbook
from tests.support.nurture import make_rules


@pytest.fixture
def make(default_playbook: Playbook) -> Any:
    """Builds rules; see `make_rules`."""
    return partial(make_rules, default_playbook)
