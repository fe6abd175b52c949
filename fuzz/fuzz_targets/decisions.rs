#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairface_fuzz::data::decisions(bytes));
