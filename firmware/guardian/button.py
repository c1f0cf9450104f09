"""One button, three meanings: a press, a long hold, a stuck key. No input and no output; times are milliseconds.

A hold acts when the button is let go, so that a person who went too far may hold on, and a key that is stuck or a
cable that shorts it never does anything. The kernel has taken bounces away before; both edges of a quick press may be
read at the same moment.
"""


class Button:
    """`change` with each edge, `look` now and then; both give what happened, or None."""

    def __init__(self, short_ms, reset_ms, stuck_ms):
        self.short_ms, self.reset_ms, self.stuck_ms = short_ms, reset_ms, stuck_ms
        self.since = None

    def change(self, down, now):
        """ "short" or "reset-config" when a press ends that means something."""
        if down:
            if self.since is None:
                self.since = now
            return None
        if self.since is None:  # let go of something that began before we looked
            return None
        held, self.since = now - self.since, None
        if held <= self.short_ms:
            return "short"
        return "reset-config" if self.reset_ms <= held < self.stuck_ms else None

    def look(self, now):
        """ "", "held" or "confirmed": what the power lamp tells the person who holds it."""
        if self.since is None:
            return ""
        held = now - self.since
        if held <= self.short_ms or held >= self.stuck_ms:
            return ""
        return "confirmed" if held >= self.reset_ms else "held"

    def lost(self):
        """The device vanished: a press that was under way means nothing."""
        self.since = None


def request(happened, pin_wanted):
    """The name of the request for what happened."""
    if happened == "short":
        return "pin-window" if pin_wanted else "selftest"
    return happened
