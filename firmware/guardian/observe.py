"""From readings to `see`: what has to last before it counts. No input and no output; times are seconds."""


class Heartbeat:
    """Alive while its stamp changes. No two clocks are compared: a stamp that stands still is a dead filter."""

    def __init__(self, lost_s):
        self.lost_s = lost_s
        self.stamp = None
        self.changed = None  # when we saw it change
        self.said = {}

    def see(self, value, now):
        """value: the heartbeat file as a dict, or None when it is not there."""
        stamp = value.get("at") if isinstance(value, dict) else None
        if stamp is not None and stamp != self.stamp:
            # the first sight of a file counts too: if it is that of a dead filter, it has `lost_s` to change
            self.stamp, self.changed, self.said = stamp, now, value
        if self.changed is None:
            return {"beat": "unknown"}
        if now - self.changed > self.lost_s:
            return {"beat": "lost"}
        base = self.said.get("base")
        return {
            "beat": "alive",
            "attached": self.said.get("attached") is not False,
            "base": base if isinstance(base, int) else None,
            "loop": self.said.get("loop") is True,
        }


class Bridge:
    """The bridge and its ports. A missing bridge counts after `gone_s`, a stall after `stalled_s`."""

    def __init__(self, gone_s, stalled_s, frames=20):
        self.gone_s, self.stalled_s, self.frames = gone_s, stalled_s, frames
        self.seen = False
        self.missing_since = None
        self.mark = None  # (since, {port: (received, sent)})

    def see(self, ports, now):
        """ports: {name: (carrier or None, frames received, frames sent)}, or None when there is no bridge."""
        here = ports is not None and len(ports) >= 2
        if here:
            self.seen, self.missing_since = True, None
        elif self.missing_since is None:
            self.missing_since = now
        found = {"links": {}, "stalled": False, "bridge": True if here else None}
        if not here:
            self.mark = None
            if now - self.missing_since >= self.gone_s:
                found["bridge"] = False
            return found
        for name in ports:
            if ports[name][0] is not None:
                found["links"][name] = ports[name][0]
        found["stalled"] = self._stalled(ports, found["links"], now)
        return found

    def _stalled(self, ports, links, now):
        counts = {name: (ports[name][1], ports[name][2]) for name in ports}
        usable = len(links) == len(ports) and False not in links.values()
        if not usable or self.mark is None or set(self.mark[1]) != set(counts):
            self.mark = (now, counts)
            return False
        since, before = self.mark
        moved = waiting = False
        for name in counts:
            if counts[name][0] < before[name][0] or counts[name][1] != before[name][1]:
                moved = True  # something left, or the counters began anew
            elif counts[name][0] - before[name][0] >= self.frames:
                waiting = True
        if moved:
            self.mark = (now, counts)
            return False
        return waiting and now - since >= self.stalled_s


class Frames:
    """When each processor last moved a frame of ours. quiet: seconds since the one that did so longest ago."""

    def __init__(self, now):
        self.last = {}
        self.since = now

    def processors(self, numbers, now):
        """The processors to be asked; a new one counts from now."""
        self.last = {number: self.last.get(number, now) for number in numbers}

    def moved(self, number, now):
        """A frame sent on this processor came back."""
        if number in self.last:
            self.last[number] = now
        self.since = now

    def forgive(self, now):
        """There was no way to ask: nothing is known, the count begins anew."""
        for number in self.last:
            self.last[number] = now
        self.since = now

    def quiet(self, now):
        """Seconds."""
        return now - (min(self.last.values()) if self.last else self.since)
