"""What goes wrong with the virtual board."""


class VmError(Exception):
    """Message: what, where, what to do."""
