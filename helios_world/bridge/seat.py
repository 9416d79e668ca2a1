"""What a server holds for one client."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from helios_world.action import Action, ActionLatch
from helios_world.engine import Session

BURST, RATE = 60, 20.0  # requests (all but Step) of one session at once, and per second


@dataclass(slots=True, eq=False)
class Seat:
    """What the server holds for one client: found by `ticket`, and by `peer` while that is connected."""

    ticket: str
    peer: bytes | None
    heard: float
    session: Session | None = None
    key: str = ""  # public key of the client, where keys are asked for
    codec: str = "raw"
    spent: float = 0.0  # requests made lately; falls by RATE a second
    spent_at: float = 0.0
    real_time: bool = False
    latch: ActionLatch = field(default_factory=ActionLatch)
    seq: int = 0  # of the newest Act
    sent_at: float = 0.0  # of that Act
    wanted: int = 0  # real time: the chunk asked for
    step: tuple[int, Action] | None = None  # lock-step: the request to be answered
    answered: int = 0  # highest request done
    reply: list[bytes] = field(default_factory=list)  # to that one
    newest: list[bytes] = field(default_factory=list)  # the last real-time frames
    watched_as: str = ""  # the name that spectators know it by
    offer: str = ""  # the ticket that opens it to another client, of any key
    offered_until: float = 0.0

    @property
    def next_chunk(self) -> int:
        return 0 if self.session is None else self.session.state.chunk

    def may_ask(self, now: float) -> bool:
        """Whether one more request is within the rate; steps are not counted."""
        self.spent, self.spent_at = max(0.0, self.spent - RATE * (now - self.spent_at)), now
        if self.spent >= BURST:
            return False
        self.spent += 1
        return True

    def is_offered(self, ticket: str, now: float) -> bool:
        """Whether `ticket` is one with which another client may take this seat."""
        given = secrets.compare_digest(self.offer.encode(), ticket.encode())
        return bool(self.offer) and given and now <= self.offered_until

    def take_due(self) -> Action | None:
        """The action of the chunk to make now; None: nothing to make."""
        if self.step is not None:
            return self.step[1]
        return self.latch.take() if self.wanted else None
