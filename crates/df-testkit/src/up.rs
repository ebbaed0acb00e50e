//! `devfactory up` as a person starts it in a terminal, and what it leaves behind.

use std::path::{Path, PathBuf};

use crate::cli::program;
use crate::limit::{Limit, poll};
use crate::process::Process;

/// The last line of a stack that is up.
const READY: &str = "stop with ctrl-c";

/// A local stack in a directory of its own.
#[derive(Debug)]
pub struct Up {
    process: Process,
    data_dir: PathBuf,
}

impl Up {
    /// Starts a stack without a model on the data below `home`, and waits until it is ready.
    pub async fn start(home: &Path) -> Self {
        let data_dir = home.join("stack");
        let args = ["up", "--listen", "127.0.0.1:0", "--data-dir"].map(Into::into).into_iter();
        let args = args.chain([data_dir.clone().into_os_string()]).collect();
        let logs = tempfile::tempdir_in(home).expect("a directory").keep();
        let mut up = Self { process: Process::new(program("devfactory", home, args, &[]), &logs), data_dir };
        up.process.start();
        poll(Limit::PROCESS, "a stack that is up", async || {
            assert!(up.process.ended().is_none(), "`up` ended:\n{}", up.process.log());
            if up.process.log().contains(READY) { Ok(()) } else { Err(up.process.log()) }
        })
        .await;
        up
    }

    /// SIGKILL, to `up` alone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Names of the running processes that were told of this stack's directory.
    pub fn processes(&self) -> Vec<String> {
        let wanted = self.data_dir.to_str().expect("a path in UTF-8");
        let mut found: Vec<String> = std::fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(wanted))
            .filter_map(|line| Some(Path::new(line.split(' ').next()?).file_name()?.to_str()?.to_owned()))
            .collect();
        found.sort();
        found
    }
}
