"""The legend as light: which colour a lamp has at which moment. No input and no output; times are milliseconds."""

ORDER = {"off": 0, "green": 1, "amber": 3, "red": 5}
LAMP_ORDER = ("loop", "protection", "line", "power")
TEST = ("red", "amber", "green", "off")
TEST_MS = 500


class Legend:
    """legend.json, reduced to what the lamps need. Raises KeyError, TypeError, ValueError when it is none."""

    def __init__(self, data):
        self.rows = {}
        for lamp in data["lamps"]:
            for row in lamp["rows"]:
                if row["colour"] not in ORDER or not 0 <= row["flashes"] <= 9:
                    raise ValueError(row["state"])
                self.rows[(lamp["lamp"], row["state"])] = (row["colour"], row["flashes"])
        self.rhythms = {}
        for colour in ("green", "amber", "red"):
            rhythm = data["rhythms"][colour]
            self.rhythms[colour] = (int(rhythm["on_ms"]), int(rhythm["off_ms"]))
        self.pause_ms = int(data["pause_ms"])
        self.even_ms = {"amber": int(data["one_colour"]["amber_ms"]), "red": int(data["one_colour"]["red_ms"])}

    def light(self, colour, flashes, now, alone):
        """(colour to show now, milliseconds until that changes or None). alone: the lamp has one colour only."""
        if colour == "off":
            return "off", None
        if flashes == 0:
            if not alone or colour not in self.even_ms:
                return colour, None
            half = self.even_ms[colour]
            return (colour if (now // half) % 2 == 0 else "off"), half - now % half
        on, off = self.rhythms[colour]
        length = flashes * (on + off) + self.pause_ms
        at = now % length
        if at >= flashes * (on + off):
            return "off", length - at
        at %= on + off
        return (colour, on - at) if at < on else ("off", on + off - at)

    def worst(self, shown, lamps):
        """Of the lamps that share one light, the pattern that matters most: what the person at the button does, then
        red, amber, anything that flashes, and the order loop, protection, line, power."""
        best, rank = ("off", 0), -1
        for lamp in LAMP_ORDER:
            if lamp not in lamps or lamp not in shown:
                continue
            pattern = self.rows.get((lamp, shown[lamp]), ("amber", 9))
            mine = ORDER[pattern[0]] + (1 if pattern[0] == "green" and pattern[1] else 0)
            if lamp == "power" and shown[lamp] in ("held", "confirmed"):
                mine = 9
            if mine > rank:
                best, rank = pattern, mine
        return best


def test_light(now):
    """The lamp test: every colour in turn."""
    return TEST[(now // TEST_MS) % len(TEST)], TEST_MS - now % TEST_MS


EMPTY = {
    "lamps": [],
    "rhythms": {colour: {"on_ms": 500, "off_ms": 500} for colour in ("green", "amber", "red")},
    "pause_ms": 1000,
    "one_colour": {"amber_ms": 500, "red_ms": 100},
}
"""Without a legend: every row is unknown, so a lamp shows amber, nine flashes."""
