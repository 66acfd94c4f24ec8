"""Exported networks beside the library, on all test images: how far their probabilities are apart.

    python -m venv venv && venv/bin/pip install onnxruntime onnx numpy
    cargo build --release
    venv/bin/python benches/export.py --mnist DIR RUN...

DIR holds MNIST's IDX files, unpacked; each RUN is the directory of a network trained on them. Exports every readout as ONNX, C and Rust, computes all 10,000
test images with onnxruntime, with cc and with rustc, and compares with what `onward predict` says. Writes
results/export/onnxruntime.json and the table of docs/export.md.
"""

import argparse
import ctypes
import json
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- table: written by benches/export.py -->", "<!-- end of table -->"

PROGRAM_C = """
#include "network.h"
void run(const float *x, float *p, int n) {
    for (int i = 0; i < n; i++) network_predict(x + (long)i * NETWORK_INPUTS, p + (long)i * NETWORK_CLASSES);
}
"""
PROGRAM_RUST = """
mod network;
#[no_mangle]
pub unsafe extern "C" fn run(x: *const f32, p: *mut f32, n: i32) {
    for i in 0..n as usize {
        let x = &*(x.add(i * network::INPUTS) as *const [f32; network::INPUTS]);
        network::predict(x, &mut *(p.add(i * network::CLASSES) as *mut [f32; network::CLASSES]));
    }
}
"""


def call(*command, cwd=None):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True, cwd=cwd).stdout


def library(binary, run, readout, images):
    """The library's probabilities, (N, K)."""
    lines = call(binary, "predict", run, images, "--readout", readout, "--format", "json").splitlines()
    return np.array([list(json.loads(line)["probabilities"].values()) for line in lines], dtype=np.float32)


def from_shared_object(path, samples, classes):
    probabilities = np.zeros((len(samples), classes), dtype=np.float32)
    pointer = ctypes.POINTER(ctypes.c_float)
    run = ctypes.CDLL(str(path)).run
    flat = np.ascontiguousarray(samples.reshape(len(samples), -1))
    start = time.perf_counter()
    run(flat.ctypes.data_as(pointer), probabilities.ctypes.data_as(pointer), len(samples))
    return probabilities, time.perf_counter() - start


def with_onnxruntime(path, samples):
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    start = time.perf_counter()
    parts = [session.run(["probabilities", "label"], {"input": part}) for part in np.array_split(samples, 20)]
    seconds = time.perf_counter() - start
    probabilities = np.concatenate([part[0] for part in parts])
    assert (np.concatenate([part[1] for part in parts]) == probabilities.argmax(axis=1)).all()
    return probabilities, seconds


def with_cc(path, samples, classes):
    (path.parent / "program.c").write_text(PROGRAM_C)
    call("cc", "-std=c99", "-O3", "-march=native", "-shared", "-fPIC", "program.c", "-o", "c.so", "-lm", cwd=path.parent)
    return from_shared_object(path.parent / "c.so", samples, classes)


def with_rustc(path, samples, classes):
    (path.parent / "program.rs").write_text(PROGRAM_RUST)
    call("rustc", "--edition=2021", "--crate-type=cdylib", "-O", "-Ctarget-cpu=native", "program.rs", "-o", "rust.so", cwd=path.parent)
    return from_shared_object(path.parent / "rust.so", samples, classes)


def measure(binary, run, images, samples, labels, wanted):
    info = json.loads(call(binary, "inspect", run, "--json"))
    readouts = json.loads(call(binary, "eval", run, "--json"))["readouts"]
    classes = len(info["classes"])
    for readout, evaluation in readouts.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            expected = library(binary, run, readout, images)
            for name, end, compute in [
                ("onnxruntime", "onnx", lambda path: with_onnxruntime(path, samples)),
                ("C", "h", lambda path: with_cc(path, samples, classes)),
                ("Rust", "rs", lambda path: with_rustc(path, samples, classes)),
            ]:
                if name not in wanted:
                    continue
                path = folder / f"network.{end}"
                try:
                    call(binary, "export", run, "--readout", readout, "--out", path)
                except subprocess.CalledProcessError as error:
                    print(run, readout, name, "refused:", error.stderr.strip())
                    continue
                found, seconds = compute(path)
                apart = np.abs(found - expected)
                line = {
                    "experiment": info["experiment"]["name"],
                    "parameters": info["parameters"],
                    "readout": readout,
                    "computed_by": name,
                    "images": len(samples),
                    "largest_difference": float(apart.max()),
                    "above_1e-5": int((apart.max(axis=1) > 1e-5).sum()),
                    "other_labels": int((found.argmax(axis=1) != expected.argmax(axis=1)).sum()),
                    "error": round(100 * float((found.argmax(axis=1) != labels).mean()), 2),
                    "library_error": round(evaluation["error"], 2),
                    "microseconds_per_image": round(1e6 * seconds / len(samples), 1),
                    "file_bytes": path.stat().st_size,
                }
                print(line)
                yield line


def table(lines):
    text = "| network | readout | computed by | largest difference | images above 10⁻⁵ | other labels | error % | file |\n"
    text += "|---|---|---|---:|---:|---:|---:|---:|\n"
    for line in lines:
        text += "| `{experiment}` | {readout} | {computed_by} | {largest_difference:.1e} | {above} | {other_labels} | {error:.2f} | {size:.1f} MB |\n".format(
            above=line["above_1e-5"], size=line["file_bytes"] / 1e6, **line
        )
    return text


def idx(path, header):
    return np.frombuffer(path.read_bytes(), dtype=np.uint8, offset=header)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/onward")
    parser.add_argument("--mnist", type=Path, required=True, help="the folder of MNIST's IDX files, unpacked")
    parser.add_argument("--by", nargs="+", choices=["onnxruntime", "C", "Rust"], default=["onnxruntime", "C", "Rust"])
    parser.add_argument("runs", nargs="+", type=Path)
    arguments = parser.parse_args()
    images = arguments.mnist / "t10k-images-idx3-ubyte"
    pixels = idx(images, 16).reshape(-1, 1, 28, 28)
    samples = (pixels.astype(np.float32) / np.float32(255)).astype(np.float32)
    labels = idx(arguments.mnist / "t10k-labels-idx1-ubyte", 8)
    lines = [line for run in arguments.runs for line in measure(arguments.binary, run, images, samples, labels, arguments.by)]
    result = {
        "onnxruntime": onnxruntime.__version__,
        "machine": platform.machine(),
        "commit": call("git", "describe", "--always", "--dirty", "--exclude=*", cwd=ROOT).strip(),
        "lines": lines,
    }
    out = ROOT / "results/export/onnxruntime.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    page = ROOT / "docs/export.md"
    before, rest = page.read_text().split(START)
    page.write_text(f"{before}{START}\n{table(lines)}{END}{rest.split(END)[1]}")


main()
