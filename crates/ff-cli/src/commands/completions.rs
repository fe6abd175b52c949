//! `completions` and `man`: what shells and readers of manuals want, made from the commands themselves.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Command;
use clap_complete::{Shell, generate};
use fs_err as fs;

use crate::Ending;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    fairface completions bash > ~/.local/share/bash-completion/completions/fairface\n  \
    fairface completions zsh > ~/.zfunc/_fairface\n  \
    fairface completions fish > ~/.config/fish/completions/fairface.fish")]
pub struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual page, or write one for every command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    fairface man | man -l -\n  \
    fairface man --out ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Write the pages of all commands into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn completions(args: &CompletionsArgs, mut command: Command) -> Result<Ending> {
    let mut text = Vec::new();
    generate(args.shell, &mut command, "fairface", &mut text);
    std::io::stdout().write_all(&text)?;
    Ok(Ending::Success)
}

pub fn man(args: &ManArgs, command: Command) -> Result<Ending> {
    let command = command.name("fairface").bin_name("fairface");
    match &args.out {
        Some(dir) => {
            fs::create_dir_all(dir)?;
            clap_mangen::generate_to(command, dir)?;
            eprintln!("{}", dir.display());
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            std::io::stdout().write_all(&page)?;
        }
    }
    Ok(Ending::Success)
}
