"""`RemoteSession`: a world on a server with the verbs of `engine.Session`. Needs no torch."""

from __future__ import annotations

import contextlib
import time

import zmq

from helios_world.action import NOOP, Action
from helios_world.bridge import codecs, protocol
from helios_world.bridge.door import LOOPBACK
from helios_world.bridge.keys import ClientKeys
from helios_world.bridge.line import Line
from helios_world.bridge.patience import Patience
from helios_world.card import WorldCard
from helios_world.engine import Chunk
from helios_world.errors import ConnectionLost, ProtocolError, ServerError, UserError, check_name
from helios_world.world import Outcome, Start

NAME = "helios-world-python"
_ATTEMPTS = 4  # times that a request is sent within the timeout over a line that does not break
_PAUSE = 0.02  # seconds between connections that break at once


class RemoteSession:
    """One live world on a server; synchronous, lock-step. One thread at a time may use it.

    A request that is not answered is sent again over a new connection under the same number, so that it is never done
    twice. Frames are exact with the server's codec "raw", close with the others.

    Args:
        address: of a running `helios-world serve`, such as "tcp://127.0.0.1:5557".
        timeout: seconds until a request that nobody answers raises ConnectionLost.
        ticket: of a session to take up, such as one that its player gave away by `invite("play")`; "" for a new one.
        keys: for a server that asks for them; a server with another key than this is not talked to.
    Raises:
        UserError: malformed address; a request that the world refuses, such as an unknown scene or button.
        ServerError: the server is full, speaks another version, failed, or no longer has this world.
        ConnectionLost: nothing answers within the timeout.
    """

    def __init__(self, address: str, *, timeout: float = 10.0, ticket: str = "", keys: ClientKeys | None = None):
        if not timeout > 0:
            raise UserError(f"timeout is {timeout}: must be above 0 seconds")
        self._address, self._timeout = address, timeout
        self._ticket, self._request, self._keys = ticket, 0, keys
        self._line: Line | None = None
        self._patience = Patience()
        try:
            self._hello(time.monotonic() + timeout)
        except BaseException:
            self.close()
            raise

    @property
    def card(self) -> WorldCard:
        """What the world is; see `WorldCard`."""
        return self._card

    def reset(self, scene: str | None = None, *, seed: int = 0, start: Start = Start()) -> Chunk:
        """Starts a new world in this session."""
        if not 0 <= seed < 1 << 63:
            raise UserError(f"seed is {seed}: must be from 0 to 2^63-1")
        scene = self.card.check_scene(scene)
        packed = protocol.pack_start(start.check(self.card))
        return self._chunk(protocol.Reset(self._number(), scene, seed, *packed))

    def step(self, action: Action = NOOP) -> Chunk:
        """One chunk under `action`, held for all its frames."""
        return self._chunk(protocol.Step(self._number(), action.buttons, action.mouse))

    def change_prompt(self, prompt: str, *, over: int = 1) -> None:
        """Towards `prompt` from the next chunk on, over `over` chunks; 1 is a cut. What is queued stays."""
        self._tell("change", prompt, over)

    def queue_prompt(self, prompt: str, *, after: int | None = None, over: int = 1) -> None:
        """Towards `prompt` later: `after` chunks after the last change begins, or when that is done."""
        self._tell("queue", prompt, over, after)

    def cancel_prompts(self) -> None:
        """Drops what is queued; a change that runs goes on."""
        self._tell("cancel")

    def _tell(self, verb: str, text: str = "", over: int = 1, after: int | None = None) -> None:
        self._ask(protocol.Prompt(self._number(), verb, protocol.check_prompt(text), over, after))

    def snapshot(self) -> bytes:
        """This world as bytes, which a session of the same world restores, here or elsewhere."""
        return self._ask(protocol.Snapshot(self._number())).payload

    def restore(self, snapshot: bytes) -> None:
        """Goes back, or over, to the world in `snapshot`."""
        if len(snapshot) > protocol.MAX_PAYLOAD:
            raise UserError(f"snapshot has {len(snapshot)} bytes: at most {protocol.MAX_PAYLOAD}")
        self._ask(protocol.Restore(self._number(), bytes(snapshot)))

    def fork(self) -> RemoteSession:
        """A twin over a connection of its own: the same world from here on, as long as it gets the same actions."""
        twin = self._ask(protocol.Fork(self._number())).session
        return RemoteSession(self._address, timeout=self._timeout, ticket=twin, keys=self._keys)

    def invite(self, verb: str) -> str:
        """What others join this session with; "nobody" takes back what was given.

        Args:
            verb: "watch": the name that a `Spectator` on the server's broadcast port watches it by. "play": a ticket
                with which one other client, of any key, takes the session over within 30 s. This one has none then.
        Raises:
            UserError: an unknown verb; "watch" on a server without a port for spectators.
        """
        return self._ask(protocol.Invite(self._number(), check_name("verb", verb, protocol.INVITE_VERBS))).session

    def close(self) -> None:
        """Ends the session on the server. No other call may follow but `close`."""
        if self._line is not None:
            close_socket(self._line.release())
            self._line = None

    def _number(self) -> int:
        self._request += 1
        return self._request

    def _chunk(self, request: protocol.Reset | protocol.Step) -> Chunk:
        frames = self._ask(request)
        return Chunk(frames.index, codecs.unpack_frames(frames), frames.seconds, frames.outcome or Outcome())

    def _ask(self, request: protocol.Message) -> protocol.Frames | protocol.Done:
        """The reply to `request`, which is sent again when the connection breaks or a share of the timeout is over."""
        if self._line is None:
            raise ConnectionLost("this session was closed")
        deadline = time.monotonic() + self._timeout
        parts = protocol.encode(request)
        while True:
            began = time.monotonic()
            self._line.send(parts)
            reply = self._reply(request.request, min(deadline, began + self._limit(request)))
            if reply is not None:
                if isinstance(request, protocol.Step):
                    self._patience.answered(time.monotonic() - began)
                return reply
            self._patience.tried()
            self._hello(deadline)

    def _limit(self, request: protocol.Message) -> float:
        """Seconds after which a request is sent again. What else is asked than steps may take far longer than they."""
        share = self._timeout / _ATTEMPTS
        return min(share, self._patience.limit(greeted=True)) if isinstance(request, protocol.Step) else share

    def _silent(self) -> ConnectionLost:
        hint = "" if LOOPBACK.fullmatch(self._address) else ": is it there, and are the keys right?"
        return ConnectionLost(f"no answer from {self._address} within {self._timeout:g} s{hint}")

    def _reply(self, number: int, until: float) -> protocol.Frames | protocol.Done | None:
        while (message := self._receive(until)) is not None:
            if isinstance(message, protocol.Error) and message.request in (0, number):
                if message.code == "unknown_session":  # the connection broke and came back: say hello again
                    return None
                if message.code == "engine" and not message.request:  # work ahead failed: the step answers for it
                    continue
                raise error_of(message)
            if isinstance(message, protocol.Frames | protocol.Done) and message.request == number:
                return message
        return None

    def _hello(self, deadline: float) -> None:
        """Connects anew and says hello, once more whenever that connection breaks."""
        while True:
            self._connect()
            self._line.send(protocol.encode(protocol.Hello(protocol.VERSION, NAME, self._ticket, codecs.available())))
            if self._welcome(deadline):
                return
            if time.monotonic() >= deadline:
                raise self._silent()
            time.sleep(_PAUSE)

    def _welcome(self, deadline: float) -> bool:
        """Whether the server took us in; ServerError if it did, and our world is gone."""
        while (message := self._receive(deadline)) is not None:
            if isinstance(message, protocol.Error):
                raise error_of(message)
            if isinstance(message, protocol.Welcome):
                lost = self._ticket and message.session != self._ticket
                self._card, self._ticket = message.card, message.session
                self._request = max(self._request, message.answered)
                if lost:
                    raise ServerError(
                        "unknown_session", f"{self._address} no longer has this world: reset or restore a snapshot"
                    )
                return True
        return False

    def _connect(self) -> None:
        """A fresh connection: nothing that was under way on the old one comes through."""
        if self._line is not None:
            self._line.close()
        self._line = Line(open_socket(self._address, self._keys))

    def _receive(self, until: float) -> protocol.Message | None:
        """The next message, or None at `until` or when the connection broke."""
        left = max(0.0, until - time.monotonic())
        if not self._line.wait(int(left * 1000)):
            return None
        try:
            return protocol.decode(self._line.socket.recv_multipart())
        except ProtocolError as error:
            raise ServerError("bad_message", f"{self._address} sent what is no message: {error}") from None


def open_socket(
    address: str,
    keys: ClientKeys | None = None,
    *,
    kind: int = zmq.DEALER,
    context: zmq.Context | None = None,
) -> zmq.Socket:
    """A socket that connects to `address`, at once or when a server is there. UserError for a malformed address."""
    socket = (context or zmq.Context.instance()).socket(kind)
    socket.linger = 0
    socket.reconnect_ivl = 50
    socket.maxmsgsize = protocol.MAX_MESSAGE
    socket.sndbuf = socket.rcvbuf = protocol.SOCKET_BUFFER
    socket.heartbeat_ivl, socket.heartbeat_timeout = 500, 1500
    if keys is not None:
        socket.curve_publickey, socket.curve_secretkey = keys.own.public.encode(), keys.own.secret.encode()
        socket.curve_serverkey = keys.server.encode()
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        socket.close()
        raise UserError(
            f"cannot connect to {address!r} ({error}): give an address such as tcp://127.0.0.1:5557"
        ) from None
    return socket


def close_socket(socket: zmq.Socket) -> None:
    """Says goodbye if that can be done without waiting, and lets go of the connection."""
    with contextlib.suppress(zmq.Again):  # the server will find out by itself
        socket.send_multipart(protocol.encode(protocol.Close()), zmq.DONTWAIT)
    socket.close(200)


def error_of(error: protocol.Error) -> UserError | ServerError:
    """What to raise for an Error message."""
    if error.code == "bad_request":
        return UserError(error.message)
    return ServerError(error.code, error.message)
