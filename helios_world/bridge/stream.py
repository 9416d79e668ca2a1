"""`WorldStream`: a world played in real time from a server, for whatever shows frames and has buttons.

Single-threaded and never waiting: the front end calls `hold` when a button changes and `tick` for every picture. The
stream keeps a snapshot of the world, so that it goes on where it was when a server died and another took its place.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import zmq

from helios_world.action import check_buttons
from helios_world.bridge import codecs, protocol
from helios_world.bridge.client import NAME, close_socket, error_of, open_socket
from helios_world.bridge.door import saving_interval
from helios_world.bridge.keys import ClientKeys
from helios_world.bridge.line import Line
from helios_world.bridge.patience import BEGINNING, MOST, Patience, lost_after
from helios_world.bridge.player import ChunkPlayer, Shown
from helios_world.bridge.score import Score
from helios_world.bridge.stats import StreamStats, percentiles
from helios_world.card import WorldCard
from helios_world.errors import ProtocolError, ServerError, UserError
from helios_world.mouse import STILL
from helios_world.world import Start

_PING = 0.2  # seconds of silence between pings
_REFUSALS = 3  # of a world to go on with, until it is given up
_RESEND = 0.1  # seconds after which held buttons are said again
_STALL = 0.3  # seconds between two ticks beyond which the front end, not the server, was away
_RECENT = 4096  # measurements kept


@dataclass(frozen=True, slots=True)
class Invitation:
    """What others join a session with.

    Attributes:
        verb: "watch" or "play".
        address: where they connect.
        name: that they watch it by, or the ticket that they take it over with.
    """

    verb: str
    address: str
    name: str


@dataclass(frozen=True, slots=True)
class _Begin:
    """A world to start."""

    scene: str | None
    seed: int
    start: Start
    score: Score = Score()


@dataclass(frozen=True, slots=True)
class _Kept:
    """A world to go on with, and what had been scored in it where that is known."""

    snapshot: bytes
    score: Score


class WorldStream:
    """Plays one session of the server at `address`, which need not be there yet.

    When the game is over (`Shown.score`), the world stands still until another one is started or loaded.

    Args:
        ticket: of a session to take up, such as one that its player gave away; "" for a new one.
        keys: for a server that asks for them.
        clock: monotonic, in seconds; the one that sleeping is measured with.
        autosave: seconds between the snapshots kept for going on after a loss; None for `door.saving_interval`.
    Raises:
        UserError: malformed address.

    Attributes:
        card: the world card, None until the server said what it serves.
        message: one line for people: what is being waited for, or what went wrong last; "" when all is well.
        saved, saves: the snapshot that `save` asked for, and how many came.
        invitation: what the last `invite` gave; None while there is none.
        steer: asked for the buttons of chunk n right before n is asked for, so that they hold for exactly that chunk;
            None where `hold` does that. The same n is asked again when a world goes back.
    """

    def __init__(
        self,
        address: str,
        *,
        ticket: str = "",
        keys: ClientKeys | None = None,
        clock: Callable[[], float] = time.monotonic,
        autosave: float | None = None,
    ):
        self._address, self._keys, self._clock = address, keys, clock
        self._autosave = saving_interval(address) if autosave is None else autosave
        self.card: WorldCard | None = None
        self.message = ""
        self.saved: bytes | None = None
        self.saves = 0
        self._saved_score = Score()
        self.invitation: Invitation | None = None
        self.steer: Callable[[int], Iterable[str]] | None = None
        self._wish: _Begin | _Kept | None = None  # asked for, not yet confirmed
        self._origin: _Begin | _Kept | None = None  # what to begin with again on a server that does not know us
        self._ticket = ticket
        self._request = 0
        self._begun = 0  # request number of an unanswered Reset or Restore
        self._since = math.inf  # when it, or the next chunk, was asked for; until it comes
        self._known = self._spoilt = False  # how slow that may be; whether something on this line could not be read
        self._inviting: dict[int, str] = {}  # unanswered Invites: their verbs
        self._broadcast = 0  # the server's port for spectators
        self._saving: dict[int, bool] = {}  # unanswered Snapshots: True for one of the player's own
        self._live = False  # the server's session has our world
        self._refusals = 0  # in a row, of a world to go on with
        self._lost = False
        self._player: ChunkPlayer | None = None
        self._last: Shown | None = None
        self._frozen: float | None = None  # player time of a pause
        self._behind = 0.0  # clock minus player time: how long pauses took
        self._held: frozenset[str] = frozenset()
        self._mouse = STILL  # moved in all
        self._seq = 0
        self._changes: deque[tuple[int, float]] = deque(maxlen=_RECENT)  # inputs not seen in pixels yet
        self._asked = (0, 0.0)  # chunk and when
        self._shown_at: deque[float] = deque(maxlen=512)
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self._trips: deque[float] = deque(maxlen=_RECENT)
        self._key_to_pixels: deque[float] = deque(maxlen=_RECENT)
        self._autosaved_at = -math.inf
        self._line: Line | None = None
        self._patience = Patience()
        self._ticked_at = self._heard_at = clock()
        self._connect(self._ticked_at)
        self.message = f"waiting for {address}"

    # What a front end calls

    def start(self, scene: str | None = None, seed: int = 0, start: Start = Start()) -> None:
        """Begins a new world, once the server is there. A refused first start raises from `tick`.

        Raises:
            UserError: a seed, scene or material that does not fit, as far as that is known yet.
        """
        if not 0 <= seed < 1 << 63:
            raise UserError(f"seed is {seed}: must be from 0 to 2^63-1")
        if self.card is not None:
            self.card.check_scene(scene)
            start.check(self.card)
        self._wish = _Begin(scene, seed, start)
        if self._welcomed:
            self._begin(self._wish)

    def reset(self, scene: str | None = None, seed: int = 0, start: Start = Start()) -> None:
        """Begins a new world; the old one shows until it comes."""
        self.start(scene, seed, start)

    def change_prompt(self, prompt: str, *, over: int = 1) -> None:
        """Towards `prompt` from the next chunk on, over `over` chunks; `message` says why if it is refused.

        Raises:
            UserError: a world that takes no prompt, or a prompt that is too long; nothing happens without a world.
        """
        if self._live:
            self.card.check_prompts()
            self._request += 1
            self._send(protocol.Prompt(self._request, "change", protocol.check_prompt(prompt), over))

    def load(self, snapshot: bytes) -> None:
        """Goes over to the world in `snapshot`. If the server refuses it the world goes on, and `message` says why."""
        if len(snapshot) > protocol.MAX_PAYLOAD:
            raise UserError(f"snapshot has {len(snapshot)} bytes: at most {protocol.MAX_PAYLOAD}")
        self._wish = _Kept(bytes(snapshot), self._saved_score if snapshot == self.saved else Score())
        if self._welcomed:
            self._begin(self._wish)

    def save(self) -> None:
        """Asks for a snapshot, which appears in `saved`; nothing happens while there is no world."""
        if self._live:
            self._ask_snapshot(own=True)

    def invite(self, verb: str) -> None:
        """Asks for what others join this session with, which appears in `invitation`; see `RemoteSession.invite`."""
        if self._live:
            self._request += 1
            self._inviting[self._request] = verb
            self._send(protocol.Invite(self._request, verb))

    def hold(self, buttons: Iterable[str]) -> None:
        """`buttons` are held from now on. UserError for one that the world does not have."""
        held = check_buttons(buttons, self.card.buttons) if self.card else frozenset(buttons)
        if held == self._held:
            return
        self._held = held
        if self._live and self._act(self._clock()) and self._moves:
            self._changes.append((self._seq, self._clock()))

    def look(self, x: float, y: float) -> None:
        """The mouse moved by so many counts, right and down. The next chunk that is asked for includes it."""
        if self._moves:
            self._mouse = (self._mouse[0] + x, self._mouse[1] + y)

    def pause(self, paused: bool) -> None:
        """Stops world time, or lets it go on; inputs are kept."""
        now = self._clock()
        if paused and self._frozen is None:
            self._frozen = now - self._behind
            self._changes.clear()
        elif not paused and self._frozen is not None:
            self._behind, self._frozen = now - self._frozen, None

    def tick(self) -> Shown | None:
        """Does all there is to do now and gives the frame due; the last one while none is. None before the first.

        Raises:
            UserError, ServerError: the server refused to start the world, or speaks another version; another client has
            the world now.
        """
        now = self._clock()
        stalled, self._ticked_at = now - self._ticked_at > _STALL, now
        self._drain(now)
        if stalled:
            self._heard_at, self._since = now, max(self._since, now)
        self._watch(now)
        if self._live and not self._begun:
            self._drive(now)
        return self._show(now)

    def wait(self, timeout: float) -> None:
        """Sleeps until `tick` may have something new to do or show, or until `timeout` seconds have passed."""
        now = self._clock()
        until = now + timeout
        if self._live and not self._begun and self._frozen is None:
            until = min(until, self._player.next_event(now - self._behind) + self._behind)
        self._line.wait(math.ceil(max(0.0, until - now) * 1000))

    @property
    def status(self) -> str:
        """ "connecting" until the first world is there, then "playing", "paused" or "lost"."""
        if self._lost:
            return "lost"
        if self._last is None:
            return "connecting"
        return "playing" if self._frozen is None else "paused"

    @property
    def _moves(self) -> bool:
        """Whether the world goes on by itself, so that an input is soon seen."""
        return self.status == "playing" and not self._player.score.over

    @property
    def seq(self) -> int:
        """Number of the newest input sent; `Shown.seq` says up to which one a frame includes."""
        return self._seq

    @property
    def stats(self) -> StreamStats:
        """What was measured lately."""
        recent = [t for t in self._shown_at if t > self._ticked_at - 2.0]
        return StreamStats(
            len(recent) / 2.0,
            *percentiles(self._seconds),
            *percentiles(self._trips),
            *percentiles(self._key_to_pixels),
            0 if self._player is None else self._player.late_chunks,
        )

    def close(self) -> None:
        """Ends the session and the connection."""
        if self._line is not None:
            close_socket(self._line.release())
            self._line = None

    # Connection

    def _connect(self, now: float) -> None:
        """A fresh connection: nothing that was under way on the old one comes through."""
        if self._line is not None:
            self._line.close()
        self._line = Line(open_socket(self._address, self._keys))
        self._welcomed = self._live = False
        self._begun, self._saving, self._inviting = 0, {}, {}
        self._since, self._spoilt = math.inf, False
        self._changes.clear()
        self._opened_at = self._pinged_at = now
        self._send(protocol.Hello(protocol.VERSION, NAME, self._ticket, codecs.available()))

    def _lose(self, now: float, why: str) -> None:
        self._say_lost(why)
        self._connect(now)

    def _say_lost(self, why: str) -> None:
        self._lost = self._last is not None
        self.message = why

    def _watch(self, now: float) -> None:
        """Is the server there, and did it get what we asked for? A short silence is not worth a word."""
        silent = now - max(self._heard_at, self._opened_at)
        if self._line.broke():
            self._lose(now, f"lost the server at {self._address}: waiting for it")
        elif silent > self._limit(BEGINNING if self._begun else MOST) or now - self._since > self._limit(BEGINNING):
            self._patience.tried()
            self._connect(now)
        elif self._welcomed and min(silent, now - self._pinged_at) >= _PING:
            self._pinged_at = now
            self._send(protocol.Ping(now))
        if not self._lost and now - self._heard_at > lost_after(self._begins, list(self._seconds)[-4:]):
            self._say_lost(f"no answer from {self._address}: waiting for it")

    @property
    def _begins(self) -> bool:
        """Whether nothing tells how long the server may take."""
        return bool(self._begun and not self._known) or (self._live and not self._seconds)

    def _limit(self, most: float) -> float:
        if self._begins and not self._spoilt:
            return BEGINNING
        return self._patience.limit(greeted=self._welcomed, most=most)

    def _send(self, message: protocol.Message) -> bool:
        return self._line.send(protocol.encode(message))

    def _drain(self, now: float) -> None:
        while True:
            try:
                parts = self._line.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                message = protocol.decode(parts)
                self._heard_at = now
                if self._lost and self._live and not self._begun:  # it was only slow
                    self._resumed()
                self._receive(message, now)
            except ProtocolError as error:
                self.message = f"{self._address} sent what is no message: {error}"
                self._spoilt = True
                self._ask_again()

    def _receive(self, message: protocol.Message, now: float) -> None:
        match message:
            case protocol.Welcome():
                self._patience.greeted(now - self._opened_at)
                self._welcome(message)
            case protocol.Frames() if message.request and message.request == self._begun:
                self._confirm(0)
                self._autosaved_at = -math.inf
                self._take(message, now)
            case protocol.Frames() if not message.request and self._live and not self._begun:
                self._take(message, now)
            case protocol.Done() if message.request == self._begun:
                self._confirm(message.chunk)
            case protocol.Done() if message.request in self._saving:
                if self._saving.pop(message.request):
                    self.saved, self.saves = message.payload, self.saves + 1
                    self._saved_score = self._player.score
                elif not self._begun:
                    self._origin = _Kept(message.payload, self._player.score)
            case protocol.Done() if message.request in self._inviting:
                self.invitation = self._invited(self._inviting.pop(message.request), message.session)
            case protocol.Error():
                self._refused(message, now)

    def _invited(self, verb: str, name: str) -> Invitation | None:
        host = self._address.rsplit(":", 1)[0]
        address = f"{host}:{self._broadcast}" if verb == "watch" else self._address
        return Invitation(verb, address, name) if name else None

    def _welcome(self, welcome: protocol.Welcome) -> None:
        taken_up, known = self._ticket, welcome.session == self._ticket and welcome.chunk > 0
        if self._player is None or welcome.card != self.card:
            self._player = ChunkPlayer(welcome.card.fps, welcome.card.frames_per_chunk)
        self.card, self._ticket, self._broadcast = welcome.card, welcome.session, welcome.broadcast
        self._request = max(self._request, welcome.answered)
        self._welcomed, self._live = True, known
        target = self._wish if self._wish is not None or known else self._origin
        if target is not None:
            self._begin(target)
        elif known:
            self._player.reset(welcome.chunk, self._player.score)
            self._resumed()
        elif taken_up:
            raise ServerError("unknown_session", f"{self._address} has no world for this ticket: ask for a new one")

    def _begin(self, what: _Begin | _Kept) -> None:
        """Sends the request for a world. What still comes of the old one is not shown."""
        self._request += 1
        self._begun, self._since = self._request, self._clock()
        self._known = isinstance(what, _Kept) and bool(self._seconds)
        self._changes.clear()
        if isinstance(what, _Kept):
            self._send(protocol.Restore(self._request, what.snapshot))
            return
        packed = protocol.pack_start(what.start.check(self.card))
        self._send(protocol.Reset(self._request, self.card.check_scene(what.scene), what.seed, *packed))

    def _confirm(self, chunk: int) -> None:
        """The world that was asked for is there; `chunk` is what to ask for next, as `ChunkPlayer.reset` takes it."""
        if self._wish is not None:
            self._origin, self._wish = self._wish, None
        self._player.reset(chunk, self._origin.score)
        self._begun, self._since, self._live, self._refusals = 0, math.inf, True, 0
        self._resumed()

    def _resumed(self) -> None:
        self._lost, self.message = False, ""
        if self.steer is None:
            self._act(self._clock())

    def _refused(self, error: protocol.Error, now: float) -> None:
        self.message = error.message
        self._spoilt |= error.code == "bad_message"
        self._saving.pop(error.request, None)
        self._inviting.pop(error.request, None)
        if error.code == "unknown_session":
            self._lose(now, error.message)
        elif error.code in ("version", "handed_over"):
            raise error_of(error)
        elif error.request and error.request == self._begun:
            self._begun, self._since, self._wish = 0, math.inf, None
            if not self._live:
                self._refusals += 1
                if self._last is None or self._refusals > _REFUSALS:
                    raise error_of(error)
                self._lose(now, error.message)  # a world that was whole here: the line may have spoilt it

    # Playing

    def _drive(self, now: float) -> None:
        """Asks for the next chunk when it is time, and repeats what is held."""
        if self._frozen is None:
            wanted = self._player.wants_chunk(now - self._behind)
            if wanted and self.steer is not None:
                self.hold(self.steer(wanted))
            if wanted and self._act(now, wanted):
                self._player.asked(wanted, now - self._behind)
                self._asked, self._since = (wanted, now), now
        # A steered stream says nothing between two askings: what is said again there would count for the next chunk.
        if self._held and self.steer is None and now - self._acted_at >= _RESEND:
            self._act(now)

    def _act(self, now: float, wanted: int = 0) -> bool:
        self._seq += 1
        self._acted_at = now
        return self._send(protocol.Act(self._seq, now, self._held, wanted, self._mouse))

    def _ask_snapshot(self, *, own: bool) -> None:
        self._request += 1
        self._saving[self._request] = own
        self._send(protocol.Snapshot(self._request))

    def _ask_again(self) -> None:
        """For the snapshots that did not come yet: one of them may be what could not be read."""
        asked, self._saving = self._saving, {}
        if True in asked.values():
            self._ask_snapshot(own=True)

    def _take(self, message: protocol.Frames, now: float) -> None:
        """A chunk came. Right after it the server has time, so this is when to ask for a snapshot."""
        time_of_player = now - self._behind if self._frozen is None else self._frozen
        frames = codecs.unpack_frames(message)
        if not self._player.put(message.index, frames, time_of_player, message.seq, message.outcome):
            return
        if message.index:
            self._seconds.append(message.seconds)
            if message.index == self._asked[0]:
                self._since = math.inf
                self._trips.append(now - self._asked[1])
                self._patience.answered(self._trips[-1])
        if now - self._autosaved_at >= self._autosave and False not in self._saving.values():
            self._autosaved_at = now
            self._ask_snapshot(own=False)

    def _show(self, now: float) -> Shown | None:
        if self._player is None:
            return None
        shown = self._player.frame(now - self._behind if self._frozen is None else self._frozen)
        if shown is None:  # a world without a chunk yet
            if self._last is not None and self._last.is_new:
                self._last = replace(self._last, is_new=False)
            return self._last
        self._last = shown
        if shown.is_new:
            self._shown_at.append(now)
            while self._changes and self._changes[0][0] <= shown.seq:
                self._key_to_pixels.append(now - self._changes.popleft()[1])
        return shown
