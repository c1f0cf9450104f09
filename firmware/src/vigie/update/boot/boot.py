"""The trial of a new slot, over any boot loader: what RAUC, the updater and an ordinary start ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from . import notes as file
from .chain import BootError, Chain, Slot, other
from .notes import Notes, Trial
from .outcome import Cause, Outcome, judge
from .storage import Storage


class Boot:
    """Slots of this board. Everything that writes needs root; everything raises BootError.

    The order of a whole update, and what each step leaves to a power cut (docs/adr/0022):

    1. `set_state(new, "bad")`, before RAUC writes the slot: the old slot runs and is committed.
    2. `set_primary(new)` when it is written: noted on /data alone, nothing that the boot loader reads has changed.
    3. `activate()`, then restart with its argument: the next start, that one alone, takes the new slot.
    4. In the new slot `start(cause)`: noted that it came to userspace. Any reset from here on starts the old slot.
    5. After health and soak `mark_good()`: one write commits the new slot. Or `set_state(new, "bad")` and restart.
    6. In whatever slot, at each start: `start(cause)` says what became of the trial and ends what a cut left half done.
    """

    def __init__(self, chain: Chain, storage: Storage, folder: Path, running: Slot) -> None:
        self._chain = chain
        self._storage = storage
        self._folder = folder
        self._running = running

    # -- questions ------------------------------------------------------------------------------------------------

    def current(self) -> Slot:
        """The slot that runs."""
        return self._running

    def committed(self) -> Slot:
        """The slot that an ordinary start takes."""
        return self._chain.committed(self._running)

    def trial(self) -> Slot | None:
        """The slot that waits to be tried, or is being tried. None once it was committed or called bad."""
        trial = self.notes().trial
        return trial.slot if trial else None

    def primary(self) -> Slot:
        """RAUC's primary: the slot on trial if there is one, or a second installation would overwrite it."""
        return self.trial() or self.committed()

    def state(self, slot: Slot) -> str:
        """`good` or `bad`."""
        return "bad" if slot in self.notes().bad else "good"

    def settled(self) -> bool:
        """Whether what runs is what an ordinary start takes: only then may a start be called good without a soak."""
        return self._running == self.committed()

    def notes(self) -> Notes:
        """What /data remembers."""
        return file.load(self._storage, self._folder)

    # -- installation ---------------------------------------------------------------------------------------------

    def set_primary(self, slot: Slot) -> None:
        """The slot to try next: noted, nothing else. The committed one: a trial that was noted is given up."""
        notes = self.notes()
        if slot != self.committed():
            if notes.trial is None or notes.trial.slot != slot:
                self._save(replace(notes.with_bad(slot, False), trial=Trial(slot), failed=None))
            return
        self._save(replace(notes, trial=None))
        self._chain.commit(slot, self._fallback(slot))

    def set_state(self, slot: Slot, good: bool) -> None:
        """RAUC's mark-good and mark-bad; it also calls a slot bad before it writes it.

        Good for the running slot is `mark_good`. Bad ends the trial of that slot; when it is the running one, the trial
        has failed and the next restart takes the other slot. The committed slot cannot be called bad from a trial.
        """
        if good:
            if slot == self._running:
                self.mark_good()
            else:
                self._save(self.notes().with_bad(slot, False))
            return
        committed = self.committed()
        if slot == committed and slot != self._running:
            raise BootError(f"slot {slot} is what the box falls back to: mark the running slot good or bad first")
        notes = self.notes().with_bad(slot, True)
        if notes.trial and notes.trial.slot == slot:
            notes = replace(notes, trial=None, failed=slot if slot == self._running else None)
        self._save(notes)
        if slot != committed:
            self._chain.commit(committed, fallback=False)

    # -- trial ----------------------------------------------------------------------------------------------------

    def activate(self) -> str:
        """The next restart tries the noted slot; returns the argument to restart with ("" for none)."""
        notes = self.notes()
        trial = notes.trial
        if trial is None or trial.slot in (self._running, self.committed()):
            raise BootError("no slot waits to be tried: install a bundle first")
        lost = trial.lost + (trial.reached != trial.armed)
        self._save(replace(notes, trial=replace(trial, armed=trial.armed + 1, lost=lost)))
        return self._chain.arm(trial.slot)

    def start(self, cause: Cause) -> Outcome:
        """Once at each start, as soon as /data is there; calling it again changes nothing.

        Notes that a trial came to userspace, ends one that a cut left between its commit and its note, closes one that
        failed. ACTIVATION_LOST and INTERRUPTED stay open: `activate` again.
        """
        notes = self.notes()
        outcome = judge(notes.trial, self._running, self.committed(), cause)
        if notes.trial is None:
            return outcome
        if outcome is Outcome.ON_TRIAL:
            self._save(replace(notes, trial=replace(notes.trial, reached=notes.trial.armed)))
        elif outcome is Outcome.COMMITTED:
            self.mark_good()
        elif outcome is Outcome.ROLLED_BACK:
            failed = notes.trial.slot
            self._chain.commit(self._running, fallback=False)
            self._save(replace(notes.with_bad(failed, True), trial=None, failed=failed))
        return outcome

    def mark_good(self) -> None:
        """The running slot is what ordinary starts take from now on. Between commit and note a cut costs nothing."""
        self._chain.commit(self._running, self._fallback(self._running))
        notes = self.notes().with_bad(self._running, False)
        if notes.trial and notes.trial.slot == self._running:
            notes = replace(notes, trial=None, failed=None)
        self._save(notes)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _fallback(self, slot: Slot) -> bool:
        """Whether the other slot is whole, and was good once."""
        notes, spare = self.notes(), other(slot)
        return spare not in notes.bad and (notes.trial is None or notes.trial.slot != spare)

    def _save(self, notes: Notes) -> None:
        if notes != self.notes():
            file.save(self._storage, self._folder, notes)
