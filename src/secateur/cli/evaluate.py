"""`secateur evaluate`"""

from typing import Annotated

import typer


def evaluate(
    model: Annotated[str, typer.Argument(help="A language model, named as for `secateur prune`.")],
    perplexity: Annotated[
        str | None,
        typer.Option("--perplexity", help="A text file, token ids (.npy), or dataset:NAME:CONFIG:SPLIT:COLUMN."),
    ] = None,
    length: Annotated[
        int | None, typer.Option("--length", help="Tokens in a window; by default the context, 2048 at most.")
    ] = None,
    windows: Annotated[int | None, typer.Option("--windows", help="Only the first so many windows.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", help="A folder or hub name, where the model has none beside it.")
    ] = None,
    lm_eval: Annotated[
        str | None, typer.Option("--lm-eval", help="Tasks of lm-evaluation-harness, separated by commas.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Samples of each of these tasks.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a language model: perplexity in full, non-overlapping windows, or tasks of lm-evaluation-harness.

    Example: secateur evaluate small/ --perplexity wikitext-2-test.txt --length 1024
    """
    from secateur.core import RecipeError

    from .output import print_json, progress
    from .work import measure_language

    if perplexity is None and lm_eval is None:
        raise RecipeError(
            "nothing is to be measured", where="secateur evaluate", mend="--perplexity FILE or --lm-eval TASKS"
        )
    with progress():
        found = measure_language(
            model, tokenizer or model, perplexity, length, windows, lm_eval.split(",") if lm_eval else None, limit
        )
    if json:
        print_json(found)
        return
    for name in ("perplexity", "windows", "length", "tokens"):
        if name in found:
            print(f"{name:12} {found[name]:.4f}" if name == "perplexity" else f"{name:12} {found[name]}")
    for name, measured in found.get("results", {}).items():
        for metric, value in measured.items():
            error = measured.get(metric.replace(",", "_stderr,"))
            if isinstance(value, float) and "_stderr" not in metric:
                print(f"{name}, {metric.partition(',')[0]}: {value:.4f}" + _spread(error))


def _spread(error: object) -> str:
    return f" ± {error:.4f} (standard error)" if isinstance(error, float) else ""
