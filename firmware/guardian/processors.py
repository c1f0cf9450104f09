"""The kernel's list of processors."""


def online(said):
    """Numbers, from a list such as "0-3,6"; [0] when that makes no sense."""
    numbers = []
    try:
        for part in (said or "0").split(","):
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    except ValueError:
        return [0]
    return numbers[:1024] or [0]
