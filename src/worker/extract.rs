//! What handlers of typed tasks may ask for besides their payload.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Context;
use crate::job::{self, Error, Job, JobId, Jobs};

/// What a [typed handler](super::TaskHandler) may ask for by the types of its arguments, behind
/// its payload: a [`Context`], [`Data`], [`Jobs`] to add others, the [`Job`], its [`JobId`], the
/// [`Attempt`], the [`WorkerName`], a [`CancellationToken`]; or what you implement this for.
///
/// ```
/// use kvjob::worker::{Context, FromContext};
///
/// /// The customer a job is for.
/// struct Customer(String);
///
/// impl FromContext for Customer {
///     fn from_context(context: &Context) -> kvjob::job::Result<Self> {
///         Ok(Self(context.job().lane.tenant.clone()))
///     }
/// }
/// ```
pub trait FromContext: Sized + Send + 'static {
    /// What the worker must have been given for this. One that was not cannot be
    /// [built](super::Builder::build).
    fn needs() -> Option<Need> {
        None
    }

    /// Takes it out of the context of an attempt.
    ///
    /// # Errors
    /// Why it cannot be had: the attempt has failed with this.
    fn from_context(context: &Context) -> job::Result<Self>;
}

/// A type of which a worker must have been given [data](super::Builder::data).
#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub(super) id: TypeId,
    pub(super) name: &'static str,
}

impl Need {
    /// Data of this type.
    pub fn data<T: 'static>() -> Self {
        Self {
            id: TypeId::of::<T>(),
            name: type_name::<T>(),
        }
    }
}

/// What a worker was given, by type.
#[derive(Clone, Default)]
pub(super) struct DataMap(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl DataMap {
    /// Takes it in, in the place of another of the same type.
    pub(super) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    pub(super) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let value = self.0.get(&TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok()
    }

    pub(super) fn has(&self, need: &Need) -> bool {
        self.0.contains_key(&need.id)
    }
}

/// What handlers share, such as a pool of connections: given to the worker by
/// [`Builder::data`](super::Builder::data). Derefs to it.
pub struct Data<T>(pub Arc<T>);

impl<T> Deref for Data<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for Data<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Data<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Data").field(&self.0).finish()
    }
}

impl<T: Send + Sync + 'static> FromContext for Data<T> {
    fn needs() -> Option<Need> {
        Some(Need::data::<T>())
    }

    fn from_context(context: &Context) -> job::Result<Self> {
        // Only a need that is not told of comes so far.
        context
            .data()
            .map(Self)
            .ok_or_else(|| missing(&[type_name::<T>()]))
    }
}

/// The worker lacks data of these types.
pub(super) fn missing(types: &[&str]) -> Error {
    let types = types.join("`, `");
    Error::invalid(
        "missing-data",
        format!("handlers need data of type `{types}`: give it to the worker by `Builder::data`"),
    )
}

/// Which attempt of its job it is, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

/// What the job's history calls the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerName(pub String);

impl FromContext for Context {
    fn from_context(context: &Context) -> job::Result<Self> {
        Ok(context.clone())
    }
}

impl FromContext for Job {
    fn from_context(context: &Context) -> job::Result<Self> {
        Ok(context.job().clone())
    }
}

impl FromContext for JobId {
    fn from_context(context: &Context) -> job::Result<Self> {
        Ok(context.job().id)
    }
}

impl FromContext for Attempt {
    fn from_context(context: &Context) -> job::Result<Self> {
        Ok(Self(context.job().attempts))
    }
}

impl FromContext for WorkerName {
    fn from_context(context: &Context) -> job::Result<Self> {
        Ok(Self(context.worker().to_owned()))
    }
}

/// Fires when the handler should stop: see [`Context::cancelled`].
impl FromContext for CancellationToken {
    fn from_context(context: &Context) -> job::Result<Self> {
        Ok(context.cancelled())
    }
}

impl FromContext for Jobs {
    fn from_context(context: &Context) -> job::Result<Self> {
        Ok(context.jobs())
    }
}
