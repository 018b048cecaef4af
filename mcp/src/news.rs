//! Telling a client that the graph has changed: of its own calls when they are answered, of other servers' as soon as
//! they are seen.

use crate::failure::Failure;
use crate::memory::Memory;
use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{Peer, RoleServer};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// The one resource: all of the graph.
pub(crate) const GRAPH_URI: &str = "memory://knowledge-graph";

/// How long one wait for a change lasts: a server whose client leaves ends within that.
const WAIT: Duration = Duration::from_secs(1);
/// How soon is looked again whether a call of this client has ended.
const SOON: Duration = Duration::from_millis(5);

/// What a client wants to hear of, and was told.
pub(crate) struct News {
    memory: Arc<Memory>,
    subscribed: Mutex<Subscribed>,
    /// How many changes by this client are under way. They are told of when they are answered.
    under_way: AtomicU64,
    /// Of all transactions up to this one the client was told.
    told: AtomicU64,
}

#[derive(Default)]
struct Subscribed {
    resources: HashSet<String>,
    /// Whether a task waits for changes.
    is_watched: bool,
}

/// A change by this client, under way while this lives.
pub(crate) struct UnderWay<'n>(&'n News);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl News {
    pub(crate) fn new(memory: Arc<Memory>) -> News {
        News { memory, subscribed: Mutex::default(), under_way: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    fn subscribed(&self) -> MutexGuard<'_, Subscribed> {
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_subscribed(&self) -> bool {
        self.subscribed().resources.contains(GRAPH_URI)
    }

    /// A change by this client begins.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(self)
    }

    /// A change by this client is done: tells it, if it wants to hear of that.
    pub(crate) async fn changed(&self, client: &Peer<RoleServer>, _: UnderWay<'_>) {
        if self.is_subscribed() {
            // What the client reads now has all of this.
            if let Ok(newest) = self.newest(None).await {
                self.told.fetch_max(newest, Ordering::SeqCst);
            }
            tell(client).await;
        }
    }

    /// The newest transaction, newer than `after` or when the wait for that is over.
    async fn newest(&self, after: Option<u64>) -> Result<u64, Failure> {
        let memory = Arc::clone(&self.memory);
        let newest = spawn_blocking(move || memory.newest(after, WAIT)).await;
        newest.map_err(|broken| Failure::Internal(broken.to_string()))?
    }

    /// The client wants to hear of a resource's changes. Any other than the graph never changes.
    pub(crate) async fn subscribe(self: &Arc<Self>, resource: String, client: &Peer<RoleServer>) {
        // The client is told of what comes after this. If that is unknown, it is told once too often.
        let seen = self.newest(None).await.unwrap_or(0);
        let mut subscribed = self.subscribed();
        let is_first = resource == GRAPH_URI && !subscribed.is_watched;
        subscribed.resources.insert(resource);
        if is_first {
            subscribed.is_watched = true;
            self.told.fetch_max(seen, Ordering::SeqCst);
            tokio::spawn(Arc::clone(self).watch(seen, client.clone()));
        }
    }

    pub(crate) fn unsubscribe(&self, resource: &str) {
        self.subscribed().resources.remove(resource);
    }

    /// Whether the client wants to hear no more; then no task watches.
    fn is_over(&self, client: &Peer<RoleServer>) -> bool {
        let mut subscribed = self.subscribed();
        subscribed.is_watched = subscribed.resources.contains(GRAPH_URI) && !client.is_transport_closed();
        !subscribed.is_watched
    }

    /// Tells the client of what other servers do, until it wants to hear no more.
    async fn watch(self: Arc<Self>, mut seen: u64, client: Peer<RoleServer>) {
        loop {
            match self.newest(Some(seen)).await {
                Ok(newest) => {
                    if newest < seen {
                        // Another file has taken the store's place, with numbers of its own.
                        self.told.store(0, Ordering::SeqCst);
                    }
                    seen = newest;
                }
                Err(_) => sleep(WAIT).await,
            }
            // It may be this client's own change, which is told of before it ends.
            while self.under_way.load(Ordering::SeqCst) > 0 {
                sleep(SOON).await;
            }
            if self.is_over(&client) {
                return;
            }
            if self.told.fetch_max(seen, Ordering::SeqCst) < seen {
                tell(&client).await;
            }
        }
    }
}

async fn tell(client: &Peer<RoleServer>) {
    if let Err(error) = client.notify_resource_updated(ResourceUpdatedNotificationParam::new(GRAPH_URI)).await {
        tracing::warn!(%error, "the client was not told of a change");
    }
}
