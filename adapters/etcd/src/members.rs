//! The members of a cluster: which one is asked, when the next one is, and who we are to them.
//! What is asked is not known here, only whether it writes.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::PathAndQuery;
use kvjob::kv::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use crate::error::{self, Fault, Verdict};
use crate::proto::{AuthenticateRequest, Call, WATCH, WatchRequest, WatchResponse};

/// Pauses between tries of one call: the first one, doubled until the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How long a connection may be silent while somebody waits on it. etcd takes more than one ping
/// in 5 s for abuse.
const SILENCE: Duration = Duration::from_secs(10);

/// How often new names are asked for in one call before the refusal is believed.
const LOGINS: usize = 2;

/// What connections need.
#[derive(Clone, Default)]
pub(crate) struct Access {
    pub(crate) tls: bool,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// User and password.
    pub(crate) login: Option<(String, String)>,
}

/// One member's address and the connection to it.
struct Member {
    address: String,
    channel: Channel,
}

/// All members that we know of.
pub(crate) struct Members {
    all: Vec<Member>,
    /// The one that is asked: for as long as it answers always the same.
    current: AtomicUsize,
    login: Option<(String, String)>,
    token: Mutex<Option<MetadataValue<Ascii>>>,
    timeout: Duration,
}

/// How far a call goes before it gives up.
#[derive(Clone, Copy)]
enum Effort {
    /// Every member is tried once.
    OneRound,
    /// Until the time-out.
    Lasting,
}

impl Members {
    /// Connects to nobody yet.
    pub(crate) fn new(addresses: &[String], access: Access, timeout: Duration) -> Result<Self> {
        let tls = access.tls.then(|| tls(&access)).transpose()?;
        let mut all = Vec::with_capacity(addresses.len());
        for address in addresses {
            let scheme = if access.tls { "https" } else { "http" };
            let refused = |error| {
                let message = format!("cannot reach etcd at {address}: {error}");
                Error::new(ErrorKind::Unsupported, message).with_source(error)
            };
            let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
                .map_err(refused)?
                // Time for another member if this one cannot be reached.
                .connect_timeout(timeout / 3)
                .http2_keep_alive_interval(SILENCE)
                .keep_alive_timeout(SILENCE / 2);
            if let Some(tls) = &tls {
                endpoint = endpoint.tls_config(tls.clone()).map_err(refused)?;
            }
            all.push(Member {
                address: address.clone(),
                channel: endpoint.connect_lazy(),
            });
        }
        Ok(Self {
            all,
            current: AtomicUsize::new(0),
            login: access.login,
            token: Mutex::new(None),
            timeout,
        })
    }

    /// How long a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks something that changes nothing; tries again until the time-out.
    ///
    /// # Errors
    /// `Transient` if nobody answered in time, or what etcd refuses.
    pub(crate) async fn read<C: Call>(&self, request: &C) -> Result<C::Answer> {
        self.call(request, false, Effort::Lasting).await
    }

    /// Asks for a change. Tries again only what surely was not made.
    ///
    /// # Errors
    /// `Transient` if no member could be reached in time, `Unknown` if the change may have been
    /// made, or what etcd refuses.
    pub(crate) async fn write<C: Call>(&self, request: &C) -> Result<C::Answer> {
        self.call(request, true, Effort::Lasting).await
    }

    /// As [`read`](Self::read), but every member is asked once only.
    pub(crate) async fn read_now<C: Call>(&self, request: &C) -> Result<C::Answer> {
        self.call(request, false, Effort::OneRound).await
    }

    /// As [`write`](Self::write), but every member is asked once only.
    pub(crate) async fn write_now<C: Call>(&self, request: &C) -> Result<C::Answer> {
        self.call(request, true, Effort::OneRound).await
    }

    /// Asks every member for itself, and gives its address with its answer.
    pub(crate) async fn each<C: Call>(&self, request: &C) -> Vec<(&str, Result<C::Answer>)> {
        let answers = self.all.iter().enumerate().map(async |(at, member)| {
            let deadline = Instant::now() + self.share();
            let answer = match timeout_at(deadline, self.ask(at, request)).await {
                Ok(answer) => answer.map_err(|fault| self.error(at, fault, false)),
                Err(_) => Err(self.error(at, Fault::silent(), false)),
            };
            (member.address.as_str(), answer)
        });
        futures::future::join_all(answers).await
    }

    async fn call<C: Call>(&self, request: &C, writes: bool, effort: Effort) -> Result<C::Answer> {
        let deadline = Instant::now() + self.timeout;
        let (mut pause, longest) = PAUSES;
        let mut logins = 0;
        let mut tries = 0;
        loop {
            let at = self.current();
            // A read leaves time to ask others; a write that was sent waits for its answer.
            let patience = if writes { self.timeout } else { self.share() };
            let patience = deadline.min(Instant::now() + patience);
            let fault = match timeout_at(patience, self.ask(at, request)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::silent(),
            };
            tries += 1;
            match fault.verdict {
                Verdict::Login if logins < LOGINS => {
                    logins += 1;
                    self.forget_token();
                    continue;
                }
                Verdict::Login | Verdict::Refused(_) => return Err(self.error(at, fault, writes)),
                Verdict::Passing => self.leave(at),
                Verdict::Doubtful => {
                    self.leave(at);
                    if writes {
                        return Err(self.error(at, fault, writes));
                    }
                }
            }
            let round = tries % self.all.len() == 0;
            let enough = match effort {
                Effort::OneRound => round,
                Effort::Lasting => Instant::now() + pause >= deadline,
            };
            if enough {
                return Err(self.error(at, fault, writes));
            }
            // The next member is worth asking at once, unless all have been.
            if round {
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }

    /// Opens the stream of watches at the current member. What it is asked comes from `requests`.
    pub(crate) async fn watch(
        &self,
        requests: impl tokio_stream::Stream<Item = WatchRequest> + Send + 'static,
    ) -> Result<Streaming<WatchResponse>> {
        let at = self.current();
        let opened = async {
            let (mut client, metadata) = self.client(at).await?;
            ready(&mut client).await?;
            let mut requests = Request::new(requests);
            *requests.metadata_mut() = metadata;
            let path = PathAndQuery::from_static(WATCH);
            let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
            let answer = client.streaming(requests, path, codec).await;
            Ok(answer.map_err(Fault::of)?.into_inner())
        };
        match timeout_at(Instant::now() + self.timeout, opened).await {
            Ok(answer) => answer.map_err(|fault| self.error(at, fault, false)),
            Err(_) => Err(self.error(at, Fault::silent(), false)),
        }
    }

    /// Turns to another member, and asks anew who we are: the next try may have better luck.
    pub(crate) fn try_another(&self) {
        self.leave(self.current());
        self.forget_token();
    }

    /// How long one member may take of a call that could go to others.
    fn share(&self) -> Duration {
        let others = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.timeout / others.clamp(1, 3)
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// From the member at this place to the next, unless somebody went on already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.all.len().max(1);
        let _ = self
            .current
            .compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    async fn ask<C: Call>(&self, at: usize, request: &C) -> Result<C::Answer, Fault> {
        let (mut client, metadata) = self.client(at).await?;
        unary(&mut client, metadata, request.clone()).await
    }

    /// A client of this member, and what goes with every request.
    async fn client(&self, at: usize) -> Result<(Client, MetadataMap), Fault> {
        let member = self.all.get(at).ok_or_else(Fault::silent)?;
        let mut client = tonic::client::Grpc::new(member.channel.clone())
            // What etcd may send is bounded by what is asked for.
            .max_decoding_message_size(usize::MAX);
        let mut metadata = MetadataMap::new();
        // A member that lost its leader then says so at once.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(login) = &self.login {
            let known = self.token().clone();
            let token = match known {
                Some(token) => Some(token),
                None => self.log_in(&mut client, login).await?,
            };
            if let Some(token) = token {
                metadata.insert("token", token);
            }
        }
        Ok((client, metadata))
    }

    /// A token for our name. None where etcd asks nobody for his name.
    async fn log_in(
        &self,
        client: &mut Client,
        (name, password): &(String, String),
    ) -> Result<Option<MetadataValue<Ascii>>, Fault> {
        let request = AuthenticateRequest {
            name: name.clone(),
            password: password.clone(),
        };
        let token = match unary(client, MetadataMap::new(), request).await {
            Ok(answer) => answer.token.parse().map_err(|_| Fault::no_token())?,
            Err(fault) if fault.is_without_authentication() => return Ok(None),
            // What was asked for besides was not sent.
            Err(fault) => return Err(fault.unapplied()),
        };
        *self.token() = Some(MetadataValue::clone(&token));
        Ok(Some(token))
    }

    fn token(&self) -> MutexGuard<'_, Option<MetadataValue<Ascii>>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_token(&self) {
        *self.token() = None;
    }

    fn error(&self, at: usize, fault: Fault, writes: bool) -> Error {
        let address = self.all.get(at).map_or("", |member| &member.address);
        error::of(fault, address, writes)
    }
}

type Client = tonic::client::Grpc<Channel>;

async fn unary<C: Call>(
    client: &mut Client,
    metadata: MetadataMap,
    request: C,
) -> Result<C::Answer, Fault> {
    ready(client).await?;
    let mut request = Request::new(request);
    *request.metadata_mut() = metadata;
    let path = PathAndQuery::from_static(C::PATH);
    let codec = ProstCodec::<C, C::Answer>::default();
    let answer = client.unary(request, path, codec).await;
    Ok(answer.map_err(Fault::of)?.into_inner())
}

/// Waits until there is room to send.
async fn ready(client: &mut Client) -> Result<(), Fault> {
    let ready = client.ready().await;
    ready.map_err(|error| Fault::unsent(&error))
}

fn tls(access: &Access) -> Result<ClientTlsConfig> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| {
            let message = format!("cannot read the certificate {}: {error}", path.display());
            Error::new(ErrorKind::Unsupported, message).with_source(error)
        })
    };
    let mut tls = ClientTlsConfig::new();
    tls = match &access.ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(read(ca)?)),
        None => tls.with_native_roots(),
    };
    if let Some((certificate, key)) = &access.identity {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

impl fmt::Debug for Members {
    /// Without passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.all.iter().map(|member| &member.address);
        f.debug_list().entries(addresses).finish()
    }
}
