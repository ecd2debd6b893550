"""The vendors' batches that a configuration speaks, all on the way that the native ones go."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway import wiring
from gateway.batch.validation import Rules
from gateway.config import Config
from gateway.dialects.on_record import OnRecordDialect
from gateway.dialects.port import InPlaceDialect
from gateway.server.vendors import Mounted, Unkept, Vendor, Vendors, Way

if TYPE_CHECKING:  # they bring the ledger with them
    from gateway.ledger.files import Files
    from gateway.server.custody import Custody


def vendors(config: Config, way: Way, custody: "Custody | None", files: "Files | None") -> Vendors:
    """Without `custody` no batch is kept, without `files` none that is made of files."""
    rules = wiring.rules(config, may_bring_credentials=True)
    mounted = [
        *(
            each
            for dialect in wiring.dialects_in_place(config, rules)
            for each in _at_once(dialect, rules, way, custody)
        ),
        *(_later(dialect, way, custody, files) for dialect in wiring.dialects_on_record(config, rules)),
    ]
    return Vendors(mounted, way.settings.origins)


def _at_once(dialect: InPlaceDialect, rules: Rules, way: Way, custody: "Custody | None") -> Sequence[Mounted]:
    """Those that are answered in place, and the monitors of those that are not after all."""
    if dialect.later is None or custody is None:
        return [Vendor(dialect, rules, way)]
    from gateway.server.monitors import Monitors  # they bring the ledger with them

    monitors = Monitors(dialect, dialect.later, way, custody)
    return [Vendor(dialect, rules, way, monitors), monitors]


def _later(dialect: OnRecordDialect, way: Way, custody: "Custody | None", files: "Files | None") -> Mounted:
    """The calls of those that are answered later."""
    if custody is None:
        return Unkept(dialect, "these batches need a ledger, and this gateway has none")
    from gateway.server.vendor_batches import VendorBatches  # they bring the ledger with them
    from gateway.server.vendor_files import VendorFiles

    if dialect.files is None:
        return VendorBatches(dialect, way, custody)
    if files is None:
        return Unkept(dialect, "these batches are made of files, which need an embedded ledger (sqlite)")
    return VendorBatches(dialect, way, custody, VendorFiles(dialect, dialect.files, files, custody))
