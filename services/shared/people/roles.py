"""Roles of people."""

from typing import Literal, get_args

Role = Literal["marketing", "sales", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
