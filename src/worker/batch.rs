//! Handlers that get many jobs of a task in one call: what they are, and one call of one.
//!
//! Each job of a batch keeps what it has as a single one: its lease, its token, its time-out, its
//! events, its end. What they share is the call, and with it a slot of the worker.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tracing::{Instrument as _, Span};

use super::attempt::{self, Answer, Running};
use super::handler::{IntoOutcome, Outcome, reason};
use super::leases::{Held, Why};
use super::record::{self, Ending};
use super::route::{BoxError, Route};
use super::shared::Shared;
use super::typed::payload;
use super::{Context, Event, metrics};
use crate::job::{Claim, Error, Job, Task};

/// What a [batch handler](super::Builder::batch) may answer.
pub trait IntoOutcomes {
    /// What it means for each of so many jobs, in the order in which the handler got them.
    fn into_outcomes(self, jobs: usize) -> Vec<Outcome>;
}

/// All jobs are done.
impl IntoOutcomes for () {
    fn into_outcomes(self, jobs: usize) -> Vec<Outcome> {
        vec![Outcome::Complete; jobs]
    }
}

/// One answer for each job, in their order. If there are more or fewer, nobody knows which is
/// whose, and all attempts have failed.
impl<T: IntoOutcome> IntoOutcomes for Vec<T> {
    fn into_outcomes(self, _: usize) -> Vec<Outcome> {
        self.into_iter().map(IntoOutcome::into_outcome).collect()
    }
}

/// An error is one of every job.
impl<T: IntoOutcomes, E: Into<BoxError>> IntoOutcomes for Result<T, E> {
    fn into_outcomes(self, jobs: usize) -> Vec<Outcome> {
        match self {
            Ok(answer) => answer.into_outcomes(jobs),
            Err(error) => vec![Outcome::Retry(reason(&*error.into())); jobs],
        }
    }
}

/// As many outcomes as there are jobs.
fn outcomes(answer: impl IntoOutcomes, jobs: usize) -> Vec<Outcome> {
    let outcomes = answer.into_outcomes(jobs);
    let answers = outcomes.len();
    if answers == jobs {
        return outcomes;
    }
    let error = format!("the handler gave {answers} answers for {jobs} jobs");
    vec![Outcome::Retry(error); jobs]
}

/// What runs the jobs of a task, many at a time.
///
/// Layers see a call as an attempt of its first job, and its answer as that of this one. What they
/// answer instead is the answer of all jobs.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    max: usize,
    route: Route,
}

/// What goes with the first job of a batch through the layers, and comes back.
#[derive(Debug)]
pub(super) struct Call {
    others: Mutex<Vec<Context>>,
    answers: Mutex<Vec<Outcome>>,
}

impl Call {
    fn take<T: Default>(of: &Mutex<T>) -> T {
        std::mem::take(&mut of.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Batch {
    pub(super) fn new<F, Answers>(max: usize, handler: F) -> Self
    where
        F: Fn(Vec<Context>) -> Answers + Send + Sync + 'static,
        Answers: Future<Output: IntoOutcomes> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let route = Route::of(move |first| {
            let handler = Arc::clone(&handler);
            // The function itself may panic: it is called where that is caught.
            Box::pin(async move {
                let call = first.call();
                let others = call.map_or_else(Vec::new, |call| Call::take(&call.others));
                let jobs = others.len() + 1;
                let contexts = std::iter::once(first.clone()).chain(others).collect();
                let answers = outcomes(handler(contexts).await, jobs);
                let of_first = answers.first().cloned().unwrap_or(Outcome::Complete);
                if let Some(call) = first.call() {
                    *call.answers.lock().unwrap_or_else(PoisonError::into_inner) = answers;
                }
                of_first
            })
        });
        Self { max, route }
    }

    /// The same with a layer around it.
    pub(super) fn layered(self, layer: impl FnOnce(Route) -> Route) -> Self {
        Self {
            route: layer(self.route),
            ..self
        }
    }

    /// Calls the handler. There is an answer for each of so many jobs.
    async fn call(&self, first: Context, jobs: usize) -> Vec<Outcome> {
        let answer = self.route.run(first.clone()).await;
        let answers = first.call().map(|call| Call::take(&call.answers));
        answers
            .filter(|answers| answers.first() == Some(&answer))
            .unwrap_or_else(|| vec![answer; jobs])
    }

    /// One that gets payloads. Those that do not decode fail their jobs, and no others.
    pub(super) fn typed<F, T, Answers>(max: usize, handler: F) -> Self
    where
        F: Fn(Vec<(T, Context)>) -> Answers + Send + Sync + 'static,
        Answers: Future<Output: IntoOutcomes> + Send + 'static,
        T: Task,
    {
        let handler = Arc::new(handler);
        Self::new(max, move |contexts| {
            let handler = Arc::clone(&handler);
            async move {
                let mut tasks = Vec::with_capacity(contexts.len());
                let mut bad = Vec::with_capacity(contexts.len());
                for context in contexts {
                    match payload::<T>(&context) {
                        Ok(task) => {
                            tasks.push((task, context));
                            bad.push(None);
                        }
                        Err(outcome) => bad.push(Some(outcome)),
                    }
                }
                if tasks.is_empty() {
                    return bad.into_iter().flatten().collect();
                }
                let jobs = tasks.len();
                let mut answers = outcomes(handler(tasks).await, jobs).into_iter();
                bad.into_iter()
                    .filter_map(|bad| bad.or_else(|| answers.next()))
                    .collect::<Vec<_>>()
            }
        })
    }

    /// The most jobs of a call.
    pub(super) fn max(&self) -> usize {
        self.max
    }
}

/// A job of a batch, while its handler runs.
struct Member {
    job: Job,
    held: Held,
    timeout: Option<Duration>,
    span: Span,
}

/// Takes in what else is due, calls the handler once, and records how each job ended. The answer
/// says why the store will not come back, if it will not.
pub(super) async fn run(
    shared: Arc<Shared>,
    batch: Arc<Batch>,
    mut jobs: Vec<(Job, Held)>,
) -> Option<Error> {
    more(&shared, batch.max, &mut jobs).await;
    shared.leases.lapse(shared.clock.monotonic());
    let (members, late): (Vec<Member>, Vec<Member>) = jobs
        .into_iter()
        .map(|(job, held)| Member {
            timeout: shared.timeout(&job),
            span: shared.span(&job),
            job,
            held,
        })
        .partition(|member| member.held.why() < Why::StopNow);
    let back = join_all(late.iter().map(|member| {
        let ending = Ending::GiveBack;
        record::record(&shared, &member.job, &member.held, ending, Duration::ZERO)
            .instrument(member.span.clone())
    }));
    let (call, back) = futures::join!(call(&shared, &batch, &members), back);
    call.into_iter().chain(back).flatten().next()
}

/// Claims what else of the batch's task is due, as far as there is room. What there is already does
/// not wait for a store that does not answer, nor once the worker is to stop.
async fn more(shared: &Shared, max: usize, jobs: &mut Vec<(Job, Held)>) {
    let max = max.saturating_sub(jobs.len());
    let Some((first, held)) = jobs.first().filter(|_| max > 0) else {
        return;
    };
    // A job that may end the process should not take others with it (protocol rule 9).
    if held.is_alone() {
        return;
    }
    // If it cannot be said which jobs to claim, the worker's next claim finds out, and ends it.
    let Ok(selector) = shared.selector() else {
        return;
    };
    let asked = shared.clock.monotonic();
    shared.emit(|| Event::ClaimStarted { max });
    let claim = Claim::new(&shared.name).max(max).lease(shared.lease);
    let claim = claim.selector(selector.tasks([&first.lane.task]));
    let mut stop = shared.stop.subscribe();
    let claims = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| stop.is_asked()) => return,
        _ = held.stronger_than(Why::No) => return,
        claims = shared.store.claim(claim) => claims,
    };
    match claims {
        Ok(claims) if claims.jobs.is_empty() => shared.emit(|| Event::ClaimEmpty),
        Ok(claims) => {
            let count = claims.jobs.len();
            shared.emit(|| Event::Claimed { jobs: count });
            let deadline = asked.saturating_add(shared.lease);
            for claimed in claims.jobs {
                metrics::claimed(&claimed.job);
                let suspect = claimed.suspect;
                let held = shared.leases.hold(claimed.lease, deadline, None, suspect);
                if suspect {
                    // Back it goes, to come alone.
                    held.raise(Why::StopNow);
                }
                jobs.push((claimed.job, held));
            }
        }
        Err(error) => {
            tracing::error!(%error, "could not claim more jobs for a batch");
            shared.emit(|| Event::ClaimFailed {
                error: error.to_string(),
            });
        }
    }
}

/// Calls the handler with these jobs, if there are any, and records how each ended.
async fn call(shared: &Arc<Shared>, batch: &Batch, members: &[Member]) -> Vec<Option<Error>> {
    let Some(first) = members.first() else {
        return Vec::new();
    };
    let span = tracing::info_span!(
        "batch",
        task = first.job.lane.task,
        jobs = members.len(),
        worker = shared.name,
    );
    for Member {
        job, span: of_job, ..
    } in members
    {
        span.follows_from(of_job);
        attempt::started(shared, job);
    }
    let context = |member: &Member, call| {
        let token = member.held.token().clone();
        Context::of(member.job.clone(), Arc::clone(shared), token, call)
    };
    let others = members.iter().skip(1).map(|member| context(member, None));
    let others = Mutex::new(others.collect());
    let answers = Mutex::default();
    let first = context(first, Some(Call { others, answers }));
    let started = shared.clock.monotonic();
    let patience = members
        .iter()
        .map(|member| attempt::patience(shared, &member.held, (started, member.timeout)));
    let running: Running<'_, Vec<Outcome>> = Box::pin(
        AssertUnwindSafe(batch.call(first, members.len()))
            .catch_unwind()
            .instrument(span),
    );
    // What one of its jobs does not wait for, another may.
    let answer = attempt::follow(running, join_all(patience).map(|_| ())).await;
    let elapsed = shared.clock.monotonic().saturating_sub(started);
    // All are recorded at once, and so in few commits.
    join_all(members.iter().zip(each(answer, members.len())).map(
        |(
            Member {
                job,
                held,
                timeout,
                span,
            },
            answer,
        )| {
            let ending = attempt::meaning(answer, held.why(), *timeout);
            attempt::tell(shared, job, &ending, elapsed);
            record::record(shared, job, held, ending, elapsed).instrument(span.clone())
        },
    ))
    .await
}

/// What the answer is for each of so many jobs.
fn each(answer: Answer<Vec<Outcome>>, jobs: usize) -> Vec<Answer<Outcome>> {
    match answer {
        Some(Ok(outcomes)) => outcomes.into_iter().map(|one| Some(Ok(one))).collect(),
        Some(Err(panic)) => vec![Some(Err(panic)); jobs],
        None => vec![None; jobs],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_batch_handler_may_answer() {
        let done = || Outcome::Complete;
        let retry = |error: &str| Outcome::Retry(error.to_owned());
        assert_eq!(outcomes((), 2), [done(), done()]);
        let mixed: Vec<Result<(), String>> = vec![Ok(()), Err("no".to_owned())];
        assert_eq!(outcomes(mixed, 2), [done(), retry("no")]);
        let broken: Result<(), &str> = Err("down");
        assert_eq!(outcomes(broken, 2), [retry("down"), retry("down")]);
        let few = outcomes(vec![()], 2);
        let error = "the handler gave 1 answers for 2 jobs";
        assert_eq!(few, [retry(error), retry(error)]);
    }
}
