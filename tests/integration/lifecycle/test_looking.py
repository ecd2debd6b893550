"""What looks after the ledger goes on, whatever it meets there."""

from pathlib import Path

from tests.fakes.until import until
from tests.integration.asynchronous.calls import keeping
from tests.integration.server.api import Api
from tests.integration.server.wire import get


async def test_the_ledger_s_gauges_stay_true_where_files_cannot_be_looked_through(api: Api, tmp_path: Path) -> None:
    broken = tmp_path / "ledger.db.files" / "owner" / "x.about"
    broken.mkdir(parents=True)

    async with keeping(api.url, tmp_path) as running:

        async def stored() -> bool:
            page = (await get(running.admin_port, "/metrics")).body
            return b"batch_gateway_ledger_stored_bytes" in page and b"ledger_stored_bytes 0.0" not in page

        await until(stored)
