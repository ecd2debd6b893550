"""The native outcomes as a `DAV:multistatus` (RFC 4918 section 13; WIRE 8), for clients that read XML."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import quote
from xml.etree import ElementTree as Xml

from gateway.batch.model import Outcome, Summary
from gateway.dialects.slices import Sliced, at_once
from gateway.errors import PROBLEMS

_DAV = "{DAV:}"
_REASONS = {status.value: status.phrase for status in HTTPStatus}
# XML 1.0 section 2.2: these characters cannot stand in a document, not even escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Xml.register_namespace("D", "DAV:")


class XmlWriter:
    """One `response` an operation, in the order of the operations; bodies have no place in it."""

    media_type = "application/xml"

    def whole(self, ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str) -> bytes:
        return at_once(self.written(ids, outcomes, summary, base))

    def written(self, ids: Sequence[str], outcomes: Sequence[Outcome], summary: Summary, base: str) -> Sliced[bytes]:
        root = Xml.Element(f"{_DAV}multistatus")
        for id_, outcome in zip(ids, outcomes, strict=True):
            _append_response(root, id_, outcome, base)
            yield None
        Xml.SubElement(root, f"{_DAV}responsedescription").text = f"{summary.succeeded} of {summary.total} succeeded"
        document: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
        return document


def _append_response(root: Xml.Element, id_: str, outcome: Outcome, base: str) -> None:
    response = Xml.SubElement(root, f"{_DAV}response")
    # No href may stand twice (RFC 4918 14.24), though two operations may share a target: so the id names it.
    Xml.SubElement(response, f"{_DAV}href").text = f"{base}?operation={quote(id_)}"
    Xml.SubElement(response, f"{_DAV}status").text = f"HTTP/1.1 {outcome.status} {_REASONS.get(outcome.status, '')}"
    if outcome.failure is not None:
        error = Xml.SubElement(response, f"{_DAV}error")
        Xml.SubElement(error, outcome.failure.slug)
        words = f"{PROBLEMS[outcome.failure.slug].title}: {outcome.failure.detail}"
        Xml.SubElement(response, f"{_DAV}responsedescription").text = _FORBIDDEN.sub("\ufffd", words)
    location = outcome.headers.get("Location")
    if isinstance(location, str) and (outcome.status == 201 or 300 <= outcome.status < 400):
        place = Xml.SubElement(Xml.SubElement(response, f"{_DAV}location"), f"{_DAV}href")
        place.text = _FORBIDDEN.sub("\ufffd", location)
