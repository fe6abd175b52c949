//! `summary`: the network as a table.

use anyhow::Result;
use ff_model::summary::{Summary, summarise};
use ff_model::{Architecture, BackboneMode, HeadSpec};

use crate::Ending;
use crate::flags::backbone;
use crate::output::{self, grouped};
use crate::ranges::{self, whole};

/// Show the network: layers, shapes, parameters, multiply-adds.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images in the batch.
    #[arg(long, value_name = "B", default_value_t = 1, value_parser = whole::<usize>(ranges::BATCH_SIZE))]
    batch_size: usize,
    /// Height of the images.
    #[arg(long, value_name = "H", default_value_t = 224, value_parser = whole::<usize>(ranges::SIDE))]
    height: usize,
    /// Width of the images.
    #[arg(long, value_name = "W", default_value_t = 224, value_parser = whole::<usize>(ranges::SIDE))]
    width: usize,
    /// The backbone.
    #[arg(long, default_value_t, value_parser = backbone())]
    backbone: Architecture,
    /// How deep to go: 1 shows the backbone as one row, 4 every convolution.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = whole::<usize>(ranges::DEPTH))]
    depth: usize,
    /// Count the parameters that learn with a frozen backbone.
    #[arg(long)]
    freeze_backbone: bool,
}

pub fn run(args: &Args, json: bool) -> Result<Ending> {
    let heads = [("age", 9), ("gender", 2), ("race", 7)].map(|(task, classes)| HeadSpec::new(task, classes));
    let mode = if args.freeze_backbone { BackboneMode::Frozen } else { BackboneMode::Trainable };
    let mut summary = summarise(args.backbone, &heads, mode, [args.batch_size, args.height, args.width])?;
    summary.layers.retain(|layer| layer.depth <= args.depth);
    if json {
        output::print_json(&summary)?;
    } else {
        print(&summary);
    }
    Ok(Ending::Success)
}

fn print(summary: &Summary) {
    let rows = summary.layers.iter().map(|layer| {
        vec![
            format!("{}{}", "  ".repeat(layer.depth - 1), layer.name),
            layer.kind.clone(),
            format!("{:?}", layer.input),
            format!("{:?}", layer.output),
            grouped(layer.params as u64),
            grouped(layer.mult_adds),
        ]
    });
    let header = ["layer", "kind", "input", "output", "parameters", "multiply-adds"];
    output::say!("{}", output::table(&header, &rows.collect::<Vec<_>>()));
    output::say!(
        "\n{} parameters, {} trainable; {:.2} GMAC for the batch",
        grouped(summary.total_params as u64),
        grouped(summary.trainable_params as u64),
        summary.mult_adds as f64 / 1e9
    );
}
