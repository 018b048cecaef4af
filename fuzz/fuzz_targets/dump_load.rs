#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| memstone_fuzz::dump_load(data));
