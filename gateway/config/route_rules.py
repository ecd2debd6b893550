"""Rules between routes, and between routes, limits and upstreams."""

import re
from collections.abc import Iterator, Mapping
from itertools import product

from gateway.config.draft import Draft
from gateway.config.limits import Limit
from gateway.config.problem import KeyPath, did_you_mean, dotted
from gateway.config.routes import Route
from gateway.config.rules import Finding
from gateway.config.tree import Node, nearest


def route_findings(draft: Draft, tree: Node) -> Iterator[Finding]:
    """Routes that take each other's place, name no upstream, or cost more than a bucket holds; limits about nothing."""
    yield from _overlaps(draft.routes, tree)
    yield from _unknown_upstreams(draft)
    yield from _repeated_names(draft.limits, tree)
    yield from _unknown_routes(draft)
    yield from _unpayable(draft)


def _overlaps(routes: Mapping[KeyPath, Route], tree: Node) -> Iterator[Finding]:
    earlier: dict[str, list[tuple[KeyPath, Route]]] = {}
    for path, route in routes.items():
        # Only what is simple to decide: the same template under any names, and a catch-all before it.
        rivals = earlier.get(_form(route), []) + (earlier.get("/**", []) if _form(route) != "/**" else [])
        for rival_path, rival in rivals:
            if (finding := _overlap((rival_path, rival), (path, route), tree)) is not None:
                yield finding
                break
        earlier.setdefault(_form(route), []).append((path, route))


def _overlap(first: tuple[KeyPath, Route], second: tuple[KeyPath, Route], tree: Node) -> Finding | None:
    (first_path, earlier), (path, route) = first, second
    taken = [method for method in route.methods if method in earlier.methods]
    about = tuple((*each, key) for each, key in product((first_path, path), ("path", "methods")))
    where = f"{dotted(first_path)} ({nearest(tree, first_path).place})"
    if taken and _form(earlier) == _form(route):
        return Finding((*path, "path"), f"{where} has this template with {', '.join(taken)} already", about=about)
    if len(taken) == len(route.methods):
        return Finding((*path, "path"), f"can never match: {where} takes every path; put it last", about=about)
    return None


def _form(route: Route) -> str:
    return re.sub(r"\{[^}]*\}", "{}", route.path)


def _unknown_upstreams(draft: Draft) -> Iterator[Finding]:
    known = draft.upstream_names
    for path, route in draft.routes.items():
        if known is None or route.upstream is None or route.upstream in known:
            continue
        near = did_you_mean(route.upstream, known)
        hint = f', did you mean "{near}"?' if near else f"; known: {', '.join(sorted(known))}"
        yield Finding((*path, "upstream"), f"no such upstream{hint}")


def _repeated_names(limits: Mapping[KeyPath, Limit], tree: Node) -> Iterator[Finding]:
    first: dict[str, KeyPath] = {}
    for path, limit in limits.items():
        if limit.name in first:
            place = nearest(tree, (*first[limit.name], "name")).place
            message = f"taken by {dotted(first[limit.name])} ({place}); each needs its own"
            yield Finding((*path, "name"), message, about=((*first[limit.name], "name"),))
        first.setdefault(limit.name, path)


def _unknown_routes(draft: Draft) -> Iterator[Finding]:
    known = draft.templates
    for path, limit in draft.limits.items():
        for index, template in enumerate(limit.routes or ()):
            if known is None or template in known:
                continue
            near = did_you_mean(template, known)
            hint = f', did you mean "{near}"?' if near else "; write it as its path stands there"
            yield Finding((*path, "routes", index), f"not among routes{hint}")


def _unpayable(draft: Draft) -> Iterator[Finding]:
    for (path, route), (limit_path, limit) in product(draft.routes.items(), draft.limits.items()):
        if route.cost > limit.burst and (limit.routes is None or route.path in limit.routes):
            about = ((*limit_path, "burst"), (*limit_path, "rate"), (*limit_path, "routes"), (*path, "path"))
            message = f"{route.cost} is above the burst of {dotted(limit_path)} ({limit.burst}): it could never run"
            yield Finding((*path, "cost"), message, about=about)
