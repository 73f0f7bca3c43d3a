"""`posecli eval`: score a model, or a file of predictions."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli import console
from posecli.commands.options import share
from posecli.console import PosecliError

if TYPE_CHECKING:
    from posecli.evaluation import Evaluation
    from posecli.metrics.metric import Score

DEFAULT_MODEL = "runs/latest"


def add(app: typer.Typer) -> None:
    """Register `eval`."""
    app.command(name="eval")(evaluate)


def evaluate(
    context: typer.Context,
    results: Annotated[
        Path | None,
        typer.Argument(metavar="RESULTS", help="A results.jsonl, or COCO results; needs --data, no model."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="RUN|CHECKPOINT", help="What to score; default runs/latest.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="NAME@VALUE:OPTION, as pck@0.05:torso; several times. `posecli list metrics`"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Labelled data; default: what the model was validated on.")
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option("--boxes", help="COCO detections JSON to look into instead of the true boxes.")
    ] = None,
    box_threshold: Annotated[
        float, typer.Option(callback=share, help="Detections with a lower score are left out.")
    ] = 0.0,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for results, also COCO's, and scores.json.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Inputs predicted at once.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Loader processes of each rank.")] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the checkpoint's config.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at a picture that cannot be read, or a faulty annotation.")
    ] = False,
    guess: Annotated[
        bool, typer.Option("--guess", help="Beside it the score of the mean pose of the training data.")
    ] = False,
    details: Annotated[bool, typer.Option("--details", help="Also the scores of every keypoint.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Score a model on labelled data, or a results file without any model."""
    for text in metric or ():
        _check_metric(text)
    if out is not None:
        from posecli.files import output_folder

        context.with_resource(output_folder(out))  # where nothing can be written, nothing is scored
    if results is not None:
        for option, given in (("--guess", guess), ("--boxes", boxes), ("--set", settings)):
            if given:
                raise PosecliError(f"{option} is of a model, and {results} is scored without one: name it with --model")
        evaluation = _score_file(results, model, data, metric or ())
    else:
        name = model or DEFAULT_MODEL
        if nproc > 1:
            raise typer.Exit(_launch(nproc, name))
        from posecli import distributed
        from posecli.checkpoint import current_command
        from posecli.evaluation import evaluate_model

        console.output.quiet = console.output.quiet or not distributed.first_process()
        with distributed.parting():
            evaluation = evaluate_model(
                name,
                data=data,
                boxes=boxes,
                box_threshold=box_threshold,
                metrics=metric or (),
                settings=settings or (),
                device=device,
                batch_size=batch_size,
                workers=workers,
                strict=strict,
                with_guess=guess,
                command=current_command(),
            )
        if not distributed.first_process():
            return
    summary = summarise(evaluation)
    if out is not None:
        _write(out, evaluation, summary)
    if json:
        console.show_json(summary)
    else:
        _show(evaluation, details)


def _check_metric(text: str) -> None:
    """Refuse an unknown metric before anything is loaded."""
    from posecli.config import parse_metric

    parse_metric(text)


def _score_file(results: Path, model: str | None, data: Path | None, metrics: Sequence[str]) -> Evaluation:
    if results.suffix == ".safetensors" or results.is_dir():
        raise PosecliError(f"{results} is a model, not a results file: name it with --model {results}")
    if model is not None:
        raise PosecliError(f"give a results file or a model, not both: {results} and --model {model}")
    if data is None:
        raise PosecliError(f"say what {results} is scored against: --data FOLDER or --data annotations.json")
    from posecli.evaluation import evaluate_results

    return evaluate_results(results, data, metrics)


def _launch(nproc: int, model: str) -> int:
    """The same command line in several processes; of a repeated option the last counts."""
    from posecli.checkpoint import resolve_model
    from posecli.distributed import launch

    if not model.startswith("torchvision/"):
        resolve_model(model)  # what is wrong is said once, not once a process
    return launch(nproc, [*sys.argv[1:], "--nproc", "1"])


def summarise(evaluation: Evaluation) -> dict[str, Any]:
    """All of an evaluation but the predictions, as plain values for JSON."""
    truth, header = evaluation.truth, evaluation.header
    return {
        "data": truth.name,
        "samples": len(truth),
        "people": len(truth.people),
        "predicted": sum(len(prediction.people) for prediction in evaluation.predictions),
        "model": header.model,
        "checkpoint": header.checkpoint,
        "skeleton": truth.skeleton.name,
        "scores": [_score_fields(score) for score in evaluation.scores],
        "guess": [_score_fields(score) for score in evaluation.guess],
    }


def _score_fields(score: Score) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": score.name,
        "value": score.value,
        "higher_is_better": score.higher_is_better,
        "unit": score.unit,
        "note": score.note,
    }
    return fields if score.details is None else fields | {"details": score.details}


def _write(folder: Path, evaluation: Evaluation, summary: dict[str, Any]) -> None:
    from posecli.files import write_text
    from posecli.results import in_picture, to_coco_json, write_results

    predictions, kinds = evaluation.predictions, list(evaluation.truth.categories)
    write_results(folder / "results.jsonl", predictions, evaluation.header)
    flat = all(in_picture(prediction.people) for prediction in predictions if len(prediction.people))
    if flat:
        to_coco_json(folder / "coco_results.json", predictions, kinds[0] if len(kinds) == 1 else 1)
    write_text(folder / "scores.json", console.json_text(summary, indent=2) + "\n")
    console.note(f"results.jsonl, {'coco_results.json ' if flat else ''}and scores.json are in {folder}")


def _show(evaluation: Evaluation, details: bool) -> None:
    truth = evaluation.truth
    counts = console.counted(len(truth), "sample"), console.counted(len(truth.people), "person", "people")
    guessed = {score.name: [_with_unit(score)] for score in evaluation.guess}
    console.table(
        ("metric", "value", *(["mean pose"] if guessed else []), "note"),
        [(score.name, _with_unit(score), *guessed.get(score.name, ()), score.note) for score in evaluation.scores],
        title=f"{truth.name}: {', '.join(counts)}",
    )
    if details:
        _show_details(evaluation)


def _show_details(evaluation: Evaluation) -> None:
    """A line for every keypoint, or action, with the mean pose's scores where they were asked for."""
    named = [(score.name, score.details) for score in evaluation.scores]
    named += [(f"{score.name}, mean pose", score.details) for score in evaluation.guess]
    tables: dict[tuple[str, ...], list[tuple[str, Mapping[str, float]]]] = {}
    for name, details in named:
        if details is not None:
            tables.setdefault(tuple(details), []).append((name, details))
    for names, columns in tables.items():
        rows = [(name, *(_format(values[name]) for _, values in columns)) for name in names]
        what = "keypoint" if names == evaluation.truth.skeleton.names else ""
        console.table((what, *(name for name, _ in columns)), rows)


def _with_unit(score: Score) -> str:
    return "-" if math.isnan(score.value) else f"{_format(score.value)} {score.unit}".strip()


def _format(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
