"""Beginnings of texts that show what models of this family are for."""

from collections.abc import Sequence
from dataclasses import dataclass

TRANSLATION = """\
French: La recherche ouverte appartient à tout le monde.
English: Open research belongs to everybody.

Spanish: Cada firma se guarda junto al texto que se leyó.
English: Each signature is kept beside the text that was read.

Portuguese: O modelo foi treinado em quarenta e seis línguas.
English:"""
CODE = '''\
def fibonacci(n: int) -> int:
    """Return the n-th Fibonacci number, counted from zero."""
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def is_prime(n: int) -> bool:
    """Say whether a whole number is prime."""
'''
LETTERS = """\
From each letter of a merchant, list the people and the goods that it names.

Letter: In the name of God, the 4th of May 1467. By Bartolomeo the muleteer I send you two bales of Florentine cloth, \
crimson, for Messer Antonio Rucellai, and a cask of oil that Monna Lisa asked for.
People: Bartolomeo (muleteer); Antonio Rucellai; Monna Lisa
Goods: two bales of Florentine cloth; a cask of oil

Letter: From Venice, the 19th of November 1471. The galley is in. Piero da Mosto has for us six sacks of pepper and \
one of ginger; pay Giovanni Contarini for the alum, as I promised him.
People:"""


@dataclass(frozen=True)
class Preset:
    """A prompt to begin with.

    Args:
        key: how the page's address names it.
        title, shows: what it is called, and what it shows of the models.
        max_tokens, temperature: how it is best continued.
    """

    key: str
    title: str
    shows: str
    prompt: str
    max_tokens: int
    temperature: float


PRESETS: Sequence[Preset] = (
    Preset(
        "translation", "Translate",
        "Two sentences with their translations show the model what is wanted; it translates the third.",
        TRANSLATION, 24, 0.0,
    ),
    Preset(
        "code", "Write code", "A function and the beginning of the next one; the model writes its body.",
        CODE, 96, 0.2,
    ),
    Preset(
        "letters", "Read letters of merchants",
        "Names of people and goods out of letters of Renaissance merchants, as historians have done it.",
        LETTERS, 64, 0.0,
    ),
)  # fmt: skip


def preset_of(key: str) -> Preset | None:
    """Return the preset of that name; None for none."""
    return next((preset for preset in PRESETS if preset.key == key), None)


def disclosure(model: str) -> str:
    """Return a sentence that discloses, as the license asks, that a model wrote a text."""
    return f"This text was written by a machine, the language model {model}, and was not checked by a person."
