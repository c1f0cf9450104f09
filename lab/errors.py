"""What can go wrong with the lab itself, as opposed to the box under test (that is an AssertionError)."""


class LabError(Exception):
    """The lab cannot be built: says what, where, and what to do."""
