"""Steering by words: the buttons held during a chunk as phrases that are blended into the prompt.

For networks that know no buttons, as the released 14B weights: an approximation. The network saw such phrases in
captions of whole clips, so that it may answer late, weakly or not at all, and it knows no amounts. Nothing acts within
a chunk: of two buttons held one after the other, both act on the whole chunk, each with its share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Self

import numpy as np

from helios_world.action import check_buttons
from helios_world.errors import UserError
from helios_world.prompts import Blend


@dataclass(frozen=True, slots=True)
class Phrase:
    """What a button says, and how strongly: 1 gives all of the weight to it while the button is held, 0 none."""

    text: str
    strength: float = 1.0


@dataclass(frozen=True)
class PromptSteering:
    """The phrases of a world's buttons.

    Attributes:
        buttons: of the world, in the order of its action vector.
        phrases: by button; a button without one changes nothing.
        opposites: pairs that say nothing while both are held.
    """

    buttons: tuple[str, ...]
    phrases: Mapping[str, Phrase]
    opposites: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], buttons: Sequence[str]) -> Self:
        """From world.json: {"phrases": {button: text, or {"text", "strength"}}, "opposites": [[button, button]]}.

        UserError for a button that the world lacks, and for anything that is not of this form.
        """
        try:
            phrases = {button: _read_phrase(button, value) for button, value in values["phrases"].items()}
            opposites = tuple((str(one), str(other)) for one, other in values.get("opposites", ()))
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"steering is damaged ({type(error).__name__}: {error})") from None
        check_buttons([*phrases, *(button for pair in opposites for button in pair)], buttons)
        return cls(tuple(buttons), phrases, opposites)

    def to_dict(self) -> dict[str, Any]:
        """As world.json holds it; the inverse of `from_dict`."""
        phrases = {
            button: phrase.text if phrase.strength == 1.0 else {"text": phrase.text, "strength": phrase.strength}
            for button, phrase in self.phrases.items()
        }
        return {"phrases": phrases, "opposites": [list(pair) for pair in self.opposites]}

    def steer(self, prompts: Blend, held_TA: np.ndarray) -> Blend:
        """The blend `prompts` with what is held said after each of its texts.

        Frames that hold the same buttons share one text; its weight is their share of the chunk. A phrase of strength
        s has s of that weight, and the texts without it the rest. Weights add up to what they did before.

        Args:
            held_TA: (frames, buttons), as `action.encode_actions` makes it for one chunk.
        """
        if np.ndim(held_TA) != 2 or not len(held_TA) or np.shape(held_TA)[1] != len(self.buttons):
            wanted = f"(1 or more frames, {len(self.buttons)} buttons)"
            raise UserError(f"held buttons have shape {np.shape(held_TA)}: must be {wanted}")
        sets = Counter(self._spoken(np.array(self.buttons)[np.asarray(row) > 0.5]) for row in held_TA)
        said: dict[str, float] = {}
        for prompt, weight in prompts:
            for spoken, frames in sorted(sets.items()):
                for text, share in self._layers(prompt, spoken):
                    said[text] = said.get(text, 0.0) + weight * share * frames / len(held_TA)
        return tuple((text, weight) for text, weight in said.items() if weight > 0)

    def texts(self, prompt: str, together: int = 2) -> list[str]:
        """All texts that `prompt` can become with up to `together` buttons held, to have their embeddings ready."""
        sets = {self._spoken(held) for n in range(together + 1) for held in combinations(self.phrases, n)}
        found = (text for spoken in sorted(sets, key=lambda s: (len(s), s)) for text, _ in self._layers(prompt, spoken))
        return list(dict.fromkeys(found))

    def _spoken(self, held: Iterable[str]) -> tuple[str, ...]:
        """The held buttons that say something, in the order of the world's buttons."""
        on = set(held)
        mute = {button for pair in self.opposites if set(pair) <= on for button in pair}
        return tuple(button for button in self.buttons if button in on - mute and button in self.phrases)

    def _layers(self, prompt: str, spoken: Sequence[str]) -> list[tuple[str, float]]:
        """Texts from the full one down to the prompt alone, so that each phrase is in its strength of them."""
        strengths = sorted({0.0, 1.0, *(self.phrases[button].strength for button in spoken)}, reverse=True)
        layers = []
        for high, low in pairwise(strengths):
            phrases = [self.phrases[button].text for button in spoken if self.phrases[button].strength >= high]
            layers.append((_say(prompt, phrases), high - low))
        return layers


def _say(prompt: str, phrases: Sequence[str]) -> str:
    """The prompt itself without phrases, else with each as a sentence after it."""
    if not phrases:
        return prompt
    return " ".join(_sentence(part) for part in (prompt, *phrases) if part.strip())


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", "。")) else f"{text}."


def _read_phrase(button: str, value: Any) -> Phrase:
    phrase = Phrase(value) if isinstance(value, str) else Phrase(**value)
    if not isinstance(phrase.text, str) or not phrase.text.strip():
        raise UserError(f"phrase of {button} is {phrase.text!r}: must be text")
    if not isinstance(phrase.strength, int | float) or not 0 <= phrase.strength <= 1:
        raise UserError(f"strength of {button} is {phrase.strength!r}: must be 0 to 1")
    return phrase
