//! Telling a client that the graph has changed: of its own calls when they are answered, of other clients' as soon as
//! they are seen.

use crate::ticker::Ticker;
use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{Peer, RoleServer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The one resource: all of the graph.
pub(crate) const GRAPH_URI: &str = "memory://knowledge-graph";

/// How soon is looked again whether a call of this client has ended.
const SOON: Duration = Duration::from_millis(5);

/// What a client wants to hear of, and was told.
pub(crate) struct News {
    ticker: Arc<Ticker>,
    told: Arc<Told>,
    /// The task that waits for changes; `None`: the client does not want to hear of them.
    watch: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Told {
    /// How many changes by this client are under way. They are told of when they are answered.
    under_way: AtomicU64,
    /// Of all transactions up to this one the client was told.
    newest: AtomicU64,
}

/// A change by this client, under way while this lives.
pub(crate) struct UnderWay<'n>(&'n Told);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The client has left.
impl Drop for News {
    fn drop(&mut self) {
        self.end();
    }
}

impl News {
    pub(crate) fn new(ticker: Arc<Ticker>) -> News {
        News { ticker, told: Arc::default(), watch: Mutex::default() }
    }

    fn watch(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        if let Some(task) = self.watch().take() {
            task.abort();
        }
    }

    /// A change by this client begins.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.told.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(&self.told)
    }

    /// A change by this client is done: tells it, if it wants to hear of that.
    pub(crate) async fn changed(&self, client: &Peer<RoleServer>, _: UnderWay<'_>) {
        let is_subscribed = self.watch().is_some();
        if is_subscribed {
            // What the client reads now has all of this.
            if let Ok(newest) = self.ticker.newest().await {
                self.told.newest.fetch_max(newest, Ordering::SeqCst);
            }
            tell(client).await;
        }
    }

    /// The client wants to hear of a resource's changes. Any other than the graph never changes.
    pub(crate) async fn subscribe(&self, resource: &str, client: &Peer<RoleServer>) {
        if resource != GRAPH_URI {
            return;
        }
        let newest = self.ticker.listen();
        // The client is told of what comes after this. If that is unknown, it is told once too often.
        let seen = self.ticker.newest().await.unwrap_or(0);
        self.told.newest.fetch_max(seen, Ordering::SeqCst);
        self.watch().get_or_insert_with(|| tokio::spawn(Arc::clone(&self.told).watch(newest, client.clone())));
    }

    pub(crate) fn unsubscribe(&self, resource: &str) {
        if resource == GRAPH_URI {
            self.end();
        }
    }
}

impl Told {
    /// Tells the client of what others do.
    async fn watch(self: Arc<Self>, mut ticks: Receiver<u64>, client: Peer<RoleServer>) {
        let mut seen = 0;
        while ticks.changed().await.is_ok() {
            let newest = *ticks.borrow_and_update();
            if newest < seen {
                // Another file has taken the store's place, with numbers of its own.
                self.newest.store(0, Ordering::SeqCst);
            }
            seen = newest;
            // It may be this client's own change, which is told of before it ends.
            while self.under_way.load(Ordering::SeqCst) > 0 {
                sleep(SOON).await;
            }
            if self.newest.fetch_max(seen, Ordering::SeqCst) < seen {
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
