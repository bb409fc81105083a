"""Print the stored figures as the table of `README.md`: `python benchmarks/table.py`."""

import json
from typing import Any

from harness import RESULTS


def rows(name: str, figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, figure, target) of one benchmark."""
    match name:
        case "masked_step":
            return [
                (
                    f"masked step, {k}",
                    f"{f['ratio']:.3f} x the plain step (quartiles {_span(f)}; plain against plain "
                    f"{f['plain_against_plain']:.3f}; inside the masks {f['inside_masks']:.2%})",
                    "≤ 1.05",
                )
                for k, f in figures.items()
            ]
        case "global_magnitude":
            times = [
                (
                    f"global magnitude, {k}: processor time",
                    f"{f['cpu']['ratio']:.2f} x torch ({f['cpu']['ours_s']:.2f} s, {f['cpu']['theirs_s']:.2f} s)",
                    "≤ 0.5",
                )
                for k, f in figures.items()
            ]
            peaks = [
                (
                    f"global magnitude, {k}: extra peak memory",
                    f"{f['memory']['ratio']:.2f} x torch ({f['memory']['ours_mib']:.0f}, "
                    f"{f['memory']['theirs_mib']:.0f} MiB)",
                    "≤ 0.5",
                )
                for k, f in figures.items()
            ]
            return times + peaks
        case "cli_start":
            return [(f"start: {k}", f"{f['cpu_s']:.3f} s", f"≤ {f['target_s']} s") for k, f in figures.items()]
        case "accuracy":
            return _accuracy_rows(figures["means"])
        case "latency":
            return _latency_rows(figures)
        case "locks":
            return _lock_rows(figures)
        case "oneshot":
            targets = {"wanda 50 %": "≤ 1.85", "sparsegpt 50 %": "≤ 2.8", "sparsegpt 2:4": "≤ 2.8"}
            return [
                (
                    f"one-shot, {name}",
                    f"{f['cpu_per_forward']:.2f} x a dense forward, error {f['error']:.4f}, {f['peak_mib']:.0f} MiB",
                    "≤ 1.15" if "dense" in name else "" if "llm" in name else targets[name.partition(",")[0]],
                )
                for name, f in figures.items()
                if "cpu_per_forward" in f
            ] + [
                (name, f"{f['over_one']:.2f} x second moments alone ({f['over_none']:.2f} x none)", "≤ 1.3")
                for name, f in figures.items()
                if "over_one" in f
            ]
        case "larger":
            return _larger_rows(figures)
        case "coverage":
            return _coverage_rows(figures["summary"])
        case "keepsets":
            told = f"{len(figures['wrong'])} wrong, {sum(figures['refused'].values())} refused"
            return [(f"{figures['cuts']} cuts at random of {figures['models']} models", told, "0 wrong")]
        case "kill":
            differ = len(figures["stories_that_differ"])
            return [(f"{figures['kills']} kills in {figures['stories']} stories", f"{differ} differ", "0")]
        case "report":
            wrote, opened = figures["write"], figures["open"] or {}
            first = opened.get("first_plot_s")
            return [
                (f"report of {figures['runs']} runs: processor time", f"{wrote['cpu_s']:.2f} s", "≤ 5 s"),
                (f"report of {figures['runs']} runs: size", f"{figures['megabytes']:.2f} MB", "≤ 6 MB"),
                (
                    f"report of {figures['runs']} runs: opened in Chromium, to table and first plot",
                    "not measured" if first is None else f"{opened['table_ready_s']:.2f} s, {first:.2f} s",
                    "≤ 2 s",
                ),
            ]
        case "load":
            return [row for kind in ("dense", "masked") for row in _load_rows(kind, figures[kind])]
        case "sweep":
            return [
                (
                    f"{side} of {figures['cells']} cells over its runs",
                    f"{figures[f'{name}_over_runs']:.3f} x ({figures[f'{name}_s']:.1f} s, {figures['runs_s']:.1f} s)",
                    "≤ 1.05",
                )
                for side, name in (("sweep", "sweep"), ("whole command, two workers,", "command"))
            ]
        case "structured":
            return _structured_rows(figures)
        case "hostile":
            ended = ", ".join(f"{n} {how}" for how, n in figures["ended"].items())
            told = f"{ended}; longest {figures['longest_s']:.1f} s, {figures['largest_peak_bytes'] >> 20} MiB"
            return [(f"{figures['inputs']} hostile inputs", told, "no other end, 10 s, 1 GiB")]
    raise ValueError(name)


def _coverage_rows(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for zoo, f in summary.items():
        least = f" ({f['not_half']} at the least MACs that they name)" if f["not_half"] else ""
        told = f"{f['passed']} of {f['models']}{least}"
        rows.append((f"coverage, {zoo}: half the MACs, proven, trained, saved, loaded", told, "all"))
        told = f"{f['wide']} of {f['models']}, {f['unexplained']} of them unexplained"
        rows.append((f"coverage, {zoo}: half the width keeps more than 0.55 of the parameters", told, "0 unexplained"))
        told = f"median {f['find_median_s']:.2f} s, longest {f['find_longest_s']:.2f} s"
        rows.append((f"coverage, {zoo}: finding the families", told, ""))
    return rows


def _load_rows(kind: str, figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for name in (f"{verify} against {peer}" for verify in ("xxh3", "sha256") for peer in ("mapped", "owned")):
        f = figures[name]
        told = f"{f['ratio']:.2f} x ({1e3 * f['ours_s']:.0f} ms, {1e3 * f['theirs_s']:.0f} ms)"
        rows.append((f"load, {kind}, {name}", told, "≤ 1.2" if (kind, name[:4]) == ("dense", "xxh3") else ""))
    peak, most = figures["peak_bytes"]["ours"], figures["file_bytes"] + figures["model_bytes"]
    return [*rows, (f"load, {kind}: extra peak memory", f"{peak >> 20} MiB", f"≤ {most >> 20} MiB")]


_NAMED = {
    "torchvision/densenet201": 3,
    "torchvision/swin_t": 8,
    "torchvision/maxvit_t": 8,
    "timm/eca_vovnet39b": 5,
    "timm/mobilevitv2_050": 3,
    "timm/maxvit_rmlp_pico_rw_256": 8,
    "transformers/llama_gqa2": 8,
}


def _structured_rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    summary, models = figures["summary"], figures["models"]
    mine, other = summary["ours"], summary.get("theirs")
    rows = []
    for key, name, target in (("median_s", "median", 1), ("p90_s", "ninth decile", 2.6)):
        beside = f" (Torch-Pruning {other[key]:.2f} s on the {other['models']} that it cuts)" if other else ""
        what = f"structured, {mine['models']} models of torchvision: {name}"
        rows.append((what, f"{mine[key]:.2f} s{beside}", f"≤ {target} s"))
    rows += _worst(models)
    for name, target in _NAMED.items():
        found = models[name]
        rows.append((f"structured, {name}", f"{found['ours']['cpu_s']:.2f} s{_peer(found)}", f"≤ {target} s"))
    equal = f"{summary['equal']} of {summary['of']} models"
    rows.append(("structured: cut equals masked, with and without garbage", equal, "all"))
    rows.append(("structured: time over operations, DenseNets", f"exponent {figures['exponent']:.2f}", "1"))
    for name, f in figures["memory"].items():
        told = f"{f['extra_bytes'] >> 20} MiB (model {f['model_bytes'] >> 20} MiB)"
        rows.append((f"structured, {name}: peak above the model", told, "≤ 200 MB"))
    llama = figures["llama_1b"]
    told = f"find {llama['find_s']:.1f} s, cut {llama['cut_s']:.1f} s, {llama['extra_bytes'] >> 20} MiB"
    rows.append(("structured, Llama of 1.2 billion parameters on meta", told, "find ≤ 20 s"))
    for name, f in figures["proof"].items():
        told, target = f["proof_in_dense_passes"], f["target_in_dense_passes"]
        rows.append((f"structured, {name}: proof in dense passes", f"{told:.2f}", f"≤ {target:.2f}"))
    return rows


def _worst(models: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The slowest of torchvision: of those on which the peer comes to an end, well or not, and of the others."""
    seen = {name: f for name, f in models.items() if name.startswith("torchvision/") and "cpu_s" in f["ours"]}
    rows = []
    for ends, what, target in ((True, "on which the peer ends", 5), (False, "on which it does not", 8)):
        some = {
            n: f["ours"]["cpu_s"] for n, f in seen.items() if (f.get("theirs", {}).get("error") != "no end") == ends
        }
        if some:
            name = max(some, key=lambda n: some[n])
            told = f"{some[name]:.2f} s ({name.partition('/')[2]})"
            rows.append((f"structured, torchvision: worst of those {what}", told, f"≤ {target} s"))
    return rows


def _accuracy_rows(means: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    found = []
    for key, m in sorted(means.items(), key=lambda item: (item[0].split("/")[0], -item[1].get("tuned", 0))):
        net, _, contender = key.partition("/")
        told = m.get("error") or f"{m['cut']:.1%} as cut, {m['tuned']:.1%} after 60 steps, {m['macs']:.1%} of the MACs"
        found.append((f"accuracy, {net}: {contender}", told, ""))
    return found


def _larger_rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = []
    for name, f in figures.items():
        told = f"{f['above_mib']:.0f} MiB ({f['peak_mib']:.0f} with libraries), {f['cpu_s']:.0f} s of processor"
        target = f"≤ {f['bound_mib']:.0f} MiB, as was reckoned"
        what = f"{f['params'] / 1e9:.1f} billion parameters" if "params" in f else name
        found.append((f"from disk to disk, wanda, {what}", told, target if "blocks" not in name else f"flat, {target}"))
    return found


def _latency_rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    found = []
    for name, cuts in figures.items():
        for cut, told in cuts.items():
            for where, f in told.items():
                if isinstance(f, dict):
                    target = "≤ 0.55" if where.startswith("onnx") else "≤ 0.65"
                    found.append((f"latency, {name}, half by {cut}: {where}", f"{f['ratio']:.2f} x dense", target))
            if "error" in told:
                found.append((f"latency, {name}, half by {cut}", told["error"], ""))
    return found


def _lock_rows(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (
            f"half of the queries of each key, {name}, {score}: perplexity",
            f"{f[f'{score}, count']['mean']:.2f}, locked by index {f[f'{score}, index']['mean']:.2f}, "
            f"dense {f['dense']['mean']:.2f}",
            "",
        )
        for name, f in figures.items()
        for score in dict.fromkeys(key.partition(",")[0] for key in f if "," in key)
    ]


def _peer(found: dict[str, Any]) -> str:
    other = found.get("theirs", {})
    if "cpu_s" in other:
        return f" (Torch-Pruning {other['cpu_s']:.2f} s)"
    if other.get("error") == "no end":
        return f" (Torch-Pruning: no end in {other['ended_after_s']:.0f} s)"
    return f" (Torch-Pruning fails: {other['error']})" if "error" in other else ""


def _span(figures: dict[str, Any]) -> str:
    low, high = figures["ratio_quartiles"]
    return f"{low:.3f} to {high:.3f}"


def main() -> None:
    """Print a row for every figure."""
    print("| what | figure | target |\n|---|---|---|")
    for file in sorted(RESULTS.glob("*.json")):
        stored = json.loads(file.read_text())
        for what, figure, target in rows(stored["benchmark"], stored["figures"]):
            print(f"| {what} | {figure} | {target} |")


if __name__ == "__main__":
    main()
