//! The named set of proxies, and every call that changes it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::error::{PopulateError, ProxyError};
use crate::link::{Link, Site};
use crate::spec::{ProxySpec, ProxyUpdate, ProxyView, ToxicSpec, ToxicUpdate, ToxicView};

/// A set of proxies with their toxics; a handle that is cheap to clone.
///
/// Calls that start or stop proxies run one after another; reading and changing toxics never waits for them.
/// When the last handle is dropped, everything closes; [`FaultProxy::shutdown`] also waits for that.
#[derive(Clone)]
pub struct FaultProxy(Arc<Proxies>);

struct Proxies {
    links: RwLock<BTreeMap<String, Arc<Link>>>,
    /// Held by calls that start or stop, so that two of them do not fight over a name or an address.
    changing: tokio::sync::Mutex<()>,
    /// The upstreams that proxies may lead to; `None` for any.
    allowed: Option<Vec<String>>,
    site: Site,
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.site.shutdown.cancel();
    }
}

impl FaultProxy {
    /// A fault proxy without proxies, that closes when `shutdown` is cancelled.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self::build(shutdown, None)
    }

    /// As [`FaultProxy::new`], but with proxies only to upstreams (`host:port`) that are `allowed`, compared as
    /// text without regard to case.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn with_allowed_upstreams(shutdown: CancellationToken, allowed: Vec<String>) -> Self {
        Self::build(shutdown, Some(allowed))
    }

    fn build(shutdown: CancellationToken, allowed: Option<Vec<String>>) -> Self {
        // A child, because dropping the handles ends the proxies and nothing else of the caller's.
        let shutdown = shutdown.child_token();
        let (clock, tasks) = (Clock::new(), TaskTracker::new());
        tasks.spawn(clock.clone().run(shutdown.clone()));
        Self(Arc::new(Proxies {
            links: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            allowed,
            site: Site { clock, tasks, shutdown },
        }))
    }

    /// Adds a proxy, and starts it if it is to be enabled.
    ///
    /// # Errors
    ///
    /// A missing field, a name that exists, an upstream that is not allowed, or an address that cannot be bound;
    /// nothing is added then.
    pub async fn create(&self, spec: ProxySpec) -> Result<ProxyView, ProxyError> {
        let _changing = self.0.changing.lock().await;
        self.check(&spec, "")?;
        if self.link(&spec.name).is_ok() {
            return Err(ProxyError::ProxyAlreadyExists { proxy: spec.name });
        }
        Ok(self.add(spec).await?.view())
    }

    /// The proxy of this name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn get(&self, proxy: &str) -> Result<ProxyView, ProxyError> {
        Ok(self.link(proxy)?.view())
    }

    /// Every proxy, by name.
    pub fn list(&self) -> Vec<ProxyView> {
        self.links().iter().map(|link| link.view()).collect()
    }

    /// Changes a proxy. Its connections are closed only if an address changes or it is disabled.
    ///
    /// # Errors
    ///
    /// If there is no such proxy, or an address is not allowed or cannot be bound; the proxy is then disabled.
    pub async fn update(&self, proxy: &str, update: ProxyUpdate) -> Result<ProxyView, ProxyError> {
        let _changing = self.0.changing.lock().await;
        let link = self.link(proxy)?;
        if let Some(upstream) = &update.upstream {
            self.check_upstream(upstream)?;
        }
        link.update(update).await?;
        Ok(link.view())
    }

    /// Closes a proxy with its connections and forgets it.
    ///
    /// # Errors
    ///
    /// If there is no such proxy.
    pub async fn delete(&self, proxy: &str) -> Result<(), ProxyError> {
        let _changing = self.0.changing.lock().await;
        let link = self.link(proxy)?;
        link.stop().await;
        self.write_links(|links| links.remove(proxy));
        Ok(())
    }

    /// Adds each proxy, or replaces the one of its name; one that is the same already stays untouched, with its
    /// toxics and whether it is enabled.
    ///
    /// # Errors
    ///
    /// A missing field or an upstream that is not allowed is found before anything changes. If an address cannot
    /// be bound, the proxies before it stay, and the error lists them.
    pub async fn populate(&self, specs: Vec<ProxySpec>) -> Result<Vec<ProxyView>, PopulateError> {
        let _changing = self.0.changing.lock().await;
        for (at, spec) in (1..).zip(&specs) {
            self.check(spec, &format!(" at proxy {at}")).map_err(|error| PopulateError { error, done: Vec::new() })?;
        }
        let mut done = Vec::with_capacity(specs.len());
        for spec in specs {
            match self.add_or_replace(spec).await {
                Ok(link) => done.push(link.view()),
                Err(error) => return Err(PopulateError { error, done }),
            }
        }
        Ok(done)
    }

    /// Enables every proxy and removes every toxic.
    ///
    /// # Errors
    ///
    /// At the first proxy that cannot be started; those before it are reset.
    pub async fn reset(&self) -> Result<(), ProxyError> {
        let _changing = self.0.changing.lock().await;
        for link in self.links() {
            link.start().await?;
            link.remove_all_toxics();
        }
        Ok(())
    }

    /// Adds a toxic to a proxy; it acts on live connections at once.
    ///
    /// # Errors
    ///
    /// If there is no such proxy, no such kind, a toxic of that name already, or attributes do not fit the kind.
    pub fn add_toxic(&self, proxy: &str, spec: ToxicSpec) -> Result<ToxicView, ProxyError> {
        self.link(proxy)?.add_toxic(spec)
    }

    /// The toxics of a proxy in the order in which they act, upstream ones first.
    ///
    /// # Errors
    ///
    /// If there is no such proxy.
    pub fn toxics(&self, proxy: &str) -> Result<Vec<ToxicView>, ProxyError> {
        Ok(self.link(proxy)?.toxic_views())
    }

    /// One toxic of a proxy.
    ///
    /// # Errors
    ///
    /// If there is no such proxy or toxic.
    pub fn toxic(&self, proxy: &str, toxic: &str) -> Result<ToxicView, ProxyError> {
        self.link(proxy)?.toxic_view(toxic)
    }

    /// Changes a toxic, on live connections too: data in flight is delayed anew from its arrival.
    ///
    /// # Errors
    ///
    /// If there is no such proxy or toxic, or attributes do not fit the kind; nothing changes then.
    pub fn update_toxic(&self, proxy: &str, toxic: &str, update: ToxicUpdate) -> Result<ToxicView, ProxyError> {
        self.link(proxy)?.update_toxic(toxic, update)
    }

    /// Removes a toxic; data that it held goes on at once, in order.
    ///
    /// # Errors
    ///
    /// If there is no such proxy or toxic.
    pub fn remove_toxic(&self, proxy: &str, toxic: &str) -> Result<(), ProxyError> {
        self.link(proxy)?.remove_toxic(toxic)
    }

    /// Tasks alive: one for the clock, one for each enabled proxy, one for each connection.
    pub fn task_count(&self) -> usize {
        self.0.site.tasks.len()
    }

    /// Closes every proxy and connection and waits until all tasks have ended. Calls that start a proxy fail from
    /// now on.
    pub async fn shutdown(&self) {
        self.0.site.shutdown.cancel();
        let _changing = self.0.changing.lock().await;
        for link in self.links() {
            link.stop().await;
        }
        self.0.site.tasks.close();
        self.0.site.tasks.wait().await;
    }

    fn check(&self, spec: &ProxySpec, place: &str) -> Result<(), ProxyError> {
        let missing = |field: &str| ProxyError::MissingField { field: format!("{field}{place}") };
        if spec.name.is_empty() {
            return Err(missing("name"));
        }
        if spec.upstream.is_empty() {
            return Err(missing("upstream"));
        }
        self.check_upstream(&spec.upstream)
    }

    fn check_upstream(&self, upstream: &str) -> Result<(), ProxyError> {
        match &self.0.allowed {
            Some(allowed) if !allowed.iter().any(|entry| entry.eq_ignore_ascii_case(upstream)) => {
                Err(ProxyError::UpstreamNotAllowed { upstream: upstream.to_owned() })
            }
            _ => Ok(()),
        }
    }

    async fn add(&self, spec: ProxySpec) -> Result<Arc<Link>, ProxyError> {
        if self.0.site.shutdown.is_cancelled() {
            return Err(ProxyError::ShuttingDown);
        }
        let site = self.0.site.clone();
        let link = Arc::new(Link::new(spec.name.clone(), spec.listen, spec.upstream, site));
        if spec.enabled {
            link.start().await?;
        }
        self.write_links(|links| links.insert(spec.name, Arc::clone(&link)));
        Ok(link)
    }

    async fn add_or_replace(&self, spec: ProxySpec) -> Result<Arc<Link>, ProxyError> {
        if let Ok(existing) = self.link(&spec.name) {
            if existing.leads(&spec.listen, &spec.upstream).await? {
                return Ok(existing);
            }
            existing.stop().await;
        }
        self.add(spec).await
    }

    fn link(&self, proxy: &str) -> Result<Arc<Link>, ProxyError> {
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(proxy).cloned().ok_or_else(|| ProxyError::ProxyNotFound { proxy: proxy.to_owned() })
    }

    fn links(&self) -> Vec<Arc<Link>> {
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        links.values().cloned().collect()
    }

    fn write_links<T>(&self, write: impl FnOnce(&mut BTreeMap<String, Arc<Link>>) -> T) -> T {
        write(&mut self.0.links.write().unwrap_or_else(PoisonError::into_inner))
    }
}
