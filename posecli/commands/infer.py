"""`posecli infer`: a trained model on pictures, folders, videos and cameras."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from posecli import console
from posecli.commands.options import free_folder, share
from posecli.console import PosecliError, counted

if TYPE_CHECKING:
    from posecli.inference import Found, Motion
    from posecli.lifting import Lifting
    from posecli.predictor import Predictor
    from posecli.skeleton import Skeleton
    from posecli.sources import Source

DEFAULT_MODEL = "runs/latest"
Track = Literal["auto", "oks", "iou", "none"]
Smooth = Literal["one-euro", "savgol", "gaussian", "none"]


def add(app: typer.Typer) -> None:
    """Register `infer`."""
    app.command(name="infer")(infer)


def infer(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Pictures, videos, folders, patterns as 'a/*.jpg', cameras as 0; for a lifter also a results.jsonl.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(metavar="RUN|CHECKPOINT", help="What predicts; torchvision/keypointrcnn downloads COCO's 17."),
    ] = DEFAULT_MODEL,
    pose2d: Annotated[
        str | None, typer.Option(metavar="RUN|CHECKPOINT", help="The 2D model whose keypoints a lifter lifts.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the results; default infer/<time>.")] = None,
    track: Annotated[
        Track, typer.Option(help="By what people keep their numbers in videos; auto: oks where the sigmas are known.")
    ] = "auto",
    smooth: Annotated[Smooth, typer.Option(help="A filter for the tracks of people in videos.")] = "none",
    detector: Annotated[
        bool, typer.Option("--detector", help="Find the people first; downloads torchvision's small detector.")
    ] = False,
    detector_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another detector, as torchvision/fasterrcnn_resnet50_fpn_v2.")
    ] = None,
    detector_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The detector's weights, where there is no network.")
    ] = None,
    model_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The weights of torchvision/keypointrcnn, likewise.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            "--boxes", help="COCO detections JSON by file name or image id, instead; frames of videos as clip.mp4#12."
        ),
    ] = None,
    box_threshold: Annotated[
        float,
        typer.Option(callback=share, help="People detected with a lower score are left out."),
    ] = 0.5,
    threshold: Annotated[float, typer.Option(callback=share, help="Keypoints that score lower are not drawn.")] = 0.3,
    draw: Annotated[bool, typer.Option("--draw/--no-draw", help="Write overlays.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at a picture that cannot be read.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16 or auto.")] = "fp32",
    batch_size: Annotated[int, typer.Option(min=1, help="Frames and people predicted at once.")] = 8,
    nproc: Annotated[int, typer.Option(min=1, help="Processes that share the sources.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Find keypoints in pictures and videos: overlays, results.jsonl, COCO results and long CSV.

    With a lifter, 3D poses in millimetres: `--model LIFTER --pose2d RUN`.
    """
    from posecli.files import output_folder
    from posecli.sources import find_sources

    if precision not in ("fp32", "bf16", "fp16", "auto"):
        raise PosecliError(f"no precision {precision!r}: choose fp32, bf16, fp16 or auto")
    if smooth != "none" and track == "none":
        raise PosecliError("--smooth follows people from frame to frame: leave out --track none")
    results = _results_file(sources)
    if results is not None and (pose2d is not None or nproc > 1):
        raise PosecliError(f"{results} is lifted as it is: leave out {'--pose2d' if nproc == 1 else '--nproc'}")
    found_sources = [] if results is not None else find_sources(sources)
    folder = out or free_folder("infer")
    context.with_resource(output_folder(folder))
    from posecli import distributed
    from posecli.inference import infer as run
    from posecli.inference import infer_results, stopping

    if not distributed.launched():  # once, before any process writes
        _look_at(folder, found_sources if draw else [])
    if nproc > 1:
        raise typer.Exit(_launch(nproc, folder))
    from posecli.detection import DEFAULT_DETECTOR
    from posecli.devices import choose_device
    from posecli.predictor import Opening, Search

    name = detector_model or (DEFAULT_DETECTOR if detector or detector_weights else None)
    search = Search(boxes, name, detector_weights, box_threshold)
    opening = Opening(choose_device(device), search, model_weights, batch_size, precision)
    with distributed.parting():
        if results is not None:
            lifting = opening.for_results(model, results)
            motion = _motion(track, smooth, lifting.mapping.source, lifting)
            with stopping() as stop:
                found = infer_results(results, folder, motion, threshold=threshold, draw=draw, stop=stop)
        else:
            predictor, lifter = opening.for_pictures(model, pose2d)
            motion = _motion(track, smooth, predictor.algorithm.skeleton, lifter)
            distributed.join(predictor.device)
            if distributed.first_process():
                _say_where_people_are(predictor, search)
            with stopping() as stop:
                found = run(
                    found_sources,
                    predictor,
                    folder,
                    motion=motion,
                    threshold=threshold,
                    draw=draw,
                    strict=strict,
                    stop=stop,
                )
    if distributed.first_process():
        _report(found, folder, json)
    if found.stopped:
        raise typer.Exit(console.STOPPED)


def _look_at(folder: Path, drawn: Sequence[Source]) -> None:
    """Say when an earlier job's files will be replaced. Raises PosecliError where an overlay of the sources that are
    drawn would take the place of a file that no job has written."""
    from posecli.inference import RESULTS
    from posecli.overlays import overlay_paths

    if (folder / RESULTS).exists():
        console.note(f"{folder} holds the results of an earlier job: files of the same names are replaced, others stay")
        return
    taken = next((path for path in overlay_paths(drawn, folder).values() if path.exists()), None)
    if taken is not None:
        raise PosecliError(f"the overlay {taken} would replace a file of that name: choose another folder with --out")


def _results_file(sources: Sequence[str]) -> Path | None:
    """The results file among the sources, which must then be the only one."""
    files = [source for source in sources if source.endswith(".jsonl")]
    if not files:
        return None
    if len(sources) > 1:
        raise PosecliError(f"{files[0]} is a results file: give it alone, without pictures or other files")
    return Path(files[0])


def _motion(track: Track, smooth: Smooth, skeleton: Skeleton, lifting: Lifting | None) -> Motion:
    from posecli.inference import Motion
    from posecli.smoothing import find_smoother
    from posecli.tracking import find_measure

    smoother = None if smooth == "none" else find_smoother(smooth)
    return Motion(find_measure(track, skeleton), smoother, lifting)


def _launch(nproc: int, folder: Path) -> int:
    """The same command line in several processes, all writing into one folder; of a repeated option the last counts."""
    from posecli.distributed import launch

    return launch(nproc, [*sys.argv[1:], "--nproc", "1", "--out", str(folder)])


def _say_where_people_are(predictor: Predictor, search: Any) -> None:
    asked = search.boxes is not None or search.detector is not None
    if predictor.algorithm.needs == "boxes" and not asked:
        console.note("each whole picture is taken as one person: --detector finds people, --boxes FILE names them")
    if predictor.algorithm.needs == "image" and asked:
        console.note("this model finds people itself: boxes and detectors are not used")


def _report(found: Found, folder: Path, json: bool) -> None:
    for line in found.skipped:
        console.warn(f"skipped {line}")
    if json:
        console.show_json(_summary(found, folder))
        return
    rate = found.frames / found.seconds if found.seconds > 0 else 0.0
    what = [counted(found.pictures, "picture")] if found.pictures or not found.videos else []
    if found.videos:
        what.append(f"{counted(found.videos, 'video')} with {counted(found.frames - found.pictures, 'frame')}")
    skipped = f", {len(found.skipped)} skipped" if found.skipped else ""
    console.show(f"{' and '.join(what)}: {counted(found.people, 'instance')} found{skipped}, {rate:.1f} frames/s")
    console.show(f"results: {folder}")


def _summary(found: Found, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "pictures": found.pictures,
        "videos": found.videos,
        "frames": found.frames,
        "people": found.people,
        "seconds": found.seconds,
        "skipped": found.skipped,
        "stopped": found.stopped,
    }
