//! Running other programs: with a time limit, with their output copied through, and on the search path.
//!
//! It never shows less than the program said: what is captured is also passed on. What tools of a build say is for
//! people, and goes to stderr.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The command as a person would type it, for messages.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end; anything but success is an error that shows the command.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a tool of a build as [`run`] does, with its stdout on our stderr: ours may be one JSON object for a program.
pub fn run_tool(command: &mut Command) -> Result<()> {
    run(command.stdout(std::io::stderr()))
}

/// Runs a tool and kills it when it is not done within `limit`. `None` = it was killed.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let command = command.stdin(Stdio::null()).stdout(std::io::stderr());
    let mut child = command.spawn().with_context(|| format!("start `{}`", shown(command)))?;
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        pause(Duration::from_millis(50));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// What a command writes to stdout, or `None` when it cannot be started or fails.
pub fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Which of a child's streams [`run_watching`] reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    Stdout,
    Stderr,
}

/// Runs a command, passes one of its output streams on line by line and shows each line to `look`.
pub fn run_watching(
    command: &mut Command,
    watched: Watched,
    mut look: impl FnMut(&str),
) -> Result<ExitStatus> {
    match watched {
        Watched::Stdout => command.stdout(Stdio::piped()),
        Watched::Stderr => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().with_context(|| format!("start `{}`", shown(command)))?;
    let stream: Box<dyn Read> = match watched {
        Watched::Stdout => Box::new(child.stdout.take().context("the child has no stdout")?),
        Watched::Stderr => Box::new(child.stderr.take().context("the child has no stderr")?),
    };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        match watched {
            Watched::Stdout => std::io::stdout().write_all(&line)?,
            Watched::Stderr => std::io::stderr().write_all(&line)?,
        }
        look(String::from_utf8_lossy(&line).trim_end());
    }
    Ok(child.wait()?)
}

/// The first file of that name in a directory of `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Lets a moment pass between two looks at a condition that another process fulfils.
pub fn pause(moment: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "another process cannot wake us; callers look again and have a deadline"
    )]
    std::thread::sleep(moment);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set for the process that [`tools_say_nothing_on_our_stdout`] starts: this program again.
    const CHILD: &str = "WASMILL_TEST_TOOL";

    #[test]
    fn tools_say_nothing_on_our_stdout() {
        let said = ["-c", "echo said by the tool"];
        if std::env::var_os(CHILD).is_some() {
            return run_tool(Command::new("sh").args(said)).unwrap();
        }
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "process::tests::tools_say_nothing_on_our_stdout", "--nocapture"]);
        let output = again.env(CHILD, "1").output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
        assert!(!out.contains("said by the tool") && err.contains("said by the tool"), "{out}{err}");
    }
}
