#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| onward_fuzz::drivers::cifar(bytes));
