"""A trained model on pictures, videos and cameras: frames in, people and overlays out."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np
import torch

from posecli import console, distributed
from posecli.algorithm import Algorithm
from posecli.batch import Batch, alike, collate
from posecli.console import PosecliError
from posecli.detection import Boxes, BoxFile, Detector
from posecli.images import read_image
from posecli.overlays import Overlays, overlay_paths
from posecli.results import ResultsHeader, iterate_results, read_header, results_writer, to_coco_json, write_csv
from posecli.sources import Frame, Reader, Source, prefetch
from posecli.types import Dataset, FloatArray, ImageArray, People, Prediction

FindBoxes = Callable[[Sequence[Frame]], Sequence[Boxes]]
"""Where the people of some frames are: boxes and scores for each frame."""

RESULTS = "results.jsonl"
COCO_RESULTS = "coco_results.json"
CSV_RESULTS = "keypoints.csv"
HELD_BYTES = 32 << 20
"""How many bytes of pictures are predicted together at most, so that large frames do not fill the memory."""
NOBODY: Boxes = (np.zeros((0, 4)), np.zeros(0))


# --- finding the people ---------------------------------------------------------------------------------------------


def whole_pictures(frames: Sequence[Frame]) -> Sequence[Boxes]:
    """One box a frame: all of it."""
    return [(np.array([[0.0, 0.0, frame.image.shape[1], frame.image.shape[0]]]), np.ones(1)) for frame in frames]


@dataclass(frozen=True)
class BoxesFromFile:
    """Boxes by the frames' names."""

    file: BoxFile

    def __call__(self, frames: Sequence[Frame]) -> Sequence[Boxes]:
        return [self.file.find(frame.id) for frame in frames]


@dataclass(frozen=True)
class BoxesFromDetector:
    """Boxes by a detector that looks at all frames together."""

    detector: Detector

    def __call__(self, frames: Sequence[Frame]) -> Sequence[Boxes]:
        return self.detector([frame.image for frame in frames])


@dataclass(frozen=True)
class Search:
    """How a model that needs boxes is told where the people are: by a file, a detector, or else the whole picture."""

    boxes: Path | None = None  # a COCO detections file
    detector: str | None = None  # `torchvision/<name>`
    detector_weights: Path | None = None  # a file instead of the published weights
    threshold: float = 0.5  # people that a file or a detector scores lower are left out

    def open(self, device: torch.device) -> FindBoxes:
        """Raises PosecliError when the file or the detector cannot be had."""
        from posecli.detection import open_detector, read_boxes

        if self.boxes is not None and self.detector is not None:
            raise PosecliError("--boxes and --detector both say where the people are: give one of them")
        if self.boxes is not None:
            return BoxesFromFile(read_boxes(self.boxes, self.threshold))
        if self.detector is not None:
            return BoxesFromDetector(open_detector(self.detector, device, self.threshold, self.detector_weights))
        return whole_pictures


# --- predicting -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Some frames and what the network is to see of them."""

    frames: tuple[Frame, ...]
    batches: tuple[Batch, ...]


class Predictor:
    """A function from a picture to its People; `prepare` and `predict` do the same in two steps for many frames."""

    def __init__(
        self,
        algorithm: Algorithm,
        device: torch.device | str = "cpu",
        *,
        find_boxes: FindBoxes = whole_pictures,
        batch_size: int = 8,
        precision: str = "fp32",
        header: ResultsHeader | None = None,
    ) -> None:
        if algorithm.needs == "keypoints":
            raise PosecliError("this model takes 2D keypoints, not pictures: predict them with a 2D model first")
        self.device = torch.device(device)
        self.algorithm = algorithm.to(self.device).eval()
        self.find_boxes = find_boxes
        self.batch_size = batch_size
        self.precision = precision
        self.header = header or ResultsHeader(algorithm.skeleton)
        self._transform = algorithm.transform(train=False)

    def __call__(self, image: ImageArray | str | Path, boxes: FloatArray | None = None) -> People:
        """The people in a picture, in its pixels: RGB uint8 (H, W, 3), or a path.

        `boxes` (N, 4), x1 y1 x2 y2, say where they are, for models that need it; by default the whole picture is one.
        Raises UnreadableImage.
        """
        place = Path(image) if isinstance(image, str | Path) else Path("image")
        pixels = image if isinstance(image, np.ndarray) else read_image(place)
        frame = Frame(Source(place.as_posix(), "picture", place), 0, pixels)
        given = None if boxes is None else [(np.asarray(boxes, np.float64).reshape(-1, 4), np.ones(len(boxes)))]
        return self.predict(self.prepare([frame], given))[0].people

    def prepare(self, frames: Sequence[Frame], boxes: Sequence[Boxes] | None = None) -> Work:
        """Find the people and make the network's inputs; may run in a thread beside `predict`."""
        if self.algorithm.needs == "image":
            boxes = [NOBODY] * len(frames)
        units = self.algorithm.units(_dataset(frames, boxes or self.find_boxes(frames), self.algorithm))
        generator = np.random.default_rng(0)
        examples = [self._transform(units[index], generator) for index in range(len(units))]
        groups = alike(examples, self.batch_size)
        batches = (collate([examples[place] for place in group]) for group in groups)
        pinned = self.device.type == "cuda"
        return Work(tuple(frames), tuple(batch.pin_memory() if pinned else batch for batch in batches))

    @torch.inference_mode()
    def predict(self, work: Work) -> list[Prediction]:
        """One prediction for each frame, in the frames' order."""
        from posecli.training import autocast

        predictions: list[Prediction] = []
        for batch in work.batches:
            with autocast(self.device, self.precision):
                predictions += self.algorithm.predict(batch.to(self.device))
        finished = self.algorithm.finish(predictions)
        people = {prediction.id: prediction.people for prediction in finished}
        nobody = People.empty(len(self.algorithm.skeleton))
        return [Prediction(frame.id, people.get(frame.id, nobody)) for frame in work.frames]


def _dataset(frames: Sequence[Frame], boxes: Sequence[Boxes], algorithm: Algorithm) -> Dataset:
    """The frames as a dataset whose people are detections: boxes with scores, keypoints unknown."""
    corners = np.concatenate([row for row, _ in boxes]).astype(np.float32)  # (P, 4)
    scores = np.concatenate([row for _, row in boxes]).astype(np.float32)  # (P,)
    joints = len(algorithm.skeleton)
    unknown = np.full((len(corners), joints, 2), np.nan, np.float32)
    return Dataset(
        name="frames",
        skeleton=algorithm.skeleton,
        ids=[frame.id for frame in frames],
        sizes=np.array([frame.image.shape[1::-1] for frame in frames]),
        offsets=np.cumsum([0, *(len(row) for row, _ in boxes)]),
        people=People(unknown, np.zeros((len(corners), joints), np.float32), corners, scores),
        images=[frame.image for frame in frames],
    )


# --- opening a model ------------------------------------------------------------------------------------------------


def load(
    model: str | Path = "runs/latest",
    device: str = "auto",
    *,
    search: Search | None = None,
    model_weights: Path | None = None,
    batch_size: int = 8,
    precision: str = "fp32",
) -> Predictor:
    """The predictor of a run folder, a checkpoint, or `torchvision/keypointrcnn`; its published weights are downloaded,
    unless `model_weights` is a file with them.

    Raises PosecliError when there is no such model, or what it needs cannot be had.
    """
    from posecli.checkpoint import current_command
    from posecli.trained import open_trained
    from posecli.training import choose_device

    chosen, search = choose_device(device), search or Search()
    trained = open_trained(model, chosen, weights=model_weights, threshold=search.threshold)
    return Predictor(
        trained.algorithm,
        chosen,
        find_boxes=search.open(chosen) if trained.algorithm.needs == "boxes" else whole_pictures,
        batch_size=batch_size,
        precision=precision,
        header=trained.header(current_command()),
    )


# --- a whole job ----------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What came of a job."""

    pictures: int = 0
    videos: int = 0  # and cameras
    frames: int = 0  # of both
    people: int = 0
    seconds: float = 0.0
    skipped: list[str] = field(default_factory=list)  # "path: reason"
    stopped: bool = False  # by the user, before the end

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Count one frame."""
        self.pictures += frame.source.kind == "picture"
        self.videos += frame.source.kind != "picture" and frame.index == 0
        self.frames += 1
        self.people += len(prediction.people)


def infer(
    sources: Sequence[Source],
    predictor: Predictor,
    out: Path,
    *,
    threshold: float = 0.3,
    draw: bool = True,
    strict: bool = False,
    stop: threading.Event | None = None,
) -> Found:
    """Predict every frame and write `results.jsonl`, COCO results, long CSV and, with `draw`, overlays into `out`.

    Memory does not grow with the number of frames. Setting `stop` ends early with whole files. With torch.distributed
    every rank takes its own stretch of the sources, and the first one puts the results together. What cannot be read
    is skipped and listed; with `strict` it raises UnreadableImage. Raises PosecliError when nothing could be read.
    """
    paths = overlay_paths(sources, out)
    _check_boxes(predictor, sources)
    rank, world = distributed.rank(), distributed.world()
    own = sources[len(sources) * rank // world : len(sources) * (rank + 1) // world]
    reader = Reader(own, strict, stop or threading.Event())
    overlays = Overlays(paths if draw else {})
    found = _predict_all(reader, predictor, _part(out, rank, world), overlays, threshold, draw)
    return _put_together(found, out)


def _predict_all(
    reader: Reader, predictor: Predictor, results: Path, overlays: Overlays, threshold: float, draw: bool
) -> Found:
    found, start = Found(), time.perf_counter()
    total = reader.count() if console.interactive() else None
    # reading, predicting and writing run side by side, each in a thread; what waits between them is a chunk of frames
    prepared = (predictor.prepare(frames) for frames in chunked(reader, predictor.batch_size))
    predicted = ((work.frames, predictor.predict(work)) for work in prefetch(prepared, 1, reader.stop))
    with (
        results_writer(results, predictor.header) as write,
        overlays,
        console.progress(total, "infer", "frame") as bar,
    ):
        for frames, predictions in prefetch(predicted, 1, reader.stop):
            for frame, prediction in zip(frames, predictions, strict=True):
                write(prediction, _picture_name(frame), (frame.image.shape[1], frame.image.shape[0]))
                if draw:
                    overlays.write(frame, predictor.algorithm.draw(frame.image, prediction, threshold))
                found.add(frame, prediction)
            bar.update(len(frames))
    found.seconds = time.perf_counter() - start
    found.skipped, found.stopped = reader.skipped, reader.stop.is_set()
    return found


def chunked(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Lists of up to `size` frames, fewer where frames are so large that they would hold more than HELD_BYTES."""
    chunk: list[Frame] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size or sum(held.image.nbytes for held in chunk) >= HELD_BYTES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _picture_name(frame: Frame) -> str | None:
    return frame.source.name if isinstance(frame.source.place, Path) else None


def _check_boxes(predictor: Predictor, sources: Sequence[Source]) -> None:
    """Raises PosecliError when a box file knows none of the pictures, and says which ones it leaves out."""
    if not isinstance(predictor.find_boxes, BoxesFromFile):
        return
    file = predictor.find_boxes.file
    pictures = [source.name for source in sources if source.kind == "picture"]
    missing = [name for name in pictures if not file.knows(name)]
    if pictures and len(missing) == len(sources):
        raise PosecliError(
            f"the box file {file.path} names none of the pictures, such as {pictures[0]}; "
            f"it has boxes for {', '.join(list(file.boxes)[:3]) or 'nothing'}"
        )
    if missing and distributed.rank() == 0:
        console.warn(f"{len(missing)} pictures are not in {file.path}, so nobody is looked for in {_few(missing)}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _part(out: Path, rank: int, world: int) -> Path:
    return out / RESULTS if world == 1 else out / f".{RESULTS}.{rank}"


def _put_together(found: Found, out: Path) -> Found:
    """The ranks' counts added up, on every rank; the first one joins their results and writes the other formats."""
    rank, world = distributed.rank(), distributed.world()
    together = _sum([Found(**fields) for fields in distributed.gather_json([dataclasses.asdict(found)])])
    if rank == 0:
        if world > 1:
            _join_parts(out, world)
        if together.frames == 0 and together.skipped and not together.stopped:
            (out / RESULTS).unlink()
            raise PosecliError(f"nothing could be read: {'; '.join(together.skipped[:5])}")
        _write_formats(out)
    distributed.barrier()
    return together


def _sum(parts: Sequence[Found]) -> Found:
    return Found(
        pictures=sum(part.pictures for part in parts),
        videos=sum(part.videos for part in parts),
        frames=sum(part.frames for part in parts),
        people=sum(part.people for part in parts),
        seconds=max(part.seconds for part in parts),
        skipped=[line for part in parts for line in part.skipped],
        stopped=any(part.stopped for part in parts),
    )


def _join_parts(out: Path, world: int) -> None:
    """One results file of the ranks' parts, in the order of the sources, line by line; the parts vanish."""
    from posecli.files import atomic_path

    with atomic_path(out / RESULTS) as temporary, temporary.open("wb") as joined:
        for rank in range(world):
            with _part(out, rank, world).open("rb") as part:
                header = part.readline()
                joined.write(header if rank == 0 else b"")
                joined.writelines(part)
    for rank in range(world):
        _part(out, rank, world).unlink()


def _write_formats(out: Path) -> None:
    """COCO results (of 2D keypoints) and long CSV, from the results file, one prediction at a time."""
    results = out / RESULTS
    dimensions = next((p.people.keypoints.shape[2] for p in iterate_results(results) if len(p.people)), 2)
    if dimensions == 2:
        to_coco_json(out / COCO_RESULTS, iterate_results(results))
    write_csv(out / CSV_RESULTS, iterate_results(results), read_header(results).skeleton, dimensions)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that files are ended well; the second Ctrl-C stops at once."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        console.note("stopping: ending the files; again to stop at once")

    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGINT, handle)
            stack.callback(signal.signal, signal.SIGINT, before)
        yield stop
