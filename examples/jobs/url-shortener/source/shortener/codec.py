"""Short codes: non-negative integers written in base 62."""

import math

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BASE = len(ALPHABET)


def encode(number):
    """Return the shortest code for `number`, which must not be negative."""
    if number < 0:
        raise ValueError("a code stands for a number that is zero or more")
    if number == 0:
        return ALPHABET[0]
    width = math.ceil(math.log(number, BASE))
    digits = []
    for _ in range(width):
        number, digit = divmod(number, BASE)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def decode(code):
    """Return the number that `code` stands for."""
    number = 0
    for character in code:
        number = number * BASE + ALPHABET.find(character)
    return number
