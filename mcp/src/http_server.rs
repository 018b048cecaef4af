//! Streamable HTTP: one server for many clients, each with sessions of its own.
//!
//! A user is a service of the protocol's library, with its own sessions: the token of one user opens no session of another.

use crate::desk::{Desk, Seat};
use crate::failure::Failure;
use crate::mend::mended;
use crate::news::News;
use crate::scope::Scope;
use crate::server::Server;
use crate::settings::{Listen, Settings};
use crate::ticker::Ticker;
use crate::toolset::Toolset;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Where the protocol is spoken.
const PATH: &str = "/mcp";
/// The longest body of a request, in bytes.
const LONGEST_BODY: usize = 16 << 20;
/// A session that is not used for so long ends.
const IDLE: Duration = Duration::from_secs(12 * 3600);
/// How long a client may take to send the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// How long it may take to send the rest.
const BODY: Duration = Duration::from_secs(60);
/// How long to wait when no connection can be taken, for example because there are no more file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

type Service = StreamableHttpService<Server, LocalSessionManager>;
type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What is answered over HTTP.
struct House {
    entry: Entry,
    /// The places for sessions.
    places: Arc<Semaphore>,
}

/// Who may come in.
enum Entry {
    Anyone(Box<Service>),
    Bearers(HashMap<String, Service>),
}

/// Answers clients until the process is asked to end. Then calls that have begun are answered, and nothing else.
pub(crate) async fn serve(desk: Arc<Desk>, settings: Settings) -> Result<(), Failure> {
    let patience = desk.patience;
    let Some(listen) = settings.listen else { return Ok(()) };
    let trouble = |error: io::Error| Failure::Place(format!("{}: cannot be listened at: {error}", listen.address));
    let (mut end, mut interrupt) =
        (signal(SignalKind::terminate()).map_err(trouble)?, signal(SignalKind::interrupt()).map_err(trouble)?);
    let listener = TcpListener::bind(listen.address).await.map_err(trouble)?;
    let address = listener.local_addr().map_err(trouble)?;
    let sessions = CancellationToken::new();
    let house = Arc::new(House::new(desk, settings.tools, settings.scope, listen, &sessions));
    println(&format!("listening at http://{address}{PATH}"));
    let (mut connections, closing) = (JoinSet::new(), CancellationToken::new());
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, Arc::clone(&house), closing.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "no connection can be taken");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    closing.cancel();
    let answered = timeout(patience, async { while connections.join_next().await.is_some() {} }).await;
    if answered.is_err() {
        tracing::warn!("not every call was answered in time");
    }
    sessions.cancel();
    Ok(())
}

/// Standard output says where the server is, and nothing else.
fn println(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(io::stdout(), "{line}");
}

/// Answers the requests of one connection.
async fn converse(stream: TcpStream, house: Arc<House>, closing: CancellationToken) {
    // Answers are small, and waited for.
    let _ = stream.set_nodelay(true);
    // Whether its last request is for what the server says unasked, which has no end.
    let listens = AtomicBool::new(false);
    let answer = |request: Request<Incoming>| {
        listens.store(request.method() == Method::GET, Ordering::Relaxed);
        let house = Arc::clone(&house);
        async move { Ok::<_, Infallible>(house.answer(request).await) }
    };
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service_fn(answer)));
    let ended = select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            if listens.load(Ordering::Relaxed) {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection has ended");
    }
}

impl House {
    fn new(desk: Arc<Desk>, tools: Toolset, scope: Scope, listen: Listen, sessions: &CancellationToken) -> House {
        let Listen { address, hosts, users, sessions: places } = listen;
        let config = config(&address.ip().to_string(), hosts, sessions);
        let (places, ticker) = (Arc::new(Semaphore::new(places)), Arc::new(Ticker::new(Arc::clone(&desk.memory))));
        let service = |scope: Scope| {
            let (desk, places, ticker, scope) =
                (Arc::clone(&desk), Arc::clone(&places), Arc::clone(&ticker), Arc::new(scope));
            let server = move || {
                let place = Arc::clone(&places).try_acquire_owned();
                let place = place.map_err(|_| io::Error::other("too many sessions"))?;
                let seat = Seat::new(Arc::clone(&desk), Arc::clone(&scope));
                let tools = tools.tools(&scope);
                Ok(Server::new(seat, tools, News::new(Arc::clone(&ticker)), Some(place)))
            };
            let mut manager = LocalSessionManager::default();
            manager.session_config.keep_alive = Some(IDLE);
            StreamableHttpService::new(server, Arc::new(manager), config.clone())
        };
        let entry = match users {
            None => Entry::Anyone(Box::new(service(scope))),
            Some(users) => Entry::Bearers(users.into_iter().map(|(token, scope)| (token, service(scope))).collect()),
        };
        House { entry, places }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.uri().path() != PATH {
            return refusal(StatusCode::NOT_FOUND, "The protocol is spoken at /mcp.");
        }
        let Some(service) = self.entry.service(request.headers()) else {
            let mut refusal =
                refusal(StatusCode::UNAUTHORIZED, "A bearer token is asked for, and none that is known was given.");
            refusal.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
            return refusal;
        };
        if !request.headers().contains_key("mcp-session-id") && self.places.available_permits() == 0 {
            let mut refusal =
                refusal(StatusCode::SERVICE_UNAVAILABLE, "Too many sessions: end some, or come again later.");
            refusal.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from_static("60"));
            return refusal;
        }
        let (head, body) = request.into_parts();
        match whole(body).await {
            Ok(body) => service.handle(Request::from_parts(head, Full::new(body))).await,
            Err(refusal) => refusal,
        }
    }
}

/// The body of a request, [`mended`], or what is answered instead.
async fn whole(body: Incoming) -> Result<Bytes, Answer> {
    let too_long = || refusal(StatusCode::PAYLOAD_TOO_LARGE, "The body of a request is at most 16 MiB long.");
    // A length that is said is refused before anything is sent.
    if body.size_hint().lower() > LONGEST_BODY as u64 {
        return Err(too_long());
    }
    match timeout(BODY, Limited::new(body, LONGEST_BODY).collect()).await {
        Ok(Ok(body)) => Ok(Bytes::from(mended(&body.to_bytes()).into_owned())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
        Ok(Err(_)) => Err(refusal(StatusCode::BAD_REQUEST, "The request is incomplete.")),
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "The request did not come in time.")),
    }
}

impl Entry {
    /// The service of the user who sends this.
    fn service(&self, headers: &HeaderMap) -> Option<&Service> {
        match self {
            Entry::Anyone(service) => Some(service),
            Entry::Bearers(services) => {
                let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
                services.get(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"))
            }
        }
    }
}

/// Requests are for a name of this host, and those of web pages come from one: a page elsewhere that makes a browser send requests
/// here is refused.
fn config(address: &str, more: Vec<String>, sessions: &CancellationToken) -> StreamableHttpServerConfig {
    let mut hosts = StreamableHttpServerConfig::default().allowed_hosts;
    hosts.push(address.to_owned());
    hosts.extend(more);
    let bracketed = |host: &String| if host.contains("::") { format!("[{host}]") } else { host.clone() };
    let origin = |scheme: &str, host: &String| match bracketed(host).rsplit_once(':') {
        // The host is given with its port, which is not the end of an address of version 6.
        Some((_, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => {
            format!("{scheme}://{}", bracketed(host))
        }
        _ => format!("{scheme}://{}:*", bracketed(host)),
    };
    let origins: Vec<String> =
        ["http", "https"].iter().flat_map(|scheme| hosts.iter().map(|host| origin(scheme, host))).collect();
    StreamableHttpServerConfig::default()
        .with_allowed_hosts(hosts)
        .with_allowed_origins(origins)
        .with_max_request_body_bytes(LONGEST_BODY)
        .with_cancellation_token(sessions.clone())
}

fn refusal(status: StatusCode, why: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(why.as_bytes())).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
