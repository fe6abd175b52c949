//! What looking closely at images costs: `cargo run --release -p ff-data --example image_checks -- FOLDER [ROUNDS]`,
//! FOLDER being one of image files.
//!
//! First the check of all files before a run (read cold if nothing read them before), then decoding in memory on one
//! thread, strict and lenient in turns; the ratio is of medians.

#![expect(clippy::print_stdout, reason = "a table for people")]

use std::{path::Path, time::Instant};

use ff_data::{
    Dataset, Decoding, ImageInput, ImageRules, OnBadImage, Result, RgbImage, check_files, decode_into,
};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().expect("expected a folder, found nothing");
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(15);
    let inputs = ImageInput::expand(&folder, Path::new(""), &mut std::io::empty())?;
    let paths: Vec<_> = inputs.iter().take(800).map(|input| input.path.clone()).collect();

    let dataset = Dataset::unlabelled(inputs)?;
    for _ in 0..3 {
        let start = Instant::now();
        let check = check_files(&[&dataset], OnBadImage::Skip, 2, |_| {})?;
        let seconds = start.elapsed().as_secs_f64();
        let of_100_000 = seconds * 1e5 / check.files as f64;
        println!(
            "{} files, {} bad: {seconds:.2} s, {of_100_000:.1} s for 100,000",
            check.files,
            check.bad.len()
        );
    }

    let files = paths.iter().map(fs_err::read).collect::<std::io::Result<Vec<_>>>()?;
    let mut times = [const { Vec::new() }; 2];
    let mut image = RgbImage::default();
    for _ in 0..=rounds {
        for (decoding, times) in [Decoding::Strict, Decoding::Lenient].into_iter().zip(&mut times) {
            let rules = ImageRules { decoding, ..ImageRules::default() };
            let start = Instant::now();
            for file in &files {
                decode_into(file, &rules, &mut image)?;
            }
            times.push(start.elapsed().as_secs_f64() * 1e6 / files.len() as f64);
        }
    }
    let median = |times: &[f64]| {
        let mut times = times[1..].to_vec();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let [strict, lenient] = times.each_ref().map(|times| median(times));
    println!("strict {strict:.1} us, lenient {lenient:.1} us an image, ratio {:.3}", strict / lenient);
    Ok(())
}
