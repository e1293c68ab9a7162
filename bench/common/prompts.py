"""Prompts for synthetic models, of as many tokens as are wanted."""


def words(count, seed):
    """Each a token of the synthetic vocabulary: a space and two syllables."""
    syllables = [consonant + vowel for consonant in "bcdfghjklmnprstvwxyz" for vowel in "aeiou"]
    picked = [(seed + index) * 2654435761 % 2**32 for index in range(count)]
    return "".join(f" {syllables[pick % 100]}{syllables[pick // 100 % 30]}" for pick in picked)
