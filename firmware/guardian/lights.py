"""LEDs and the relay: files of sysfs that may be there, be missing, or vanish."""

import files
from pattern import test_light

GIVE_UP_MS = 5000


class Output:
    """One LED of the kernel's class. Written only when its value changes; one that fails is tried again later."""

    def __init__(self, sysfs, name):
        self.folder = f"{sysfs}/class/leds/{name}"
        self.value = None
        self.high = None
        self.again = None

    def set(self, on, now):
        """Switches it; a LED that is not there is no fault."""
        if on == self.value or (self.again is not None and now < self.again):
            return
        try:
            if self.high is None:
                files.write_line(self.folder + "/trigger", "none")
                self.high = str(files.number(self.folder + "/max_brightness") or 1)
            files.write_line(self.folder + "/brightness", self.high if on else "0")
            self.value, self.again = on, None
        except OSError:
            self.value = self.high = None
            self.again = now + GIVE_UP_MS


class Lights:
    """The board's LEDs, each for the lamps that it stands for."""

    def __init__(self, sysfs, leds, legend):
        self.legend = legend
        self.groups = []
        for led in leds:
            outputs = {colour: Output(sysfs, led["colours"][colour]) for colour in led["colours"]}
            self.groups.append((led["lamps"], outputs))

    def show(self, shown, now, testing):
        """Sets every LED for this moment; milliseconds until the next change, or None."""
        soonest = None
        for lamps, outputs in self.groups:
            if testing:
                colour, left = test_light(now)
            else:
                colour, flashes = self.legend.worst(shown, lamps)
                colour, left = self.legend.light(colour, flashes, now, len(outputs) == 1)
            if left is not None and (soonest is None or left < soonest):
                soonest = left
            lit = self._lit(colour, outputs)
            for name in outputs:
                outputs[name].set(name in lit, now)
        return soonest

    @staticmethod
    def _lit(colour, outputs):
        """Which of the LEDs make this colour: amber may be red and green together; the only LED stands for any."""
        if colour == "off":
            return ()
        if colour in outputs or len(outputs) == 1:
            return tuple(outputs) if len(outputs) == 1 else (colour,)
        return ("green", "red") if colour == "amber" else ("amber",)


class Relay:
    """The bypass relay, wired as a LED of the kernel. None of it: does nothing."""

    def __init__(self, sysfs, relay):
        self.output = Output(sysfs, relay["led"]) if relay else None
        self.inline = bool(relay["inline"]) if relay else True

    def set(self, wanted, now):
        """wanted: "inline", "bypass", or None to leave it alone."""
        if self.output is not None and wanted is not None:
            self.output.set((wanted == "inline") == self.inline, now)
