"""Kill commands at random moments, fill the disk under them, and count what breaks (`make gates`).

    python tests/gates.py [KILLS] [SEED] [COMMAND ...]

Every command, or those whose titles begin with COMMAND, is interrupted KILLS times in each way and
started again. The rows go into docs/reliability.md. The seed determines the moments, as shares of
the time that a command takes.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interrupted import Command, Outcome, hidden
from killed_training import facts, make_recipe

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
RANDOM_KILL, WRITE_KILL = "kill -9", "kill -9 at a write"
TERMINATED, DISK_FULL = "SIGTERM", "disk full"
FAULTS = (RANDOM_KILL, WRITE_KILL, TERMINATED, DISK_FULL)
RECORDINGS = 32
#: Exit codes after SIGTERM: by the handler, or before and after it, as a shell shows them too.
SIGTERM_CODES = {128 + signal.SIGTERM, -signal.SIGTERM}


@dataclass(frozen=True)
class Gate:
    """A command, and how its result is checked.

    Attributes:
        title: the command in the table.
        words: of the command; its working folder has the folder ``out``.
        result: reads what is in ``out``; None if nothing is there yet. It raises an error if
            something damaged is there.
        prepare: puts into ``out`` what is there before the command.
        again: further words to start it again.
    """

    title: str
    words: tuple[str, ...]
    result: Callable[[Path], Any]
    prepare: Callable[[Path], None] = lambda out: None
    again: tuple[str, ...] = ()


@dataclass
class Row:
    """Counts of one command and one fault."""

    title: str
    fault: str
    seed: int
    tries: int = 0
    interrupted: int = 0
    broken: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the row of the table."""
        counts = Counter(" ".join(text.replace("|", "/").split()) for text in self.broken)
        reasons = "; ".join(f"{text} ({count})" for text, count in counts.items()) or "–"
        numbers = (self.seed, self.tries, self.interrupted, len(self.broken))
        return f"| {' | '.join(map(str, (self.title, self.fault, *numbers, reasons)))} |"


class Trial:
    """Runs of one command in a folder: undisturbed, interrupted, and again."""

    def __init__(self, gate: Gate, folder: Path) -> None:
        self.gate, self.folder, self.out = gate, folder, folder / "out"
        self.reset()
        self.before = gate.result(self.out)
        self.reference = self.run()  # reads all modules and files once
        self.whole = gate.result(self.out)
        if self.reference.code or self.whole is None or self.whole == self.before:
            raise RuntimeError(f"{gate.title}: {self.reference}")
        self.sizes = [path.stat().st_size for path in self.out.rglob("*") if path.is_file()]
        self.reset()
        self.reference = self.run()

    def reset(self) -> None:
        """Bring the folder to the state before the command."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.out.mkdir(parents=True)
        self.gate.prepare(self.out)
        self.is_begun = False

    def start(self, **faults: Any) -> Command:
        """Start the command, or start it again."""
        is_again = self.is_begun and any(self.out.iterdir())  # a kill may come before any file
        words = (*self.gate.words, *(self.gate.again if is_again else ()))
        self.is_begun = True
        return Command(words, self.folder, **faults)

    def run(self) -> Outcome:
        """Run the command without a fault."""
        return self.start().wait()

    def interrupt(self, fault: str, number: int, draw: random.Random) -> tuple[Outcome, Command]:
        """Run the command with a fault."""
        after = draw.uniform(0, 1.1) * self.reference.seconds
        if fault == WRITE_KILL:
            command = self.start(kill_at=1 + number % self.reference.writes)
        elif fault == DISK_FULL:
            command = self.start(disk=draw.randrange(max(self.sizes)))
        else:
            command = self.start()
            command.send_signal(signal.SIGTERM if fault == TERMINATED else signal.SIGKILL, after)
        return command.wait(), command

    def check_files(self) -> tuple[str, bool]:
        """Return what is wrong with the files after a fault, and whether the result is there."""
        try:
            found = self.gate.result(self.out)
        except Exception as error:
            return f"a damaged file: {type(error).__name__}: {error}", False
        is_whole = found == self.whole
        return "" if is_whole or found == self.before else "another result", is_whole

    def end_result(self, outcome: Outcome) -> str:
        """Return what is wrong with the result of a run that ended by itself."""
        if outcome.code:
            return f"starting again failed: {outcome.errors.strip() or outcome.code}"
        if self.gate.result(self.out) != self.whole:
            return "another result than without the fault"
        left = hidden(self.out)
        return f"files left: {', '.join(path.name for path in left)}" if left else ""


def expected_end(fault: str, outcome: Outcome, out: Path) -> str:
    """Return what is wrong with the end of a command that was interrupted."""
    if outcome.code is None:
        return "did not end"
    if fault == TERMINATED and outcome.code not in SIGTERM_CODES:
        return f"exit code {outcome.code}: {outcome.errors.strip()}"
    if fault == DISK_FULL:
        if outcome.code != 2:
            return f"exit code {outcome.code}: {outcome.errors.strip()}"
        # the progress of a training is on standard error too
        *others, last = outcome.errors.splitlines() or [""]
        sentences = [line for line in others if not line.startswith("epoch ")]
        if sentences or not last.startswith("kinegraph: "):
            return f"not one sentence: {outcome.errors.strip()}"
    if fault in (TERMINATED, DISK_FULL) and hidden(out):
        return "partial files left"
    return ""


def try_fault(trial: Trial, fault: str, tries: int, seed: int) -> Row:
    """Interrupt a command again and again, on top of what it left, until it ends; then anew."""
    row = Row(trial.gate.title, fault, seed)
    draw = random.Random(f"{seed} {row.title} {fault}")
    trial.reset()
    for number in range(tries):
        outcome, command = trial.interrupt(fault, number, draw)
        row.tries += 1
        row.interrupted += outcome.code != 0
        wrong, is_whole = trial.check_files()
        if left := command.orphans():
            wrong = wrong or f"{len(left)} processes outlive the command"
        if outcome.code != 0:
            wrong = wrong or expected_end(fault, outcome, trial.out)
            if number == tries - 1 and not is_whole:
                outcome = trial.run()
        if outcome.code == 0 or (number == tries - 1 and not is_whole):
            wrong = wrong or trial.end_result(outcome)
        if wrong:
            row.broken.append(wrong)
            report_fault(row)
        if wrong or is_whole or outcome.code == 0:
            trial.reset()
    return row


def report_fault(row: Row) -> None:
    """Print the latest fault of a row."""
    print(f"broken: {row.title}, {row.fault}: {row.broken[-1]}", flush=True)


# --------------------------------------------------------------------- the commands


def list_gates(root: Path) -> Iterator[Gate]:
    """Write the inputs of the commands to a folder, and yield the commands."""
    yield from convert_gates(root)
    store = write_store(root / "tiny.arrow")
    yield from train_gates(root, store)
    run = train_run(root / "run", store)
    yield from export_gates(run)
    yield report_gate(root, run)
    yield figure_gate()
    yield teach_gate(store)


def write_store(path: Path) -> Path:
    """Write a small store of synthetic clips."""
    from conftest import made_up_clips
    from kinegraph.clips.writer import StoreWriter

    clips = made_up_clips()
    with StoreWriter(path, clips[0].layout, ("here", "there", "away")) as writer:
        for clip in clips:
            writer.write(clip)
    return path


def convert_gates(root: Path) -> Iterator[Gate]:
    """Convert raw files over an older store, in one process and in two."""
    from kinegraph.readers.synthetic.reader import write_dataset

    write_dataset(root / "raw", performers=1, replications=1)
    for path in sorted((root / "raw").rglob("*.skeleton"))[RECORDINGS:]:
        path.unlink()
    old = write_store(root / "old.arrow")

    def prepare(out: Path) -> None:
        shutil.copy(old, out / "set.arrow")

    for workers, title in ((1, "convert"), (2, "convert, two processes")):
        words = ("convert", "synthetic", str(root / "raw"), "out/set.arrow", "--workers")
        yield Gate(title, (*words, str(workers)), read_store, prepare)


def read_store(out: Path) -> Any:
    """Return the bytes of the store, after all its checksums were verified."""
    from kinegraph.clips.store import ClipStore

    store = ClipStore(out / "set.arrow")
    for number in range(len(store)):
        store[number]
    return (out / "set.arrow").read_bytes()


def train_gates(root: Path, store: Path) -> Iterator[Gate]:
    """Train in one process, with a loader process, and in two processes."""
    import yaml

    variants = {"train": {}, "train, a loader process": {"workers": 1}}
    variants["train, two processes"] = {"devices": 2}
    for number, (title, options) in enumerate(variants.items()):
        recipe = make_recipe(store)
        # as long as the report after it, so that kills hit both
        recipe["train"] |= {"epochs": 16, "early_stop": None, **options}
        path = root / f"recipe{number}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        yield Gate(title, ("train", str(path), "--out", "out/run"), read_run, again=("--resume",))


def read_run(out: Path) -> Any:
    """Return the facts of a finished run; every checkpoint must be whole, finished or not."""
    from kinegraph.training.checkpoint import BEST_FILE, LAST_FILE, load_model

    run = out / "run"
    for name in (BEST_FILE, LAST_FILE):
        if (run / name).exists():
            load_model(run / name)
    return facts(run) if (run / "report.html").exists() else None


def train_run(run: Path, store: Path) -> Path:
    """Train a run with its report and scores."""
    import yaml

    recipe = run.with_name("run.yaml")
    recipe.write_text(yaml.safe_dump(make_recipe(store)))
    outcome = Command(("train", str(recipe), "--out", str(run)), run.parent).wait()
    if outcome.code:
        raise RuntimeError(outcome.errors)
    return run


def export_gates(run: Path) -> Iterator[Gate]:
    """Export a run in each format whose packages are installed."""
    from importlib.util import find_spec

    packages = {"pt2": "torch", "onnx": "onnx", "xml": "openvino"}
    for suffix, package in packages.items():
        if find_spec(package) is None:
            print(f"export to .{suffix}: left out, the package {package} is not installed")
            continue
        path = f"out/a.{suffix}"
        yield Gate(f"export to .{suffix}", ("export", str(run), path), read_export)


def read_export(out: Path) -> Any:
    """Return the logits of the exported file for a fixed input."""
    import torch

    from kinegraph.inference.recognizer import Recognizer

    files = [path for path in out.iterdir() if path.suffix in (".pt2", ".onnx", ".xml")]
    if not files:
        return None
    recognizer = Recognizer.load(files[0])
    joints = len(recognizer.header.layout["joints"])
    x = torch.randn(
        (2, recognizer.header.in_channels, 8, joints, 1), generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        return recognizer.model(x).numpy().tobytes()


def report_gate(root: Path, run: Path) -> Gate:
    """Write the report and scores of a finished run, as the end of a training does."""
    from kinegraph.clips.scores import Scores

    def prepare(out: Path) -> None:
        shutil.copytree(run, out / "run")
        (out / "run" / "report.html").unlink()

    def read(out: Path) -> Any:
        scores = Scores.load(out / "run" / "scores-test.npz")
        path = out / "run" / "report.html"
        page = path.read_bytes() if path.exists() else None
        if page is not None and not page.rstrip().endswith(b"</html>"):
            raise ValueError("the page is cut short")
        return facts(out / "run"), scores.logits.tobytes(), page

    words = ("train", str(root / "run.yaml"), "--out", "out/run", "--resume")
    return Gate("report", words, read, prepare)


def figure_gate() -> Gate:
    """Draw a figure over an older one."""

    def prepare(out: Path) -> None:
        (out / "graph.png").write_bytes(b"the older figure")

    def read(out: Path) -> Any:
        return (out / "graph.png").read_bytes()

    return Gate("draw", ("draw", "graph", "jhmdb15", "--out", "out/graph.png"), read, prepare)


def teach_gate(store: Path) -> Gate:
    """Teach the bundled model the actions of a store."""
    words = ("teach", "penn-action", str(store), "--out", "out/taught")
    return Gate("teach", words, read_taught)


def read_taught(out: Path) -> Any:
    """Return the weights and the header of the taught model, without its clock."""
    from kinegraph.training.checkpoint import LAST_FILE, load_model

    path = out / "taught" / LAST_FILE
    if not path.exists():
        return None
    model, header = load_model(path)
    weights = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    training = {key: value for key, value in header.training.items() if key != "seconds"}
    return weights, training, header.classes


# --------------------------------------------------------------------- the server


def try_server(tries: int, seed: int) -> Iterator[Row]:
    """Kill processes of a server, and whole servers."""
    from server.killed_server import attack, kill_whole, serving

    draw = random.Random(f"{seed} serve")
    for persons, load in ((0, "idle"), (4, "four streams")):
        with serving("--processes", "2", "--persons", "20") as server:
            pauses = [draw.uniform(0.2, 1.5) for _ in range(tries)]
            _, faults = asyncio.run(attack(server, persons, pauses))
        yield Row(f"serve, {load}", f"{RANDOM_KILL} of a worker", seed, tries, tries, faults)
    for number, fault, codes in (
        (signal.SIGKILL, RANDOM_KILL, {-signal.SIGKILL}),
        (signal.SIGTERM, TERMINATED, {0}),
    ):
        row = Row("serve, the whole server", fault, seed)
        for _ in range(max(1, tries // 5)):
            with serving("--processes", "2", "--persons", "20") as server:
                time.sleep(draw.uniform(0, 2))
                code, left = kill_whole(server, number)
            row.tries += 1
            row.interrupted += 1
            row.broken += left or ([] if code in codes else [f"exit code {code}"])
        yield row


# --------------------------------------------------------------------- the table


def run_gates(tries: int, seed: int, only: tuple[str, ...] = ("",)) -> Iterator[Row]:
    """Yield the rows of all commands whose titles begin with one of ``only``."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for gate in list_gates(root):
            if not gate.title.startswith(only):
                continue
            trial = Trial(gate, root / "trial")
            for fault in FAULTS:
                yield try_fault(trial, fault, tries, seed)
    if any("serve".startswith(word) for word in only):
        yield from try_server(tries, seed)


def main() -> None:
    """Interrupt every command so many times; exit with 1 if something broke."""
    tries = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    only = tuple(sys.argv[3:]) or ("",)
    if not Path("/proc/self/stat").exists():
        sys.exit("kinegraph gates: this needs Linux, whose /proc lists the processes of a command")
    rows = []
    for row in run_gates(tries, seed, only):
        rows.append(row)
        print(row.line(), flush=True)
        write_page(row.line())
    sys.exit(int(any(row.broken for row in rows)))


def write_page(line: str) -> None:
    """Write a row into the table of docs/reliability.md; the other rows stay."""
    if (benchmarks := str(ROOT / "benchmarks")) not in sys.path:
        sys.path.insert(0, benchmarks)
    from accuracy import split_page, write_table

    header = ("command", "fault", "seed", "tries", "interrupted", "broken", "what broke")
    old = [line for line in split_page("gates", PAGE)[1].splitlines() if line.startswith("| ")]
    table = {tuple(line.split(" | ")[:2]): line for line in [*old[1:], line]}
    write_table("gates", header, list(table.values()), PAGE)


if __name__ == "__main__":
    main()
