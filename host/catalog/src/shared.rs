//! What the handle and the thread share.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;

use crate::catalog::CatalogOptions;
use crate::known::Known;
use crate::load::Loader;
use crate::signals::Signals;
use crate::signing::SigningPolicy;
use crate::store::Store;

pub(crate) struct Shared {
    pub(crate) options: CatalogOptions,
    pub(crate) loader: Loader,
    pub(crate) store: Store,
    pub(crate) signals: Arc<Signals>,
    known: Mutex<Known>,
    /// Something became known; for those who wait for the first scan.
    pub(crate) news: Condvar,
    changes: watch::Sender<u64>,
    storing: Mutex<()>,
    loading_kept: Mutex<()>,
    /// At the start that of the options.
    signing: RwLock<Option<SigningPolicy>>,
}

impl Shared {
    pub(crate) fn new(options: CatalogOptions, loader: Loader, store: Store, known: Known) -> Shared {
        Shared {
            signing: RwLock::new(options.signing.clone()),
            options,
            loader,
            store,
            signals: Arc::default(),
            known: Mutex::new(known),
            news: Condvar::new(),
            changes: watch::Sender::new(0),
            storing: Mutex::new(()),
            loading_kept: Mutex::new(()),
        }
    }

    /// What is asked of signatures now; `None`: they are not looked at.
    pub(crate) fn signing(&self) -> Option<SigningPolicy> {
        self.signing.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether that is news.
    pub(crate) fn ask_signatures(&self, policy: Option<SigningPolicy>) -> bool {
        let mut signing = self.signing.write().unwrap_or_else(PoisonError::into_inner);
        let news = *signing != policy;
        *signing = policy;
        news
    }

    /// Never held over anything that blocks.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news, giving up the lock meanwhile.
    pub(crate) fn wait_for_news<'a>(&self, known: MutexGuard<'a, Known>) -> MutexGuard<'a, Known> {
        self.news.wait(known).unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while copies and what is known of them change together.
    pub(crate) fn storing(&self) -> MutexGuard<'_, ()> {
        self.storing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One kept version is loaded at a time.
    pub(crate) fn loading_kept(&self) -> MutexGuard<'_, ()> {
        self.loading_kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
