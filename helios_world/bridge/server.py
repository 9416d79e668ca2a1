"""`WorldServer`: many clients' worlds behind one ROUTER socket. One thread owns socket, sessions and engine.

The loop blocks once, drains what came, makes one batch of chunks, sends it, and works ahead while nobody asks.
Real-time frames are dropped for a client that does not take them; replies wait for it.
"""

from __future__ import annotations

import logging
import secrets
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence

import zmq

from helios_world.action import Action, ActionLatch, check_buttons
from helios_world.bridge import codecs, protocol
from helios_world.bridge.broadcast import Broadcast
from helios_world.bridge.door import Door
from helios_world.bridge.keys import Lock
from helios_world.bridge.seat import RATE, Seat
from helios_world.engine import Chunk, Session, WorldEngine
from helios_world.errors import ProtocolError, UserError
from helios_world.snapshot import load_snapshot
from helios_world.world import Start

_log = logging.getLogger(__name__)

LEASE = 30.0  # seconds that a session outlives the last word from its client
_DRAIN = 1000  # messages taken before the next batch, so that a flood stops no world
_BACKLOG = 64  # replies that may wait for one client before it is given up


class WorldServer:
    """Serves the worlds of `engine`.

    Args:
        address: "tcp://127.0.0.1:PORT" (port 0 or * picks a free one) or "ipc://PATH".
        lock: the keys that clients need; None on loopback. Beyond it, None needs `insecure`.
        codec: one of `codecs.available()`, for clients that read it.
        start: what a session starts from whose client gives neither material nor a prompt.
        broadcast: port for spectators, beside the one of `address`; 0 picks a free one, None opens none.
        max_sessions: clients beyond it are told `busy`, unless a session without a client can make room.
        clock: monotonic, in seconds.
    Raises:
        UserError: the address is malformed, in use, or beyond loopback without keys; a codec that is not there.
    """

    def __init__(
        self,
        engine: WorldEngine,
        address: str = "tcp://127.0.0.1:0",
        *,
        lock: Lock | None = None,
        insecure: bool = False,
        codec: str = "raw",
        start: Start = Start(),
        broadcast: int | None = None,
        max_sessions: int = 8,
        clock: Callable[[], float] = time.monotonic,
    ):
        if max_sessions < 1:
            raise UserError(f"max_sessions is {max_sessions}: must be at least 1")
        self._codec, self._codecs = codecs.check_codec(codec), codecs.available()
        self._engine, self._max_sessions, self._clock = engine, max_sessions, clock
        self._start = start.check(engine.card)
        self._seats: dict[str, Seat] = {}
        self._by_peer: dict[bytes, Seat] = {}
        self._backlog: dict[bytes, deque[list[bytes]]] = {}
        self._ahead: deque[Seat] = deque()  # stepped, and not yet worked ahead for
        self._swept = clock()
        self._busy = f"all {max_sessions} sessions of this server are taken"
        self._door = Door(address, lock=lock, insecure=insecure)
        self._socket, self.address = self._door.socket, self._door.address
        self._broadcast = None if broadcast is None else Broadcast(*self._door.broadcast(broadcast))

    def serve(self, stop: Callable[[], bool]) -> None:
        """Serves until `stop()`, which is asked at least ten times a second."""
        while not stop():
            self.turn(0.1)

    def turn(self, wait: float) -> None:
        """One round of the loop; blocks for at most `wait` seconds when there is nothing to do."""
        if self._ahead:
            wait = 0.0
        elif self._backlog:
            wait = min(wait, 0.005)
        if self._socket.poll(int(wait * 1000)):
            self._drain()
        if self._broadcast is not None:
            self._broadcast.greet()
        self._make()
        for peer in list(self._backlog):
            self._flush(peer)
        if self._ahead and not self._socket.poll(0):
            self._work_ahead(self._ahead.popleft())
        if self._clock() - self._swept > LEASE / 10:
            self._sweep()

    def close(self) -> None:
        """Frees the port and forgets all sessions."""
        self._door.close()
        self._seats.clear()

    def _drain(self) -> None:
        for _ in range(_DRAIN):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            key = str(frames[0].get("User-Id")) if self._door.locked else ""
            peer, *parts = (frame.bytes for frame in frames)
            try:
                message = protocol.decode(parts)
            except ProtocolError as error:
                self._send(peer, protocol.Error(0, "bad_message", str(error)))
                continue
            self._receive(peer, key, message)

    def _receive(self, peer: bytes, key: str, message: protocol.Message) -> None:
        if isinstance(message, protocol.Hello):
            self._welcome(peer, key, message)
            return
        seat = self._by_peer.get(peer)
        if seat is None or seat.key != key:
            if not isinstance(message, protocol.Close | protocol.Act | protocol.Ping):
                text = "say hello first: this connection has no session"
                self._send(peer, protocol.Error(getattr(message, "request", 0), "unknown_session", text))
            return
        seat.heard = self._clock()
        match message:
            case protocol.Act():
                self._act(seat, message)
            case protocol.Ping():
                self._send(peer, protocol.Pong(message.sent_at), drop=True)
            case protocol.Close():
                self._end(seat)
            case _ if isinstance(message, protocol.Request):
                self._request(seat, message)
            case _:
                self._send(peer, protocol.Error(0, "bad_message", "only a server sends this message"))

    def _welcome(self, peer: bytes, key: str, hello: protocol.Hello) -> None:
        if hello.version != protocol.VERSION:
            text = f"client speaks version {hello.version}: this server speaks {protocol.VERSION}"
            self._send(peer, protocol.Error(0, "version", text))
            return
        codec = next((c for c in (self._codec, *hello.codecs) if c in hello.codecs and c in self._codecs), None)
        if codec is None:
            text = f"client reads {', '.join(hello.codecs) or 'no codec'}: this server has {', '.join(self._codecs)}"
            self._send(peer, protocol.Error(0, "codec", text))
            return
        known = self._by_peer.get(peer)
        seat = self._taken_over(hello.session, key) or self._seats.get(hello.session) or known
        if seat is not None and seat.key != key:  # a ticket opens nothing for another key
            seat = None
        if known is not None and known is not seat:  # one connection, one session
            self._leave(known)
        if seat is None:
            if not self._has_room():
                self._send(peer, protocol.Error(0, "busy", self._busy))
                return
            seat = self._new_seat(None, key)
        if seat.peer is not None and seat.peer != peer:
            self._leave(seat)
        seat.codec = codec
        if seat.peer is None:
            # What was held or asked for belonged to a connection that is gone.
            seat.latch, seat.wanted, seat.seq = self._new_latch(), 0, 0
        seat.peer, seat.heard = peer, self._clock()
        self._by_peer[peer] = seat
        self._send(peer, self._card_for(seat, seat.ticket))

    def _card_for(self, seat: Seat, ticket: str) -> protocol.Welcome:
        port = 0 if self._broadcast is None else self._broadcast.port
        chunk, answered = seat.next_chunk, seat.answered
        return protocol.Welcome(protocol.VERSION, self._engine.card, ticket, seat.codec, chunk, answered, port)

    def _taken_over(self, ticket: str, key: str) -> Seat | None:
        """The seat that was offered under `ticket`, now in the hands of whoever has `key`."""
        now = self._clock()
        for seat in self._seats.values():
            if seat.is_offered(ticket, now):
                del self._seats[seat.ticket]
                self._seats[ticket] = seat
                seat.ticket, seat.offer, seat.key = ticket, "", key
                self._send(seat.peer, protocol.Error(0, "handed_over", "the world was handed over"))
                self._leave(seat)
                return seat
        return None

    def _act(self, seat: Seat, act: protocol.Act) -> None:
        if act.seq <= seat.seq:
            return
        try:
            held = check_buttons(act.buttons, self._engine.card.buttons)
        except UserError as error:
            self._send(seat.peer, protocol.Error(0, "bad_request", str(error)), drop=True)
            return
        seat.real_time = True
        seat.latch.put(Action(held))
        seat.latch.point(act.mouse)
        seat.seq, seat.sent_at = act.seq, act.sent_at
        if not act.wanted:
            return
        if seat.session is None:
            self._send(seat.peer, protocol.Error(0, "no_world", "nothing was started: send reset first"), drop=True)
        elif act.wanted >= seat.next_chunk:
            seat.wanted = seat.next_chunk
        elif seat.newest and not seat.wanted:  # asked again: those frames were dropped, or cross this asking
            self._send_parts(seat.peer, seat.newest, drop=True)

    def _request(self, seat: Seat, message: protocol.Message) -> None:
        if seat.step is not None and message.request != seat.step[0]:
            self._make()  # requests of one client are done in the order they came
        if seat.step is not None:
            return
        if message.request <= seat.answered:
            if message.request == seat.answered:
                self._send_parts(seat.peer, seat.reply)
            return
        if seat.session is None and not isinstance(message, protocol.Reset | protocol.Restore):
            self._fail(seat, message.request, "no_world", "nothing was started: send reset first")
            return
        if not isinstance(message, protocol.Step) and not seat.may_ask(self._clock()):
            self._fail(seat, message.request, "rate", f"over {RATE:g} requests a second: ask more slowly")
            return
        try:
            if isinstance(message, protocol.Step):
                held = check_buttons(message.buttons, self._engine.card.buttons)
                seat.step = (message.request, Action(held, message.mouse))
            else:
                self._reply(seat, self._do(seat, message))
        except UserError as error:
            self._fail(seat, message.request, "bad_request", str(error))
        except Exception as error:
            _log.exception("%s failed", type(message).__name__)
            self._fail(seat, message.request, "engine", f"{type(error).__name__}: {error}")

    def _do(self, seat: Seat, message: protocol.Message) -> protocol.Message:
        """The reply to a request other than Step."""
        if isinstance(message, protocol.Reset):
            start = protocol.unpack_start(message)
            if start.is_empty:
                start = self._start
            if seat.session is None:
                seat.session, chunk = self._engine.open(message.scene, seed=message.seed, start=start)
            else:
                chunk = seat.session.reset(message.scene, seed=message.seed, start=start)
            self._new_world(seat)
            return self._frames(seat, message.request, chunk)
        if isinstance(message, protocol.Restore):
            if seat.session is None:
                seat.session = Session(self._engine, load_snapshot(self._engine.model, message.payload))
            else:
                seat.session.restore(message.payload)
            self._new_world(seat)
            return protocol.Done(message.request, seat.next_chunk)
        if isinstance(message, protocol.Prompt):
            self._tell(seat.session, message)
            self._plan_ahead(seat)
            return protocol.Done(message.request, seat.next_chunk)
        if isinstance(message, protocol.Invite):
            return protocol.Done(message.request, seat.next_chunk, session=self._invite(seat, message.verb))
        if isinstance(message, protocol.Snapshot):
            world = seat.session.snapshot()
            return protocol.Done(message.request, seat.next_chunk, checksum=zlib.crc32(world), payload=world)
        if not self._has_room():
            return protocol.Error(message.request, "busy", self._busy)
        twin = self._new_seat(seat.session.fork(), seat.key)
        return protocol.Done(message.request, seat.next_chunk, session=twin.ticket)

    def _invite(self, seat: Seat, verb: str) -> str:
        """What others join `seat` with: a name to watch it by, or a ticket to take it over."""
        if verb == "watch":
            if self._broadcast is None:
                raise UserError("this server has no port for spectators: helios-world serve --broadcast PORT opens one")
            seat.watched_as = seat.watched_as or secrets.token_hex(protocol.NAME_LENGTH // 2)
            self._broadcast.open(seat.watched_as, self._card_for(seat, ""))
            return seat.watched_as
        if verb == "play":
            seat.offer, seat.offered_until = secrets.token_hex(16), self._clock() + LEASE
            return seat.offer
        self._hide(seat)
        seat.offer = ""
        return ""

    def _hide(self, seat: Seat) -> None:
        if seat.watched_as:
            self._broadcast.forget(seat.watched_as)
            seat.watched_as = ""

    def _tell(self, session: Session, message: protocol.Prompt) -> None:
        if message.verb == "change":
            session.change_prompt(message.text, over=message.over)
        elif message.verb == "queue":
            session.queue_prompt(message.text, after=message.after, over=message.over)
        else:
            session.cancel_prompts()

    def _new_world(self, seat: Seat) -> None:
        seat.wanted, seat.newest = 0, []
        self._plan_ahead(seat)

    def _make(self) -> None:
        """One chunk for every session that asks for one, in one batch; on failure each alone, to find whose it is."""
        due = [(seat, action) for seat in self._seats.values() if (action := seat.take_due()) is not None]
        if not due:
            return
        try:
            chunks: list[Chunk | Exception] = list(self._engine.step([s.session for s, _ in due], [a for _, a in due]))
        except Exception as error:
            chunks = [error] if len(due) == 1 else [self._step_alone(seat.session, action) for seat, action in due]
        for (seat, _), chunk in zip(due, chunks, strict=True):
            self._deliver(seat, chunk)

    def _step_alone(self, session: Session, action: Action) -> Chunk | Exception:
        try:
            return session.step(action)
        except Exception as error:
            return error

    def _deliver(self, seat: Seat, chunk: Chunk | Exception) -> None:
        request = seat.step[0] if seat.step is not None else 0
        if seat.step is not None:
            seat.step = None
        else:
            seat.wanted = 0
        if isinstance(chunk, Exception):
            _log.error("a world step failed", exc_info=chunk)
            seat.session.context = None  # the work done ahead may be what failed
            self._fail(seat, request, "engine", f"{type(chunk).__name__}: {chunk}")
            return
        frames = self._frames(seat, request, chunk)
        if request:
            self._reply(seat, frames)
        else:
            seat.newest = protocol.encode(frames)
            self._send_parts(seat.peer, seat.newest, drop=True)
        self._plan_ahead(seat)

    def _frames(self, seat: Seat, request: int, chunk: Chunk) -> protocol.Frames:
        made_at = self._clock()
        lengths, payload = codecs.pack_frames(chunk.frames, seat.codec)
        shape = chunk.frames.shape
        frames = protocol.Frames(
            request,
            chunk.index,
            seat.seq,
            seat.sent_at,
            shape,
            seat.codec,
            lengths,
            chunk.seconds,
            made_at,
            payload,
            outcome=chunk.outcome if self._engine.card.outcomes else None,
        )
        if seat.watched_as:
            self._broadcast.show(seat.watched_as, frames)
        return frames

    def _plan_ahead(self, seat: Seat) -> None:
        if seat not in self._ahead:
            self._ahead.append(seat)

    def _work_ahead(self, seat: Seat) -> None:
        if self._seats.get(seat.ticket) is not seat or seat.session is None:
            return
        try:
            self._engine.prepare([seat.session])
        except Exception as error:  # the step itself will try again, and answer for it
            _log.exception("working ahead failed")
            self._send(seat.peer, protocol.Error(0, "engine", _short(f"{type(error).__name__}: {error}")))

    # Seats

    def _new_seat(self, session: Session | None, key: str) -> Seat:
        seat = Seat(secrets.token_hex(16), None, self._clock(), session, key)
        seat.latch = self._new_latch()
        self._seats[seat.ticket] = seat
        return seat

    def _new_latch(self) -> ActionLatch:
        return ActionLatch(self._engine.card.mouse, self._engine.card.frames_per_chunk)

    def _leave(self, seat: Seat) -> None:
        """The connection is gone or has another session; the world waits for its ticket until the lease is over."""
        self._by_peer.pop(seat.peer, None)
        self._backlog.pop(seat.peer, None)
        seat.peer = None
        seat.wanted = 0

    def _end(self, seat: Seat) -> None:
        self._leave(seat)
        if seat in self._ahead:  # a server that is never idle works ahead for nobody, and would keep it
            self._ahead.remove(seat)
        self._hide(seat)
        del self._seats[seat.ticket]

    def _has_room(self) -> bool:
        """Whether one more session fits, if need be in place of the one that has been without a client for longest."""
        if len(self._seats) < self._max_sessions:
            return True
        for seat in list(self._seats.values()):
            self._probe(seat)
        vacant = [seat for seat in self._seats.values() if seat.peer is None]
        if vacant:
            self._end(min(vacant, key=lambda seat: seat.heard))
        return bool(vacant)

    def _probe(self, seat: Seat) -> None:
        if seat.peer is not None:
            self._send(seat.peer, protocol.Pong(0.0), drop=True)

    def _sweep(self) -> None:
        """Ends sessions whose lease is over. A lock-step client may think for long: it stays while it is connected."""
        now = self._swept = self._clock()
        for seat in list(self._seats.values()):
            if now - seat.heard <= LEASE:
                continue
            if not seat.real_time:
                self._probe(seat)
            if seat.real_time or seat.peer is None:
                self._end(seat)

    # Sending

    def _reply(self, seat: Seat, message: protocol.Frames | protocol.Done | protocol.Error) -> None:
        seat.answered, seat.reply = message.request, protocol.encode(message)
        self._send_parts(seat.peer, seat.reply)

    def _fail(self, seat: Seat, request: int, code: str, text: str) -> None:
        error = protocol.Error(request, code, _short(text))
        if request:
            self._reply(seat, error)
        else:
            self._send(seat.peer, error)

    def _send(self, peer: bytes | None, message: protocol.Message, *, drop: bool = False) -> None:
        self._send_parts(peer, protocol.encode(message), drop=drop)

    def _send_parts(self, peer: bytes | None, parts: Sequence[bytes], *, drop: bool = False) -> None:
        """Sends, never waiting. What a full peer does not take is dropped if it may be, else kept for later."""
        if peer is None:
            return
        waiting = self._backlog.get(peer)
        if waiting is None and self._try_send(peer, parts):
            return
        if drop or (waiting is None and peer not in self._by_peer):  # strangers get no queue
            return
        if len(waiting or ()) >= _BACKLOG:
            self._end(self._by_peer[peer])
            return
        self._backlog.setdefault(peer, deque()).append(list(parts))

    def _flush(self, peer: bytes) -> None:
        waiting = self._backlog[peer]
        while waiting and self._try_send(peer, waiting[0]):
            if peer not in self._backlog:  # found to be gone
                return
            waiting.popleft()
        if not waiting:
            del self._backlog[peer]

    def _try_send(self, peer: bytes, parts: Sequence[bytes]) -> bool:
        """False if the peer is full. One that is gone takes everything, and leaves its seat."""
        try:
            self._socket.send_multipart([peer, *parts], zmq.DONTWAIT)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._backlog.pop(peer, None)
            if peer in self._by_peer:
                self._leave(self._by_peer[peer])
        return True


def _short(text: str) -> str:
    return text[:2000]
