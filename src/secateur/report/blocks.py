"""What pruning block by block did, as text."""

from collections.abc import Mapping, Sequence
from typing import Any

_LAYERS = ({"masked": "error_before", "repaired": "error"}, "share of the energy of the layers' outputs that is lost")
_BLOCKS = ({"pruned": "output_error_before", "healed": "output_error"}, "that of the block's output")


def blocks_text(blocks: Sequence[Mapping[str, Any]], bound: int | None = None, folder: str | None = None) -> str:
    """One line for each block: what is gone, what its outputs lost before and after repair, time, memory."""
    width = max([len(str(b["block"])) for b in blocks] + [5])
    healed = any("output_error" in told for told in blocks)
    parts = [_LAYERS, _BLOCKS] if healed else [_LAYERS]
    errors = {title: key for columns, _ in parts for title, key in columns.items()}
    heads = "".join(f"  {title:>8}" for title in errors)
    lines = [f"{'block':<{width}}  {'sparsity':>8}{heads}  {'cpu s':>7}  {'peak MiB':>8}"]
    for told in blocks:
        gone = 1 - told["kept"] / max(told["units"], 1)
        lost = "".join(f"  {_error(told, key):>8}" for key in errors.values())
        lines.append(f"{told['block']:<{width}}  {gone:>8.2%}{lost}  {told['cpu_s']:>7.1f}  {told['peak_mib']:>8}")
    lines.append("; ".join(f"{', '.join(columns)}: {meaning}" for columns, meaning in parts))
    if bound is not None:
        lines.append(f"at most {bound / 2**20:.0f} MiB were reckoned to be needed at once, beside Python itself")
    if folder is not None:
        lines.append(f"saved {folder}")
    return "\n".join(lines)


def _error(told: Mapping[str, Any], name: str) -> str:
    return f"{told[name]:.4f}" if name in told else "-"
