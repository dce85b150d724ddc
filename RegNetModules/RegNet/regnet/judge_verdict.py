"""From evidence to a traffic light. Nothing is green by default: green needs every piece of evidence, and each to pass.

What is found is told in plain sentences, one per problem, each with its value and with the limit that it crossed. The
worst of them decides: ``red`` do not use this result, ``unknown`` it cannot be told, ``amber`` look before you use it.

The limits, and why these:

- Folds: tissue cannot pass through itself. A single folded voxel is amber, because most often it is a flaw of the
  sampling at a border; more than 0.1 % of the fixed foreground is red.
- Similarity: neighbourhoods of the fixed image, about a tenth of its size, are looked for in the registered moving
  image up to 8 voxels of the judging grid away (see :mod:`regnet.judge_agreement`). Where two brains of one or of two
  contrasts lie on each other, 95 % and more of them fit best within 2 voxels of where they are put; where two
  subjects or two phases of breathing are registered well, 87 % and more. It is 50 to 80 % after an affine transform
  alone, 10 % after a mirroring from front to back, none after a shift by 5 voxels. Green asks for 85 %, below 30 % is
  red. It is also red if the whole image would fit clearly better (by 5 % of all that there is to win) at a shift of 2
  voxels or more, or mirrored.
- Mutual information that fell by more than 10 % through the registration is amber.
- Field of view: what maps outside the moving image has nothing to be compared with. From 5 % of the fixed foreground on
  it is amber, from half of it on red. Less than a fifth left to compare: the similarity is unknown.
- A run that says of itself that it did not converge is amber.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .events import STOPPED_EARLY

FOLDS_RED = 0.1
"""Per cent of the fixed foreground."""
SETTLED_GREEN, SETTLED_RED = 85.0, 30.0
"""Per cent of the neighbourhoods that fit best where the transform puts them."""
GAIN_AMBER, GAIN_RED = 0.02, 0.05
"""Of the agreement above chance, at another place."""
LOSS_AMBER = 0.1
"""Share of the mutual information that may be lost."""
OUTSIDE_AMBER, OUTSIDE_RED = 5.0, 50.0
"""Per cent of the fixed foreground."""
COMPARED_LEAST = 20.0
"""Per cent of the fixed foreground without which nothing is said about similarity."""

GREEN, AMBER, UNKNOWN, RED = LEVELS = ("green", "amber", "unknown", "red")
"""From the best to the worst."""


@dataclass(frozen=True)
class Problem:
    """``kind`` is ``folds``, ``similarity``, ``field of view`` or ``convergence``; ``text`` one sentence."""

    kind: str
    level: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """``level`` is one of :data:`LEVELS`. Without problems ``reason`` says what was passed."""

    level: str
    problems: tuple[Problem, ...]
    reason: str

    @property
    def sentences(self) -> list[str]:
        return [problem.text for problem in self.problems] or [self.reason]


def verdict(numbers: dict[str, Any], run: dict[str, Any] | None = None) -> Verdict:
    """What ``numbers`` of :func:`regnet.judge.judge`, and the report of the ``run`` if there is one, amount to.

    A number that is missing or None is missing evidence.
    """
    found = [*_folds(numbers), *_outside(numbers), *_similarity(numbers), *_convergence(run or {})]
    problems = tuple(sorted(found, key=lambda problem: -LEVELS.index(problem.level)))
    level = problems[0].level if problems else GREEN
    return Verdict(level, problems, "" if problems else _passed(numbers))


def _passed(numbers: dict[str, Any]) -> str:
    return (
        f"No folds, {numbers['outside_percent']:.1f} % outside the field of view, and "
        f"{numbers['settled_percent']:.0f} % of the neighbourhoods fit best within {numbers['settled_mm']:.1f} mm of "
        f"where they are put."
    )


def _folds(numbers: dict[str, Any]) -> list[Problem]:
    share, least = numbers.get("folded_percent"), numbers.get("smallest_determinant")
    if share is None or least is None:
        return [Problem("folds", UNKNOWN, "Whether the transform folds could not be found out.")]
    if share <= 0 and least > 0:
        return []
    if share > 99.9:
        text = "The transform turns the image inside out (its Jacobian determinant is negative everywhere)."
        return [Problem("folds", RED, text)]
    level = RED if share > FOLDS_RED else AMBER
    limit = f"more than the {FOLDS_RED:g} % that could be a flaw of the sampling" if level == RED else "look there"
    text = f"{share:.2g} % of the fixed foreground is folded (Jacobian determinant down to {least:.2f}): {limit}."
    return [Problem("folds", level, text)]


def _outside(numbers: dict[str, Any]) -> list[Problem]:
    share = numbers.get("outside_percent")
    if share is None:
        text = "How much of the fixed image maps into the moving image could not be found out."
        return [Problem("field of view", UNKNOWN, text)]
    if share <= OUTSIDE_AMBER:
        return []
    level = RED if share >= OUTSIDE_RED else AMBER
    limit = OUTSIDE_RED if level == RED else OUTSIDE_AMBER
    text = (
        f"{share:.0f} % of the fixed foreground maps outside the moving image's field of view (limit {limit:g} %): the "
        f"result rests on nothing there."
    )
    return [Problem("field of view", level, text)]


def _similarity(numbers: dict[str, Any]) -> list[Problem]:
    settled, compared = numbers.get("settled_percent"), numbers.get("compared_percent")
    if settled is None or compared is None or compared < COMPARED_LEAST:
        share = "nothing" if not compared else f"only {compared:.0f} %"
        text = (
            f"Whether the images fit cannot be told: {share} of the fixed foreground could be compared "
            f"({COMPARED_LEAST:g} % is needed)."
        )
        return [Problem("similarity", UNKNOWN, text)]
    return [*_elsewhere(numbers), *_settled(numbers), *_loss(numbers)]


def _settled(numbers: dict[str, Any]) -> list[Problem]:
    settled = numbers["settled_percent"]
    if settled >= SETTLED_GREEN:
        return []
    level = RED if settled < SETTLED_RED else AMBER
    limit = SETTLED_RED if level == RED else SETTLED_GREEN
    text = (
        f"Poor similarity: only {settled:.0f} % of the neighbourhoods fit best within {numbers['settled_mm']:.1f} mm "
        f"of where the transform puts them ({limit:g} % is needed)."
    )
    return [Problem("similarity", level, text)]


def _elsewhere(numbers: dict[str, Any]) -> list[Problem]:
    """The whole image shifted, or mirrored, whichever fits better."""
    gain, mirrored = numbers.get("better_gain") or 0.0, numbers.get("mirrored_gain") or 0.0
    if mirrored > max(GAIN_RED, gain + GAIN_AMBER):
        text = (
            f"The image would fit better mirrored ({_won(mirrored)}, limit {100 * GAIN_RED:g} %); check left and right."
        )
        return [Problem("similarity", RED, text)]
    if gain <= GAIN_AMBER:
        return []
    shift = numbers["better_shift_mm"]
    level = RED if gain > GAIN_RED and shift >= 0.9 * numbers["settled_mm"] else AMBER
    limit = 100 * (GAIN_RED if level == RED else GAIN_AMBER)
    text = f"The whole image would fit better {shift:.1f} mm away ({_won(gain)}, limit {limit:g} %)."
    return [Problem("similarity", level, text)]


def _won(gain: float) -> str:
    return f"by {100 * gain:.0f} % of what there is to win"


def _loss(numbers: dict[str, Any]) -> list[Problem]:
    before, after = numbers.get("nmi_before"), numbers.get("nmi_after")
    if before is None or after is None or after >= (1 - LOSS_AMBER) * before:
        return []
    text = f"The images are less alike than before (normalised mutual information {before:.3f} to {after:.3f})."
    return [Problem("similarity", AMBER, text)]


def _convergence(run: dict[str, Any]) -> list[Problem]:
    if run.get("converged") is False:
        return [Problem("convergence", AMBER, "The registration says of itself that it did not converge.")]
    early = [text for text in run.get("warnings") or [] if str(text).startswith(STOPPED_EARLY)]
    if early:
        return [Problem("convergence", AMBER, "The registration was stopped before it had converged.")]
    return []
