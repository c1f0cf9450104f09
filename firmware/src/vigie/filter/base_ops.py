"""Operations on the base in force: a whole file, a delta, what is in force.

The limits of `vigie.filter.base.limits` hold here, whoever calls: this is the one process that a broken network service
cannot talk into anything. A file is copied first to where only the filter writes: what is checked is what is used.

A delta is in force within the call; the file on disk and the early loader's image follow in the background. A power
cut in between leaves the base before, whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vigie.contract import dsse
from vigie.contract.base import OVERRIDE_TYPE, Override
from vigie.contract.errors import ContractError
from vigie.contract.trust import FILE_MAX, SteeringKeys
from vigie.errors import BaseError, DaemonError, HostError, ImageError, UsageError
from vigie.filter import base_store
from vigie.filter.api import PEER, Operation, Params
from vigie.filter.base import trial
from vigie.filter.base.deltaformat import MAX_FILE as DELTA_MAX
from vigie.filter.base.deltaformat import DeltaError, FileDelta, unpack_delta
from vigie.filter.base.diff import Delta
from vigie.filter.base.filedelta import kernel_delta
from vigie.filter.base.limits import BaseRefused, Coverage, Window, delta_growth, name_refusals, refusals
from vigie.filter.base.model import FLAG_CANDIDATE
from vigie.filter.base_builder import BaseInfo
from vigie.filter.base_store import Prepared
from vigie.filter.engine import Engine
from vigie.filter.params import text, whole
from vigie.host.files import read_json, read_small, write_json
from vigie.i18n import _

log = logging.getLogger("vigie.filter")

WINDOW_FILE: Final = "base-window.json"
STEERING: Final = "steering.json"
SERIAL_MAX: Final = (1 << 63) - 1
#: Places that may change within the loop's own thread; more are worked out in another process.
PATCH_MAX: Final = 20_000


class BaseOps:
    """Bound to an engine, in the thread that owns the data path."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._applying = asyncio.Lock()
        self._pending: list[bytes] = []  # deltas in force that the file on disk does not hold yet
        self._keeping: asyncio.Task[None] | None = None
        self._disk = engine.config.base  # the file that they start from
        self._staged = engine.config.base.with_name(engine.config.base.name + ".staged")
        self._patched = engine.config.base.with_name(engine.config.base.name + ".patched")
        for left in (self._staged, self._patched):  # by a power cut
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)

    def once(self) -> Mapping[str, Operation]:
        """Operations that answer once."""
        return {"base-apply": self._apply, "base-apply-delta": self._apply_delta, "base-show": self._show}

    # ---- a whole file ------------------------------------------------------------------------------------------

    async def _apply(self, params: Params) -> dict[str, Any]:
        path, wanted = _path(params), _expected(params)
        override, force = _override(params), _forced(params)
        async with self._applying:
            await self._kept()
            return await self._apply_file(path, wanted, override, force=force, kind=params)

    async def _apply_file(
        self, path: Path, wanted: int, override: str, *, force: bool = False, kind: Params | None = None
    ) -> dict[str, Any]:
        engine, start = self._engine, time.perf_counter()
        target = engine.config.base
        digest = await asyncio.to_thread(base_store.stage, path, self._staged)
        try:
            in_force = engine.datapath.image_map()
            lists = engine.department.lists_path
            prepared = await asyncio.to_thread(base_store.prepare, self._staged, lists, in_force)
            try:
                _check_kind(kind or {}, prepared.info.serial, prepared.info.flags)
                lifted = self._judge(prepared, digest, wanted, override, force=force)
                info = engine.install_base(replace(prepared, info=replace(prepared.info, path=str(target))))
                visible = 1000 * (time.perf_counter() - start)
                if lifted:  # what comes next is held against this base, not against the one of a day ago
                    self._save(Window(engine.trusted_time().unix_s, info.coverage))
                await asyncio.to_thread(base_store.keep_staged, self._staged, target)
                engine.base.kept = True
                engine.problems.pop("base-file", None)
                await asyncio.to_thread(prepared.image.save, engine.config.image)
            finally:
                prepared.close()
        finally:
            self._staged.unlink(missing_ok=True)
        return self._said(info, visible, "loaded")

    def _judge(self, prepared: Prepared, digest: str, wanted: int, override: str, *, force: bool) -> bool:
        """Raises BaseError when this base must not come into force. True when limits were lifted for it."""
        info = prepared.info
        if wanted and info.serial != wanted:
            raise BaseError(f"base {info.serial} where base {wanted} was expected")
        running = self._engine.base.info
        if override:
            self._verify(override, info.serial, digest)
        if override or force:
            log.warning("base %d: limits lifted %s", info.serial, "by offline keys" if override else "by root")
            return True
        if running is not None and prepared.judged is not None:
            window = self._window(running.coverage)
            found = refusals(running.coverage, window, info.coverage, prepared.judged.growth)
            found += [*prepared.judged.names, *prepared.judged.trial]
            if found:
                raise BaseRefused(info.serial, found)
        return False

    def _verify(self, override: str, serial: int, digest: str) -> None:
        """Raises BaseError unless enough offline keys signed exactly this file."""
        path = self._engine.config.trust / STEERING
        try:
            data = read_small(path, FILE_MAX)
            if data is None:
                raise BaseError(f"{path}: missing, so no override can be checked")
            keys = SteeringKeys.from_bytes(data)
            payload = dsse.verify(override.encode(), keys.second, keys.second_threshold, OVERRIDE_TYPE)
            said = Override.from_bytes(payload)
        except (ContractError, HostError, ValueError) as e:
            raise BaseError(f"[override] {e}") from e
        if (said.version, said.sha256) != (serial, digest):
            raise BaseError(f"[override] it is for another file than this base {serial}")

    # ---- a delta -----------------------------------------------------------------------------------------------

    async def _apply_delta(self, params: Params) -> dict[str, Any]:
        path, wanted = _path(params), _expected(params)
        start = time.perf_counter()
        async with self._applying:
            data, delta, change = await asyncio.to_thread(_read_delta, path)
            _check_kind(params, delta.to_serial, delta.base.flags)
            info, source = self._after(delta, change, wanted), self._source()
            try:
                if len(change) > PATCH_MAX:
                    raise DeltaError(f"{len(change)} changes at once")
                self._engine.patch_base(change, info)
            except (DeltaError, ImageError) as e:
                log.info("base %d is built whole: %s", delta.to_serial, e)
                return await self._rebuilt(data, wanted, start)
            visible = 1000 * (time.perf_counter() - start)
            self._engine.base.kept = False
            self._pending.append(data)
            if self._keeping is None or self._keeping.done():
                self._disk = source
                self._keeping = asyncio.create_task(self._keep(), name="keep-base")
            return self._said(info, visible, "patched")

    def _after(self, delta: FileDelta, kernel: Delta, wanted: int) -> BaseInfo:
        """What will be said of the base after a delta. Raises BaseError when it must not come into force."""
        running = self._engine.base.info
        if wanted and delta.to_serial != wanted:
            raise BaseError(f"delta to base {delta.to_serial} where base {wanted} was expected")
        if running is None or (running.serial, running.content) != (delta.from_serial, delta.from_content):
            there = running.serial if running is not None else _("aucune")
            raise DeltaError(
                f"[delta-base] delta from base {delta.from_serial}, in force is {there} or another build of it"
            )
        growth, change = delta_growth(delta)
        before = running.coverage
        after = Coverage(before.entries + change.entries, before.v4 + change.v4, before.v6 + change.v6)
        base = delta.base
        found = refusals(before, self._window(before), after, growth)
        found += name_refusals(delta.columns["names.new.text"], None, base.name_key, base.name_seed)
        if base.flags & FLAG_CANDIDATE:
            found += trial.of_delta(kernel)
        if found:
            raise BaseRefused(delta.to_serial, found)
        sizes = delta.sizes()
        return replace(
            running, serial=delta.to_serial, created=base.created, v4=sizes["v4"], v6=sizes["v6"], names=sizes["names"],
            feeds=tuple(f.feed.name for f in base.feeds), path=str(self._engine.config.base), content=delta.to_content,
            flags=base.flags, blocking=after.entries, cover4=after.v4, cover6=after.v6,
        )  # fmt: skip

    async def _rebuilt(self, data: bytes, wanted: int, start: float) -> dict[str, Any]:
        """The long way: the file on disk is patched first, then loaded whole."""
        await self._kept()
        try:
            await asyncio.to_thread(base_store.patch_on_disk, self._source(), [data], self._patched)
            said = await self._apply_file(self._patched, wanted, "")
        finally:
            self._patched.unlink(missing_ok=True)
        return {**said, "in_force_ms": round(1000 * (time.perf_counter() - start), 1), "way": "rebuilt"}

    def _source(self) -> Path:
        """The file of the base in force: the kept one, or the one built in."""
        info = self._engine.base.info
        return Path(info.path) if info is not None and info.path else self._engine.config.base

    async def _keep(self) -> None:
        """Brings the file on disk, then the early loader's image, to what is in force."""
        engine = self._engine
        while self._pending:
            batch, self._pending = self._pending, []
            info, image = engine.base.info, engine.datapath.image_bytes()
            if info is None or image is None:
                return
            try:
                reached = await asyncio.to_thread(self._keep_now, batch, image)
                if reached != info.content:
                    raise BaseError(f"{engine.config.base}: is not base {info.serial} after its deltas")
                engine.base.kept = not self._pending
                engine.problems.pop("base-file", None)
            except BaseError as e:
                self._pending.clear()  # the file on disk is an older base, whole; the next whole file mends it
                engine.problems["base-file"] = str(e)
                log.error("%s", e)
                return

    def _keep_now(self, batch: list[bytes], image: memoryview) -> str:
        config = self._engine.config
        reached = base_store.patch_on_disk(self._disk, batch, self._staged)
        base_store.keep_staged(self._staged, config.base)
        self._disk = config.base
        base_store.save_image(image, config.image)
        return reached

    async def idle(self) -> None:
        """Waits until nothing is left to be written."""
        async with self._applying:
            await self._kept()

    async def _kept(self) -> None:
        """Waits until the disk holds what is in force."""
        if self._keeping is not None and not self._keeping.done():
            await asyncio.wait({self._keeping})

    # ---- the department's lists --------------------------------------------------------------------------------

    async def rebuild(self, lists: Path) -> None:
        """Puts the base in force again, with the department's lists in its image. Raises BaseError or KernelError."""
        async with self._applying:
            await self._kept()
            engine, info = self._engine, self._engine.base.info
            source = Path(info.path) if info is not None and info.path else None
            prepared = await asyncio.to_thread(base_store.prepare, source, lists)
            try:
                if info is not None and prepared.info.content != info.content:
                    raise BaseError(f"{source}: is not the base in force, so the lists wait for the next one")
                engine.install_base(prepared)
                if source is not None:
                    await asyncio.to_thread(prepared.image.save, engine.config.image)
            finally:
                prepared.close()

    # ---- what is in force --------------------------------------------------------------------------------------

    async def _show(self, _params: Params) -> dict[str, Any]:
        info = self._engine.base.info
        if info is None:
            raise DaemonError(_("aucune base n'est en vigueur"))
        return {**info.to_json(), **self._on_disk()}

    def _said(self, info: BaseInfo, visible_ms: float, way: str) -> dict[str, Any]:
        return {**info.to_json(), **self._on_disk(), "in_force_ms": round(visible_ms, 1), "way": way}

    def _on_disk(self) -> dict[str, bool]:
        """kept: the file on disk is the base in force. keeping: it is being brought to it."""
        keeping = self._keeping is not None and not self._keeping.done()
        return {"kept": self._engine.base.kept, "keeping": keeping}

    def _window(self, in_force: Coverage) -> Window:
        """The reference of the day; begun anew when it is over, and kept."""
        now = self._engine.trusted_time().unix_s
        window = None
        try:
            said = read_json(self._engine.config.state_dir / WINDOW_FILE)
            window = Window.from_json(said) if said is not None else None
        except (HostError, ValueError, KeyError, TypeError) as e:
            log.warning("%s: %s", WINDOW_FILE, e)
        current = window.at(now, in_force) if window is not None else Window(now, in_force)
        if current is not window:
            self._save(current)
        return current

    def _save(self, window: Window) -> None:
        try:
            write_json(self._engine.config.state_dir / WINDOW_FILE, window.to_json())
        except HostError as e:
            raise BaseError(f"no base is taken while its growth cannot be recorded: {e}") from e


def _read_delta(path: Path) -> tuple[bytes, FileDelta, Delta]:
    with base_store.open_regular(path) as file:
        data = file.read(DELTA_MAX + 1)
    delta = unpack_delta(data, str(path))
    return data, delta, kernel_delta(delta)


def _path(params: Params) -> Path:
    path = Path(text(params, "path"))
    if not path.is_absolute():
        raise UsageError("`path` must be absolute: the daemon has another working directory")
    return path


def _expected(params: Params) -> int:
    return whole(params, "expect_version", 1, SERIAL_MAX) if "expect_version" in params else 0


def _check_kind(params: Params, serial: int, flags: int) -> None:
    """Raises BaseError when the base is no candidate where one was announced, or the reverse."""
    if "candidate" in params and (params["candidate"] is True) != bool(flags & FLAG_CANDIDATE):
        kind = "no candidate" if params["candidate"] is True else "a candidate"
        raise BaseError(f"[limit-trial] base {serial} is {kind}, it was announced as something else")


def _override(params: Params) -> str:
    value = params.get("override", "")
    if not isinstance(value, str) or len(value) > dsse.ENVELOPE_MAX:
        raise UsageError("`override` is the text of a DSSE envelope")
    return value


def _forced(params: Params) -> bool:
    """Root puts files in place by hand anyway; nobody else lifts a limit by asking."""
    force = params.get("force", False) is True
    if force and PEER.get(-1) not in (0, os.geteuid()):
        raise UsageError(_("--force : seul root peut passer outre les limites du boîtier"))
    return force
