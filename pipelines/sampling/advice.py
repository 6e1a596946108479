"""What lists of samplers say about each one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """For a user who has to choose.

    Attributes:
        good_at: a few words.
        few, enough: from how many to how many steps suffice, with the models that the sampler is for; 0 where the
            model decides.
        starred: one of the three to try first.
    """

    good_at: str
    few: int = 0
    enough: int = 0
    starred: bool = False

    @property
    def steps(self) -> str:
        """The steps that suffice, in words; "" where the model decides."""
        return f"{self.few} to {self.enough} steps" if self.enough else ""
