//! A video without end: digits that move and bounce, and now and then do what they should not.
//!
//! ```sh
//! cargo run --release -p onward-mnist --example moving -- 20000 |
//!     onward stream --format raw --columns 785 --label 785 --mode unsupervised --window 2 --negatives predicted
//! ```
//!
//! Each frame is 28×28 numbers of 0 to 1 and a last one: 0, or 1 where the digit has jumped or turned into another. After a
//! hundred frames or so the next digit comes; its first frame is 1 too. All numbers are little-endian `f32`.

use onward::random::{Random, stream};
use onward::{Dataset, Values};
use rand::RngExt;
use std::io::{self, BufWriter, Write};

const SIDE: usize = 28;
const DIGIT: usize = 14;

/// Where a digit is, and where it is going.
struct Moving {
    pixels: Vec<f32>,
    place: [f32; 2],
    speed: [f32; 2],
}

impl Moving {
    fn new(data: &Dataset, random: &mut Random) -> Self {
        let room = (SIDE - DIGIT) as f32;
        Moving {
            pixels: digit(data, random),
            place: [0, 1].map(|_| random.random_range(0.0..room)),
            speed: [0, 1].map(|_| random.random_range(0.5..2.0f32) * if random.random() { 1.0 } else { -1.0 }),
        }
    }

    fn step(&mut self) {
        let room = (SIDE - DIGIT) as f32;
        for (place, speed) in self.place.iter_mut().zip(&mut self.speed) {
            *place += *speed;
            if *place < 0.0 || *place > room {
                *speed = -*speed;
                *place = place.clamp(0.0, room);
            }
        }
    }

    fn frame(&self) -> Vec<f32> {
        let mut frame = vec![0.0; SIDE * SIDE + 1];
        let [x, y] = self.place.map(|place| place.round() as usize);
        for (row, pixels) in self.pixels.chunks_exact(DIGIT).enumerate() {
            frame[(y + row) * SIDE + x..][..DIGIT].copy_from_slice(pixels);
        }
        frame
    }
}

/// A random digit at half its size.
fn digit(data: &Dataset, random: &mut Random) -> Vec<f32> {
    let n = random.random_range(0..data.len());
    let Values::Bytes(all) = data.values() else { unreachable!("MNIST is bytes") };
    let image = &all[n * SIDE * SIDE..][..SIDE * SIDE];
    let mean = |i: usize| {
        let (y, x) = (2 * (i / DIGIT), 2 * (i % DIGIT));
        let sum: f32 = [0, 1, SIDE, SIDE + 1].iter().map(|at| f32::from(image[y * SIDE + x + at])).sum();
        sum / (4.0 * 255.0)
    };
    (0..DIGIT * DIGIT).map(mean).collect()
}

fn main() -> io::Result<()> {
    let frames: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
    let data = onward_mnist::train();
    let mut random = stream(1, "moving", 0);
    let mut moving = Moving::new(&data, &mut random);
    let mut out = BufWriter::new(io::stdout().lock());
    for n in 0..frames {
        moving.step();
        let odd = match n {
            0 => false,
            _ if random.random_bool(0.01) => {
                moving = Moving::new(&data, &mut random);
                true
            }
            _ if random.random_bool(0.01) => {
                let elsewhere = Moving::new(&data, &mut random);
                (moving.place, moving.speed) = (elsewhere.place, elsewhere.speed);
                true
            }
            _ if random.random_bool(0.01) => {
                moving.pixels = digit(&data, &mut random);
                true
            }
            _ => false,
        };
        let mut frame = moving.frame();
        frame[SIDE * SIDE] = f32::from(u8::from(odd));
        for x in frame {
            out.write_all(&x.to_le_bytes())?;
        }
    }
    out.flush()
}
