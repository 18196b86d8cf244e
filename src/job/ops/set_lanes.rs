//! Lanes are paused, resumed or limited.
//!
//! A setting is read, changed and compared, so that two processes that change one at a time both
//! have their way. One that says nothing any more stays as an empty record: who watches the store
//! hears of puts alone. Doing it again changes nothing, so that it may be planned again after a
//! lost answer (protocol rule 2).

use async_trait::async_trait;

use super::super::header;
use super::super::keys::KeySpace;
use super::super::plan::{Context, Effect, StoredSetting, View};
use super::super::{Error, LaneFilter, LaneSetting, Rate, Result};
use super::{Operation, quarantine};
use crate::clock::Timestamp;
use crate::kv::{Cursor, ErrorKind, Key, Object, Scan};

/// Settings read at once.
const PAGE: usize = 1024;

/// Changes one setting of these lanes. Says whether it was different before.
pub(in crate::job) struct SetLanes {
    pub(in crate::job) lanes: LaneFilter,
    pub(in crate::job) to: To,
}

/// What it is changed to.
#[derive(Clone, Copy, Debug)]
pub(in crate::job) enum To {
    Paused,
    Resumed,
    Limited(Option<Rate>),
}

#[async_trait]
impl Operation for SetLanes {
    type Output = bool;

    fn reads(&self, keys: &KeySpace) -> Vec<Key> {
        vec![keys.lane_setting(&self.lanes)]
    }

    async fn plan(&self, cx: &Context<'_>, view: &mut View<'_>) -> Result<bool> {
        let key = cx.keys.lane_setting(&self.lanes);
        let value = view.get(&key).await?;
        let stored = match &value {
            None => StoredSetting::default(),
            Some(value) => match header::decode(&key, value) {
                Ok(stored) => stored,
                Err(error) if *error.kind() == ErrorKind::Corrupt => {
                    let reason = error.to_string();
                    quarantine::put_aside(cx, view, &key, value, &reason)?;
                    StoredSetting::default()
                }
                Err(error) => return Err(Error::Store(error)),
            },
        };
        let before = LaneSetting {
            lanes: self.lanes.clone(),
            paused_at: stored.paused_at.map(Timestamp::from_micros),
            rate: stored.rate,
        };
        let mut setting = before.clone();
        match self.to {
            To::Paused => setting.paused_at = setting.paused_at.or(Some(cx.now)),
            To::Resumed => setting.paused_at = None,
            To::Limited(rate) => setting.rate = rate,
        }
        let changed = setting != before;
        if changed {
            let record = header::encode(&StoredSetting::of(&setting))?;
            view.replace(key, Some(record.into()));
        }
        // Another process may have set it, and this one not seen it yet.
        view.effect(Effect::Set(setting));
        Ok(changed)
    }
}

/// The first page of settings that [`read_all`] reads.
pub(in crate::job) fn first_scan(keys: &KeySpace) -> Scan {
    Scan::prefix(keys.lane_settings()).limit(PAGE)
}

/// Reads everything that is set. A record that cannot be read is put aside, and what it said does
/// not hold: nothing may keep jobs from running for good (protocol rule 20).
pub(in crate::job) async fn read_all(
    cx: &Context<'_>,
    view: &mut View<'_>,
) -> Result<Vec<LaneSetting>> {
    let mut settings = Vec::new();
    let mut scan = first_scan(cx.keys);
    loop {
        let (objects, all) = view.scan(scan.clone()).await?;
        let last = objects.last().map(Cursor::after_object);
        for object in objects {
            match read(cx.keys, &object) {
                Ok(setting) => settings.push(setting),
                Err(Error::Store(error)) if *error.kind() == ErrorKind::TooNew => {
                    tracing::warn!(key = %object.key, "left alone: {error}");
                }
                Err(error) => quarantine::index(cx, view, &object, &error.to_string())?,
            }
        }
        match last {
            Some(last) if !all => scan = scan.after(last),
            _ => return Ok(settings),
        }
    }
}

/// What is set by the record under a `lane` key.
///
/// # Errors
/// `Corrupt` or `TooNew`.
pub(in crate::job) fn read(keys: &KeySpace, object: &Object) -> Result<LaneSetting> {
    let stored: StoredSetting = header::decode(&object.key, &object.value)?;
    let lanes = keys.read_lane_setting(&object.key, &stored.flags)?;
    Ok(LaneSetting {
        lanes,
        paused_at: stored.paused_at.map(Timestamp::from_micros),
        rate: stored.rate,
    })
}
