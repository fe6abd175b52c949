//! Tasks as data: `cargo run --release --package ff-core --example tasks`

#![expect(clippy::print_stdout, reason = "an example says what it found")]

use ff_core::{Encoders, LabelEncoder, Order, Schema, Task, UNKNOWN};

fn main() -> Result<(), ff_core::schema::Error> {
    let years = Task::new("experience").with_column("Years").with_order(Order::Ordered);
    let schema = Schema::new(vec![Task::new("emotion"), years])?;
    let labels = |task: &Task| match task.name.as_str() {
        "emotion" => ["glad", "calm", "sad"].as_slice(),
        _ => &["3-9", "0-2", "10-19", "more than 20"],
    };
    let fitted = schema.try_per_task(|task| LabelEncoder::fit(task.clone(), labels(task).iter().copied()))?;
    let encoders = Encoders::new(fitted)?;
    for (task, encoder) in encoders.iter() {
        let shown: Vec<&str> =
            encoder.display_order().into_iter().filter_map(|id| encoder.decode(id as u32)).collect();
        println!("{task}: column {}, ids {:?}, shown as {shown:?}", encoder.task().column, encoder.labels());
    }
    println!("3-9 is class {}, which nobody may take for a rank", encoders["experience"].encode("3-9")?);
    println!("{:?} stands for no label at all", encoders["emotion"].decode(UNKNOWN));
    Ok(())
}
