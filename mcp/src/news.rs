//! Telling a client that the graph has changed: of its own calls before they are answered, of other clients' as soon as
//! they are seen.

use crate::ticker::Ticker;
use crate::tool::Tool;
use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{Peer, RoleServer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;

/// The one resource: all of the graph.
pub(crate) const GRAPH_URI: &str = "memory://knowledge-graph";

/// What a client wants to hear of, and was told.
pub(crate) struct News {
    ticker: Arc<Ticker>,
    told: Arc<Told>,
    /// The task that waits for changes; `None`: the client does not want to hear of them.
    watch: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Told {
    /// Up to which of the changes that the ticker has seen. It is held while the client is told, so that of two tasks
    /// that have seen the same change one tells of it, and the other goes on when that is done.
    changes: tokio::sync::Mutex<u64>,
    /// How often the client was told.
    times: AtomicU64,
}

/// A change by this client, under way.
pub(crate) struct UnderWay {
    /// How often the client had been told when it began, if it is to be told of the call in any case.
    told: Option<u64>,
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

    /// A call of this client begins that may change the graph. Of those of the reference server's tools it is told even if
    /// they change nothing, as that server does it.
    pub(crate) fn begin(&self, tool: &Tool) -> UnderWay {
        UnderWay { told: tool.is_of_graph().then(|| self.told.times.load(Ordering::SeqCst)) }
    }

    /// The call is done: tells the client, if it wants to hear of that and was not told since.
    pub(crate) async fn changed(&self, client: &Peer<RoleServer>, call: UnderWay) {
        let is_subscribed = self.watch().is_some();
        if is_subscribed {
            let changes = self.ticker.look().await;
            self.told.tell(client, changes, call.told).await;
        }
    }

    /// The client wants to hear of a resource's changes. Any other than the graph never changes.
    pub(crate) async fn subscribe(&self, resource: &str, client: &Peer<RoleServer>) {
        if resource != GRAPH_URI {
            return;
        }
        let changes = self.ticker.listen();
        // The client is told of what comes after this.
        let seen = self.ticker.look().await;
        let mut told = self.told.changes.lock().await;
        *told = seen.max(*told);
        drop(told);
        self.watch().get_or_insert_with(|| tokio::spawn(Arc::clone(&self.told).watch(changes, client.clone())));
    }

    pub(crate) fn unsubscribe(&self, resource: &str) {
        if resource == GRAPH_URI {
            self.end();
        }
    }
}

impl Told {
    /// Tells the client of what others do.
    async fn watch(self: Arc<Self>, mut changes: Receiver<u64>, client: Peer<RoleServer>) {
        while changes.changed().await.is_ok() {
            let seen = *changes.borrow_and_update();
            self.tell(&client, seen, None).await;
        }
    }

    /// Tells the client once of all changes that it was not told of; or of a call, if it was not told since that began.
    async fn tell(&self, client: &Peer<RoleServer>, seen: u64, call: Option<u64>) {
        let mut changes = self.changes.lock().await;
        let is_untold = call == Some(self.times.load(Ordering::SeqCst));
        if seen <= *changes && !is_untold {
            return;
        }
        *changes = seen.max(*changes);
        self.times.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = client.notify_resource_updated(ResourceUpdatedNotificationParam::new(GRAPH_URI)).await {
            tracing::warn!(%error, "the client was not told of a change");
        }
    }
}
