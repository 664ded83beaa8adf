"""Clusters that are none, or that nobody answers at."""

from tests.catalogue.judged_rows import judged
from tests.catalogue.row import Group, Row


def _row(name: str, given: str, address: str, refused: str) -> Row:
    return Row(name, given, judged("a", "a"), f"cluster {address}: {refused}", like=None,
               checked=False, evaluate=("--cluster", address), needs=("distributed",))  # fmt: skip


ROWS = (
    _row("C1", "a cluster whose address is none", "login-node",
         "is no address; expected tcp://HOST:PORT or tls://HOST:PORT of a Dask scheduler, or "
         "local:N; give what the scheduler prints when it starts"),
    _row("C2", "a cluster without a scheduler", "tcp://127.0.0.1:1",
         "cannot be reached (Connection refused); expected a Dask scheduler that listens there; "
         "start one, or correct the address"),
)  # fmt: skip

CLUSTER = Group(
    "Who works",
    "Given to `vol3dseg evaluate DATA/predictions DATA/references -o OUT --config C`; every "
    "command with `--cluster` says the same.",
    ROWS,
)
