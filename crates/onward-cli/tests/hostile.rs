//! Every file of `fuzz/corpus`, handed to its reader: no panic, and no memory beyond a small multiple of
//! the file's size.
#![allow(dead_code)]

#[path = "../../../fuzz/src/drivers.rs"]
mod drivers;
#[path = "../src/exit.rs"]
mod exit;
#[path = "../src/experiment.rs"]
mod experiment;
#[path = "../src/settings.rs"]
mod settings;

use drivers::{DRIVERS, Driver};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Bytes in use, and the most that were.
static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(used, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: memory is counted over all threads.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The most memory that a driver takes for some bytes, besides what was in use before.
fn memory(driver: Driver, bytes: &[u8]) -> usize {
    let before = USED.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    driver(bytes);
    MOST.load(Ordering::Relaxed) - before
}

/// What any file may take: buffers, lines as long as one may be.
const ANY: usize = 6 << 20;
/// And for each of its bytes.
const EACH: usize = 256;

#[test]
fn the_corpus_is_read_without_panic_and_in_little_memory() {
    let _alone = alone();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, driver) in DRIVERS {
        let mut files: Vec<_> = std::fs::read_dir(corpus.join(name)).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 2, "{name} has no seeds");
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            let taken = memory(driver, &bytes);
            assert!(taken <= ANY + EACH * bytes.len(), "{}: {} bytes took {taken}", file.display(), bytes.len());
        }
    }
}

/// A large file for each reader whose memory could grow faster than its input.
#[test]
fn large_files_take_a_small_multiple_of_their_size() {
    let _alone = alone();
    let labels: String = (0..100_000).map(|n| format!("1,{}\n", n % 900)).collect();
    // Numbers and words, some of them both: sorting must not lose its way.
    let mixed: String = (0..200).map(|n| format!("1,{}{}\n", n % 37, ["", "a", "e2"][n % 3])).collect();
    let all_different: String = (0..300_000).map(|n| format!("1,x{n}\n")).collect();
    let keys: String = (0..100_000).map(|n| format!("\"k{n}\":1,")).collect();
    let backwards: String = (0..100_000).rev().map(|n| format!("\"k{n}\":1,")).collect();
    let object = |keys: &str| format!("{{{}}}\n", keys.trim_end_matches(','));
    let json = object(&keys[..500_000]) + &object(&keys[..900_000]) + &object(&backwards[..900_000]);
    let names = ",".repeat(900_000) + "\n" + &"1,".repeat(400_000) + "\n";
    let settings = format!("[network]\nlayers = [{}]\n", "7,".repeat(200_000));
    let nested = format!("a = {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let cases: [(&str, Driver, String); 8] = [
        ("labels", drivers::csv, labels),
        ("mixed labels", drivers::csv, mixed),
        ("different labels", drivers::csv, all_different),
        ("keys", drivers::records_json, json),
        ("names", drivers::records_csv, names),
        ("layers", drivers::settings, settings),
        ("nested settings", drivers::settings, nested),
        ("nested records", drivers::records_json, "[".repeat(900_000)),
    ];
    for (name, driver, text) in cases {
        let taken = memory(driver, text.as_bytes());
        assert!(taken <= ANY + EACH * text.len(), "{name}: {} bytes took {taken}", text.len());
    }
}

/// Files that are small and unpack to much.
#[test]
fn what_unpacks_to_much_is_refused() {
    let _alone = alone();
    let zeros = vec![0; 1 << 20];
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zipped.write_all(&[0, 0, 8, 1, 0x20, 0, 0, 0]).unwrap();
    (0..512).for_each(|_| zipped.write_all(&zeros).unwrap());
    let zipped = zipped.finish().unwrap();
    let taken = memory(drivers::idx, &zipped);
    assert!(zipped.len() < 1 << 20 && taken < 300 << 20, "{} bytes took {taken}", zipped.len());

    let mut image = Vec::new();
    let mut png = png::Encoder::new(&mut image, 20_000, 20_000);
    png.set_color(png::ColorType::Grayscale);
    png.set_compression(png::Compression::High);
    let mut png = png.write_header().unwrap();
    png.write_image_data(&vec![0; 400_000_000]).unwrap();
    png.finish().unwrap();
    let taken = memory(drivers::image, &image);
    assert!(image.len() < 1 << 20 && taken < 300 << 20, "{} bytes took {taken}", image.len());
}
