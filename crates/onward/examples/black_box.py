"""A black box between two layers: rows come in, rows of the same width go out, and nobody asks for a derivative.

    onward compare default-small --black-box process --program "python3 crates/onward/examples/black_box.py"

Each frame is two little-endian 32-bit counts, rows and width, and rows × width floats; the answer has the same form.
This one keeps a third of its numbers, those that are largest in their row, and rounds them to 1."""
import array
import struct
import sys


def answer(row):
    least = sorted(row)[-max(1, len(row) // 3)]
    return [1.0 if x > 0 and x >= least else 0.0 for x in row]


while header := sys.stdin.buffer.read(8):
    rows, width = struct.unpack("<II", header)
    numbers = array.array("f", sys.stdin.buffer.read(4 * rows * width))
    if sys.byteorder == "big":
        numbers.byteswap()
    for start in range(0, rows * width, width):
        numbers[start : start + width] = array.array("f", answer(numbers[start : start + width]))
    if sys.byteorder == "big":
        numbers.byteswap()
    sys.stdout.buffer.write(header + numbers.tobytes())
    sys.stdout.buffer.flush()
