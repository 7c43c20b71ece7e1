//! Writes the shell completions and the manual pages of every program into a folder, laid out as below `/usr/share`:
//! `cargo run --example manual -- DIR`. For packagers; the programs themselves do not carry this.

use anyhow::{Context, bail};
use clap_complete::{Shell, generate_to};
use std::fs::{self, create_dir_all};
use std::path::{Path, PathBuf};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(share), None) = (args.next(), args.next()) else {
        bail!("reading the command line: one argument is needed, the folder to write to; it becomes `/usr/share`");
    };
    let programs = [cc_ci::supervisor::cli::command(), cc_ci::proxy::cli::command(), cc_ci::secrets::cli::command()];
    for command in programs {
        let name = command.get_name().to_owned();
        write(command, &share).with_context(|| format!("write the manual of `{name}` into `{}`", share.display()))?;
    }
    Ok(())
}

fn write(command: clap::Command, share: &Path) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    for (shell, folder) in [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ] {
        let folder = share.join(folder);
        create_dir_all(&folder)?;
        let file = generate_to(shell, &mut command.clone(), &name, &folder)?;
        if matches!(shell, Shell::Bash) {
            // bash-completion looks for a file named as the program is.
            fs::rename(file, folder.join(&name))?;
        }
    }
    let pages = share.join("man/man1");
    create_dir_all(&pages)?;
    // One page a subcommand, `supervisor-status(1)`, as git does.
    Ok(clap_mangen::generate_to(command, pages)?)
}
