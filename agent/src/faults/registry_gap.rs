//! `registry-gap`: hides a living instance from discovery. The mask carries a time to live of its own, renewed while the
//! fault lasts, so that even a host that loses power leaves no gap behind.

use std::time::Duration;

use futures::future::BoxFuture;
use kennel_model::fault::Fault;

use super::{FaultError, Injection, Surroundings, Undo, instance};

const TIMEOUT: Duration = Duration::from_secs(2);

struct RegistryGap {
    registry: String,
    service: String,
    instance: String,
    lease: Duration,
}

pub(super) async fn resolve(
    fault: &Fault,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<Box<dyn Injection>>, FaultError> {
    let declared = instance(fault, surroundings.target)?;
    let registry = surroundings.target.registry.as_ref();
    let registry = registry.ok_or_else(|| FaultError::NotDeclared { what: "a registry".to_owned() })?;
    let addresses = surroundings.boundary.addresses(&registry.url).await?;
    let address =
        addresses.first().ok_or_else(|| FaultError::NotDeclared { what: "a registry's address".to_owned() })?;
    let gap = RegistryGap {
        // By address: what was checked is what will be asked, also by the watchdog.
        registry: format!("http://{address}"),
        service: fault.selector.service.clone().unwrap_or_default(),
        instance: declared.name.clone(),
        lease: surroundings.lease,
    };
    if !is_listed(&gap.registry, &gap.service, &gap.instance).await? {
        return Err(FaultError::NotDeclared {
            what: format!("a registered instance: {}/{} is not in the registry now", gap.service, gap.instance),
        });
    }
    Ok(vec![Box::new(gap)])
}

fn client(registry: &str) -> Result<reqwest::Client, FaultError> {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT);
    // What is not encrypted needs no certificates of this machine, which may have none.
    let builder = if registry.starts_with("https://") { builder } else { builder.tls_certs_only([]) };
    builder.build().map_err(|e| failed("the HTTP client", "start", &e))
}

fn failed(server: &str, action: &str, error: &dyn std::error::Error) -> FaultError {
    // reqwest hides what happened in the source.
    let mut problem = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        problem = inner.to_string();
        source = inner.source();
    }
    FaultError::Server { server: server.to_owned(), action: action.to_owned(), problem }
}

async fn is_listed(registry: &str, service: &str, instance: &str) -> Result<bool, FaultError> {
    let action = format!("list {service}");
    let answer = client(registry)?
        .get(format!("{registry}/svc/{service}"))
        .send()
        .await
        .map_err(|e| failed(registry, &action, &e))?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(false);
    }
    let answer = answer.error_for_status().map_err(|e| failed(registry, &action, &e))?;
    let listed: serde_json::Value = answer.json().await.map_err(|e| failed(registry, &action, &e))?;
    Ok(mentions(&listed, instance))
}

/// Whether any `instance` field (or key) of the listing names the instance.
fn mentions(listing: &serde_json::Value, instance: &str) -> bool {
    match listing {
        serde_json::Value::Array(items) => items.iter().any(|item| mentions(item, instance)),
        serde_json::Value::Object(fields) => fields.iter().any(|(key, value)| {
            key == instance || (key == "instance" && value == instance) || mentions(value, instance)
        }),
        _ => false,
    }
}

impl RegistryGap {
    async fn mask(&self) -> Result<(), FaultError> {
        let url =
            format!("{}/mask/{}/{}?ttl_ms={}", self.registry, self.service, self.instance, self.lease.as_millis());
        let answer = client(&self.registry)?.put(url).send().await.and_then(reqwest::Response::error_for_status);
        answer.map(|_| ()).map_err(|e| failed(&self.registry, "hide the instance", &e))
    }

    async fn wait_until_unlisted(&self) -> Result<(), FaultError> {
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        while is_listed(&self.registry, &self.service, &self.instance).await? {
            if tokio::time::Instant::now() > deadline {
                let what = format!("{}/{} being gone from the registry", self.service, self.instance);
                return Err(FaultError::Unconfirmed { what, within: TIMEOUT });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Injection for RegistryGap {
    fn owns(&self) -> String {
        format!("registry entry {}/{}", self.service, self.instance)
    }

    fn undo(&self) -> Option<Undo> {
        Some(Undo::Unmask {
            registry: self.registry.clone(),
            service: self.service.clone(),
            instance: self.instance.clone(),
        })
    }

    fn inject(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(async {
            self.mask().await?;
            self.wait_until_unlisted().await
        })
    }

    fn hold(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(async {
            loop {
                tokio::time::sleep(self.lease / 3).await;
                self.mask().await?;
            }
        })
    }

    fn revert(&self) -> BoxFuture<'_, Result<(), FaultError>> {
        Box::pin(unmask(&self.registry, &self.service, &self.instance))
    }
}

fn is_refused(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = inner.source();
    }
    false
}

/// Takes the mask off. The instance itself may be gone by now: then there is nothing to see again, and that is success.
pub(super) async fn unmask(registry: &str, service: &str, instance: &str) -> Result<(), FaultError> {
    let action = "show the instance again";
    match client(registry)?.delete(format!("{registry}/mask/{service}/{instance}")).send().await {
        Ok(answer) if answer.status().is_success() || answer.status() == reqwest::StatusCode::NOT_FOUND => {}
        Ok(answer) => {
            let problem = format!("it answered {}", answer.status());
            return Err(FaultError::Server { server: registry.to_owned(), action: action.to_owned(), problem });
        }
        // A registry that is gone has forgotten its masks too. Any other failure to connect is about this host.
        Err(error) if is_refused(&error) => return Ok(()),
        Err(error) => return Err(failed(registry, action, &error)),
    }
    let masks: serde_json::Value = match client(registry)?.get(format!("{registry}/mask")).send().await {
        Ok(answer) => answer.json().await.map_err(|e| failed(registry, "list its masks", &e))?,
        Err(error) => return Err(failed(registry, "list its masks", &error)),
    };
    if masks.as_array().into_iter().flatten().any(|m| m["service"] == service && m["instance"] == instance) {
        let what = format!("the mask of {service}/{instance} being off");
        return Err(FaultError::Unconfirmed { what, within: Duration::ZERO });
    }
    Ok(())
}
