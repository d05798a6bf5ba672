"""Whether nurturing works: lift against a permanent hold-out, with an interval that holds at every
look, and what can be seen at all at a company's size. Pure. docs/lift.md explains it.
"""
