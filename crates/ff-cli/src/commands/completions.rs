//! `completions` and `man`: what shells and readers of manuals want, made from the commands themselves.

use std::path::PathBuf;

use anyhow::Result;
use clap::Command;
use clap_complete::{Shell, generate};

use crate::output_file::{ForceFlag, Kind, OutputFile};
use crate::{Ending, output};

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
    #[command(flatten)]
    force: ForceFlag,
}

pub fn completions(args: &CompletionsArgs, mut command: Command) -> Result<Ending> {
    let mut text = Vec::new();
    generate(args.shell, &mut command, "fairface", &mut text);
    let _ = output::write_stdout(&text);
    Ok(Ending::Success)
}

pub fn man(args: &ManArgs, command: Command) -> Result<Ending> {
    let command = command.name("fairface").bin_name("fairface");
    match &args.out {
        Some(dir) => {
            let pages = pages(command)?;
            let claim = |name: &String| OutputFile::claim(&dir.join(name), Kind::ManualPage, args.force);
            let files = pages.iter().map(|(name, _)| claim(name)).collect::<Result<Vec<_>>>()?;
            files.iter().zip(&pages).try_for_each(|(file, (_, page))| file.write(page))?;
            output::note!("{}", dir.display());
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            let _ = output::write_stdout(&page);
        }
    }
    Ok(Ending::Success)
}

/// The file's name and the text of the manual page of every command.
fn pages(command: Command) -> Result<Vec<(String, Vec<u8>)>> {
    let mut command = command.disable_help_subcommand(true);
    // Gives every command its whole name.
    command.build();
    let page = |command: &Command| {
        let man = clap_mangen::Man::new(command.clone());
        let mut page = Vec::new();
        man.render(&mut page)?;
        Ok((man.get_filename(), page))
    };
    let nested = command.get_subcommands().flat_map(Command::get_subcommands);
    command.get_subcommands().chain(nested).chain([&command]).map(page).collect()
}
