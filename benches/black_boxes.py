"""Trains around black boxes and on imprecise hardware by each rule, writes results/black-boxes/black-boxes.json, and
from it the table of docs/black-boxes.md (standard library only; some minutes; goes on where it was stopped):

    python3 benches/black_boxes.py --onward target/release/onward [--experiment default-small]
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "black-boxes" / "black-boxes.json"
RULES = ["forward-forward", "backprop", "perturbation"]
PROGRAM = ["--program", "python3 crates/onward/examples/black_box.py"]
BOXES = {
    "nothing": [],
    "quantiser": ["--black-box", "quantiser"],
    "random": ["--black-box", "random"],
    "noise": ["--black-box", "noise"],
    "binary": ["--black-box", "binary"],
    "a Python program": ["--black-box", "process", *PROGRAM],
    "weights of gain 1 ± 0.5": ["--set", "hardware.gain=0.5"],
    "weights of gain 1 ± 1": ["--set", "hardware.gain=1"],
    "weights off by as much as themselves": ["--set", "hardware.noise=1"],
}

parser = argparse.ArgumentParser()
parser.add_argument("--onward", required=True)
parser.add_argument("--experiment", default="default-small")
args = parser.parse_args()
lines = json.loads(RESULTS.read_text())["lines"] if RESULTS.exists() else []
program = pathlib.Path(args.onward).resolve()
for name, flags in BOXES.items():
    if any(line["between"] == name for line in lines):
        continue
    with tempfile.TemporaryDirectory() as folder:
        straight = ["--set-for", "backprop:rival.straight_through=true"]
        command = [program, "compare", args.experiment, "--rules", ",".join(RULES), *flags, *straight, "--out", folder]
        subprocess.run([*command, "--progress", "none"], check=True, cwd=ROOT, capture_output=True)
        for rule in RULES:
            summary = json.loads((pathlib.Path(folder) / rule / "summary.json").read_text())
            kept = {key: summary[key] for key in ["test_error", "seconds", "commit", "threads", "seed", "train_samples", "epochs"]}
            lines.append({"between": name, "rule": rule} | kept)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"experiment": args.experiment, "lines": lines}, indent=1, ensure_ascii=False) + "\n")
    print(name, *(f"{line['rule']} {line['test_error']}" for line in lines[-len(RULES) :]), sep="\n  ", flush=True)

table = ["| between the layers, or in them | " + " | ".join(RULES) + " |", "|---|" + "---:|" * len(RULES)]
for name in (name for name in BOXES if any(line["between"] == name for line in lines)):
    found = {line["rule"]: line["test_error"]["one-pass"] for line in lines if line["between"] == name}
    table.append(f"| {name} | " + " | ".join(f"{found[rule]:.2f}" for rule in RULES) + " |")
page = ROOT / "docs" / "black-boxes.md"
start, end = "<!-- black boxes: written by benches/black_boxes.py -->", "<!-- end -->"
before, rest = page.read_text().split(start)
page.write_text(before + start + "\n" + "\n".join(table) + "\n" + end + rest.split(end)[1])
