"""`secateur prune`"""

from typing import Annotated, Any

import typer


def prune(
    model: Annotated[
        str,
        typer.Argument(
            help="A saved folder, an ONNX file, a transformers folder or hub name, timm:NAME, builtin:NAME, or "
            "file.py:factory."
        ),
    ],
    method: Annotated[str, typer.Option("--method", "-m", help="A method's id; `secateur methods` lists them.")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="The folder to write, or a name that ends in .onnx; it must not exist."),
    ],
    sparsity: Annotated[float | None, typer.Option("--sparsity", "-s", help="Share to remove, 0 to 1.")] = None,
    macs: Annotated[
        float | None, typer.Option("--macs", help="Instead: share of the MACs that stays, for structures that cut.")
    ] = None,
    params: Annotated[float | None, typer.Option("--params", help="Likewise of the parameters.")] = None,
    bytes: Annotated[float | None, typer.Option("--bytes", help="Likewise of their bytes.")] = None,
    latency: Annotated[float | None, typer.Option("--latency", help="Likewise of the latency.")] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="builtin:NAME or file.py:factory.")] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            "--input", help="Shape of an example for structures that cut, without a task: 1,3,32,32; tokens: 1,16."
        ),
    ] = None,
    structure: Annotated[
        str | None,
        typer.Option(
            "--structure",
            help='Instead of the method\'s own. Masked: "weights", "2:4", "4x4". Cut out: "channels" for all coupled '
            'units, or some kinds of them: "heads", "hidden", "heads,hidden"; "layers" for whole residual blocks, '
            '"sublayers" for their parts.',
        ),
    ] = None,
    pattern: Annotated[str | None, typer.Option("--pattern", help="Short for --structure N:M, such as 2:4.")] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            help="Instead of a task, for language models: a text file, token ids (.npy), or "
            "dataset:NAME:CONFIG:SPLIT:COLUMN.",
        ),
    ] = None,
    windows: Annotated[int, typer.Option("--windows", help="How many windows of that text are looked at.")] = 128,
    length: Annotated[
        int | None, typer.Option("--length", help="Tokens in a window; by default the context, 2048 at most.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            help="Prune a transformers folder from disk to disk, block by block, within so much memory: 8GiB.",
        ),
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the method, key=value; repeatable.")
    ] = None,
    heal: Annotated[float | None, typer.Option("--heal", help="Epochs of fine-tuning.")] = None,
    recovery: Annotated[
        str | None,
        typer.Option(
            "--recovery",
            help='Instead of the method\'s own: "fine-tune+distill(weight=0.7)", "scratch-b", "reconstruct", "none".',
        ),
    ] = None,
    factory: Annotated[
        str | None, typer.Option("--factory", help="file.py:factory that builds a saved folder's class.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="A run folder: the same command goes on after a kill.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every random choice.")] = 0,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the measures as JSON.")] = False,
) -> None:
    """Prune a model, heal it, save it.

    Example: secateur prune builtin:digits-mlp --method magnitude --sparsity 0.9 -o pruned/
    """
    from .output import print_json, progress
    from .settings import parse_settings
    from .work import check_apart, check_output, prune_and_save, prune_larger

    check_output(output)
    check_apart({"--pattern": pattern}, {"--structure": structure})
    check_apart({"--calibrate": calibrate}, {"--task": task})
    whole: dict[str, Any] = {"macs": macs, "params": params, "bytes": bytes, "latency": latency}
    whole |= {"task": task, "shape": shape, "heal": heal, "factory": factory, "run": run}
    flags = {f"--{'input' if name == 'shape' else name}": value for name, value in whole.items()}
    check_apart({"--memory": memory}, flags)
    asked: dict[str, Any] = {
        "model": model,
        "method": method,
        "settings": parse_settings(set or []),
        "output": output,
        "sparsity": sparsity,
        "structure": structure or pattern,
        "recovery": recovery,
        "seed": seed,
        "device": device,
        "calibrate": calibrate,
        "windows": windows,
        "length": length,
    }
    with progress():
        found = prune_and_save(**asked, **whole) if memory is None else prune_larger(**asked, memory=memory)
    if json:
        print_json(found)
    elif memory is None:
        from secateur.report.table import result_text

        print(result_text(found))
    else:
        from secateur.report.blocks import blocks_text

        print(blocks_text(found["blocks"], found["bound"], found["folder"]))
