//! Another process, which enqueues: this program, started again.

use std::process::Stdio;

use kvjob::job::{KvStore, Options, QueueStore as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::{Result, life, pickup};

/// What it is told to be, and where the jobs are.
const ARGUMENT: &str = "--enqueue-at";

/// That process. It is gone with this.
pub(crate) struct Other {
    _process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Other {
    pub(crate) fn start(url: &str) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([ARGUMENT, url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = process.stdin.take().ok_or("it cannot be told anything")?;
        let answers = process.stdout.take().ok_or("it cannot answer")?;
        Ok(Self {
            _process: process,
            orders,
            answers: BufReader::new(answers).lines(),
        })
    }

    /// Lets it enqueue a job, and says when that was acknowledged there.
    pub(crate) async fn enqueue(&mut self) -> Result<f64> {
        self.orders.write_all(b"\n").await?;
        let answer = self.answers.next_line().await?;
        Ok(answer.ok_or("the other process has ended")?.parse()?)
    }
}

/// What that process does: a job for each line it reads.
pub(crate) async fn enqueue_when_told(url: &str) -> Result<()> {
    let jobs = KvStore::open(kvjob_any::open(url).await?, Options::default()).await?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let mut number = 0;
    while orders.next_line().await?.is_some() {
        jobs.enqueue(life::job(number)?).await?;
        let stored = pickup::now();
        println!("{stored}");
        number += 1;
    }
    Ok(())
}
