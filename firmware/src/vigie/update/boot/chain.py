"""What every boot loader can do for a trial: the two slots, and the seam behind which the boot loaders differ."""

from __future__ import annotations

from typing import Final, Literal, Protocol

from vigie.errors import HostError

Slot = Literal["A", "B"]
SLOTS: Final[tuple[Slot, Slot]] = ("A", "B")


class BootError(HostError):
    """The boot loader or the notes cannot be read or written, or were asked for nonsense; nothing was changed then."""


def other(slot: Slot) -> Slot:
    """The slot that this one is not."""
    return "B" if slot == "A" else "A"


def as_slot(text: object) -> Slot:
    """Raises ValueError."""
    for slot in SLOTS:
        if text == slot:
            return slot
    raise ValueError(f"slot {text!r} is neither A nor B")


class Chain(Protocol):
    """A boot loader's settings. A power cut in any method leaves a state that starts one of the two slots, whole."""

    def committed(self, running: Slot) -> Slot:
        """The slot that an ordinary start takes, damaged settings included. Raises BootError."""
        ...

    def commit(self, slot: Slot, fallback: bool) -> None:
        """From now on ordinary starts take `slot`; read back before this returns. Repairs what is damaged.

        fallback: whether the other slot may be started when `slot` does not come up (boot loaders that count do that).
        """
        ...

    def arm(self, slot: Slot) -> str:
        """The next restart, and that one alone, takes `slot`, which is not the committed one.

        Returns the argument of reboot(2) that asks for it; "" for an ordinary restart.
        """
        ...
