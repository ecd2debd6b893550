"""Who a forwarded client certificate is of."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.client_cert import By, named_by_certificate, named_by_envoy

HASH = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688"


@pytest.mark.parametrize(
    ("lines", "by", "name"),
    [
        (["By=spiffe://a;Hash=" + HASH + ';Subject="/C=US/CN=one, two; \\"3\\"";URI=spiffe://b'], "subject",
         '/C=US/CN=one, two; "3"'),
        ([f"By=x;Hash={HASH};URI=spiffe://b;DNS=a.test;DNS=b.test"], "hash", HASH),
        ([f"Hash={HASH};URI=spiffe://b;DNS=a.test;DNS=b.test"], "dns", "a.test\nb.test"),
        (["uri=spiffe://b"], "uri", "spiffe://b"),
        (["URI=first, URI=last"], "uri", "last"),
        (["URI=first", "URI=last"], "uri", "last"),
        (['Subject="CN=a"', "URI=last"], "subject", None),
        (["Hash=" + HASH], "subject", None),
        (['Subject=""'], "subject", None),
        ([], "subject", None),
        ([""], "subject", None),
        (["URI=a,"], "uri", None),
        (["URI=a;Subject=\"CN=b"], "uri", None),
        (["URI=a b\"c"], "uri", None),
        (["garbage"], "uri", None),
    ],
)  # fmt: skip
def test_envoys_field_names_whom_the_nearest_proxy_has_checked(lines: list[str], by: By, name: str | None) -> None:
    assert named_by_envoy(lines, by) == name


@given(st.lists(st.text(max_size=60), max_size=3), st.sampled_from(["subject", "uri", "dns", "hash"]))
def test_nothing_that_is_sent_raises(lines: list[str], by: By) -> None:
    named_by_envoy(lines, by)
    named_by_certificate(lines, by)


def certificate(*names: x509.GeneralName) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ada")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def field(of: x509.Certificate) -> str:
    return f":{base64.b64encode(of.public_bytes(serialization.Encoding.DER)).decode()}:"


def test_a_whole_certificate_is_named_by_what_it_says() -> None:
    ours = certificate(x509.UniformResourceIdentifier("spiffe://b"), x509.DNSName("a.test"), x509.DNSName("b.test"))

    names = {by: named_by_certificate([field(ours)], by) for by in ("subject", "uri", "dns", "hash")}

    assert names == {
        "subject": "CN=ada", "uri": "spiffe://b", "dns": "a.test\nb.test",
        "hash": ours.fingerprint(hashes.SHA256()).hex(),
    }  # fmt: skip


def test_what_is_no_certificate_or_does_not_say_names_nobody() -> None:
    bare = field(certificate())

    assert named_by_certificate([bare], "uri") is None
    for wrong in ([], [bare, bare], [bare[1:]], [":AAAA:"], [":A:"], ["::"], [f"{bare};a=1"]):
        assert named_by_certificate(wrong, "subject") is None
