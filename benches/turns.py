"""Runs Onward and other programs in turns on an idle machine, and adds what they took to results/speed/turns.json, from which
docs/speed_tables.py makes its table (standard library only):

    python3 benches/turns.py throughput evaluate --onward target/release/onward --python PYTHON --peers PROGRAM --data MNIST

PROGRAM trains Hinton's recipe or backpropagation by PyTorch or JAX: `PROGRAM --engine NAME --data DIR --layers I,O,O --epochs N` or
`--seconds S` prints one JSON line with `samples_per_second`, and with epochs a `curve` of seconds and test errors; imported, it has a
function `test` of 11 passes over the test images. --rust is the program `ff` of jesper-olsen/forward-forward-rs.

    python3 benches/turns.py bench --what kinds --what memory --rounds 3 --onward target/release/onward

puts what `onward bench` measures into results/speed/bench.json, with the machine that it was measured on: of several rounds
the medians.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

TURNS = pathlib.Path(__file__).parent.parent / "results" / "speed" / "turns.json"
BENCH = TURNS.with_name("bench.json")
TIME_TEST = """
import io, json, runpy, sys, contextlib, time
sys.argv = sys.argv[1:]
with contextlib.redirect_stdout(io.StringIO()):
    program = runpy.run_path(sys.argv[0])
program["test"]()
start, n = time.perf_counter(), 0
while n < 2 or time.perf_counter() - start < 4:
    program["test"](); n += 1
print(json.dumps((time.perf_counter() - start) / n))
"""


def machine():
    models = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    family = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("cpu family")), "")
    # AVX-512 came with Zen 4.
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "")
    zen = {"25": "Zen 4" if "avx512f" in flags else "Zen 3", "26": "Zen 5"}.get(family)
    return f"{os.cpu_count()} cores, {zen or models[0]}{' with AMX' if 'amx_bf16' in flags else ''}"


def last_line(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1])


def onward(args, experiment, *settings):
    """Trains; answers the run's summary."""
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        train = [args.onward, "train", experiment, "--progress", "none", "--out", str(run), *settings]
        subprocess.run(train, check=True, capture_output=True)
        return json.loads((run / "summary.json").read_text())


def peer(args, engine, layers, *more):
    return last_line([args.python, args.peers, "--engine", engine, "--data", args.data, "--layers", layers, *more])


BF16 = ["--set", "engine.precision=bf16"]
OURS = {"onward f32": [], "onward bf16": BF16}
DEFAULT, WIDE = "784,1000,1000,1000", "784,2000,2000,2000,2000"


def throughput(args):
    """Three epochs of the default; peers do the same work in every step, so some seconds of it tell as much."""
    ours = {who: lambda s=s: onward(args, "default", "--epochs", "3", *s)["samples_per_second"] for who, s in OURS.items()}
    peers = ["jax", "torch-bf16", "torch-closed"]
    return "784-3×1000, three epochs, samples/s", ours | {
        who: lambda who=who: peer(args, who, DEFAULT, "--seconds", "8")["samples_per_second"] for who in peers
    }


def wide(args):
    few = ["--epochs", "1", "--limit", "20000"]
    ours = {who: lambda s=s: onward(args, "supervised", *few, *s)["samples_per_second"] for who, s in OURS.items()}
    return "784-4×2000, first 20,000 samples, samples/s", ours | {
        "jax": lambda: peer(args, "jax", WIDE, "--seconds", "15")["samples_per_second"]
    }


def rest(args):
    """Ten epochs; peers, which visit every sample, would take what their rate says."""
    all = ["--set", "data.validation=0", "--set", "training.rest=4"]
    ours = {who: lambda s=s: onward(args, "default", *all, *s)["seconds"] for who, s in OURS.items()}
    jax = lambda: 600_000 / peer(args, "jax", DEFAULT, "--seconds", "8")["samples_per_second"]
    return "784-3×1000, ten epochs with rest, seconds", ours | {"jax": jax}


def evaluate(args):
    def ours(precision):
        bench = subprocess.run([args.onward, "bench", "evaluate", "--json"], check=True, capture_output=True, text=True)
        return json.loads(bench.stdout)["evaluate"][precision]["every_label_seconds"]

    def peers(engine):
        command = [args.python, "-c", TIME_TEST, args.peers, "--engine", engine, "--data", args.data, "--seconds", "0.1"]
        return last_line(command) * 10 / 11  # ten labels, and the neutral one

    who = {f"onward {precision}": lambda p=precision: ours(p) for precision in ["f32", "bf16"]}
    who |= {engine: lambda e=engine: peers(e) for engine in ["torch-closed", "torch-bf16"]}
    return "every label of 10,000 images, seconds", who


def rust(args):
    def theirs():
        command = ["stdbuf", "-oL", args.rust, "--dir", args.data, "--threads", str(os.cpu_count()), "--max-epoch", "2"]
        with tempfile.TemporaryDirectory() as folder:
            program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
            for line in program.stdout:
                if line.startswith("Training"):
                    start = time.perf_counter()
                if line.startswith("Epoch"):
                    program.kill()
                    return 50_000 / (time.perf_counter() - start)

    ours = {who: lambda s=s: onward(args, "default", "--epochs", "1", *s)["samples_per_second"] for who, s in OURS.items()}
    return "784-3×1000, first epoch, samples/s", ours | {"forward-forward-rs": theirs}


def two(args):
    """The shortest training, of so many epochs with the schedule that belongs to it, that ends at 2.0 % or below."""

    def shortest(train):
        for epochs in range(3, 13):
            found = train(str(epochs))
            if min(found["test_error"].values()) <= 2.0:
                return found["seconds"]

    who = {name: lambda s=s: shortest(lambda epochs: onward(args, "default", "--epochs", epochs, *s)) for name, s in OURS.items()}
    who |= {
        engine: lambda e=engine: shortest(lambda epochs: peer(args, e, DEFAULT, "--epochs", epochs))
        for engine in ["torch-backprop", "jax-backprop"]
    }
    return "784-3×1000, to 2.0 % test error, seconds", who


def medians(found):
    """Of the same measurements, made several times: each number's median."""
    if isinstance(found[0], dict):
        return {key: medians([each[key] for each in found]) for key in found[0]}
    if isinstance(found[0], list):
        return [medians(list(each)) for each in zip(*found, strict=True)]
    return statistics.median(found) if isinstance(found[0], float) else found[0]


def bench(args):
    """Each thing that `onward bench` measures, by itself."""
    for what in args.what or ["limits", "step", "evaluate", "kinds", "memory", "scaling", "exit"]:
        command = [args.onward, "bench", what, "--json", "--seconds", str(args.seconds)]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(args.rounds)]
        all = json.loads(BENCH.read_text()) if BENCH.exists() else {}
        all |= medians([json.loads(run.stdout) for run in runs])
        all.setdefault("machines", {})[what] = machine()
        BENCH.write_text(json.dumps(all, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


PARTS = {part.__name__: part for part in [throughput, wide, rest, evaluate, rust, two]}
parser = argparse.ArgumentParser()
parser.add_argument("parts", nargs="+", choices=[*PARTS, "bench"])
for name in ["onward", "python", "peers", "data", "rust"]:
    parser.add_argument(f"--{name}")
parser.add_argument("--rounds", type=int, default=1)
parser.add_argument("--what", action="append", help="of the bench: only this")
parser.add_argument("--seconds", type=float, default=3.0, help="of the bench: for each measurement")
parser.add_argument("--only", action="append", help="only who is named so")
args = parser.parse_args()
if "bench" in args.parts:
    bench(args)
for _ in range(args.rounds):
    for part in (part for part in args.parts if part in PARTS):
        what, who = PARTS[part](args)
        for name, measure in who.items():
            if args.only and name not in args.only:
                continue
            value = measure()
            lines = json.loads(TURNS.read_text()) if TURNS.exists() else []
            lines.append({"what": what, "who": name, "value": value, "machine": machine()})
            TURNS.write_text("[\n" + ",\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n]\n")
            print(f"{what}: {name} {value}", flush=True)
