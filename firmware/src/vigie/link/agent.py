"""The link, wired together on one asyncio loop: connection, outbox, orders, commands, state.

Three loops that outlive connections (connecting, reconciling, doing commands) and one per session (pumping the outbox).
What decides is elsewhere: `backoff`, `sender`, `orders`, `report` are pure; this is the shell around them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from vigie.contract import topics
from vigie.contract.downward import Announcement, Command, Received
from vigie.contract.envelope import Upward, new_boot
from vigie.contract.errors import ContractError
from vigie.contract.upward import Ack, Offline, State
from vigie.contract.words import Clock, Kind, Result
from vigie.contract.words import Order as Direction
from vigie.enrol import credentials
from vigie.enrol.credentials import Credentials
from vigie.enrol.errors import NotEnrolled
from vigie.errors import DaemonError, HostError, UsageError, VigieError
from vigie.host import software
from vigie.host.boxconfig import BoxConfig
from vigie.host.trusted_clock import ClockReader
from vigie.link import diagnose, machine, report
from vigie.link.backoff import Backoff, Ports
from vigie.link.codes import LinkCode
from vigie.link.complaints import Complaints
from vigie.link.dial import dial
from vigie.link.errors import BrokerError
from vigie.link.execute import Executor
from vigie.link.filterclient import FilterPort
from vigie.link.orders import Now, Refused, judge_command
from vigie.link.pump import Pump
from vigie.link.status import StatusFile
from vigie.link.steering import Steering
from vigie.link.store import Store
from vigie.link.wire import Message, Session, Will
from vigie.update.firmware.store import told

log = logging.getLogger("vigie.link")

SESSION_EXPIRY_S: Final = 86_400
"""Commands live for a day at most, orders are retained: older queues are of no use."""
INBOX_MAX: Final = 200
COMMANDS_WAITING_MAX: Final = 8
ROWS_WAITING_MAX: Final = 64
NOT_ENROLLED_LOOK_S: Final = 2.0
LEAVE_S: Final = 2.0
UPDATE_SOCKET: Final = "update.sock"
_OTHER_PORT: Final = frozenset(
    (LinkCode.TIMEOUT, LinkCode.REFUSED, LinkCode.NO_ROUTE, LinkCode.LOST, LinkCode.PROTOCOL, LinkCode.PROXY,
     LinkCode.SERVER_CERTIFICATE)
)  # fmt: skip

Dial = Callable[[BoxConfig, Credentials, int, ClockReader, float], ssl.SSLSocket]


@dataclass(frozen=True, slots=True)
class Seams:
    """What tests replace: chance and the dialling of sockets."""

    uniform: Callable[[float, float], float] = random.uniform
    dial: Dial = dial


class Agent:
    """One run of the link."""

    def __init__(
        self, config: BoxConfig, filter_port: FilterPort, clock: ClockReader, store: Store, seams: Seams | None = None
    ) -> None:
        self._config = config
        self._times = config.intervals.link
        self._filter = filter_port
        self._clock = clock
        self._store = store
        self._seams = seams or Seams()
        self._boot = new_boot()
        self._seq = 0
        self._box = ""
        self._session: Session | None = None
        self._number = 0
        self._told: State | None = None
        self._told_at = 0.0
        self._status: dict[str, Any] | None = None
        self._inbox: asyncio.Queue[Message] = asyncio.Queue(INBOX_MAX)
        self._commands: asyncio.Queue[Command] = asyncio.Queue(COMMANDS_WAITING_MAX)
        self._rows: list[tuple[Kind, dict[str, Any]]] = []  # that wait for the filter
        self._complaints = Complaints()
        self._look = asyncio.Event()
        self._memory = store.load_memory()
        self._steering = Steering(store, filter_port, self._now, self._answer, self._complaints)
        self._executor = Executor(filter_port, config.paths.run_link, lambda: store.consent(clock.now()), self._collect)
        self._pump = Pump(filter_port, self._times, clock.now, self._add)
        self._backoff = Backoff(self._times.first_s, self._times.most_s)
        self._ports: Ports | None = None
        self.status = StatusFile(store, clock.now)

    # ---- running ----------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Leaves the broker in order."""
        tasks = [
            asyncio.create_task(loop(), name=loop.__name__)
            for loop in (self._connecting, self._reconciling, self._reading, self._commanding)
        ]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _left = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a loop never ends by itself: this raises what ended it
            await self._leave()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            self.status.set(LinkCode.STOPPED, "")

    async def _connecting(self) -> None:
        """Connects, stays, and connects again, for ever."""
        while True:
            began = time.monotonic()
            try:
                held = credentials.load(self._config.paths)
                self._enrolled(held)
                why = await self._session_of(held)
            except NotEnrolled as e:
                self.status.set(LinkCode.NOT_ENROLLED, str(e))
                await asyncio.sleep(min(NOT_ENROLLED_LOOK_S, self._times.first_s))
                continue
            except BrokerError as e:
                why = e
            self._session = None
            self.status.set(why.code, str(why))
            if why.code is LinkCode.BOX_CERTIFICATE:
                # Expired, or revoked by mistake and released since: `vigie enrol` asks with the identity key.
                credentials.doubt(self._config.paths, held.generation)
            self._backoff = self._backoff.failed(time.monotonic() - began)
            await self._pause(self._backoff.wait_s(self._seams.uniform), held)

    async def _pause(self, seconds: float, held: Credentials) -> None:
        """Waits, but not with credentials that were replaced meanwhile: new ones are tried at once."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, NOT_ENROLLED_LOOK_S))
            with contextlib.suppress(NotEnrolled):
                if credentials.load(self._config.paths).generation != held.generation:
                    self._backoff = Backoff(self._times.first_s, self._times.most_s)
                    return

    def _enrolled(self, held: Credentials) -> None:
        if held.box_id != self._box:
            self._box = held.box_id
            self._steering.load(held.box_id)
            self._look.set()
        if self._ports is None or set(self._ports.ports) != set(held.mqtt_ports):
            self._ports = Ports(held.mqtt_ports)

    async def _session_of(self, held: Credentials) -> BrokerError:
        """One session, until it ends; why it ended. Raises BrokerError when there was none."""
        sock, port = await self._dial(held)
        try:
            number = await asyncio.to_thread(self._store.next_session)
        except HostError as e:
            log.error("session number not kept: %s", e)
            number = self._number + 1  # still larger than all of this run
        self._number = max(number, self._number + 1)
        topic = topics.up(self._box, Kind.STATE)
        session = Session(self._box, self._arrived, lambda _mid: None)
        kept = await session.open(
            sock,
            Will(topic, self._frame(Offline(self._number))),
            f"{held.mqtt_host}:{port}",
            keepalive_s=self._times.keepalive_s,
            expiry_s=SESSION_EXPIRY_S,
            timeout_s=self._times.connect_s,
        )
        log.info("connected to %s:%d, session %d%s", held.mqtt_host, port, self._number, ", kept" if kept else "")
        self._session, self._told = session, None
        self.status.set(LinkCode.CONNECTED, "", port=port, session=self._number)
        try:
            session.subscribe(topics.box_subscriptions(self._box))
            self._poke_updater()  # announcements are not retained: there may have been one meanwhile
            self._look.set()
            renewed = asyncio.create_task(self._renewed(held, session))
            pumping = asyncio.create_task(
                self._pump.run(session, self._box, self._seams.uniform(0.0, self._times.spread_s))
            )
            ended = asyncio.create_task(session.ended())
            try:
                await asyncio.wait({pumping, ended}, return_when=asyncio.FIRST_COMPLETED)
                if pumping.done():
                    pumping.result()
                return await ended
            finally:
                for task in (renewed, pumping, ended):
                    task.cancel()
                await asyncio.gather(renewed, pumping, ended, return_exceptions=True)
        finally:
            session.close()
            self._session = None

    async def _dial(self, held: Credentials) -> tuple[ssl.SSLSocket, int]:
        """A socket on the first port that works. BrokerError: the reason of the first port, which people know."""
        first: BrokerError | None = None
        ports = self._ports or Ports(held.mqtt_ports)
        for port in ports.order(time.monotonic()):
            dialling = asyncio.ensure_future(
                asyncio.to_thread(self._seams.dial, self._config, held, port, self._clock, self._times.connect_s)
            )
            try:
                sock = await asyncio.shield(dialling)
            except asyncio.CancelledError:
                dialling.add_done_callback(_hang_up)  # the thread goes on: what it brings belongs to nobody
                raise
            except BrokerError as e:
                first = first or e
                if e.code not in _OTHER_PORT:
                    break
                continue
            self._ports = ports.worked(port, time.monotonic())
            return sock, port
        raise first or BrokerError(LinkCode.NOT_ENROLLED, "the credentials name no port of the broker")

    async def _renewed(self, held: Credentials, session: Session) -> None:
        """Opens the session again, at leisure, when the certificate was renewed: the old one will be revoked."""
        while True:
            await asyncio.sleep(self._times.reconcile_s)
            with contextlib.suppress(NotEnrolled):
                if credentials.load(self._config.paths).generation != held.generation:
                    break
        await asyncio.sleep(self._seams.uniform(0.0, self._times.renewed_s))
        log.info("the certificate was renewed: connecting again")
        session.close()

    async def _leave(self) -> None:
        if self._session is not None and not self._session.over:
            topic = topics.up(self._box, Kind.STATE)
            await self._session.leave(topic, self._frame(Offline(self._number)), LEAVE_S)

    # ---- downward ---------------------------------------------------------------------------------------------

    def _arrived(self, message: Message) -> None:
        try:
            self._inbox.put_nowait(message)
        except asyncio.QueueFull:
            # Orders are retained and rows are sent again: ending a session with a broker that floods loses nothing.
            log.error("the broker sends faster than the box can read: session closed")
            if self._session is not None:
                self._session.close()

    async def _reading(self) -> None:
        while True:
            message = await self._inbox.get()
            try:
                await self._handle(message)
            except (VigieError, ContractError) as e:
                log.warning("%s: %s", message.topic[: topics.TOPIC_MAX], e)

    async def _handle(self, message: Message) -> None:
        topic = topics.parse(message.topic)
        if isinstance(topic, topics.All):
            Announcement.from_bytes(message.payload)
            self._poke_updater()
            return
        if not isinstance(topic, topics.Down) or topic.box != self._box or not message.payload:
            return
        match topic.order:
            case Direction.DESIRED:
                await self._steering.receive(message.payload, self._box)
                self._look.set()
            case Direction.COMMAND:
                await self._command(message.payload)
            case Direction.RECEIVED:
                received = Received.from_bytes(message.payload)
                await self._pump.received(received.boot, received.upto)

    async def _command(self, data: bytes) -> None:
        now = self._now()
        try:
            command = judge_command(data, self._store.keys(), self._box, now, self._memory)
        except Refused as e:
            # By code: a command that was done and comes again is a replay, told once more.
            if self._complaints.worth_telling(e.code.value.encode() + data, time.monotonic()):
                log.warning("command refused: %s", e)
                self._answer(Ack(Direction.COMMAND, e.ident, Result.REFUSED, e.code, ()))
            return
        memory = self._memory.remember(command, now.unix_s)
        # Kept before it is done: rather not at all than twice.
        await asyncio.to_thread(self._store.save_memory, memory)
        self._memory = memory
        try:
            self._commands.put_nowait(command)
        except asyncio.QueueFull:
            self._answer(Ack(Direction.COMMAND, command.id, Result.FAILED, None, ()))

    async def _commanding(self) -> None:
        while True:
            command = await self._commands.get()
            log.info("command %s: %s", command.id, command.op)
            outcome = await self._executor.do(command)
            if outcome.diagnostic is not None:
                self._add(Kind.DIAGNOSTIC, outcome.diagnostic.fields())
            self._answer(Ack(Direction.COMMAND, command.id, outcome.result, outcome.code, ()))

    def _poke_updater(self) -> None:
        """One datagram: `vigie update` looks at the repository. When it is not there it will look by itself."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(b"look", str(self._config.paths.run_update / UPDATE_SOCKET))

    # ---- upward -----------------------------------------------------------------------------------------------

    def _answer(self, ack: Ack) -> None:
        self._add(Kind.ACK, ack.fields())

    def _add(self, kind: Kind, body: dict[str, Any]) -> None:
        self._rows.append((kind, body))
        del self._rows[:-ROWS_WAITING_MAX]
        self._look.set()

    async def _reconciling(self) -> None:
        """Answers into the outbox, orders against what is in force, state: when something happened, and regularly."""
        while True:
            try:
                await self._reconcile()
            except DaemonError as e:
                self._status = None
                log.warning("%s", e)
            except VigieError as e:
                log.error("%s", e)
            self._publish_state()
            self.status.describe(self._pump.figures(), self._told)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._times.reconcile_s):
                    await self._look.wait()
            self._look.clear()

    async def _reconcile(self) -> None:
        await self._flush()
        self._status = await self._filter.status()
        if self._box:
            await self._steering.reconcile()
        await self._flush()

    async def _flush(self) -> None:
        """Hands the link's own rows to the filter's outbox; when it cannot take them now they stay."""
        while self._rows:
            row = self._rows[0]
            try:
                await self._filter.outbox_add(*row)
            except UsageError as e:
                log.error("a row of the link is refused: %s", e)
            except DaemonError as e:
                # Its disk is full, say: neither orders nor the state wait for that.
                log.warning("the outbox takes nothing now: %s", e)
                return
            if self._rows[0] is row:  # not pushed out meanwhile
                self._rows.pop(0)
            self._pump.kick()

    def _publish_state(self) -> None:
        session = self._session
        if session is None or session.over:
            return
        state = report.state(
            self._number,
            software.version(),
            self._status,
            self._steering.shown,
            self._steering.refused,
            machine.look(self._config.paths.state),
            told(self._config.paths),
        )
        now = time.monotonic()
        changed = self._told is None or report.key(state) != report.key(self._told)
        if changed or now - self._told_at >= self._times.state_s:
            with contextlib.suppress(BrokerError):
                session.publish(topics.up(self._box, Kind.STATE), self._frame(state), retain=True)
                self._told, self._told_at = state, now

    def _frame(self, body: State | Offline) -> bytes:
        self._seq += 1
        now = self._clock.time()
        return Upward(self._boot, self._seq, max(0, int(now.unix_s)), Clock(now.word), body).to_bytes()

    def _now(self) -> Now:
        now = self._clock.time()
        return Now(now.unix_s, Clock(now.word).trusted)

    async def _collect(self, wanted: tuple[str, ...]) -> dict[str, str]:
        config = self._config
        return await asyncio.to_thread(
            diagnose.collect,
            wanted,
            status=self._status,
            link=self.status.value,
            enrol_status=config.paths.enrol / "status.json",
            update_status=config.paths.update / "status.json",
            machine=machine.look(config.paths.state),
            keep=(config.enrol_host, config.mqtt_host, config.update_host),
        )


def _hang_up(dialled: asyncio.Future[ssl.SSLSocket]) -> None:
    if not dialled.cancelled() and dialled.exception() is None:
        dialled.result().close()
