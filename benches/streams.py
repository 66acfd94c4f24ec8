"""Learning from real streams: `onward stream` beside river and scikit-learn.

    python -m venv venv && venv/bin/pip install river scikit-learn matplotlib
    cargo build --release
    venv/bin/python benches/streams.py --data DIR

DIR holds elec2/elec.csv (45,312 rows in time order, the label last), occupancy/ (datatraining.txt, datatest.txt,
datatest2.txt, as the UCI repository has them) and mnist/ (train-images-idx3-ubyte). Everything but `onward`'s flags below is
at its defaults. Writes results/streams/*.json, docs/elec2.svg, docs/video.svg and the tables of docs/streaming.md.

What Onward's defaults were chosen on: synthetic streams, the first 11,000 rows of ELEC2, occupancy's datatraining and
datatest, and videos of other digits. So the fair numbers are ELEC2 after row 11,000, and datatest2.
"""

import argparse
import csv
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import river
import sklearn
from river import dummy, forest, linear_model, preprocessing, tree
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parent.parent
CHOSEN_ON = 11_000
EACH = 1_000
SEEDS = [1, 2, 3]


def commit():
    git = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude=*"], cwd=ROOT, capture_output=True, text=True)
    return git.stdout.strip() or None


def onward(binary, arguments):
    """The records that `onward stream` answers, and its seconds."""
    start = time.perf_counter()
    output = subprocess.run([binary, "stream", *arguments], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    return [json.loads(line) for line in output.stdout.splitlines()], seconds


def accuracy(right, seconds):
    """What a list of right and wrong predictions comes to, in per cent."""
    share = lambda part: round(100 * sum(part) / len(part), 2)
    return {
        "accuracy": share(right),
        "accuracy_after_chosen_on": share(right[CHOSEN_ON:]),
        "by_thousand": [share(right[at : at + EACH]) for at in range(0, len(right) - EACH + 1, EACH)],
        "seconds": round(seconds, 2),
    }


def elec2(binary, data):
    path = data / "elec2" / "elec.csv"
    with open(path) as file:
        rows = list(csv.DictReader(file))
    features = [{key: float(value) for key, value in row.items() if key != "class"} for row in rows]
    labels = [int(row["class"]) for row in rows]
    models = {
        "no change": lambda seed: dummy.NoChangeClassifier(),
        "river logistic regression": lambda seed: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
        "river Hoeffding tree": lambda seed: tree.HoeffdingTreeClassifier(),
        "river adaptive random forest": lambda seed: forest.ARFClassifier(seed=seed),
    }
    results = {}
    for name, flags in [("onward", []), ("onward one-step", ["--rule", "one-step"])]:
        runs = []
        for seed in SEEDS:
            lines, seconds = onward(binary, [str(path), "--seed", str(seed), *flags])
            assert len(lines) == len(rows)
            runs.append(accuracy([line.get("label") == line["truth"] for line in lines], seconds))
        results[name] = {"flags": flags, "runs": runs}
    for name, make in models.items():
        runs = []
        for seed in SEEDS if "forest" in name else SEEDS[:1]:
            model, right, start = make(seed), [], time.perf_counter()
            for x, y in zip(features, labels):
                right.append(model.predict_one(x) == y)
                model.learn_one(x, y)
            runs.append(accuracy(right, time.perf_counter() - start))
        results[name] = {"runs": runs}
        print(name, runs[0]["accuracy"], flush=True)
    return {"rows": len(rows), "chosen_on_first": CHOSEN_ON, "each": EACH, "results": results}


def occupancy(binary, data):
    def read(name):
        with open(data / "occupancy" / name) as file:
            rows = list(csv.reader(file))[1:]
        return [[float(value) for value in row[2:7]] for row in rows], [int(row[7]) for row in rows]

    train, train_labels = read("datatraining.txt")
    normal = [x for x, label in zip(train, train_labels) if label == 0]
    tests = {name: read(f"{name}.txt") for name in ["datatest", "datatest2"]}
    auroc = lambda labels, scores: round(float(roc_auc_score(labels, scores)), 4)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)

        def write(name, rows):
            with open(folder / name, "w", newline="") as file:
                csv.writer(file).writerows(rows)
            return str(folder / name)

        for kind in ["mixed-or-noise", "noise"]:
            runs = []
            for seed in SEEDS:
                checkpoint = str(folder / f"{kind}-{seed}")
                flags = ["--mode", "unsupervised", "--negatives", kind, "--seed", str(seed)]
                onward(binary, [write("normal.csv", normal), "--checkpoint", checkpoint, "--output", "summary", *flags])
                run = {}
                for name, (rows, labels) in tests.items():
                    lines, _ = onward(binary, [write(f"{name}.csv", rows), "--resume", checkpoint, "--frozen"])
                    run[name] = auroc(labels, [-line["score"] for line in lines])
                runs.append(run)
            results[f"onward {kind}"] = {"runs": runs}
    runs = []
    for seed in SEEDS:
        model = IsolationForest(random_state=seed).fit(normal)
        runs.append({name: auroc(labels, -model.score_samples(rows)) for name, (rows, labels) in tests.items()})
    results["scikit-learn isolation forest"] = {"runs": runs}
    for name, result in results.items():
        print(name, result["runs"], flush=True)
    return {"trained_on": len(normal), "chosen_on": "datatest", "results": results}


SIDE, HALF = 28, 14


def moving_digits(images, frames, seed):
    """A video `(frames, 28, 28)`: a digit of half its size moves and bounces; one frame in 33 it jumps elsewhere (1) or turns
    into another digit (2). Answers these events too `(frames)`."""
    random = numpy.random.default_rng(seed)
    draw = lambda: images[random.integers(len(images))].reshape(HALF, 2, HALF, 2).mean(axis=(1, 3)) / 255
    room = SIDE - HALF
    digit, place = draw(), random.uniform(0, room, 2)
    speed = random.choice([-1, 1], 2) * random.uniform(0.5, 2, 2)
    video, events = numpy.zeros((frames, SIDE, SIDE), "<f4"), numpy.zeros(frames, int)
    for t in range(frames):
        place = place + speed
        speed = numpy.where((place < 0) | (place > room), -speed, speed)
        place = numpy.where(place < 0, -place, numpy.where(place > room, 2 * room - place, place))
        if random.integers(33) == 0:
            events[t] = random.integers(1, 3)
            if events[t] == 1:
                place = random.uniform(0, room, 2)
            else:
                digit = draw()
        y, x = place.round().astype(int)
        video[t, y : y + HALF, x : x + HALF] = digit
    return video, events


def video(binary, data):
    """Frames that do not follow from those before, told while learning; AUROC over the second half of the video."""
    raw = (data / "mnist" / "train-images-idx3-ubyte").read_bytes()[16:]
    images = numpy.frombuffer(raw, numpy.uint8).reshape(-1, 28, 28)[50_000:]
    frames = 120_000
    second_half = slice(frames // 2, frames)
    shape = ["--format", "raw", "--columns", str(SIDE * SIDE), "--mode", "unsupervised", "--layers", "128,128"]
    networks = {
        "recurrent": ["--recurrent"],
        "recurrent, two frames at a time": ["--recurrent", "--window", "2"],
        "feed-forward, two frames at a time": ["--window", "2", "--negatives", "another"],
        "feed-forward, a frame at a time": [],
    }
    runs = {}
    for seed in SEEDS:
        # Other movements than those that the settings were tried on.
        video, events = moving_digits(images, frames, 100 + seed)

        def auroc(part, event, odd):
            kept = (events[part] == 0) | (events[part] == event)
            return round(float(roc_auc_score(events[part][kept] > 0, odd[part][kept])), 4)

        def tell(name, odd, seconds):
            tens = [slice(at, at + 10_000) for at in range(0, frames, 10_000)]
            run = {"jumps": auroc(second_half, 1, odd), "turns": auroc(second_half, 2, odd), "seconds": round(seconds, 2)}
            run["jumps_by_ten_thousand"] = [auroc(ten, 1, odd) for ten in tens]
            runs.setdefault(name, []).append(run)
            print(name, run, flush=True)

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.f32"
            video.tofile(path)
            for name, flags in networks.items():
                lines, seconds = onward(binary, [str(path), *shape, *flags, "--seed", str(seed)])
                tell(f"onward {name}", numpy.array([-line["score"] for line in lines]), seconds)
        flat = video.reshape(frames, -1)
        before = numpy.concatenate([flat[:1], flat[:-1]])
        start = time.perf_counter()
        odd = numpy.abs(flat - before).sum(axis=1)
        tell("difference to the frame before", odd, time.perf_counter() - start)
        start = time.perf_counter()
        odd = -(flat * before).sum(axis=1) / (numpy.linalg.norm(flat, axis=1) * numpy.linalg.norm(before, axis=1))
        tell("angle to the frame before", odd, time.perf_counter() - start)
        start = time.perf_counter()
        pairs = numpy.concatenate([before, flat], axis=1)
        forest = IsolationForest(random_state=seed).fit(pairs[: frames // 2])
        odd = numpy.concatenate([-forest.score_samples(part) for part in numpy.array_split(pairs, 20)])
        tell("scikit-learn isolation forest, two frames", odd, time.perf_counter() - start)
    results = {name: {"flags": networks.get(name.removeprefix("onward ")), "runs": found} for name, found in runs.items()}
    return {"frames": frames, "layers": [128, 128], "results": results}


def pyplot():
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "onward"
    matplotlib.rcParams["font.size"] = 9
    return pyplot


def elec2_figure(found, path):
    shown = {
        "onward": ("#0b6e4f", 2.0),
        "river adaptive random forest": ("#c8553d", 1.2),
        "river logistic regression": ("#7a6ff0", 1.2),
        "river Hoeffding tree": ("#8a8a8a", 1.2),
    }
    figure, axes = pyplot().subplots(figsize=(7.2, 3.4), layout="constrained")
    for name, (colour, width) in shown.items():
        values = found["results"][name]["runs"][0]["by_thousand"]
        smooth = [sum(values[max(0, i - 2) : i + 1]) / len(values[max(0, i - 2) : i + 1]) for i in range(len(values))]
        total = found["results"][name]["runs"][0]["accuracy"]
        at = [(i + 1) * found["each"] for i in range(len(values))]
        axes.plot(at, smooth, color=colour, linewidth=width, label=f"{name}: {total} %")
    axes.axvline(found["chosen_on_first"], color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.set_xlabel("records of ELEC2 (settings chosen left of the dotted line)")
    axes.set_ylabel("% predicted right, last 3,000")
    axes.set_ylim(60, 100)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2, loc="lower center")
    figure.savefig(path, metadata={"Date": None})


def video_figure(found, path):
    shown = {
        "onward recurrent, two frames at a time": ("#0b6e4f", "-"),
        "onward feed-forward, two frames at a time": ("#c8553d", "-"),
        "onward recurrent": ("#0b6e4f", "--"),
        "onward feed-forward, a frame at a time": ("#c8553d", "--"),
        "angle to the frame before": ("#8a8a8a", ":"),
    }
    figure, axes = pyplot().subplots(figsize=(7.2, 3.4), layout="constrained")
    for name, (colour, style) in shown.items():
        runs = [run["jumps_by_ten_thousand"] for run in found["results"][name]["runs"]]
        means = [sum(values) / len(values) for values in zip(*runs)]
        axes.plot([10 * (i + 1) for i in range(len(means))], means, color=colour, linestyle=style, label=name)
    axes.set_xlabel("thousand frames seen")
    axes.set_ylabel("AUROC of jumps, last 10,000 frames")
    axes.set_ylim(0.45, 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=2, loc="upper left", fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def tables(out, document):
    """Writes the tables of the document from the results, between their marks."""
    load = lambda name: json.loads((out / name).read_text())
    mean = lambda runs, key: sum(run[key] for run in runs) / len(runs)
    spread = lambda runs, key: f" ({min(run[key] for run in runs)}–{max(run[key] for run in runs)})" if len(runs) > 1 else ""

    found = load("elec2.json")
    first = f"{found['chosen_on_first']:,}"
    lines = [f"| ELEC2, {found['rows']:,} records | right, % | after the first {first} | seconds |", "|---|---:|---:|---:|"]
    for name, result in found["results"].items():
        runs = result["runs"]
        cells = [f"{mean(runs, key):.2f}{spread(runs, key)}" for key in ["accuracy", "accuracy_after_chosen_on"]]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {mean(runs, 'seconds'):.2f} |")
    lines += ["", f"Everything is at its defaults; Onward's were chosen on the first {first} records and on other streams. \"No change\" predicts",
              f"the label before. With river {found['river']}; where there are several seeds, their mean and range."]
    elec2 = lines

    found = load("occupancy.json")
    lines = ["| AUROC: is the office occupied? | datatest | datatest2 |", "|---|---:|---:|"]
    for name, result in found["results"].items():
        cells = [f"{mean(result['runs'], key):.3f}{spread(result['runs'], key)}" for key in ["datatest", "datatest2"]]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    lines += ["", f"Occupancy data (temperature, humidity, light, CO2): trained on the {found['trained_on']:,} records of an empty office, then frozen.",
              f"Onward's defaults were chosen on {found['chosen_on']}, so datatest2 is the fair column. With scikit-learn {found['scikit-learn']}."]
    occupancy = lines

    found = load("video.json")
    lines = ["| AUROC: does this frame follow? | jumps | turns | frames/s |", "|---|---:|---:|---:|"]
    for name, result in found["results"].items():
        runs = result["runs"]
        cells = [f"{mean(runs, key):.3f}{spread(runs, key)}" for key in ["jumps", "turns"]]
        rate = f"{found['frames'] / mean(runs, 'seconds'):,.0f}" if name.startswith("onward") else ""
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {rate} |")
    width = "×".join(str(width) for width in found["layers"])
    lines += ["", f"Over the second half of {found['frames']:,} frames of 28×28 pixels; {width} units; three videos, mean and range."]
    video = lines

    found = load("speed.json")["stream"]
    lines = ["| | records/s | half within | 99 % within |", "|---|---:|---:|---:|"]
    names = {
        "classify": "predict and learn labels",
        "one_step": "the same by the one-step rule",
        "unsupervised": "learn without labels",
        "command_csv": "the whole command: CSV in, JSON lines out",
        "command_json": "the whole command: JSON lines in and out",
    }
    for key, name in names.items():
        of = found[key]
        lines.append(f"| {name} | {of['records_per_second']:,.0f} | {of['p50_us']:.1f} µs | {of['p99_us']:.1f} µs |")
    memory = found.get("memory")
    if memory:
        lines += ["", f"Resident memory over {memory['records']:,.0f} records: {memory['bytes_per_million_records']:+.0f} ± "
                  f"{memory['standard_error']:.0f} bytes a million. Measured by `onward bench stream`."]
    speed = lines

    text = document.read_text()
    parts = [("elec2", elec2), ("occupancy", occupancy), ("video", video), ("speed", speed)]
    for name, lines in parts:
        start, end = f"<!-- {name}: written by benches/streams.py -->\n", f"<!-- end of {name} -->"
        before, rest = text.split(start)
        text = before + start + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1]
    document.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--onward", default=str(ROOT / "target" / "release" / "onward"), help="the command")
    parser.add_argument("--seconds", type=float, default=30, help="for each measurement of speed")
    parser.add_argument("--only", choices=["occupancy", "elec2", "video", "speed"], help="measure only this")
    parser.add_argument("--tables", action="store_true", help="measure nothing: only write the document's tables again")
    arguments = parser.parse_args()
    about = {"commit": commit(), "river": river.__version__, "scikit-learn": sklearn.__version__}
    out = ROOT / "results" / "streams"
    out.mkdir(parents=True, exist_ok=True)
    document = ROOT / "docs" / "streaming.md"
    if arguments.tables:
        return tables(out, document)
    if not arguments.data and arguments.only != "speed":
        parser.error("--data DIR: where are elec2/, occupancy/ and mnist/?")

    def write(name, found):
        (out / name).write_text(json.dumps({**about, **found}, indent=1) + "\n")

    wanted = lambda part: arguments.only in (None, part)
    if wanted("occupancy"):
        write("occupancy.json", occupancy(arguments.onward, arguments.data))
    if wanted("elec2"):
        found = elec2(arguments.onward, arguments.data)
        write("elec2.json", found)
        elec2_figure(found, ROOT / "docs" / "elec2.svg")
    if wanted("video"):
        found = video(arguments.onward, arguments.data)
        write("video.json", found)
        video_figure(found, ROOT / "docs" / "video.svg")
    if wanted("speed"):
        bench = [arguments.onward, "bench", "stream", "--json", "--seconds", str(arguments.seconds)]
        write("speed.json", json.loads(subprocess.run(bench, check=True, capture_output=True).stdout))
    tables(out, document)


if __name__ == "__main__":
    main()
