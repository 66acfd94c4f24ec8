"""Writes the tables of docs/performance.md from results/speed: python3 docs/speed_tables.py (standard library only)."""
import json
import math
import pathlib
import statistics

root = pathlib.Path(__file__).parent.parent
speed = root / "results" / "speed"
bench = json.loads((speed / "bench.json").read_text())
out = []

# The machine of measurements that do not name theirs.
EARLIER = "2 cores, Zen 5"

COLOURS = ["#4269d0", "#efb118", "#3ca951", "#ff725c", "#a463f2", "#6c8ca8"]


def table(headings, rows):
    out.append("| " + " | ".join(headings) + " |")
    out.append("|" + "---|" * len(headings))
    out.extend("| " + " | ".join(row) + " |" for row in rows)
    out.append("")


def machine(what):
    """Where a part of the bench was measured."""
    return bench.get("machines", {}).get(what, EARLIER)


out.append(f"Against the limit, {bench['threads']} threads, on {machine('kinds')} (`bench.json`):\n")
rows = [[k["kind"], k["precision"], f"{k['samples_per_second']:,.0f}", f"{100 * k['of_the_limit']:.0f} %"] for k in bench["kinds"]]
table(["network", "precision", "samples/s", "of the limit"], rows)

machines = {}
for line in json.loads((speed / "turns.json").read_text()):
    machines.setdefault(line.get("machine", EARLIER), []).append(line)
for place, lines in reversed(machines.items()):
    out.append(f"Beside other programs, in turns, {place} (`turns.json`; medians of as many measurements as stand in brackets, else one; above 1: ours is the faster):\n")
    turns, rows = {}, []
    for line in lines:
        if line["value"] is not None:
            turns.setdefault(line["what"], {}).setdefault(line["who"], []).append(line["value"])
    for what, who in turns.items():
        median = {name: statistics.median(values) for name, values in who.items()}
        number = lambda name: f"{median[name]:,.0f}" if median[name] >= 100 else f"{median[name]:.3g}"
        count = lambda name: f" ({len(who[name])})" if len(who[name]) > 1 else ""
        for name in (name for name in median if not name.startswith("onward")):
            for ours in (ours for ours in median if ours.startswith("onward")):
                ratio = median[ours] / median[name] if what.endswith("samples/s") else median[name] / median[ours]
                rows.append([what, f"{ours}: {number(ours)}{count(ours)}", f"{name}: {number(name)}{count(name)}", f"{ratio:.1f}×"])
    table(["what", "ours", "beside", "ratio"], rows)

out.append(f"Reading out, 784-3×1000, on {machine('evaluate')}:\n")
rows = []
for precision in ["f32", "bf16"]:
    at = bench["evaluate"][precision]
    alone, least = 1e6 * at["one_sample_seconds"], 1e6 * at["reading_weights_seconds"]
    many = [f"{1e3 * at[f'{readout}_seconds']:,.0f} ms" for readout in ["every_label", "one_pass"]]
    rows.append([precision, *many, f"{alone:.0f} µs", f"{least:.0f} µs", f"{100 * least / alone:.0f} %"])
headings = ["precision", "every label, 10,000 images", "one pass, 10,000", "one image", "reading the weights", "of that limit"]
table(headings, rows)

out.append("Errors over five seeds, ten epochs, all 60,000 samples of MNIST (`f32-1.json` …; mean and range, %):\n")
rows = []
for name in ["f32", "f32-rest", "bf16", "bf16-rest"]:
    runs = [json.loads(path.read_text()) for path in sorted(speed.glob(f"{name}-[0-9].json"))]
    cells = [name]
    for readout in ["every-label", "one-pass"]:
        errors = [run["test_error"][readout] for run in runs]
        cells.append(f"{statistics.mean(errors):.2f} ({min(errors):.2f}–{max(errors):.2f})")
    rows.append(cells)
table(["setting", "every-label", "one-pass"], rows)

out.append(f"Early exit (`readout.margin`), on {machine('exit')}, error % and share of the time:\n")
whole = bench["exit"][0]
rows = []
for line in bench["exit"]:
    cell = lambda r: f"{line[r]['error']:.2f} in {100 * line[r]['seconds'] / whole[r]['seconds']:.0f} %"
    rows.append([f"{line['margin']:g}" if line["margin"] else "never", cell("every-label"), cell("one-pass")])
table(["margin, nats", "every-label", "one-pass"], rows)

out.append(f"Peak memory of training above the start, MB, on {machine('memory')}:\n")
out.append("![Peak memory against depth](memory.svg)\n")
figures = []
for net, lines in bench["memory"].items():
    depths = sorted({line["layers"] for line in lines})
    ways = list(dict.fromkeys(line["way"] for line in lines))
    of = {(line["way"], line["layers"]): line["measured"] for line in lines}
    curves = {way: [(of[way, d]["peak"] - of[way, d]["before"]) / 1e6 for d in depths] for way in ways}
    curves["weights and their averages"] = [of[ways[0], d]["weights"] / 1e6 for d in depths]
    table([f"{net}: layers"] + [str(d) for d in depths], [[way] + [f"{mb:.1f}" for mb in curve] for way, curve in curves.items()])
    figures.append((net, depths, curves))


def picture(figures):
    """Peak memory against depth: a panel for each network, a line for each way, the depth in doublings."""
    wide, high, left, top = 250, 200, 46, 34
    parts = []
    for n, (net, depths, curves) in enumerate(figures):
        x0, most = left + n * (wide + left), 1.1 * max(max(curve) for curve in curves.values())
        x = lambda depth: x0 + wide * math.log(depth / depths[0]) / math.log(depths[-1] / depths[0])
        y = lambda mb: top + high * (1 - mb / most)
        parts.append(f'<text x="{x0 + wide / 2}" y="20" text-anchor="middle" font-weight="bold">{net}</text>')
        for mb in (most * i / 4 for i in range(5)):
            parts.append(f'<path d="M{x0} {y(mb):.1f}h{wide}" stroke="#8884"/>')
            parts.append(f'<text x="{x0 - 5}" y="{y(mb) + 4:.1f}" text-anchor="end">{mb:.0f}</text>')
        for depth in depths:
            parts.append(f'<text x="{x(depth):.1f}" y="{top + high + 16}" text-anchor="middle">{depth}</text>')
        for colour, (way, curve) in zip(COLOURS, curves.items()):
            dash = ' stroke-dasharray="4 3"' if way.startswith("weights") else ""
            points = " ".join(f"{x(depth):.1f},{y(mb):.1f}" for depth, mb in zip(depths, curve))
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    for i, (colour, way) in enumerate(zip(COLOURS, figures[0][2])):
        at, line = left + i % 3 * 290, top + high + 42 + i // 3 * 18
        dash = ' stroke-dasharray="4 3"' if way.startswith("weights") else ""
        parts.append(f'<path d="M{at} {line - 4}h22" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{at + 28}" y="{line}">{way}</text>')
    width, height = len(figures) * (wide + left) + 20, top + high + 72
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
    title = "<title>Peak memory of training in MB against the number of layers</title>"
    back = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    return "\n".join([head, title, back, *parts, "</svg>\n"])


(root / "docs" / "memory.svg").write_text(picture(figures))
page = root / "docs" / "performance.md"
text = page.read_text()
head, rest = text.split("<!-- speed: written by docs/speed_tables.py from results/speed -->\n")
tail = rest.split("<!-- end of speed -->")[1]
mark = "<!-- speed: written by docs/speed_tables.py from results/speed -->\n"
page.write_text(head + mark + "\n".join(out) + "<!-- end of speed -->" + tail)
