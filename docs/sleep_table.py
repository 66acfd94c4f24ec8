"""Writes the table of docs/sleep.md from results/sleep: python3 docs/sleep_table.py (standard library only)."""
import json
import pathlib

root = pathlib.Path(__file__).parent.parent
rows = []
for path in sorted((root / "results" / "sleep").glob("*.json")):
    run = json.loads(path.read_text())
    settings = run["settings"]
    phase, optimizer = settings["training"]["phase"], settings["optimizer"]
    kind = {"hard": "teacher forcing", "generated": "generated"}[settings["negatives"]["kind"]]
    if run["rule"] == "random-layers":
        kind = "none: layers stay random"
    if settings["network"]["label"] == "none":
        kind += ", windows without label"
    rows.append([
        kind,
        f"{phase} steps each" if phase else "-",
        f"{optimizer['rate']:g}",
        f"{optimizer['momentum']:g}",
        str(run["epochs"]),
        *(f"{run['test_error'][readout]:.1f}" if readout in run["test_error"] else "-" for readout in ["every-label", "one-pass"]),
    ])
rows.sort(key=lambda row: float(row[-1]))
lines = ["| negatives | phases | rate | momentum | epochs | every-label % | one-pass % |", "|---|---|---:|---:|---:|---:|---:|"]
lines += ["| " + " | ".join(row) + " |" for row in rows]
page = root / "docs" / "sleep.md"
before, rest = page.read_text().split("<!-- table: written by docs/sleep_table.py -->\n")
_, after = rest.split("<!-- end of table -->")
table = "\n".join(lines)
page.write_text(f"{before}<!-- table: written by docs/sleep_table.py -->\n{table}\n<!-- end of table -->{after}")
