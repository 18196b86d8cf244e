//! A clock that stands still until a test moves it. The system's clock lives in
//! [`crate::clock`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use super::runtime::Sleeping;
use crate::clock::{Clock, Timestamp};

/// Time and chance in a test's hand: time moves by [`advance`](Self::advance) alone, and the
/// random numbers follow from the seed. Clones are the same clock.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use kvjob::clock::Clock;
/// use kvjob::testkit::ManualClock;
///
/// let clock = ManualClock::new(7);
/// let sleeper = clock.clone();
/// let nap = tokio::spawn(async move { sleeper.sleep_until(Duration::from_secs(5)).await });
///
/// clock.wait_for_sleepers(1).await;
/// clock.advance(Duration::from_secs(5));
/// nap.await.unwrap();
/// assert_eq!(clock.monotonic(), Duration::from_secs(5));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// How many sleep, for those who wait for sleepers. Changed only under the lock of `state`.
    sleepers: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    wall: Timestamp,
    monotonic: Duration,
    chance: u64,
    next_id: u64,
    asleep: BTreeMap<(Duration, u64), Sleeper>,
}

#[derive(Debug)]
struct Sleeper {
    waker: oneshot::Sender<()>,
    /// Known to the runtime whose handler it is, as long as it sleeps.
    _sleeping: Option<Sleeping>,
}

impl ManualClock {
    /// A clock that shows 2026-01-01T00:00:00Z and a monotonic time of zero, with random numbers
    /// of this seed.
    pub fn new(seed: u64) -> Self {
        Self::at(Timestamp::from_micros(1_767_225_600_000_000), seed)
    }

    /// A clock that shows `wall` and a monotonic time of zero, with random numbers of this seed.
    pub fn at(wall: Timestamp, seed: u64) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                wall,
                monotonic: Duration::ZERO,
                chance: seed,
                next_id: 0,
                asleep: BTreeMap::new(),
            }),
            sleepers: watch::Sender::new(0),
        }))
    }

    /// Moves wall-clock and monotonic time on, in one step, and wakes those whose deadline is
    /// then reached, earliest first. A woken sleeper no longer counts as one.
    pub fn advance(&self, by: Duration) {
        let mut state = self.0.state();
        state.wall = state.wall.after(by);
        state.monotonic = state.monotonic.saturating_add(by);
        let now = state.monotonic;
        while let Some(earliest) = state.asleep.first_entry() {
            if earliest.key().0 > now {
                break;
            }
            // Fails only where the sleeper was dropped just now.
            let _ = earliest.remove().waker.send(());
        }
        self.0.count(&state);
    }

    /// Sets the wall clock alone, back as well as forward: what a bad clock or an administrator
    /// does. Sleepers do not notice.
    pub fn set_wall(&self, wall: Timestamp) {
        self.0.state().wall = wall;
    }

    /// How many are asleep.
    pub fn sleepers(&self) -> usize {
        self.0.state().asleep.len()
    }

    /// Returns when at least `count` are asleep: what is to be woken by
    /// [`advance`](Self::advance) is then waiting for it.
    pub async fn wait_for_sleepers(&self, count: usize) {
        let mut sleepers = self.0.sleepers.subscribe();
        // The sender lives in this clock, so that waiting cannot fail.
        let _ = sleepers.wait_for(|asleep| *asleep >= count).await;
    }

    /// The earliest deadline anybody sleeps until, in monotonic time.
    pub fn next_deadline(&self) -> Option<Duration> {
        let state = self.0.state();
        state.asleep.first_key_value().map(|((at, _), _)| *at)
    }
}

impl Default for ManualClock {
    /// [`ManualClock::new`] with the seed 0.
    fn default() -> Self {
        Self::new(0)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, state: &State) {
        self.sleepers.send_replace(state.asleep.len());
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.0.state().wall
    }

    fn monotonic(&self) -> Duration {
        self.0.state().monotonic
    }

    async fn sleep_until(&self, deadline: Duration) {
        let (waker, woken) = oneshot::channel();
        let _asleep = {
            let mut state = self.0.state();
            if state.monotonic >= deadline {
                return;
            }
            let key = (deadline, state.next_id);
            state.next_id += 1;
            let sleeper = Sleeper {
                waker,
                _sleeping: Sleeping::begin(),
            };
            state.asleep.insert(key, sleeper);
            self.0.count(&state);
            Asleep {
                clock: &self.0,
                key,
            }
        };
        let _ = woken.await;
    }

    /// The next number of `SplitMix64`.
    fn random(&self) -> u64 {
        let mut state = self.0.state();
        state.chance = state.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Takes a sleeper that is dropped before its time off the list.
struct Asleep<'a> {
    clock: &'a Inner,
    key: (Duration, u64),
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        let mut state = self.clock.state();
        if state.asleep.remove(&self.key).is_some() {
            self.clock.count(&state);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_moves_by_advance_alone() {
        let clock = ManualClock::new(0);
        let (wall, monotonic) = (clock.now(), clock.monotonic());
        assert_eq!((clock.now(), clock.monotonic()), (wall, monotonic));
        clock.advance(SECOND);
        assert_eq!(clock.now(), wall.after(SECOND));
        assert_eq!(clock.monotonic(), monotonic + SECOND);
    }

    #[test]
    fn the_wall_clock_jumps_alone() {
        let clock = ManualClock::new(0);
        clock.set_wall(Timestamp::MIN);
        assert_eq!(clock.now(), Timestamp::MIN);
        assert_eq!(clock.monotonic(), Duration::ZERO);
    }

    #[test]
    fn a_sleeper_wakes_exactly_at_its_deadline() {
        let clock = ManualClock::new(0);
        let mut nap = clock.sleep_until(SECOND);
        assert!((&mut nap).now_or_never().is_none());
        clock.advance(Duration::from_nanos(999_999_999));
        assert!((&mut nap).now_or_never().is_none());
        clock.advance(Duration::from_nanos(1));
        assert!((&mut nap).now_or_never().is_some());
    }

    #[test]
    fn a_deadline_that_has_passed_does_not_sleep() {
        let clock = ManualClock::new(0);
        assert!(clock.sleep_until(Duration::ZERO).now_or_never().is_some());
        assert_eq!(clock.sleepers(), 0);
    }

    #[test]
    fn who_was_woken_or_dropped_no_longer_counts() {
        let clock = ManualClock::new(0);
        let mut short = clock.sleep_until(SECOND);
        let mut long = clock.sleep_until(2 * SECOND);
        assert!((&mut short).now_or_never().is_none() && (&mut long).now_or_never().is_none());
        assert_eq!((clock.sleepers(), clock.next_deadline()), (2, Some(SECOND)));
        clock.advance(SECOND);
        assert_eq!(
            (clock.sleepers(), clock.next_deadline()),
            (1, Some(2 * SECOND))
        );
        drop(long);
        assert_eq!((clock.sleepers(), clock.next_deadline()), (0, None));
    }

    #[test]
    fn waiting_for_sleepers_ends_when_they_sleep() {
        let clock = ManualClock::new(0);
        let mut waiting = std::pin::pin!(clock.wait_for_sleepers(2));
        let mut first = clock.sleep_until(SECOND);
        let mut second = clock.sleep_until(SECOND);
        assert!((&mut first).now_or_never().is_none());
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn chance_follows_from_the_seed() {
        let numbers = |seed| {
            let clock = ManualClock::new(seed);
            [clock.random(), clock.random(), clock.random()]
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        // The first numbers of the generator's published reference code for this seed.
        assert_eq!(
            numbers(1_234_567)[..2],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
    }
}
