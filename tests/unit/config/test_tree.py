"""How one source lies over another."""

from gateway.config.tree import Node, Place, branch, find, nearest, overlay, plain

_FILE, _VARIABLE = Place("f", 1, 1), Place("environment X")


def _map(place: Place, **children: object) -> Node:
    return Node({key: Node(value, place, place) for key, value in children.items() if isinstance(value, str)}, place)


def test_maps_are_merged_key_by_key_and_the_upper_value_keeps_its_place() -> None:
    tree = overlay(_map(_FILE, a="1", b="1"), _map(_VARIABLE, b="2"))

    assert plain(tree) == {"a": "1", "b": "2"}
    assert nearest(tree, ("a",)).place == _FILE
    assert nearest(tree, ("b",)).place == _VARIABLE


def test_a_secret_is_replaced_whole_because_two_origins_would_refuse_each_other() -> None:
    tree = overlay(_map(_FILE, value="1"), _map(_VARIABLE, fromEnv="X"))

    assert plain(tree) == {"fromEnv": "X"}


def test_a_list_is_replaced_whole() -> None:
    below = Node({"a": Node((Node(1, _FILE), Node(2, _FILE)), _FILE)}, _FILE)

    assert plain(overlay(below, branch(("a",), Node((Node(3, _VARIABLE),), _VARIABLE)))) == {"a": [3]}


def test_nearest_stops_where_the_path_leaves_the_tree() -> None:
    tree = branch(("a", "b"), Node(1, _FILE))

    assert nearest(tree, ("a", "x", "y")) == find(tree, ("a",))
    assert find(tree, ("a", "x")) is None
    assert find(tree, ("a", "b", 0)) is None
