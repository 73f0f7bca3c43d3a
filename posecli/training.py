"""The training loop. One for all algorithms, one process or many, stopped and resumed at any step."""

from __future__ import annotations

import math
import platform
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

from posecli import console, distributed
from posecli.algorithm import Algorithm
from posecli.batch import Batch
from posecli.checkpoint import (
    Header,
    current_command,
    current_versions,
    initialise,
    load_checkpoint,
    model_without_downloads,
    read_header,
    resolve_model,
)
from posecli.config import Experiment, dump, to_yaml
from posecli.console import PosecliError, RunFailed
from posecli.data import unit_loader
from posecli.devices import (
    autocast,
    choose_device,
    device_name,
    fastest_convolutions,
    place,
    random_state,
    seed_all,
    set_random_state,
)
from posecli.files import remove_if_empty, write_text
from posecli.graphs import record
from posecli.metrics.metric import Metric, Score
from posecli.optimization import Average, build_optimizers, rate_factor, restore_optimizer, set_rate
from posecli.plugins import catalog
from posecli.report import write_curves, write_samples
from posecli.runs import (
    Checkpoints,
    Log,
    latest_folder,
    new_folder,
    point_latest,
    save_weights,
)
from posecli.stopping import Stopped, StopRequest
from posecli.types import Dataset, Prediction, Sample

MEGABYTE = 1 << 20
LOG_STEPS = 50  # steps between two lines in the log
REHEARSED = 4  # samples that the untrained model is scored on
CHECK_STEPS = 20  # steps between two looks at the losses on a GPU, each of which waits for it


@dataclass
class Run:
    """One training: what is trained, where it is written, and how far it is."""

    folder: Path
    experiment: Experiment
    algorithm: Algorithm
    device: torch.device
    epoch: int = 0  # whole passes over the units
    batch: int = 0  # batches of the next pass that are done, of each rank
    step: int = 0  # movements of the weights
    scored: int = 0  # the epoch that was scored last
    best_name: str = ""  # the score that picks the best epoch
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)  # all scores of the best epoch
    scores: dict[str, float] = field(default_factory=dict)  # of the epoch scored last


def train(
    experiment: Experiment,
    folder: Path | None = None,
    *,
    device: str = "auto",
    resume: bool = False,
    init: Path | None = None,
    strict: bool = False,
) -> Run:
    """Train and score; in `folder`, or in a new one under `runs`.

    resume: go on from the folder's last checkpoint, where there is one, as if the run had never stopped.
    init: a checkpoint of ours to start from, as far as it fits.
    strict: an unreadable picture raises UnreadableImage instead of being skipped and listed.
    Raises RunFailed for a non-finite loss or a full disk, Stopped after Ctrl-C or SIGTERM.
    """
    chosen = choose_device(device)
    distributed.join(chosen)
    named = folder is not None
    folder = _agreed_folder(folder, experiment.model.name, resume)
    resume = resume and Checkpoints(folder, 1).pointer.is_file()
    try:
        training = Training(experiment, folder, chosen, strict, fresh=not resume)
        if resume:
            training.restore()
        else:
            training.start(init)
    except BaseException:
        if distributed.rank() == 0 and not named:
            remove_if_empty(folder)
        raise
    if distributed.rank() == 0 and not named:
        point_latest(folder)  # not earlier: what cannot begin leaves the latest run what it was
    with fastest_convolutions(), warnings.catch_warnings():
        # of depthwise weights, whose memory is the same in both formats
        warnings.filterwarnings("ignore", ".*Grad strides do not match bucket view strides.*")
        # of a recorded backbone, whose gradients come from the stream it was recorded on
        warnings.filterwarnings("ignore", ".*AccumulateGrad node's stream does not match.*")
        training.run_all()
    return training.run


def _agreed_folder(folder: Path | None, name: str, resume: bool) -> Path:
    """The folder of the run, the same on every rank."""
    if folder is None and resume:
        folder = latest_folder()
    if folder is None:
        made = [str(new_folder(name))] if distributed.rank() == 0 else []
        folder = Path(distributed.gather_json(made)[0])
    return folder


class Training:
    """All that moves while a run is trained. `run_all` is the loop.

    `fresh` says that the first weights are those the config asks for; else nothing is downloaded for it.
    """

    def __init__(
        self, experiment: Experiment, folder: Path, device: torch.device, strict: bool, *, fresh: bool = True
    ) -> None:
        from posecli.evaluation import check_pictures

        config = experiment.train
        self.config = config
        self.strict = strict
        self.first = distributed.rank() == 0  # the rank that prints and writes
        seed_all(config.seed)
        samples, self.truth = _datasets(experiment, strict)
        for note in dict.fromkeys((*samples.notes, *self.truth.notes)) if self.first else ():
            console.note(note)
        algorithm = (experiment.model if fresh else model_without_downloads(experiment.model)).build(samples.skeleton)
        for dataset in (samples, self.truth):
            check_pictures(algorithm, dataset)
        algorithm.units(self.truth)  # what it cannot be scored on is refused now, not after the first epoch
        self.units = algorithm.units(samples, train=True)
        if not len(self.units):
            raise PosecliError(f"{samples.name}: nothing to train on, nobody in it has a labelled keypoint")
        self.loader = unit_loader(
            self.units,
            algorithm.transform(train=True),
            batch_size=config.batch_size,
            workers=experiment.data.workers,
            seed=config.seed,
            shuffle=True,
            share_decoding=experiment.data.share_decoding,
            keep=experiment.data.keep_pictures * MEGABYTE,
            drop_last=True,
            accumulate=config.accumulate,
            strict=strict,
            pin_memory=device.type == "cuda",
            rank=distributed.rank(),
            world=distributed.world(),
        )
        place(algorithm, device, config.channels_last)
        self.metrics = _metrics(experiment, algorithm, self.truth, device)
        self.run = Run(folder, experiment, algorithm, device)
        self.network = DistributedDataParallel(algorithm) if distributed.joined() else algorithm
        self.optimizers = build_optimizers(algorithm, config.optimizer)
        self.to_record = self._wants_graphs()
        self.scaler = torch.amp.GradScaler("cuda", enabled=config.precision == "fp16" and device.type == "cuda")
        self.average: Average | None = None
        self.log = Log(folder)
        self.checkpoints = Checkpoints(folder, config.keep)
        self.best_file = folder / "best.safetensors"
        self.stop = StopRequest()
        self.pending: list[tuple[Sequence[Sample], dict[str, Tensor]]] = []  # losses not yet looked at
        self.steps_per_epoch = math.ceil(len(self.loader) / config.accumulate)
        self.meter = Meter()
        self.begun: Meter | None = None  # of the epoch in which a resumed run was stopped
        self.rate = 0.0  # the learning rate of the last step
        self.began = (time.monotonic(), 0)  # when, and at which step, this process began

    # --- the loop ---------------------------------------------------------------------------------------------------

    def run_all(self) -> None:
        """Train to the last epoch, scoring and saving on the way."""
        run, config = self.run, self.config
        self.began = (time.monotonic(), run.step)
        self._describe()
        with self.stop:
            self._call_plugins("posecli_train_start")
            while True:
                if self._scoring_due():
                    self._score()
                    if run.epoch >= config.epochs:
                        self.save()  # with its scores: more epochs may follow
                if run.epoch >= config.epochs:
                    break
                self._train_epoch()
                stopping = self._stopping()
                if stopping or run.epoch % config.save_every == 0 or run.epoch == config.epochs:
                    self.save()
                if stopping:
                    raise Stopped(f"stopped after epoch {run.epoch}, everything is saved")
            self._finish()

    def _train_epoch(self) -> None:
        """The rest of the epoch; a request to stop ends it after a step, with everything saved."""
        run = self.run
        self.network.train()
        if self.config.freeze_norm:
            _freeze_norm(run.algorithm)
        self.loader.set_epoch(run.epoch, skip=run.batch)
        self.meter = self.begun or Meter()
        self.begun = None
        together = self.config.batch_size * distributed.world()
        label = f"epoch {run.epoch + 1}/{self.config.epochs}"
        with console.progress(len(self.loader) * together, label, "img") as bar:
            bar.update(run.batch * together)
            for batches in _grouped(self.loader, self.config.accumulate):
                self.step(batches)
                run.step += 1
                run.batch += len(batches)
                bar.update(sum(map(len, batches)) * distributed.world())
                if self._look(bar) and run.batch < len(self.loader):
                    self.save()
                    raise Stopped(f"stopped in epoch {run.epoch + 1} after step {run.step}, everything is saved")
        self._check_losses()
        self._end_epoch()

    def step(self, batches: list[Batch]) -> None:
        """Move the weights once, by the mean loss of `batches`."""
        run, config = self.run, self.config
        self.rate = self._rate()
        set_rate(self.optimizers, self.rate)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        if self.to_record:
            self._record(batches[0].to(run.device))
        for number, batch in enumerate(batches, 1):
            with self._without_sync() if number < len(batches) else nullcontext():
                with autocast(run.device, config.precision):
                    losses: dict[str, Tensor] = self.network(batch.to(run.device))
                    loss = torch.stack(list(losses.values())).sum() / len(batches)
                torch.autograd.backward(self.scaler.scale(loss))
            self.pending.append((batch.samples, {name: value.detach() for name, value in losses.items()}))
        if run.device.type == "cpu":  # no waiting: a bad loss is seen before it moves the weights
            self._check_losses()
        for optimizer in self.optimizers.values():
            if config.clip_norm is not None:
                self.scaler.unscale_(optimizer)
                parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
                nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            self.scaler.step(optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update()

    def _wants_graphs(self) -> bool:
        config = self.config
        if config.cuda_graphs and (config.accumulate > 1 or distributed.joined()):
            raise PosecliError(
                "train.cuda_graphs is for one process and train.accumulate=1: --set train.cuda_graphs=false"
            )
        return config.cuda_graphs and self.run.device.type == "cuda"

    def _record(self, batch: Batch) -> None:
        """From the first step on the backbone is replayed, see `graphs`."""
        algorithm, device, precision = self.run.algorithm, self.run.device, self.config.precision
        backbone = getattr(algorithm, "backbone", None)
        if not isinstance(backbone, nn.Module):
            name = self.run.experiment.model.name
            raise PosecliError(f"train.cuda_graphs: {name} has no backbone: --set train.cuda_graphs=false")

        def forward() -> None:
            with autocast(device, precision):
                algorithm(batch)

        record(backbone, algorithm, forward, autocast(device, precision, cache=False))
        self.to_record = False

    def _without_sync(self) -> AbstractContextManager[Any]:
        """Gradients stay with their rank until the last batch of a step; it must enclose the forward pass too."""
        return self.network.no_sync() if isinstance(self.network, DistributedDataParallel) else nullcontext()

    def _rate(self) -> float:
        done = self.run.epoch * self.steps_per_epoch + self.run.batch // self.config.accumulate
        factor = rate_factor(self.config.schedule, done, self.config.epochs * self.steps_per_epoch)
        return self.config.optimizer.lr * factor

    def _look(self, bar: Any) -> bool:
        """Look at the losses, log them, and say whether to stop. On a GPU only now and then, for it means waiting."""
        run = self.run
        every = 1 if run.device.type == "cpu" else CHECK_STEPS
        if run.step % every:
            return False
        self._check_losses()
        bar.set_postfix_str(f"loss {self.meter.recent:.4g}, {_clock(self._seconds_left())} left", refresh=False)
        if run.step % LOG_STEPS < every:
            self._log_step()
        return self._stopping()

    def _log_step(self) -> None:
        values = {"loss": self.meter.recent, "lr": self.rate}
        if self.first:
            self.log.add("step", epoch=self.run.epoch + 1, step=self.run.step, **values)
        self._call_plugins("posecli_train_log", step=self.run.step, values=values)

    def _stopping(self) -> bool:
        """Whether any rank was asked to stop."""
        return distributed.totals([int(self.stop.requested)])[0] > 0

    def _check_losses(self) -> None:
        """Take the pending losses into the meter. Raises RunFailed, on every rank, when one is not finite."""
        bad: list[str] = []
        for (samples, losses), values in zip(self.pending, _values(self.pending), strict=True):
            self.meter.add(len(samples), dict(zip(losses, values, strict=True)))
            if not bad and not all(map(math.isfinite, values)):
                ids = ", ".join(str(sample.id) for sample in samples)
                found = ", ".join(f"{name} {value}" for name, value in zip(losses, values, strict=True))
                bad = [f"{found} for the batch {ids}"]
        self.pending.clear()
        if distributed.totals([len(bad)])[0]:
            raise RunFailed(
                f"the loss is not finite in epoch {self.run.epoch + 1} near step {self.run.step + 1}: "
                f"{'; '.join(distributed.gather_json(bad))}; look at these samples, or lower train.optimizer.lr"
            )

    def _end_epoch(self) -> None:
        run, meter = self.run, self.meter
        if not meter.units and not run.batch:
            raise RunFailed(f"not one picture of {len(self.units)} could be read: {'; '.join(self.loader.skipped[:3])}")
        seconds = meter.seconds()
        speed = (meter.units - meter.before) * distributed.world() / seconds
        values = {"loss": meter.loss, "lr": self.rate, "images_per_second": speed, "seconds": seconds}
        run.epoch += 1
        run.batch = 0
        skipped = list(dict.fromkeys(distributed.gather_json(self.loader.skipped)))
        if not self.first:
            return
        self.log.add("epoch", epoch=run.epoch, step=run.step, **values, losses=meter.losses, skipped=len(skipped))
        self.log.write_table()
        write_curves(run.folder / "curves.png", self.log.records())
        console.note(
            f"epoch {run.epoch}/{self.config.epochs}  loss {meter.loss:.4g}  lr {values['lr']:.3g}  "
            f"{speed:.0f} images/s  {_clock(self._seconds_left())} left"
        )
        self._report_skipped(skipped)
        self._call_plugins("posecli_train_log", step=run.step, values=values | meter.losses)

    def _report_skipped(self, skipped: list[str]) -> None:
        """List unreadable pictures, each once in a run, also in `skipped.txt`."""
        path = self.run.folder / "skipped.txt"
        known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        new = [line for line in skipped if line not in known]
        if new:
            write_text(path, "\n".join([*known, *new]) + "\n")
            shown = "; ".join(new[:5]) + ("; ..." if len(new) > 5 else "")
            console.warn(f"{len(new)} pictures could not be read and are skipped, listed in {path}: {shown}")

    def _seconds_left(self) -> float:
        when, step = self.began
        done = max(1, self.run.step - step)
        return (time.monotonic() - when) / done * max(0, self.config.epochs * self.steps_per_epoch - self.run.step)

    # --- scoring ----------------------------------------------------------------------------------------------------

    def _scoring_due(self) -> bool:
        run, config = self.run, self.config
        due = run.epoch % config.eval_every == 0 or run.epoch >= config.epochs
        return due and run.batch == 0 and run.epoch > run.scored

    def _score(self) -> None:
        """Score on the validation data; the best weights so far become best.safetensors."""
        from posecli.evaluation import predict_dataset, score

        run, experiment = self.run, self.run.experiment
        try:
            with self.stop.at_once(distributed.world() == 1), self._evaluation_weights():
                predictions = predict_dataset(
                    run.algorithm,
                    self.truth,
                    batch_size=experiment.eval.batch_size,
                    workers=experiment.data.workers,
                    device=run.device,
                    precision=self.config.precision,
                    label=f"scoring epoch {run.epoch}",
                    strict=self.strict,
                )
                if self.first:
                    self._keep_scores(score(self.truth, predictions, self.metrics), predictions)
        except KeyboardInterrupt:
            self.save()
            raise Stopped(f"stopped while scoring epoch {run.epoch}, everything is saved") from None
        run.scored = run.epoch
        distributed.barrier()

    def _keep_scores(self, scores: list[Score], predictions: list[Prediction]) -> None:
        run = self.run
        run.scores = {score.name: score.value for score in scores}
        picked = pick(scores, self.config.best)
        better = not run.best or beats(scores, picked, run.best)
        if better:  # the file first: who is stopped in between scores again
            save_weights(self.best_file, run.algorithm.state_dict(), self._header(run.scores))
            run.best_name, run.best_epoch, run.best = picked.name, run.epoch, run.scores
        self.log.add("scores", epoch=run.epoch, step=run.step, scores=run.scores)
        self.log.write_table()
        best = {"epoch": run.best_epoch, "picked_by": run.best_name, "scores": run.best}
        self._write_json("scores.json", {"best": best, "last": {"epoch": run.epoch, "scores": run.scores}})
        write_curves(run.folder / "curves.png", self.log.records())
        write_samples(run.folder / "samples.jpg", run.algorithm, self.truth, predictions)
        shown = "  ".join(f"{score.name} {score.value:.4g}{score.unit and ' ' + score.unit}" for score in scores[:6])
        console.note(f"epoch {run.epoch}/{self.config.epochs}  {shown}{'  (best so far)' if better else ''}")
        self._call_plugins("posecli_train_log", step=run.step, values=run.scores)

    @contextmanager
    def _evaluation_weights(self) -> Iterator[None]:
        """Within the block the algorithm has the weights to predict with, the same on every rank."""
        distributed.share_buffers(self.run.algorithm)
        if self.average is None:
            yield
            return
        with self.average.in_place():  # of buffers that were not the same
            distributed.share_buffers(self.run.algorithm)
            yield

    def _finish(self) -> None:
        run = self.run
        with self._evaluation_weights():
            if self.first:
                save_weights(run.folder / "last.safetensors", run.algorithm.state_dict(), self._header())
        self._call_plugins("posecli_train_end", scores=run.best)
        distributed.barrier()

    # --- starting, saving, resuming ---------------------------------------------------------------------------------

    def start(self, init: Path | None) -> None:
        """Begin a new run, from fresh weights or from those of a checkpoint. Raises PosecliError in a used folder."""
        run = self.run
        used = self.checkpoints.pointer.is_file() or self.best_file.is_file()
        if distributed.totals([int(used and self.first)])[0]:
            raise PosecliError(f"{run.folder} already holds a run: go on with it by --resume, or choose another --out")
        if init is not None:
            report = initialise(run.algorithm, load_checkpoint(resolve_model(init))[0])
            if self.first:
                listed = f"; all are listed in {run.folder / 'init.txt'}" if report.fresh or report.unexpected else ""
                console.note(f"{init}: {report.summary()}{listed}")
                write_text(run.folder / "init.txt", report.listing())
        self._begin()
        if self.first:
            self.log.path.unlink(missing_ok=True)  # of a run that was killed before its first checkpoint

    def _begin(self) -> None:
        """What needs the first weights in place, and the files that describe the run."""
        run = self.run
        if self.config.ema is not None:
            self.average = Average(run.algorithm, self.config.ema)
        seed_all(self.config.seed + distributed.rank())
        if self.first:
            write_text(run.folder / "config.yaml", to_yaml(run.experiment))
            self._write_json("env.json", _environment(run.device))
        distributed.barrier()

    def save(self) -> None:
        """Write a checkpoint that `restore` goes on from as if nothing had happened. All ranks call it."""
        distributed.share_buffers(self.run.algorithm)
        randoms = distributed.gather_json([random_state(self.run.device)])
        if not self.first:
            return
        run = self.run
        state = {
            "step": run.step,
            "epoch": run.epoch,
            "units_done": run.batch * self.config.batch_size * distributed.world(),
            "units": len(self.units),
            "scored": run.scored,
            "scores": run.scores,
            "best_name": run.best_name,
            "best_epoch": run.best_epoch,
            "best": run.best,
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "scaler": self.scaler.state_dict(),
            "losses": {"units": self.meter.units, "sums": self.meter.sums} if run.batch else None,
            "average": None if self.average is None else self.average.state(),
            "randoms": randoms,
            "threads": torch.get_num_threads(),
        }
        self.checkpoints.save(run.step, run.algorithm.state_dict(), self._header(), state)

    def restore(self) -> None:
        """Go on from the folder's last checkpoint. Raises PosecliError when it is damaged or does not fit."""
        weights, state = self.checkpoints.load()
        run = self.run
        if state["units_done"] and state["units"] != len(self.units):
            raise PosecliError(
                f"cannot resume {run.folder}: it stopped within an epoch over {state['units']} units, and the data "
                f"has {len(self.units)} now; put the data back, or start anew with --init"
            )
        try:
            run.algorithm.load_state_dict(weights)
            for name, optimizer in self.optimizers.items():
                restore_optimizer(optimizer, state["optimizers"][name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise PosecliError(f"cannot resume {run.folder}: the model has changed since: {error}") from error
        for name in ("step", "epoch", "scored", "scores", "best_name", "best_epoch", "best"):
            setattr(run, name, state[name])
        run.batch = state["units_done"] // (self.config.batch_size * distributed.world())
        if run.epoch + (run.batch > 0) > self.config.epochs:
            raise PosecliError(
                f"cannot resume {run.folder}: it is in epoch {run.epoch + (run.batch > 0)} already, and "
                f"train.epochs={self.config.epochs} ends before; give at least as many"
            )
        self._keep_best_file()
        self._begin()
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["average"] is not None:
            self.average.restore(**state["average"])
        if run.batch and state.get("losses"):
            self.begun = Meter(**state["losses"])
        if len(state["randoms"]) == distributed.world():
            set_random_state(state["randoms"][distributed.rank()], run.device)
        if self.first:
            self.log.cut(run.step, run.scored)
            self._tell_resumed(state)
        distributed.barrier()

    def _keep_best_file(self) -> None:
        """Let the best scores be those of best.safetensors, which the steps after the last checkpoint may have written
        already, before the run was killed; without the file there is no best one yet."""
        run = self.run
        header = read_header(self.best_file) if self.best_file.is_file() else None
        if header is None:
            run.best_name, run.best_epoch, run.best = "", 0, {}
        elif header.epoch != run.best_epoch and header.scores:
            run.best_name = run.best_name or next(iter(header.scores))
            run.best_epoch, run.best = header.epoch, dict(header.scores)

    def _tell_resumed(self, state: dict[str, Any]) -> None:
        run = self.run
        where = "finished" if run.epoch >= self.config.epochs else f"epoch {run.epoch + 1}/{self.config.epochs}"
        console.note(f"resuming {run.folder} after step {run.step}, {where}")
        if state["threads"] != torch.get_num_threads() or len(state["randoms"]) != distributed.world():
            console.note(
                f"the run had {len(state['randoms'])} processes of {state['threads']} threads before, and has "
                f"{distributed.world()} of {torch.get_num_threads()} now: results may differ in the last digits"
            )

    def _header(self, scores: dict[str, float] | None = None) -> Header:
        """What a file of the weights says of itself, with the scores of these weights where they are known."""
        run = self.run
        known = run.scores if run.scored == run.epoch else {}
        return Header(
            experiment=dump(run.experiment),
            skeleton=run.algorithm.skeleton.to_dict(),
            scores=known if scores is None else scores,
            epoch=run.epoch,
            step=run.step,
            command=current_command(),
            versions=current_versions(),
        )

    def _describe(self) -> None:
        run = self.run
        if not self.first or run.epoch >= self.config.epochs:
            return
        weights = sum(parameter.numel() for parameter in run.algorithm.parameters())
        processes = f" in {distributed.world()} processes" if distributed.world() > 1 else ""
        console.note(
            f"training {run.experiment.model.name} ({weights / 1e6:.1f} M weights) on {len(self.units)} units, "
            f"{self.config.epochs} epochs of {self.steps_per_epoch} steps on {device_name(run.device)}{processes}, "
            f"in {run.folder}"
        )

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        write_text(self.run.folder / name, console.json_text(value, indent=2) + "\n")

    def _call_plugins(self, hook: str, **arguments: Any) -> None:
        """Let plugins watch; one that raises is reported by name, and the run goes on."""
        if not self.first:
            return
        given = {"run": self.run, **arguments}
        for implementation in getattr(catalog().manager.hook, hook).get_hookimpls():
            try:
                implementation.function(*(given[name] for name in implementation.argnames))
            except Exception as error:  # a plugin may do anything
                console.warn(f"plugin {implementation.plugin_name!r}: {hook}: {type(error).__name__}: {error}")


class Meter:
    """Sums losses over an epoch."""

    def __init__(self, units: int = 0, sums: Mapping[str, float] | None = None) -> None:
        """Of an epoch that another process began, what it had: so many units, and the sums over them."""
        self.units = self.before = units
        self.sums = dict(sums or {})
        self.recent = math.nan  # the sum of the losses of the batch looked at last
        self._began = time.monotonic()

    def add(self, units: int, losses: dict[str, float]) -> None:
        """Take in the losses of a batch of `units`."""
        self.units += units
        self.recent = sum(losses.values())
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * units

    @property
    def losses(self) -> dict[str, float]:
        """The mean of each loss over the units so far."""
        return {name: value / self.units for name, value in self.sums.items()}

    @property
    def loss(self) -> float:
        """The mean of the summed losses; NaN of nothing."""
        return sum(self.losses.values()) if self.units else math.nan

    def seconds(self) -> float:
        """Time since the epoch began."""
        return max(1e-9, time.monotonic() - self._began)


# --- scores ---------------------------------------------------------------------------------------------------------


def pick(scores: list[Score], name: str | None) -> Score:
    """The score that decides which epoch is best: the named one, else the first. Raises PosecliError."""
    if name is None:
        return scores[0]
    for score in scores:
        if score.name == name:
            return score
    raise PosecliError(f"train.best: no score named {name!r}; eval.metrics give {', '.join(s.name for s in scores)}")


def beats(scores: list[Score], picked: Score, former: Mapping[str, float]) -> bool:
    """Whether the scores are better than the former ones: by the one picked, where that is equal by the next ones.

    A PCK that has reached 1 says nothing any more.
    """
    for score in (picked, *scores):
        before = former.get(score.name, math.nan)
        if is_better(score, score.value, before):
            return True
        if is_better(score, before, score.value):
            return False
    return False


def is_better(score: Score, value: float, former: float) -> bool:
    """Whether `value` beats `former`, in the score's own direction; anything beats NaN, and NaN beats nothing."""
    if math.isnan(value) or math.isnan(former):
        return math.isnan(former) and not math.isnan(value)
    return value > former if score.higher_is_better else value < former


def _metrics(experiment: Experiment, algorithm: Algorithm, truth: Dataset, device: torch.device) -> list[Metric]:
    """The metrics. A wrong name, data or predictions that cannot be scored by them, or a score that none of them gives
    is found now, not hours later."""
    from posecli.evaluation import build_metrics, predict_dataset, score

    metrics = build_metrics(experiment.eval.metrics, truth.skeleton)
    if not metrics:
        raise PosecliError("eval.metrics is empty: name at least one, as in --set 'eval.metrics=[pck]'")
    labelled = np.unique(truth.sample_of_row[truth.people.labelled.any(axis=1)])
    if not len(labelled):
        raise PosecliError(
            f"{truth.name}: nobody in it has a labelled keypoint, there is nothing to score; hold out other pictures, "
            "as with data.val or `posecli convert --val`"
        )
    few = truth.take(labelled[:REHEARSED].tolist())
    guesses = predict_dataset(
        algorithm, few, batch_size=REHEARSED, workers=0, device=device, precision=experiment.train.precision
    )
    pick(score(few, guesses, metrics), experiment.train.best)
    return metrics


# --- parts ----------------------------------------------------------------------------------------------------------


def _datasets(experiment: Experiment, strict: bool) -> tuple[Dataset, Dataset]:
    """Training and validation data. Raises PosecliError when their keypoints differ."""
    data = experiment.data
    samples = data.train.refusing(strict).build()
    truth = samples if data.val == data.train else data.val.refusing(strict).build()
    if samples.skeleton.names != truth.skeleton.names:
        raise PosecliError(
            f"{samples.name} and {truth.name} have different keypoints: {len(samples.skeleton.names)} and "
            f"{len(truth.skeleton.names)}, or other names; data.train and data.val must agree"
        )
    return samples, truth


def _freeze_norm(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, _NormBase):
            part.eval()


def _grouped(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group


def _values(pending: list[tuple[Sequence[Sample], dict[str, Tensor]]]) -> list[list[float]]:
    """The losses as numbers, a row a batch, in one transfer."""
    if not pending:
        return []
    rows = torch.stack([torch.stack(list(losses.values())).float() for _, losses in pending])
    values: list[list[float]] = rows.tolist()
    return values


def _environment(device: torch.device) -> dict[str, Any]:
    return {
        "command": current_command(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "platform": platform.platform(),
        "device": device_name(device),
        "processes": distributed.world(),
        "threads": torch.get_num_threads(),
        "versions": current_versions(),
    }


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
