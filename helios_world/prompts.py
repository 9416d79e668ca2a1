"""Prompts over time: what a world is told now, what it is to be told later, and how one becomes the other.

Pure values, counted in chunks. Nothing here knows how long a video is to be: the last prompt stays for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from helios_world.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Blend = tuple[tuple[str, float], ...]  # texts and their weights, which add up to 1
NEGLIGIBLE = 1e-3  # weight under which a text that was interrupted while fading is left out
MOST_CHANGES = 1024  # that may wait; a snapshot of so many, each as long as a message allows, can still be sent


@dataclass(frozen=True, slots=True)
class Change:
    """From chunk `at` on towards `prompt`, which has weight 1/over in that chunk and 1 in chunk at + over - 1."""

    prompt: str
    at: int
    over: int = 1

    @property
    def done(self) -> int:
        """First chunk that the change no longer alters: the one after it reached weight 1."""
        return self.at + self.over

    def progress(self, chunk: int) -> float:
        """Weight of `prompt` in `chunk`."""
        return min(max(chunk - self.at + 1, 0), self.over) / self.over


@dataclass(frozen=True, slots=True)
class PromptTrack:
    """The prompt now and the changes to come. A value: each verb returns a new one.

    Attributes:
        base: the blend before the first of `changes`.
        changes: by chunk, at most one for each; the running one may be the first.
        chunk: index of the next chunk to be made; a change takes effect there at the earliest.
    """

    base: Blend
    changes: tuple[Change, ...] = ()
    chunk: int = 0

    @classmethod
    def start(cls, prompt: str, chunk: int = 0) -> Self:
        """`prompt` alone, from `chunk` on."""
        return cls(((_check_prompt(prompt), 1.0),), (), chunk)

    def blend(self, chunk: int | None = None) -> Blend:
        """Texts and weights of a chunk, the newest text last; None for the next chunk. UserError for one gone by."""
        chunk = self.chunk if chunk is None else chunk
        if chunk < self.chunk:
            raise UserError(f"chunk {chunk} is over: the prompts of chunk {self.chunk} and later are known")
        return _fold(self.base, [change for change in self.changes if change.at <= chunk], chunk)

    def at(self, chunk: int) -> Self:
        """The same, with `chunk` as the next chunk to be made. To be called once for every chunk made."""
        if chunk < self.chunk:
            raise UserError(f"chunk {chunk} is over: the next one is {self.chunk}")
        begun = [change for change in self.changes if change.at < chunk]
        if not begun:
            return replace(self, chunk=chunk)
        *past, newest = begun
        if newest.done <= chunk:
            return replace(self, base=((newest.prompt, 1.0),), changes=self.changes[len(begun) :], chunk=chunk)
        base = _fold(self.base, past, newest.at - 1)
        return replace(self, base=base, changes=self.changes[len(past) :], chunk=chunk)

    def change(self, prompt: str, *, over: int = 1) -> Self:
        """Towards `prompt` from the next chunk on, over `over` chunks; 1 is a cut. What waits for later stays queued.

        It begins at the blend of that moment, so that nothing jumps where another change was still running.
        """
        return self._with(Change(_check_prompt(prompt), self.chunk, _check_count("over", over, 1)))

    def queue(self, prompt: str, *, at_chunk: int | None = None, after: int | None = None, over: int = 1) -> Self:
        """Towards `prompt` later. A change that waits for the same chunk is replaced.

        Args:
            at_chunk: index of the first chunk with a share of it.
            after: or that many chunks after now or after the start of the last change, whichever is later.
                With neither, it begins when the last change is done.
        """
        if at_chunk is not None and after is not None:
            raise UserError("give at_chunk or after, not both")
        last = self.changes[-1] if self.changes else None
        if at_chunk is not None:
            at = _check_count("at_chunk", at_chunk, self.chunk)
        elif after is not None:
            at = max(self.chunk, last.at if last else 0) + _check_count("after", after, 0)
        else:
            at = max(self.chunk, last.done if last else 0)
        return self._with(Change(_check_prompt(prompt), at, _check_count("over", over, 1)))

    def cancel(self, at_chunk: int | None = None) -> Self:
        """Without the changes that have not begun, or without the one for `at_chunk`. One that runs goes on."""
        waiting = [change.at for change in self.changes if change.at >= self.chunk]
        if at_chunk is not None and at_chunk not in waiting:
            raise UserError(f"nothing waits for chunk {at_chunk}: changes wait for {waiting or 'no chunk'}")
        gone = waiting if at_chunk is None else [at_chunk]
        return replace(self, changes=tuple(change for change in self.changes if change.at not in gone))

    @property
    def settled_from(self) -> int:
        """First chunk from which on the blend no longer changes, as far as is known now."""
        return max(self.chunk, self.changes[-1].done - 1 if self.changes else 0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can carry it."""
        changes = [{"prompt": c.prompt, "at": c.at, "over": c.over} for c in self.changes]
        return {"base": [list(part) for part in self.base], "changes": changes, "chunk": self.chunk}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. UserError if `values` are something else."""
        try:
            base = tuple((str(text), float(weight)) for text, weight in values["base"])
            changes = tuple(Change(str(c["prompt"]), int(c["at"]), int(c["over"])) for c in values["changes"])
            track = cls(base, changes, int(values["chunk"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"prompts are damaged ({type(error).__name__}: {error})") from None
        places = [change.at for change in changes]
        weights = [weight for _, weight in base]
        in_order = places == sorted(set(places)) and all(change.over >= 1 for change in changes)
        if not in_order or not all(weight > 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
            raise UserError("prompts are damaged: weights must add up to 1 and changes stand in order")
        return track

    def _with(self, new: Change) -> Self:
        others = [change for change in self.changes if change.at != new.at]
        if len(others) >= MOST_CHANGES:
            raise UserError(f"{len(others)} changes of the prompt wait already: at most {MOST_CHANGES} may")
        return replace(self, changes=tuple(sorted([*others, new], key=lambda change: change.at)))


def blend(embeddings: Sequence[tuple[Tensor, float]]) -> Tensor:
    """The weighted sum of embeddings of one shape, in float32; a single one of weight 1 is returned as it is."""
    first, weight = embeddings[0]
    if len(embeddings) == 1 and weight == 1.0:
        return first
    return sum(weight * tensor.float() for tensor, weight in embeddings).to(first.dtype)


def _fold(base: Blend, begun: Sequence[Change], chunk: int) -> Blend:
    """The blend in `chunk`: each change begins at what the one before it had come to in the chunk before."""
    ends = [*(following.at - 1 for following in begun[1:]), chunk]
    for change, end in zip(begun, ends if begun else (), strict=True):
        base = _mix(base, change.prompt, change.progress(end))
    return base


def _mix(old: Blend, prompt: str, weight: float) -> Blend:
    """(1 - weight) of `old` and `weight` of `prompt`; texts that occur twice are one."""
    parts: dict[str, float] = {}
    for text, share in old:
        if share * (1 - weight) >= NEGLIGIBLE:
            parts[text] = share * (1 - weight)
    parts[prompt] = parts.pop(prompt, 0.0) + weight
    total = sum(parts.values())
    return tuple((text, share / total) for text, share in parts.items() if share > 0)


def _check_prompt(prompt: str) -> str:
    if not isinstance(prompt, str):
        raise UserError(f"prompt is a {type(prompt).__name__}: must be text")
    return prompt


def _check_count(name: str, value: int, lowest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise UserError(f"{name} is {value!r}: must be a whole number from {lowest} on")
    return value
