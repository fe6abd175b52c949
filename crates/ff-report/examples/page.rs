//! A run folder, or one evaluation's record, as a page:
//! `cargo run --release --package ff-report --example page -- runs/train-001/evaluation/test.json page.html`

#![expect(clippy::print_stdout, reason = "an example says what it wrote")]

use std::path::Path;

use ff_report::{EvaluationPage, RunReport};
use ff_train::run::RunDir;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [run] => {
            let report = RunReport::read(&RunDir::open(Path::new(run))?)?;
            report.findings.iter().for_each(|finding| println!("{finding}"));
            println!("{}", report.write()?.path.display());
        }
        [record, page] => {
            EvaluationPage::read(Path::new(record))?.write(Path::new(page))?;
            println!("{page}");
        }
        _ => {
            return Err("expected a run folder, or an evaluation's record and where to write its page".into());
        }
    }
    Ok(())
}
