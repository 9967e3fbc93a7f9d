"""What comes out when one profile extends another?

Mappings are merged key by key, and the later file wins. Lists replace each other, but for: packages.add,
packages.remove, services.enable and services.mask, which add up (what a later file adds is taken out of an
inherited ``remove``, and the other way round; likewise enable and mask), and users, merged by name.
"""

from builder.profile.positions import Node

Path = tuple[str | int, ...]

OPPOSITES: dict[Path, str] = {
    ("packages", "add"): "remove",
    ("packages", "remove"): "add",
    ("services", "enable"): "mask",
    ("services", "mask"): "enable",
}
BY_NAME: set[Path] = {("users",)}


def merge(base: Node, over: Node, path: Path = ()) -> Node:
    """``over`` on top of ``base``; every value keeps the place it came from."""
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        return Node(merge_mappings(base.value, over.value, path), over.position, over.key_position)
    if isinstance(base.value, list) and isinstance(over.value, list):
        if path in OPPOSITES:
            there = {repr(node.value) for node in base.value}
            new = [node for node in over.value if repr(node.value) not in there]
            return Node([*base.value, *new], over.position, over.key_position)
        if path in BY_NAME:
            return Node(merge_by_name(base.value, over.value, path), over.position, over.key_position)
    return over


def merge_mappings(base: dict[str, Node], over: dict[str, Node], path: Path) -> dict[str, Node]:
    merged = dict(base)
    for key in over:
        if opposite := OPPOSITES.get((*path, key)):
            take_out(merged, opposite, over[key])
    for key, node in over.items():
        merged[key] = merge(merged[key], node, (*path, key)) if key in merged else node
    return merged


def take_out(merged: dict[str, Node], key: str, items: Node) -> None:
    """Remove from an inherited list what its opposite names in a later file."""
    inherited = merged.get(key)
    if inherited is None or not isinstance(inherited.value, list) or not isinstance(items.value, list):
        return
    named = {repr(node.value) for node in items.value}
    kept = [node for node in inherited.value if repr(node.value) not in named]
    merged[key] = Node(kept, inherited.position, inherited.key_position)


def merge_by_name(base: list[Node], over: list[Node], path: Path) -> list[Node]:
    merged = list(base)
    places = {name_of(node): index for index, node in reversed(list(enumerate(base)))}
    for node in over:
        index = places.pop(name_of(node), None) if name_of(node) is not None else None
        if index is None:
            merged.append(node)
        else:
            merged[index] = merge(merged[index], node, (*path, index))
    return merged


def name_of(node: Node) -> str | None:
    name = node.value.get("name") if isinstance(node.value, dict) else None
    return name.value if name is not None and isinstance(name.value, str) else None
