"""Writes the tables of docs/performance.md from results/speed: python3 docs/speed_tables.py (standard library only)."""
import json
import pathlib
import statistics

root = pathlib.Path(__file__).parent.parent
speed = root / "results" / "speed"
bench = json.loads((speed / "bench.json").read_text())
out = []


def table(headings, rows):
    out.append("| " + " | ".join(headings) + " |")
    out.append("|" + "---|" * len(headings))
    out.extend("| " + " | ".join(row) + " |" for row in rows)
    out.append("")


out.append(f"Against the limit, {bench['threads']} threads (`bench.json`; \"-\": no limit is defined):\n")
rows = [[k["kind"], k["precision"], f"{k['samples_per_second']:,.0f}", f"{100 * k['of_the_limit']:.0f} %"] for k in bench["kinds"]]
table(["network", "precision", "samples/s", "of the limit"], rows)

out.append("The same recipe elsewhere, on the same idle machine in turns (`turns.json`, medians; above 1: ours is the faster):\n")
turns = {}
for line in json.loads((speed / "turns.json").read_text()):
    turns.setdefault(line["what"], {}).setdefault(line["who"], []).append(line["value"])
rows = []
for what, who in turns.items():
    median = {name: statistics.median(values) for name, values in who.items()}
    for name in (name for name in median if not name.startswith("onward")):
        for ours in (ours for ours in median if ours.startswith("onward")):
            ratio = median[ours] / median[name] if what.endswith("samples/s") else median[name] / median[ours]
            rows.append([what.rsplit(", ", 1)[0], ours, name, f"{ratio:.1f}×"])
table(["what", "ours", "beside", "ratio"], rows)

out.append("Errors over five seeds, ten epochs, all of MNIST (`f32-1.json` …; mean and range, %):\n")
rows = []
for name in ["f32", "f32-rest", "bf16", "bf16-rest"]:
    runs = [json.loads(path.read_text()) for path in sorted(speed.glob(f"{name}-[0-9].json"))]
    cells = [name]
    for readout in ["every-label", "one-pass"]:
        errors = [run["test_error"][readout] for run in runs]
        cells.append(f"{statistics.mean(errors):.2f} ({min(errors):.2f}–{max(errors):.2f})")
    rows.append(cells)
table(["setting", "every-label", "one-pass"], rows)

out.append("Early exit (`readout.margin`), error % and share of the time:\n")
whole = bench["exit"][0]
rows = []
for line in bench["exit"]:
    cell = lambda r: f"{line[r]['error']:.2f} in {100 * line[r]['seconds'] / whole[r]['seconds']:.0f} %"
    rows.append([f"{line['margin']:g}" if line["margin"] else "never", cell("every-label"), cell("one-pass")])
table(["margin, nats", "every-label", "one-pass"], rows)

out.append("Peak memory of training above the start, MB:\n")
for net, lines in bench["memory"].items():
    depths = sorted({line["layers"] for line in lines})
    ways = list(dict.fromkeys(line["way"] for line in lines))
    of = {(line["way"], line["layers"]): line["measured"] for line in lines}
    rows = [[way] + [f"{(of[way, d]['peak'] - of[way, d]['before']) / 1e6:.1f}" for d in depths] for way in ways]
    rows.append(["weights and their averages"] + [f"{of[ways[0], d]['weights'] / 1e6:.1f}" for d in depths])
    table([f"{net}: layers"] + [str(d) for d in depths], rows)

page = root / "docs" / "performance.md"
text = page.read_text()
head, rest = text.split("<!-- speed: written by docs/speed_tables.py from results/speed -->\n")
tail = rest.split("<!-- end of speed -->")[1]
mark = "<!-- speed: written by docs/speed_tables.py from results/speed -->\n"
page.write_text(head + mark + "\n".join(out) + "<!-- end of speed -->" + tail)
