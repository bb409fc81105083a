"""`secateur export`"""

from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="As for `secateur prune`: a saved folder, for instance.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The ONNX file to write; it must not exist.")],
    shape: Annotated[
        str | None,
        typer.Option("--input", help="Shape of an example, where the folder has none: 1,3,32,32; tokens: 1,16."),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Takes the example from the data of a task.")] = None,
    factory: Annotated[
        str | None, typer.Option("--factory", help="file.py:factory that builds a saved folder's class.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a model as an ONNX file, compared with the model in onnxruntime.

    Example: secateur export builtin:digits-cnn --input 1,1,8,8 -o digits.onnx
    """
    from secateur.core.errors import RecipeError
    from secateur.core.errors import require as needs
    from secateur.engine.sources import model_from

    from .example import example_for
    from .output import print_json, progress
    from .work import check_output

    if not output.endswith(".onnx"):
        raise RecipeError(f"{output!r} is no name of an ONNX file", where="--output", mend="end it in .onnx")
    check_output(output)
    needs("onnx", extra="export", where="secateur export")
    from secateur.onnx import export as write

    with progress():
        subject = model_from(model, factory=factory)
        example, _ = example_for(subject, model, task, shape)
        example = example[0] if task is not None and isinstance(example, tuple | list) else example
        made = write(subject, output, example)
    found = {"file": str(made.file), "bytes": made.bytes, "gap": made.gap, "any_batch": made.any_batch}
    if json:
        print_json(found)
    else:
        batch = "any number of samples" if made.any_batch else "as many samples as the example has"
        print(f"{made.file}: {made.bytes:,} bytes, for {batch}; onnxruntime agrees to {made.gap:.1e}")
