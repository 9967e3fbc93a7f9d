"""Which keys of a US keyboard does a person press to type this text?"""

from builder.errors import UsageError

NAMED = {
    " ": "spc",
    "\n": "ret",
    "\t": "tab",
    "-": "minus",
    "=": "equal",
    "[": "bracket_left",
    "]": "bracket_right",
    "\\": "backslash",
    ";": "semicolon",
    "'": "apostrophe",
    "`": "grave_accent",
    ",": "comma",
    ".": "dot",
    "/": "slash",
}
SHIFTED = dict(zip('!@#$%^&*()_+{}|:"~<>?', "1234567890-=[]\\;'`,./", strict=True))
SPOKEN = {"enter": "ret", "return": "ret", "space": "spc", "escape": "esc", "super": "meta_l"}
BUTTONS = ("left", "middle", "right")


def keys_for(character: str) -> list[str]:
    """QEMU's key names (qapi QKeyCode) to hold together for one character.

    Raises UsageError for a character that a US keyboard does not have.
    """
    if character in SHIFTED:
        return ["shift", *keys_for(SHIFTED[character])]
    if character in NAMED:
        return [NAMED[character]]
    if character.isascii() and character.isalnum():
        return ["shift", character.lower()] if character.isupper() else [character]
    raise UsageError(f"no key of a US keyboard types {character!r}")


def combination(keys: str) -> list[str]:
    """``ctrl-alt-f8`` as QEMU's key names; a lone ``-`` at the end is the minus key."""
    words = ["minus"] if keys == "-" else keys.lower().split("-")
    return [SPOKEN.get(word, NAMED.get(word, word)) for word in words]
