//! [`LaneStore`] of a [`KvStore`].

use async_trait::async_trait;

use super::KvStore;
use super::state::bad_cursor;
use crate::job::header;
use crate::job::keys::{Waiting, behind};
use crate::job::ops::set_lanes::{self, SetLanes, To};
use crate::job::plan::Settings;
use crate::job::{
    Cursor, Lane, LaneFilter, LaneSetting, LaneStatus, LaneStore, Page, Query, Rate, Result,
};
use crate::kv::{self, Key, Scan};

/// Settings read at once.
const PAGE: usize = 1024;
/// Jobs read at once to count those of lanes.
const COUNTED: usize = 1000;

impl KvStore {
    async fn set(&self, lanes: &LaneFilter, to: To) -> Result<bool> {
        let lanes = lanes.clone().checked()?;
        self.run(SetLanes { lanes, to }).await
    }

    /// Up to this many settings that differ from the default, and behind which key there may be
    /// more.
    async fn settings_after(
        &self,
        after: Option<kv::Cursor>,
        limit: usize,
    ) -> Result<(Vec<LaneSetting>, Option<Key>)> {
        let mut settings = Vec::new();
        let all = Scan::prefix(self.0.keys.lane_settings()).limit(limit.min(PAGE));
        let mut scan = all.after(after);
        loop {
            let page = self.0.store.scan(scan.clone()).await?;
            for object in &page.objects {
                match set_lanes::read(&self.0.keys, object) {
                    Ok(setting) if setting.is_default() => {}
                    Ok(setting) => settings.push(setting),
                    Err(error) => tracing::warn!("left out: {error}"),
                }
                if settings.len() >= limit {
                    return Ok((settings, Some(object.key.clone())));
                }
            }
            match page.next {
                Some(next) => scan = scan.after(next),
                None => return Ok((settings, None)),
            }
        }
    }

    /// What is set, as the store has it now.
    async fn settings_now(&self) -> Result<Settings> {
        let (all, _) = self.settings_after(None, usize::MAX).await?;
        let mut settings = Settings::default();
        settings.replace(all);
        Ok(settings)
    }
}

#[async_trait]
impl LaneStore for KvStore {
    async fn pause(&self, lanes: &LaneFilter) -> Result<bool> {
        self.set(lanes, To::Paused).await
    }

    async fn resume(&self, lanes: &LaneFilter) -> Result<bool> {
        self.set(lanes, To::Resumed).await
    }

    async fn limit(&self, lanes: &LaneFilter, rate: Option<Rate>) -> Result<bool> {
        let rate = rate.map(Rate::checked).transpose()?;
        self.set(lanes, To::Limited(rate)).await
    }

    async fn lane_settings(
        &self,
        limit: usize,
        cursor: Option<Cursor>,
    ) -> Result<Page<LaneSetting>> {
        let limit = limit.clamp(1, Query::MAX_LIMIT);
        let after = cursor.as_ref().map(read_cursor).transpose()?;
        let (settings, last) = self.settings_after(after, limit).await?;
        let next = last.map(|key| Cursor::from_bytes(key.as_bytes()));
        Ok(Page::new(settings, next))
    }

    async fn lanes(&self, limit: usize, cursor: Option<Cursor>) -> Result<Page<LaneStatus>> {
        let limit = limit.clamp(1, Query::MAX_LIMIT);
        let settings = self.settings_now().await?;
        let mut found: Vec<(Key, LaneStatus)> = Vec::new();
        let mut after = cursor.as_ref().map(read_cursor).transpose()?;
        loop {
            // Small lanes are counted many in one trip; of a large one the rest is skipped.
            let scan = Scan::prefix(self.0.keys.ready_all()).after(after.take());
            let page = self.0.store.scan(scan.limit(COUNTED)).await?;
            for object in &page.objects {
                let Ok(ready) = self.0.keys.read_ready(&object.key) else {
                    continue;
                };
                let prefix = object.key.as_bytes().split_at(ready.lane_len).0;
                let many = found.len() >= limit;
                match found.last_mut() {
                    Some((last, status)) if last.as_bytes() == prefix => {
                        status.more = status.ready >= LaneStatus::MOST_COUNTED;
                        status.ready += u64::from(!status.more);
                    }
                    Some((last, _)) if many => {
                        let next = Cursor::from_bytes(behind(last.as_bytes()).key().as_bytes());
                        return Ok(Page::new(statuses(found), Some(next)));
                    }
                    _ => {
                        let lane = Lane {
                            tenant: ready.tenant,
                            task: ready.task,
                            flags: header::decode_or_default::<Waiting>(object).lane.flags,
                        };
                        let status = LaneStatus {
                            paused: settings.is_paused(&lane),
                            rates: settings.rates(&lane),
                            lane,
                            ready: 1,
                            more: false,
                            next_run_at: ready.run_at,
                        };
                        found.push((prefix.into(), status));
                    }
                }
            }
            after = match (page.next, found.last_mut()) {
                (None, _) => return Ok(Page::new(statuses(found), None)),
                (Some(_), Some((prefix, status)))
                    if status.more || status.ready >= LaneStatus::MOST_COUNTED =>
                {
                    status.more = true;
                    Some(behind(prefix.as_bytes()))
                }
                (next, _) => next,
            };
        }
    }
}

fn statuses(found: Vec<(Key, LaneStatus)>) -> Vec<LaneStatus> {
    found.into_iter().map(|(_, status)| status).collect()
}

/// Behind this key.
fn read_cursor(cursor: &Cursor) -> Result<kv::Cursor> {
    let bytes = cursor.to_bytes().ok_or_else(|| bad_cursor(cursor))?;
    Ok(kv::Cursor::after(bytes))
}
