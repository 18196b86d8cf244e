//! A store as a whole: what it holds, and where it goes.

use std::path::PathBuf;

use clap::Subcommand;
use kvjob::job::QuarantineId;

/// Look at everything stored, and report what is not as it must be.
///
/// Every job must stand in exactly one place, and its header, its entries, worker records, history,
/// arguments, log and key must agree. Without --repair nothing is changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob check
  kvjob check --repair
  kvjob check --json | jq -r 'select(.damage) | .job'

With --json each finding is a line of its own: {\"damage\", \"key\", \"job\", \"message\", \"mended\",
\"action\"}; the last line has the counts.

Exit status: 0 nothing was found, or all of it was mended; 3 something was found and not mended;
2 a mistake in the arguments, or the store failed.")]
pub(crate) struct Check {
    /// Mend what can be mended: entries are built again from the jobs' headers; what cannot be
    /// read, or belongs to no job, is put aside.
    #[arg(long)]
    pub(crate) repair: bool,
}

/// What `kvjob copy --help` begins with, as it stands.
const COPY: &str = "\
Copy a whole job store to another place: another backend, another file, another namespace.

Everything travels as it is: waiting jobs and those that have ended, histories and logs, what was
put aside, and leases, so that a job that runs at the source runs at the target until its lease
is over.

Stop the workers of both sides first. A store of one process is held while it is copied; if one
on a server is changed meanwhile, the copy fails and says so. (The source is read twice and must
be the same, then the target is read back and its digest compared.)

A copy that was cut off is no job store: the other commands refuse it. The same command again
goes on where it was.

A target that already holds jobs is refused. With --overwrite it is made like the source: what
is only there is removed for good, what is the same is not written again.";

/// `kvjob copy`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Copy a whole job store to another place",
    long_about = COPY,
    after_help = "\
Examples:
  kvjob copy --from redb:jobs.redb --to sqlite:jobs.db
  kvjob copy --from 'redb:jobs.redb?namespace=shop' --to 'redb:jobs.redb?namespace=test'
  kvjob copy --from redb:jobs.redb --to redb:/backup/jobs.redb --overwrite    bring it up to date

The digest is that of the records: job stores that hold the same have the same, wherever they
are. With --json it is one object: {\"jobs\", \"records\", \"bytes\", \"written\", \"removed\",
\"digest\"}."
)]
pub(crate) struct Copy {
    /// The job store that is copied.
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// Where it goes; made if it is not there.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// Make a target that holds jobs like the source: what is only there is lost.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// Write a whole job store to a file.
///
/// The file is complete, synced and read back before it has its name. As with `kvjob copy`, stop
/// the workers of a store on a server first: if it changes meanwhile, there is no dump.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob dump jobs.kvjob
  kvjob dump - | gzip > jobs.kvjob.gz

With --json it is one object: {\"jobs\", \"records\", \"bytes\", \"written\", \"removed\", \"digest\"}.
If the dump goes to standard output, this goes to standard error.")]
pub(crate) struct Dump {
    /// The file; - for standard output.
    pub(crate) file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// Make a job store of a file that `kvjob dump` wrote, in any backend.
///
/// The file is read to its end first, so that one that is cut off or damaged changes nothing.
/// (Standard input is read once: if it fails on the way, what is there is no job store, and the
/// other commands refuse it until a whole dump was restored.) A store that already holds jobs is
/// refused, or with --overwrite made like the dump.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob restore jobs.kvjob --store sqlite:jobs.db
  gunzip < jobs.kvjob.gz | kvjob restore -

With --json it is one object: {\"jobs\", \"records\", \"bytes\", \"written\", \"removed\", \"digest\"}.")]
pub(crate) struct Restore {
    /// The file; - for standard input.
    pub(crate) file: PathBuf,
    /// Make a store that holds jobs like the dump: what is only there is lost.
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// Look at records that could not be read and were put aside, and put them back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob quarantine list
  kvjob quarantine show 3fa94c01d5b7e682
  kvjob quarantine release 3fa94c01d5b7e682      once it can be read, or its payload again
  kvjob quarantine remove 3fa94c01d5b7e682

What else belongs to a job, its payload, log and older history, is never put aside: it is there
when the job comes back.")]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// List the records, by the keys they stood under.
    #[command(after_help = "\
Examples:
  kvjob quarantine list
  kvjob quarantine list --json | jq -r .reason

With --json each record is a line of its own: {\"id\", \"key\", \"reason\", \"at\", \"bytes\"}.")]
    List,
    /// Show one record with its bytes.
    #[command(after_help = "\
Examples:
  kvjob quarantine show 3fa94c01d5b7e682
  kvjob quarantine show ID --json | jq -r .raw_value | xxd -r -p > record

With --json, \"raw_key\" and \"raw_value\" are in hexadecimal digits.")]
    Show {
        /// The record.
        id: QuarantineId,
    },
    /// Put records back under their keys, if these are free; a job waits, or has ended, as before.
    #[command(after_help = "\
Examples:
  kvjob quarantine release 3fa94c01d5b7e682
  kvjob quarantine release ID --unreadable       for other software to read

A job that was running lost its lease, and one that had ended counts as ended now.

With --json each record that was released is a line of its own: {\"record\", \"job\"}.")]
    Release {
        /// The records.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<QuarantineId>,
        /// Also what still cannot be read, as it is.
        #[arg(long)]
        unreadable: bool,
    },
    /// Remove records for good.
    #[command(after_help = "\
Examples:
  kvjob quarantine remove 3fa94c01d5b7e682

With --json each record that was removed is a line of its own: {\"id\"}.")]
    Remove {
        /// The records.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<QuarantineId>,
    },
}

/// List what a store can be, and how its URL looks.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvjob backends
  kvjob list --store redb:/var/lib/app/jobs.redb
  KVJOB_STORE=redb:jobs.redb kvjob stats")]
pub(crate) struct Backends {}
