#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fairface_fuzz::eval::schema_file(bytes));
