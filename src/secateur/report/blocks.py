"""What pruning block by block did, as text."""

from collections.abc import Mapping, Sequence
from typing import Any


def blocks_text(blocks: Sequence[Mapping[str, Any]], bound: int | None = None, folder: str | None = None) -> str:
    """One line for each block: what is gone, what its layers' outputs lost before and after repair, time, memory."""
    width = max([len(str(b["block"])) for b in blocks] + [5])
    lines = [f"{'block':<{width}}  {'sparsity':>8}  {'masked':>8}  {'repaired':>8}  {'cpu s':>7}  {'peak MiB':>8}"]
    for told in blocks:
        gone = 1 - told["kept"] / max(told["units"], 1)
        lines.append(
            f"{told['block']:<{width}}  {gone:>8.2%}  {_error(told, 'error_before'):>8}  {_error(told, 'error'):>8}  "
            f"{told['cpu_s']:>7.1f}  {told['peak_mib']:>8}"
        )
    lines.append("masked, repaired: share of the energy of the layers' outputs that is lost")
    if bound is not None:
        lines.append(f"at most {bound / 2**20:.0f} MiB were reckoned to be needed at once, beside Python itself")
    if folder is not None:
        lines.append(f"saved {folder}")
    return "\n".join(lines)


def _error(told: Mapping[str, Any], name: str) -> str:
    return f"{told[name]:.4f}" if name in told else "-"
